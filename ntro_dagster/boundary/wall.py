"""The wall: what Dagster is about to store, built anew from the vocabulary.

Nothing is passed on. Each function makes a new object of the kind it was given, field by field, from words; a field that is
not named here has its default, so an upgrade of Dagster cannot open a hole. What is left out is counted (`dropped`), never
raised: a run must not fail because somebody was talkative.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dagster import AssetCheckEvaluation, AssetKey, AssetMaterialization, AssetObservation, DagsterRun, RunRequest
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationPlanned,
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.definitions.dependency import NodeHandle
from dagster._core.definitions.metadata import IntMetadataValue, MetadataValue
from dagster._core.definitions.partitions.utils import MultiPartitionKey
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.events import (
    AssetMaterializationPlannedData,
    AssetObservationData,
    ComputeLogsCaptureData,
    DagsterEvent,
    DagsterEventType,
    EngineEventData,
    HookErroredData,
    JobCanceledData,
    JobFailureData,
    RunEnqueuedData,
    StepMaterializationData,
)
from dagster._core.events.log import EventLogEntry
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.execution.plan.handle import StepHandle
from dagster._core.execution.plan.objects import ErrorSource, StepFailureData, StepRetryData, StepSuccessData, TypeCheckData
from dagster._core.execution.plan.outputs import StepOutputData, StepOutputHandle
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorTick,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickData,
)
from dagster._daemon.types import DaemonHeartbeat
from dagster_shared.error import SerializableErrorInfo

from ntro_dagster.boundary import sentences
from ntro_dagster.boundary import vocabulary as words
from ntro_dagster.boundary.names import CODE_LOCATION_TAG, PARTITION_TAG, TENANT_TAG, UNIT_TAG, VERSION_TAG, WORK_TAG, unit

dropped: Counter[str] = Counter()
"""What this process left out, by kind. Never what it was."""


def _or_drop(kind: str, word: str | None, offered: Any) -> str | None:
    if word is None and offered is not None:
        dropped[kind] += 1
    return word


_SHORTEST_KEY, _LONGEST_KEY = 2, 4
_LEVELS = frozenset({logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL})
_LARGEST_PID = 2**22 + 1
_LONGEST_S = 10 * 366 * 86_400.0

# -- small things


def error(info: SerializableErrorInfo | None) -> SerializableErrorInfo | None:
    """Code, error id, and where its story is. The chain of causes is searched for the tenant's own form, outermost first."""
    return None if info is None else _error(info)


_INTERRUPTION = DagsterExecutionInterruptedError.__name__


def _error(info: SerializableErrorInfo) -> SerializableErrorInfo:
    said = words.UNEXPECTED
    each: SerializableErrorInfo | None = info
    while each is not None:
        if said == words.UNEXPECTED:
            said = words.INTERRUPTED if each.cls_name == _INTERRUPTION else words.failure(each.message)
        each = each.cause
    return SerializableErrorInfo(message=sentences.where_to_look(said), stack=[], cls_name=said.split(" ", 1)[0])


def key(offered: AssetKey) -> AssetKey | None:
    """Tenant, group and name; or, where it is not of that form, nothing."""
    path = offered.path
    fits = words.slug(path[0]) and _SHORTEST_KEY <= len(path) <= _LONGEST_KEY and all(words.name(part) for part in path[1:])
    return AssetKey(path) if fits else None


def partition(offered: str | None) -> str | None:
    word = _or_drop("partition", words.partition(str(offered)) if offered is not None else None, offered)
    if word is None:
        return None
    entity, month = word.split("|")
    return MultiPartitionKey({"entity": entity, "period": month}) if isinstance(offered, MultiPartitionKey) else word


def metadata(offered: Mapping[str, Any]) -> dict[str, MetadataValue[Any]]:
    """Counts."""
    kept: dict[str, MetadataValue[Any]] = {}
    for called, value in offered.items():
        number = words.count(called, value.value if isinstance(value, IntMetadataValue) else value)
        if number is None:
            dropped["metadata"] += 1
        else:
            kept[called] = IntMetadataValue(number)
    return kept


def _duration(offered: float, longest: float) -> float:
    """To the microsecond."""
    return round(min(max(float(offered), 0.0), longest), 6)


# -- tags


def _one_of(*values: str) -> words.Word:
    return lambda offered: offered if offered in values else None


def _address(offered: Any) -> str | None:
    """Where the run's code server listens: the launcher needs it to ask whether the run is alive."""
    try:
        known = json.loads(offered)
        kept = {name: known[name] for name in ("host", "port", "socket") if known.get(name) is not None}
    except (TypeError, ValueError, AttributeError):
        return None
    right = isinstance(kept.get("socket", ""), str) and str(kept.get("socket", "/code.sock")).endswith("/code.sock")
    return json.dumps(kept) if right and kept.keys() <= {"host", "socket"} and kept.get("host") in {None, "localhost"} else None


def _moment(offered: Any) -> str | None:
    try:
        return str(float(offered))
    except (TypeError, ValueError):
        return None


RUN_TAGS: dict[str, words.Word] = {
    TENANT_TAG: words.slug,
    CODE_LOCATION_TAG: words.slug,
    WORK_TAG: words.work,
    VERSION_TAG: words.version,
    UNIT_TAG: words.unit,
    PARTITION_TAG: words.partition,
    f"{PARTITION_TAG}/entity": words.slug,
    f"{PARTITION_TAG}/period": words.period,
    "dagster/run_key": words.run_key,
    "dagster/sensor_name": words.name,
    "dagster/schedule_name": words.name,
    "dagster/tick": words.number,
    "dagster/backfill": words.short_id,
    "dagster/parent_run_id": words.uuid,
    "dagster/root_run_id": words.uuid,
    "dagster/priority": words.number,
    "dagster/retry_number": words.number,
    "dagster/max_retries": words.number,
    "dagster/will_retry": words.flag,
    "dagster/did_retry": words.flag,
    "dagster/from_ui": words.flag,
    "dagster/is_resume_retry": words.flag,
    "dagster/failure_reason": words.name,
    ".dagster/scheduled_execution_time": _moment,
    ".dagster/grpc_info": _address,
    ".dagster/repository": lambda offered: (
        offered
        if isinstance(offered, str) and [words.name(offered.split("@")[0]), words.slug(offered.split("@")[-1])].count(None) == 0
        else None
    ),
}
"""The tags of a run, and the word that each must be."""

_ASSET_TAGS: dict[str, words.Word] = {
    "dagster/data_version": lambda offered: words.digest(offered) or words.uuid(offered),
    "dagster/data_version_is_user_provided": words.flag,
    "dagster/code_version": words.uuid,
    f"{PARTITION_TAG}/entity": words.slug,
    f"{PARTITION_TAG}/period": words.period,
}
_INPUT_TAGS: dict[str, words.Word] = {
    "dagster/input_data_version/": lambda offered: words.digest(offered) or words.uuid(offered) or _one_of("INITIAL")(offered),
    "dagster/input_event_pointer/": lambda offered: words.number(offered) or _one_of("NULL")(offered),
}


def run_tags(offered: Mapping[str, str]) -> dict[str, str]:
    return _tags(offered, RUN_TAGS.get)


def asset_tags(offered: Mapping[str, str] | None) -> dict[str, str]:
    return _tags(offered or {}, _asset_tag)


def _asset_tag(called: str) -> words.Word | None:
    for prefix, word in _INPUT_TAGS.items():
        if called.startswith(prefix) and key(AssetKey(called.removeprefix(prefix).split("/"))):
            return word
    return _ASSET_TAGS.get(called)


def _tags(offered: Mapping[str, str], word_of: Callable[[str], words.Word | None]) -> dict[str, str]:
    kept = {}
    for called, value in offered.items():
        word = word_of(called)
        right = word(value) if word else None
        if right is None:
            dropped["tag"] += 1
        else:
            kept[called] = right
    return kept


# -- events


def event(offered: EventLogEntry) -> EventLogEntry | None:
    """None: there is nothing of it that may cross. Log lines are of that kind."""
    inner = offered.dagster_event
    known = DagsterEventType.__members__.values()
    if inner is None or inner.event_type_value not in {kind.value for kind in known}:
        dropped["log line" if inner is None else "event"] += 1
        return None
    kind = DagsterEventType(inner.event_type_value)
    build = _EVENTS.get(kind)
    data = build(inner.event_specific_data) if build and inner.event_specific_data is not None else None
    if build is None or (data is None and inner.event_specific_data is not None and kind not in _BARE):
        dropped["event"] += 1
        return None
    job = words.name(inner.job_name) or "unnamed"
    step = words.name(inner.step_key) if inner.step_key else None
    told = getattr(data, "error", None)
    return EventLogEntry(  # type: ignore[no-untyped-call]
        error_info=None,
        level=offered.level if offered.level in _LEVELS else logging.INFO,
        user_message="",
        run_id=words.uuid(offered.run_id) or "",
        timestamp=float(offered.timestamp),
        step_key=step,
        job_name=job,
        dagster_event=DagsterEvent(
            event_type_value=kind.value,
            job_name=job,
            step_handle=StepHandle(NodeHandle(step, None), step) if step else None,
            node_handle=NodeHandle(step, None) if step else None,
            step_kind_value="COMPUTE" if step else None,
            logging_tags={},
            event_specific_data=data,
            message=" ".join(
                filter(None, [sentences.event(kind, inner.message), told.message.partition("\n")[0] if told else None])
            ),
            pid=inner.pid if type(inner.pid) is int and 0 < inner.pid < _LARGEST_PID else None,
            step_key=step,
        ),
    )


def _materialized(data: StepMaterializationData) -> StepMaterializationData | None:
    known = _of_asset(data.materialization)
    return StepMaterializationData(AssetMaterialization(**known)) if known else None


def _observed(data: AssetObservationData) -> AssetObservationData | None:
    known = _of_asset(data.asset_observation)
    return AssetObservationData(AssetObservation(**known)) if known else None


def _of_asset(offered: AssetMaterialization | AssetObservation) -> dict[str, Any] | None:
    """What may be said of an asset's having been made or looked at."""
    at = key(offered.asset_key)
    if at is None:
        return None
    return {
        "asset_key": at,
        "metadata": metadata(offered.metadata),
        "partition": partition(offered.partition),
        "tags": asset_tags(offered.tags),
    }


def _planned(data: AssetMaterializationPlannedData) -> AssetMaterializationPlannedData | None:
    at = key(data.asset_key)
    return AssetMaterializationPlannedData(at, partition=partition(data.partition)) if at else None


def _check_planned(data: AssetCheckEvaluationPlanned) -> AssetCheckEvaluationPlanned | None:
    at, called = key(data.asset_key), words.name(data.check_name)
    return AssetCheckEvaluationPlanned(asset_key=at, check_name=called) if at and called else None


def _checked(data: AssetCheckEvaluation) -> AssetCheckEvaluation | None:
    at, called, target = key(data.asset_key), words.name(data.check_name), data.target_materialization_data
    if at is None or called is None:
        return None
    return AssetCheckEvaluation(
        asset_key=at,
        check_name=called,
        passed=bool(data.passed),
        metadata=metadata(data.metadata),
        target_materialization_data=AssetCheckEvaluationTargetMaterializationData(
            storage_id=int(target.storage_id), run_id=words.uuid(target.run_id) or "", timestamp=float(target.timestamp)
        )
        if target
        else None,
        severity=data.severity,
        blocking=data.blocking,
        partition=partition(data.partition),
    )


def _output(data: StepOutputData) -> StepOutputData:
    handle, check = data.step_output_handle, data.type_check_data
    called = words.name(handle.output_name) or "result"
    return StepOutputData(
        step_output_handle=StepOutputHandle(words.name(handle.step_key) or "unnamed", called),
        type_check_data=TypeCheckData(  # type: ignore[no-untyped-call] # Dagster's pages insist on one
            success=check is None or bool(check.success), label=called
        ),
    )


def _succeeded(data: StepSuccessData) -> StepSuccessData:
    return StepSuccessData(duration_ms=_duration(data.duration_ms, 1_000 * _LONGEST_S))  # type: ignore[no-untyped-call]


def _step_failed(data: StepFailureData) -> StepFailureData:
    """Without a cause, which would say the same again. Dagster insists on one where user code is said to be the source."""
    source = data.error_source if data.error_source is ErrorSource.INTERRUPT else ErrorSource.FRAMEWORK_ERROR
    return StepFailureData(  # type: ignore[no-untyped-call]
        error=error(data.error), user_failure_data=None, error_source=source
    )


def _retried(data: StepRetryData) -> StepRetryData:
    seconds = None if data.seconds_to_wait is None else _duration(data.seconds_to_wait, _LONGEST_S)
    return StepRetryData(error=error(data.error), seconds_to_wait=seconds)  # type: ignore[no-untyped-call]


def _cancelled(data: JobCanceledData) -> JobCanceledData:
    """That somebody stopped it is no error, unless the tenant keeps a story of it."""
    told = error(data.error)
    return JobCanceledData(error=None if told is None or told.message == words.UNEXPECTED else told)


def _enqueued(data: RunEnqueuedData) -> RunEnqueuedData:
    return RunEnqueuedData(
        code_location_name=words.slug(data.code_location_name) or "",
        repository_name=words.name(data.repository_name) or "",
        partition_key=partition(data.partition_key),
    )


def _engine(data: EngineEventData) -> EngineEventData:
    return EngineEventData(error=error(data.error))


_BARE = frozenset(
    {
        DagsterEventType.STEP_START,
        DagsterEventType.STEP_RESTARTED,
        DagsterEventType.STEP_SKIPPED,
        DagsterEventType.RUN_START,
        DagsterEventType.RUN_SUCCESS,
        DagsterEventType.RUN_ENQUEUED,
        DagsterEventType.RUN_STARTING,
        DagsterEventType.RUN_CANCELING,
        DagsterEventType.RUN_CANCELED,
        DagsterEventType.RUN_FAILURE,
    }
)
"""Events that say enough by their kind."""


def _captured(data: ComputeLogsCaptureData) -> ComputeLogsCaptureData:
    """That there is output, so that the page of the run has a place to say where: what it says there is `compute_logs.SHOWN`."""
    return ComputeLogsCaptureData(file_key="output", step_keys=_words(data.step_keys, words.name))


def _nothing(_: Any) -> None:
    return None


_EVENTS: dict[DagsterEventType, Callable[[Any], Any]] = {
    **dict.fromkeys(_BARE, _nothing),
    DagsterEventType.STEP_SUCCESS: _succeeded,
    DagsterEventType.STEP_OUTPUT: _output,
    DagsterEventType.STEP_FAILURE: _step_failed,
    DagsterEventType.STEP_UP_FOR_RETRY: _retried,
    DagsterEventType.RUN_FAILURE: lambda data: JobFailureData(
        error=error(data.error), failure_reason=data.failure_reason, first_step_failure_event=None
    ),
    DagsterEventType.RUN_CANCELED: _cancelled,
    DagsterEventType.RUN_ENQUEUED: _enqueued,
    DagsterEventType.HOOK_ERRORED: lambda data: HookErroredData(error=_error(data.error)),
    DagsterEventType.ENGINE_EVENT: _engine,
    DagsterEventType.LOGS_CAPTURED: _captured,
    DagsterEventType.RESOURCE_INIT_STARTED: _engine,
    DagsterEventType.RESOURCE_INIT_SUCCESS: _engine,
    DagsterEventType.RESOURCE_INIT_FAILURE: _engine,
    DagsterEventType.STEP_WORKER_STARTING: _engine,
    DagsterEventType.STEP_WORKER_STARTED: _engine,
    DagsterEventType.ASSET_MATERIALIZATION: _materialized,
    DagsterEventType.ASSET_OBSERVATION: _observed,
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED: _planned,
    DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED: _check_planned,
    DagsterEventType.ASSET_CHECK_EVALUATION: _checked,
}
"""The kinds of events that cross, and how their data is built anew. Kinds that are not here do not."""


# -- runs, ticks, daemons


def run(offered: DagsterRun) -> DagsterRun:
    """Without configuration, which no job of a tenant takes, and with the tags of `RUN_TAGS` alone.

    Whose it is, and of which entity and month, is told of every run, whoever launched it: what people start in Dagster's pages
    has no such tags, and limits of concurrency go by them.
    """
    if offered.run_config:
        dropped["run config"] += 1
    tags = run_tags(offered.tags)
    tenant, part = tags.get(CODE_LOCATION_TAG), tags.get(PARTITION_TAG)
    whose = {TENANT_TAG: tenant, **(unit(tenant, part) if part else {})} if tenant else {}
    return offered._replace(run_config={}, tags=tags | whose)


def _requested(offered: RunRequest) -> RunRequest:
    return RunRequest(
        run_key=words.run_key(offered.run_key),
        tags=run_tags(offered.tags),
        job_name=words.name(offered.job_name),
        asset_selection=[at for at in map(key, offered.asset_selection) if at] if offered.asset_selection else None,
        partition_key=partition(offered.partition_key),
    )


def _words(offered: Iterable[Any] | None, word: words.Word) -> list[str]:
    return [kept for each in offered or () if (kept := word(each))]


def tick(offered: TickData) -> TickData:
    return TickData(
        instigator_origin_id=offered.instigator_origin_id,
        instigator_name=words.name(offered.instigator_name) or "unnamed",
        instigator_type=offered.instigator_type,
        status=offered.status,
        timestamp=float(offered.timestamp),
        run_ids=_words(offered.run_ids, words.uuid),
        run_keys=_words(offered.run_keys, words.run_key),
        error=error(offered.error),
        skip_reason=None,
        cursor=None,
        origin_run_ids=_words(offered.origin_run_ids, words.uuid),
        failure_count=int(offered.failure_count),
        selector_id=offered.selector_id,
        log_key=None,
        dynamic_partitions_request_results=[],
        end_timestamp=offered.end_timestamp,
        run_requests=[_requested(each) for each in offered.run_requests] if offered.run_requests else None,
        auto_materialize_evaluation_id=offered.auto_materialize_evaluation_id,
        reserved_run_ids=_words(offered.reserved_run_ids, words.uuid) if offered.reserved_run_ids is not None else None,
        consecutive_failure_count=int(offered.consecutive_failure_count),
    )


def instigator_tick(offered: InstigatorTick) -> InstigatorTick:
    return InstigatorTick(offered.tick_id, tick(offered.tick_data))


def instigator_state(offered: InstigatorState) -> InstigatorState:
    """Without a cursor: our sensors keep none."""
    data = offered.instigator_data
    kept: SensorInstigatorData | ScheduleInstigatorData | None = None
    if isinstance(data, SensorInstigatorData):
        if data.cursor:
            dropped["cursor"] += 1
        kept = SensorInstigatorData(
            last_tick_timestamp=data.last_tick_timestamp,
            last_run_key=words.run_key(data.last_run_key),
            min_interval=data.min_interval,
            cursor=None,
            last_tick_start_timestamp=data.last_tick_start_timestamp,
            last_sensor_start_timestamp=data.last_sensor_start_timestamp,
            sensor_type=data.sensor_type,
            last_tick_success_timestamp=data.last_tick_success_timestamp,
        )
    elif isinstance(data, ScheduleInstigatorData):
        kept = ScheduleInstigatorData(
            cron_schedule=data.cron_schedule,
            start_timestamp=data.start_timestamp,
            last_iteration_timestamp=data.last_iteration_timestamp,
        )
    return InstigatorState(offered.origin, offered.instigator_type, offered.status, kept)


def heartbeat(offered: DaemonHeartbeat) -> DaemonHeartbeat:
    errors: Sequence[SerializableErrorInfo] = [told for each in offered.errors or () if (told := error(each))]
    return DaemonHeartbeat(float(offered.timestamp), words.name(offered.daemon_type) or "DAEMON", offered.daemon_id, errors)


def backfill(offered: PartitionBackfill) -> PartitionBackfill:
    """Which partitions, how far; without title, description and whatever else people type."""
    return offered._replace(
        title=None, description=None, tags=run_tags(offered.tags), error=error(offered.error), run_config=None
    )
