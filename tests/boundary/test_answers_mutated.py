"""Every word and number of every answer, replaced one at a time by a secret: none of them comes through."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import grpc
import hostile_server
import pytest
from dagster import AssetKey, AssetMaterialization, DynamicPartitionsDefinition, RunRequest
from dagster._core.definitions.schedule_definition import ScheduleExecutionData
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.execution.api import create_execution_plan
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.remote_representation.external_data import (
    JobDataSnap,
    PartitionExecutionParamSnap,
    PartitionSetExecutionParamSnap,
    PartitionTagsSnap,
    RemoteJobSubsetResult,
    RepositorySnap,
)
from dagster._core.snap.execution_plan_snapshot import snapshot_from_execution_plan
from dagster._grpc.__generated__ import dagster_api_pb2 as api
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import (
    CancelExecutionResult,
    ExecutionPlanSnapshotArgs,
    GetCurrentImageResult,
    GetCurrentRunsResult,
    JobSubsetSnapshotArgs,
    ListRepositoriesResponse,
    LoadableRepositorySymbol,
    PartitionArgs,
    PartitionSetExecutionParamArgs,
    StartRunResult,
)
from dagster._serdes import serialize_value
from dagster._utils.error import serializable_error_info_from_exc_info
from dagster_shared.error import SerializableErrorInfo

from ntro_dagster.boundary.answers import guard as answers
from ntro_dagster.boundary.answers.calls import ANSWERS
from ntro_dagster.boundary.answers.survey import Survey, survey_file
from ntro_dagster.boundary.names import SURVEYS
from ntro_dagster.bundles.active import ActiveSet
from ntro_dagster.tenant.survey import survey

SECRET, NUMBER = "CanaryQ7x", 918273645
TENANT = "acme"
ENTITIES = frozenset({hostile_server.ENTITY})
METHODS = (
    "CancelExecution",
    "ExecutionPlanSnapshot",
    "ExternalJob",
    "ExternalPartitionSetExecutionParams",
    "ExternalPartitionTags",
    "ExternalPipelineSubsetSnapshot",
    "ExternalRepository",
    "GetCurrentImage",
    "GetCurrentRuns",
    "ListRepositories",
    "StartRun",
    "SyncExternalScheduleExecution",
    "SyncExternalSensorExecution",
)

_REPOSITORY = hostile_server.defs.get_repository_def()
_ORIGIN = RemoteRepositoryOrigin(
    GrpcServerCodeLocationOrigin("localhost", socket="/x/code.sock", location_name=TENANT), "__repository__"
)
_JOB = _REPOSITORY.get_job("month")
_SELECTION = {AssetKey([TENANT, "ledgers", "asset_name"])}
_ERROR = SerializableErrorInfo(
    "ValueError: x", ["frame"], "ValueError", cause=SerializableErrorInfo("KeyError: y", ["frame"], "KeyError")
)


@pytest.fixture(autouse=True)
def surveyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SURVEYS, str(tmp_path))
    survey_file(tmp_path, TENANT).write_text(_surveyed())


@cache
def _surveyed() -> str:
    return Survey.of(
        TENANT, "source", survey("hostile_server", ActiveSet()), module="hostile_server", executable=sys.executable
    ).to_json()


def _sensor_answer() -> SensorExecutionData:
    partition = f"{hostile_server.ENTITY}|{hostile_server.PERIOD}"
    request = RunRequest(
        run_key=f"intake:{partition}:0",
        partition_key=partition,
        job_name="month",
        asset_selection=sorted(_SELECTION),
        tags={"ntro/tenant": TENANT, "said": "x"},
    )
    others = DynamicPartitionsDefinition(name="beta__entities")
    return SensorExecutionData(
        run_requests=[request],
        cursor="x",
        log_key=["a", "b"],
        dynamic_partitions_requests=[others.build_add_request(["x"]), others.build_delete_request(["b-1"])],
        asset_events=[AssetMaterialization(AssetKey(["beta", "x"]), description="x", metadata={"x": "y"})],
    )


@cache
def _requests() -> dict[str, tuple[Any, Any]]:
    """RPC -> what is asked, and Dagster's own answer to it."""
    job_origin = RemoteJobOrigin(_ORIGIN, "month")
    plan = ExecutionPlanSnapshotArgs(
        job_origin=job_origin,
        op_selection=[],
        run_config={},
        step_keys_to_execute=None,
        job_snapshot_id=_JOB.get_job_snapshot_id(),
    )
    part = JobSubsetSnapshotArgs(job_origin=job_origin, op_selection=None, asset_selection=frozenset(_SELECTION))
    subset = JobDataSnap.from_job_def(_JOB.get_subset(asset_selection=_SELECTION), include_parent_snapshot=False)
    partition = f"{hostile_server.ENTITY}|{hostile_server.PERIOD}"
    one = PartitionArgs(repository_origin=_ORIGIN, partition_set_name="month_partition_set", partition_name=partition)
    many = PartitionSetExecutionParamArgs(
        repository_origin=_ORIGIN, partition_set_name="month_partition_set", partition_names=[partition]
    )
    listed = ListRepositoriesResponse(
        [LoadableRepositorySymbol(repository_name="__repository__", attribute="defs")],
        executable_path="/x/python",
        entry_point=["x"],
        container_image="x",
        container_context={"x": {"y": "z"}},
        dagster_library_versions={"dagster": "1"},
    )
    params = PartitionSetExecutionParamSnap(
        partition_data=[PartitionExecutionParamSnap(name=partition, tags={"a": "b"}, run_config={"a": "b"})]
    )
    return {
        "ListRepositories": (api.ListRepositoriesRequest(), listed),
        "ExternalRepository": (api.ExternalRepositoryRequest(), RepositorySnap.from_def(_REPOSITORY, defer_snapshots=True)),
        "ExternalJob": (api.ExternalJobRequest(job_name="month"), JobDataSnap.from_job_def(_JOB, include_parent_snapshot=True)),
        "ExternalPipelineSubsetSnapshot": (
            api.ExternalPipelineSubsetSnapshotRequest(serialized_pipeline_subset_snapshot_args=serialize_value(part)),
            RemoteJobSubsetResult(success=True, job_data_snap=subset),
        ),
        "ExecutionPlanSnapshot": (
            api.ExecutionPlanSnapshotRequest(serialized_execution_plan_snapshot_args=serialize_value(plan)),
            snapshot_from_execution_plan(create_execution_plan(_JOB), _JOB.get_job_snapshot_id()),
        ),
        "SyncExternalSensorExecution": (api.ExternalSensorExecutionRequest(), _sensor_answer()),
        "SyncExternalScheduleExecution": (
            api.ExternalScheduleExecutionRequest(),
            ScheduleExecutionData(_sensor_answer().run_requests, None, ["a"]),
        ),
        "ExternalPartitionTags": (
            api.ExternalPartitionTagsRequest(serialized_partition_args=serialize_value(one)),
            PartitionTagsSnap(name=partition, tags={"a": "b"}),
        ),
        "ExternalPartitionSetExecutionParams": (
            api.ExternalPartitionSetExecutionParamsRequest(serialized_partition_set_execution_param_args=serialize_value(many)),
            params,
        ),
        "StartRun": (api.StartRunRequest(), StartRunResult(success=False, message="x", serializable_error_info=_ERROR)),
        "CancelExecution": (
            api.CancelExecutionRequest(),
            CancelExecutionResult(success=False, message="x", serializable_error_info=_ERROR),
        ),
        "GetCurrentRuns": (api.Empty(), GetCurrentRunsResult(current_runs=["x"], serializable_error_info=_ERROR)),
        "GetCurrentImage": (api.Empty(), GetCurrentImageResult(current_image="x", serializable_error_info=_ERROR)),
    }


_FIELD = {"ExternalJob": "serialized_job_data"}
"""Of a reply: where the answer is, where it has more than one field."""


def _reply_type(method: str) -> Any:
    described = api.DESCRIPTOR.services_by_name["DagsterApi"].methods_by_name[method].output_type
    return getattr(api, described.name)


def _carrier(method: str) -> str:
    if method in _FIELD:
        return _FIELD[method]
    if method == "ExternalPartitionSetExecutionParams":
        return "serialized_chunk"
    (field,) = _reply_type(method).DESCRIPTOR.fields
    return str(field.name)


def _answer(method: str, asked: Any, offered: Any) -> str:
    reply = _reply_type(method)(**{_carrier(method): json.dumps(offered)})
    rebuilt = ANSWERS[method](lambda _: ENTITIES, TENANT, asked, [reply])
    return "".join(str(value) for _, value in rebuilt.ListFields())


def _mutants(whole: Any) -> Iterator[Any]:
    """`whole` with one leaf or name of a field replaced; one of each class and field, in each kind of replacement."""
    seen: set[tuple[str, ...]] = set()

    def visit(part: Any, place: tuple[str, ...]) -> Iterator[tuple[Any, Any]]:
        """Pairs: what to put in the place of `part`."""
        if isinstance(part, dict):
            called = part.get("__class__")
            for name, value in part.items():
                at = (called, name) if isinstance(called, str) else (*place, "map")
                for new in visit(value, at):
                    yield {**part, name: new[0]}, None
                if ("key", *at) not in seen:
                    seen.add(("key", *at))
                    yield {**{other: kept for other, kept in part.items() if other != name}, SECRET: value}, None
                    yield {**part, SECRET: SECRET}, None
        elif isinstance(part, list):
            for index, value in enumerate(part):
                for new in visit(value, place):
                    yield [*part[:index], new[0], *part[index + 1 :]], None
            if ("list", *place) not in seen:
                seen.add(("list", *place))
                yield [*part, SECRET], None
        if ("leaf", *place) not in seen or not isinstance(part, dict | list):
            if ("leaf", *place) in seen:
                return
            seen.add(("leaf", *place))
            yield SECRET, None
            yield NUMBER, None
            yield {"__enum__": f"StepKind.{SECRET}"}, None
            yield {"__class__": SECRET}, None

    for mutant, _ in visit(whole, ()):
        yield mutant


@pytest.mark.parametrize("method", METHODS)
def test_no_mutant_comes_through(method: str) -> None:
    asked, answer = _requests()[method]
    offered = json.loads(serialize_value(answer))
    tried = 0
    for mutant in _mutants(offered):
        told = _answer(method, asked, mutant)
        assert SECRET not in told
        assert str(NUMBER) not in told
        tried += 1
    assert tried >= 10


@pytest.mark.parametrize("method", METHODS)
def test_dagsters_own_answer_is_understood(method: str) -> None:
    """Else the test above would compare refusals."""
    asked, answer = _requests()[method]
    offered = json.loads(serialize_value(answer))
    assert "_REFUSED" not in _answer(method, asked, offered)
    assert "NOT_DEPLOYED" not in _answer(method, asked, offered)


@pytest.mark.parametrize("said", ["{", "", "[]", "null", '"CanaryQ7x"', '{"__class__": "CanaryQ7x"}', "[" * 100_000])
@pytest.mark.parametrize("method", METHODS)
def test_what_is_no_answer_is_refused(method: str, said: str) -> None:
    asked, _ = _requests()[method]
    rebuilt = ANSWERS[method](lambda _: ENTITIES, TENANT, asked, [_reply_type(method)(**{_carrier(method): said})])
    assert SECRET not in str(rebuilt)


def _run(**changed: Any) -> list[Any]:
    partition = f"{hostile_server.ENTITY}|{hostile_server.PERIOD}"
    request = {
        "run_key": f"intake:{partition}:0",
        "partition_key": partition,
        "tags": {"ntro/tenant": TENANT, "ntro/unit": f"{TENANT}|{partition}", "ntro/work": "intake"},
        "job_name": "month",
        "asset_selection": [{"__class__": "AssetKey", "path": [TENANT, "ledgers", "asset_name"]}],
    }
    offered = {"__class__": "SensorExecutionData", "run_requests": [{**request, **changed}]}
    told = json.loads(_answer("SyncExternalSensorExecution", api.ExternalSensorExecutionRequest(), offered))
    return list(told["run_requests"])


def test_an_honest_request_stays_as_it_is() -> None:
    (run,) = _run()
    assert run["run_key"] == "intake:spv-1|2026-09:0"
    assert run["asset_selection"] == [{"__class__": "AssetKey", "path": [TENANT, "ledgers", "asset_name"]}]
    assert run["tags"] == {
        "ntro/tenant": TENANT,
        "ntro/unit": "acme|spv-1|2026-09",
        "ntro/work": "intake",
        "dagster/partition": "spv-1|2026-09",
        "dagster/partition/entity": "spv-1",
        "dagster/partition/period": "2026-09",
    }


def test_what_somebody_asked_for_goes_by_its_id() -> None:
    key = "request:8ddb28b2-8a7e-4f0e-9d60-7b9a3d2f6c11"
    (run,) = _run(run_key=key)
    assert (run["run_key"], run["partition_key"]) == (key, "spv-1|2026-09")


@pytest.mark.parametrize(
    "changed",
    [
        {"run_key": f"request:{SECRET}"},
        {"partition_key": "b-1|2026-09", "run_key": "request:8ddb28b2-8a7e-4f0e-9d60-7b9a3d2f6c11"},
        {"partition_key": "b-1|2026-09", "run_key": None},  # of another tenant
        {"partition_key": "CanaryQ7x"},
        {"run_key": "intake:b-1|2026-09:0"},
        {"run_key": SECRET},
        {"job_name": SECRET},
        {"asset_selection": [{"__class__": "AssetKey", "path": ["beta", "ledgers", "rows"]}]},
        {"run_config": {"ops": {}}},
        {"asset_check_keys": [{"__class__": "AssetCheckKey"}]},
        {"asset_graph_subset": {"__class__": "AssetGraphSubset"}},
    ],
)
def test_a_request_for_what_is_not_the_tenants_is_left_out(changed: dict[str, Any]) -> None:
    assert _run(**changed) == []


@pytest.mark.parametrize(
    "tags",
    [
        {"ntro/tenant": "beta"},
        {"ntro/unit": "beta|b-1|2026-09"},
        {"ntro/unit": "acme|spv-1|2026-08"},
        {"dagster/code_location": "beta"},
        {"dagster/run_key": "intake:spv-1|2026-09:0"},
        {"dagster/priority": "7"},
        {"ntro/work": SECRET},
    ],
)
def test_tags_of_others_are_left_out(tags: dict[str, str]) -> None:
    (run,) = _run(tags=tags)
    assert not run["tags"].items() & tags.items()


class _Speaking(grpc.RpcError):
    """As a server's failure arrives: with text of its own."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNIMPLEMENTED

    def details(self) -> str:
        return SECRET


def test_of_a_failed_call_only_the_kind_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise _Speaking(SECRET) from ValueError(SECRET)

    for name in ("_gen_response", "_get_streaming_response", "_gen_streaming_response", "health_check_query"):
        monkeypatch.setattr(DagsterGrpcClient, name, getattr(DagsterGrpcClient, name))
    monkeypatch.setattr(DagsterGrpcClient, "_get_response", fails)
    answers.install(answers.Guard(location_at=lambda _: TENANT, entities=lambda _: ENTITIES))
    try:
        DagsterGrpcClient(socket="/x/code.sock").get_server_id()
    except Exception:
        told = serialize_value(serializable_error_info_from_exc_info(sys.exc_info()))
    assert "UNKNOWN" in told
    assert SECRET not in told
