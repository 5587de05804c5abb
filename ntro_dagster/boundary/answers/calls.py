"""Every RPC of a code server, and how its answer is built anew. What a server says is parsed here, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4, uuid5

from dagster._core.origin import DEFAULT_DAGSTER_ENTRY_POINT
from dagster._grpc.__generated__ import dagster_api_pb2 as api
from google.protobuf.message import Message  # type: ignore[import-untyped]

from ntro_dagster.boundary.answers import runs, ticks
from ntro_dagster.boundary.answers.definitions import rebuild, same
from ntro_dagster.boundary.answers.failures import failed, refused
from ntro_dagster.boundary.answers.remembered import Remembered
from ntro_dagster.boundary.answers.rules import DefinitionRefusedError
from ntro_dagster.boundary.answers.survey import DefinitionNotDeployedError, Survey, survey_of
from ntro_dagster.errors import NtroError


class AnswerRefusedError(NtroError):
    code = "ANSWER_REFUSED"
    summary = "a code server's answer is not one that may be shown"
    mend = "the tenant's `system.answers` has what it said, under the method's name and `before the wall`"


Answer = Callable[[ticks.Entities, str, Any, Sequence[Any]], Message]
Build = Callable[[ticks.Entities, str, Any, Any], dict[str, Any]]
Wrap = Callable[[dict[str, Any]], dict[str, Any]]


def _json(reply: Callable[..., Message], carried: str, build: Build, wrap: Wrap) -> Answer:
    """An RPC whose reply is one serialised object, in the field `carried`; `wrap` makes one of an error."""

    def answer(entities: ticks.Entities, tenant: str, request: Any, replies: Sequence[Any]) -> Message:
        try:
            offered = json.loads("".join(getattr(each, carried) for each in replies))
            built = build(entities, tenant, request, offered)
        except NtroError as error:
            built = wrap(refused(error))
        except Exception:  # any other, because its text would hold what was offered
            built = wrap(refused(AnswerRefusedError()))
        return reply(**{carried: json.dumps(built)})

    return answer


def _in(kind: str) -> Wrap:
    return lambda error: {"__class__": kind, "error": error}


def _outcome(kind: str) -> Wrap:
    return lambda error: {
        "__class__": kind,
        "success": False,
        "message": error["message"],
        "serializable_error_info": error,
    }


def _ran(kind: str, without: dict[str, Any]) -> Wrap:
    return lambda error: {"__class__": kind, **without, "serializable_error_info": error}


# -- definitions


def _repositories(_: ticks.Entities, tenant: str, __: Any, offered: Any) -> dict[str, Any]:
    if offered.get("__class__") != "ListRepositoriesResponse":
        return failed(offered) or {}
    survey = survey_of(tenant)
    name = survey.repository["name"]
    pointer = {
        "__class__": "ModuleCodePointer",
        "module": survey.module,
        "fn_name": survey.attribute,
        "working_directory": None,
    }
    return {
        "__class__": "ListRepositoriesResponse",
        "repository_symbols": [{"__class__": "LoadableRepositorySymbol", "repository_name": name, "attribute": survey.attribute}],
        "executable_path": survey.executable,
        "repository_code_pointer_dict": {name: pointer},
        "entry_point": list(DEFAULT_DAGSTER_ENTRY_POINT),
        "container_image": None,
        "container_context": None,
        "dagster_library_versions": None,
    }


def _repository(_: ticks.Entities, tenant: str, __: Any, offered: Any) -> dict[str, Any]:
    """The surveyed one, if the code server still says the same."""
    if offered.get("__class__") == "ExternalRepositoryErrorData":
        return {"__class__": "ExternalRepositoryErrorData", "error": failed(offered.get("error") or {})}
    survey = survey_of(tenant)
    live = survey.identified(_checked("ExternalRepositoryData", survey, offered))
    if not same(live, survey.repository):
        raise DefinitionNotDeployedError
    return survey.repository


def _checked(kind: str, survey: Survey, offered: Any) -> dict[str, Any]:
    try:
        return rebuild(kind, offered, tenant=survey.tenant, known=survey.names).content
    except DefinitionRefusedError:
        raise DefinitionNotDeployedError from None


def _job(_: ticks.Entities, tenant: str, request: Any, replies: Sequence[Any]) -> Message:
    (reply,) = replies
    try:
        if reply.serialized_error:
            return api.ExternalJobReply(serialized_error=json.dumps(failed(json.loads(reply.serialized_error))))
        survey = survey_of(tenant)
        known = survey.jobs.get(request.job_name)
        if known is None or not same(known, _checked("ExternalPipelineData", survey, json.loads(reply.serialized_job_data))):
            raise DefinitionNotDeployedError
        return api.ExternalJobReply(serialized_job_data=json.dumps(known))
    except NtroError as error:
        return api.ExternalJobReply(serialized_error=json.dumps(refused(error)))
    except Exception:  # as in `_json`
        return api.ExternalJobReply(serialized_error=json.dumps(refused(AnswerRefusedError())))


def _reloaded(_: ticks.Entities, __: str, ___: Any, replies: Sequence[Any]) -> Message:
    (reply,) = replies
    try:
        told = json.dumps(failed(json.loads(reply.serialized_error))) if reply.serialized_error else ""
    except ValueError:
        told = json.dumps(refused(AnswerRefusedError()))
    return api.ReloadCodeReply(serialized_error=told)


# -- the server itself

_SALT = uuid4()


def _server(_: ticks.Entities, __: str, ___: Any, replies: Sequence[Any]) -> Message:
    """Only whether it is another than before is asked of it."""
    (reply,) = replies
    return api.GetServerIdReply(server_id=str(uuid5(_SALT, reply.server_id)))


def _pong(_: ticks.Entities, __: str, request: Any, ___: Sequence[Any]) -> Message:
    return api.PingReply(echo=request.echo)


def _image(_: ticks.Entities, __: str, ___: Any, ____: Any) -> dict[str, Any]:
    return {"__class__": "GetCurrentImageResult", "current_image": None, "serializable_error_info": None}


_PARTITION_ERROR = _in("ExternalPartitionExecutionErrorData")

ANSWERS: dict[str, Answer] = {
    "Ping": _pong,
    "Heartbeat": _pong,
    "GetServerId": _server,
    "GetCurrentImage": _json(
        api.GetCurrentImageReply,
        "serialized_current_image",
        _image,
        _ran("GetCurrentImageResult", {"current_image": None}),
    ),
    "GetCurrentRuns": _json(
        api.GetCurrentRunsReply,
        "serialized_current_runs",
        lambda _, __, ___, offered: runs.at_work(offered),
        _ran("GetCurrentRunsResult", {"current_runs": []}),
    ),
    "ReloadCode": _reloaded,
    "ShutdownServer": _json(
        api.ShutdownServerReply,
        "serialized_shutdown_server_result",
        lambda _, __, ___, offered: runs.stopped(offered),
        _ran("ShutdownServerResult", {"success": False}),
    ),
    "ListRepositories": _json(
        api.ListRepositoriesReply, "serialized_list_repositories_response_or_error", _repositories, lambda error: error
    ),
    "ExternalRepository": _json(
        api.ExternalRepositoryReply, "serialized_external_repository_data", _repository, _in("ExternalRepositoryErrorData")
    ),
    "StreamingExternalRepository": _json(
        api.StreamingExternalRepositoryEvent,
        "serialized_external_repository_chunk",
        _repository,
        _in("ExternalRepositoryErrorData"),
    ),
    "ExternalJob": _job,
    "ExternalPipelineSubsetSnapshot": Remembered(
        _json(
            api.ExternalPipelineSubsetSnapshotReply,
            "serialized_external_pipeline_subset_result",
            lambda _, tenant, request, offered: runs.subset(
                survey_of(tenant), request.serialized_pipeline_subset_snapshot_args, offered
            ),
            lambda error: {"__class__": "ExternalPipelineSubsetResult", "success": False, "error": error},
        )
    ),
    "ExecutionPlanSnapshot": Remembered(
        _json(
            api.ExecutionPlanSnapshotReply,
            "serialized_execution_plan_snapshot",
            lambda _, tenant, request, offered: runs.plan(
                survey_of(tenant), request.serialized_execution_plan_snapshot_args, offered
            ),
            _in("ExecutionPlanSnapshotErrorData"),
        )
    ),
    "ExternalPartitionTags": _json(
        api.ExternalPartitionTagsReply,
        "serialized_external_partition_tags_or_external_partition_execution_error",
        lambda _, __, request, offered: ticks.partition_tags(request.serialized_partition_args, offered),
        _PARTITION_ERROR,
    ),
    "ExternalPartitionConfig": _json(
        api.ExternalPartitionConfigReply,
        "serialized_external_partition_config_or_external_partition_execution_error",
        lambda _, __, request, offered: ticks.partition_config(request.serialized_partition_args, offered),
        _PARTITION_ERROR,
    ),
    "ExternalPartitionSetExecutionParams": _json(
        api.StreamingChunkEvent,
        "serialized_chunk",
        lambda _, __, request, offered: ticks.partition_params(request.serialized_partition_set_execution_param_args, offered),
        _PARTITION_ERROR,
    ),
    "SyncExternalScheduleExecution": _json(
        api.ExternalScheduleExecutionReply,
        "serialized_schedule_result",
        lambda entities, tenant, _, offered: ticks.schedule(survey_of(tenant), entities, offered),
        _in("ExternalScheduleExecutionErrorData"),
    ),
    "SyncExternalSensorExecution": _json(
        api.ExternalSensorExecutionReply,
        "serialized_sensor_result",
        lambda entities, tenant, _, offered: ticks.sensor(survey_of(tenant), entities, offered),
        _in("ExternalSensorExecutionErrorData"),
    ),
    "StartRun": _json(
        api.StartRunReply,
        "serialized_start_run_result",
        lambda _, __, ___, offered: runs.started(offered),
        _outcome("StartRunResult"),
    ),
    "CancelExecution": _json(
        api.CancelExecutionReply,
        "serialized_cancel_execution_result",
        lambda _, __, ___, offered: runs.cancelled(offered),
        _outcome("CancelExecutionResult"),
    ),
    "CanCancelExecution": _json(
        api.CanCancelExecutionReply,
        "serialized_can_cancel_execution_result",
        lambda _, __, ___, offered: runs.cancellable(offered),
        lambda _: {"__class__": "CanCancelExecutionResult", "can_cancel": False},
    ),
}
"""What may be asked of a code server -> how its answer is built anew."""

REFUSED = frozenset(
    {
        "StreamingPing",
        "ExternalPartitionNames",  # the workspace knows them: entities of its registry, months of the calendar
        "ExternalNotebookData",  # a file of the tenant's
        "ExternalScheduleExecution",  # for servers of old releases
        "ExternalSensorExecution",
        "RefreshComponentState",
        "ReloadCodeWithState",
    }
)
"""What is not asked. Together with `ANSWERS` these are all: a test compares them with Dagster's own list."""
