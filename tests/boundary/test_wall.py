"""What a hostile runbook says reaches no table of the workspace; with the wall down, the same search finds it."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import hostile
import psycopg
import pytest
from dagster import AssetKey, AssetMaterialization, DagsterInstance, DagsterRun, DagsterRunStatus, RunRequest, materialize
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._daemon.types import DaemonHeartbeat
from dagster._utils.error import serializable_error_info_from_exc_info
from dagster_graphql.schema import create_schema
from dagster_shared.error import SerializableErrorInfo
from hostile import PLANTED, plant
from psycopg import sql

from ntro_dagster.boundary import vocabulary as words
from ntro_dagster.boundary import wall
from ntro_dagster.boundary.storage import prepare_instance
from ntro_dagster.host.dagster_instance import write_instance
from ntro_dagster.host.home import Home


@pytest.fixture
def url(instance_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    with instance_database() as url:
        yield url


@pytest.fixture
def instance(url: str, tmp_path: Path, as_workspace: Callable[[str], None]) -> Iterator[DagsterInstance]:
    """The workspace's storages, with Dagster's own logging as loud as it comes."""
    prepare_instance(url)
    home = Home(tmp_path)
    home.create()
    write_instance(home)
    configuration = home.dagster / "dagster.yaml"
    configuration.write_text(configuration.read_text().replace("python_log_level: CRITICAL", "python_log_level: DEBUG"))
    as_workspace(url)
    with DagsterInstance.from_config(str(home.dagster)) as opened:
        yield opened


def say_everything(instance: DagsterInstance) -> None:
    """Runs, ticks, states, heartbeats, backfills, each as talkative as Dagster lets them be."""
    for each in hostile.JOBS:
        with suppress(SystemExit):
            each.execute_in_process(instance=instance, raise_on_error=False, tags={"remark": plant("run tag")})
    hostile.configurable.execute_in_process(
        instance=instance, run_config={"ops": {"configured": {"config": {"word": plant("run config")}}}}
    )
    materialize([hostile.things], instance=instance)
    (run, *_) = instance.get_runs(limit=1)
    instance.add_run_tags(run.run_id, {"later": plant("tag added later")})
    instance.report_engine_event(plant("engine event"), run)
    instance.report_run_failed(run, plant("run failure message"))
    instance.report_runless_asset_event(AssetMaterialization(AssetKey(["acme", "y"]), description=plant("runless event")))

    error = SerializableErrorInfo(plant("tick error"), [plant("tick stack")], plant("tick error class"))
    origin = RemoteInstigatorOrigin(
        RemoteRepositoryOrigin(GrpcServerCodeLocationOrigin("localhost", socket="/x/code.sock", location_name="acme"), "r"), "s"
    )
    state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, SensorInstigatorData(cursor=plant("cursor")))
    instance.add_instigator_state(state)
    instance.update_instigator_state(
        state.with_data(SensorInstigatorData(cursor=plant("later cursor"), last_run_key=plant("last run key")))
    )
    tick = instance.create_tick(
        TickData("o", "s", InstigatorType.SENSOR, TickStatus.STARTED, time.time(), run_keys=[plant("run key")])
    )
    instance.update_tick(tick.with_status(TickStatus.FAILURE, error=error))
    instance.update_tick(
        tick.with_status(TickStatus.SKIPPED)
        .with_reason(plant("skip reason"))
        .with_cursor(plant("tick cursor"))
        .with_run_requests(
            [
                RunRequest(
                    run_key=plant("requested run key"),
                    run_config={"x": plant("requested run config")},
                    tags={"t": plant("requested tag")},
                    partition_key=plant("requested partition"),
                )
            ]
        )
    )
    instance.add_daemon_heartbeat(
        DaemonHeartbeat(time.time(), "SENSOR", str(uuid4()), [SerializableErrorInfo(plant("heartbeat error"), [], None)])
    )
    backfill = PartitionBackfill(
        "abcdefgh",
        BulkActionStatus.REQUESTED,
        from_failure=False,
        tags={"t": plant("backfill tag")},
        backfill_timestamp=time.time(),
        title=plant("backfill title"),
        description=plant("backfill description"),
        partition_names=[],
    )
    instance.add_backfill(backfill)
    instance.update_backfill(backfill.with_error(SerializableErrorInfo(plant("backfill error"), [], None)))


def search(url: str) -> set[str]:
    """Channels whose secret stands in some table, in whatever form."""
    found = set()
    forms = {channel: _forms(secret) for channel, secret in PLANTED.items()}
    with psycopg.connect(url) as connection:
        tables = connection.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'").fetchall()
        for (table,) in tables:
            if table == "snapshots":  # definitions, not what runs say: the author's code, which is not a tenant's data
                continue
            for row in connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table))):
                text = "\n".join(map(_readable, row)).casefold()
                found |= {channel for channel, spelt in forms.items() if any(form in text for form in spelt)}
    return found


def _forms(secret: str) -> list[str]:
    raw = secret.encode()
    return [form.casefold() for form in (secret, json.dumps(secret)[1:-1], raw.hex(), base64.b64encode(raw).decode().rstrip("="))]


def _readable(value: object) -> str:
    if not isinstance(value, bytes | memoryview):
        return str(value)
    raw = bytes(value)
    with suppress(zlib.error):
        raw = zlib.decompress(raw)
    return raw.decode(errors="replace") + raw.hex()


def test_nothing_that_a_hostile_runbook_says_is_stored(instance: DagsterInstance, url: str) -> None:
    say_everything(instance)
    assert len(PLANTED) > 60
    assert search(url) == set()


def test_with_the_wall_down_the_same_search_finds_it(
    instance: DagsterInstance, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("event", "run", "run_tags", "tick", "instigator_tick", "instigator_state", "heartbeat", "backfill"):
        monkeypatch.setattr(wall, name, lambda offered: offered)
    say_everything(instance)
    found = search(url)
    assert len(found) >= 50, sorted(PLANTED.keys() - found)


def test_what_the_ui_needs_is_there(instance: DagsterInstance) -> None:
    assert materialize([hostile.things], instance=instance, tags={"ntro/work": "intake", "remark": "x"}).success
    (run,) = instance.get_runs()
    assert run.status is DagsterRunStatus.SUCCESS
    assert run.tags["ntro/work"] == "intake"
    record = instance.get_latest_materialization_event(AssetKey(["acme", "ledgers", "things"]))
    assert record and record.asset_materialization
    assert {name: value.value for name, value in record.asset_materialization.metadata.items()} == {"PENDING": 12}
    steps = instance.get_run_step_stats(run.run_id)
    assert [(step.step_key, step.status.value if step.status else None) for step in steps] == [
        ("acme__ledgers__things", "SUCCESS")
    ]
    assert instance.get_run_stats(run.run_id).start_time


EVENTS = """
query Events($run: ID!) { logsForRun(runId: $run) { __typename
  ... on PythonError { message stack }
  ... on EventConnection { events { __typename
    ... on MessageEvent { runId message timestamp level stepKey eventType }
    ... on ErrorEvent { error { message className stack cause { message } errorChain { error { message } } } }
    ... on MarkerEvent { markerStart markerEnd }
    ... on StepEvent { stepKey solidHandleID }
    ... on DisplayableEvent { label description metadataEntries { __typename label description } }
    ... on ExecutionStepFailureEvent { errorSource failureMetadata { label } }
    ... on ExecutionStepOutputEvent { outputName typeCheck { label description success metadataEntries { label } } }
    ... on MaterializationEvent { partition assetKey { path } assetLineage { partitions } tags { key value } }
    ... on ObservationEvent { partition assetKey { path } tags { key value } }
    ... on AssetCheckEvaluationEvent { evaluation { checkName success severity description assetKey { path } timestamp } }
  } } } }
"""
"""What the page of a run asks for."""


def test_the_page_of_a_run_can_be_drawn_and_tells_nothing(instance: DagsterInstance) -> None:
    say_everything(instance)
    schema = create_schema()
    kinds = set()
    for run in instance.get_runs():
        answer = asyncio.run(
            schema.execute_async(
                EVENTS,
                variables={"run": run.run_id},
                context_value=SimpleNamespace(instance=instance, records_for_run_default_limit=None),
            )
        )
        assert answer.errors is None, answer.errors
        assert answer.data["logsForRun"]["__typename"] == "EventConnection", answer.data
        events = answer.data["logsForRun"]["events"]
        kinds |= {event["__typename"] for event in events}
        told = json.dumps(events)
        assert not [channel for channel, secret in PLANTED.items() if secret in told]
    assert kinds >= {
        "RunStartEvent",
        "RunSuccessEvent",
        "RunFailureEvent",
        "ExecutionStepStartEvent",
        "ExecutionStepOutputEvent",
        "ExecutionStepSuccessEvent",
        "ExecutionStepFailureEvent",
        "ExecutionStepUpForRetryEvent",
        "MaterializationEvent",
        "ObservationEvent",
        "AssetCheckEvaluationEvent",
        "HookErroredEvent",
        "EngineEvent",
        "ResourceInitFailureEvent",
    }


def test_a_failure_shows_its_code_and_error_id(instance: DagsterInstance) -> None:
    failing = hostile._fails("posting", lambda: _raise("PERIOD_CLOSED (error 8ddb28b2-1111-4222-8333-444455556666)"))
    failing.execute_in_process(instance=instance, raise_on_error=False)
    (run,) = instance.get_runs()
    assert run.status is DagsterRunStatus.FAILURE
    told = {
        entry.dagster_event.event_type_value: entry.message
        for entry in instance.all_logs(run.run_id)
        if entry.dagster_event and entry.dagster_event.is_failure
    }
    assert told["STEP_FAILURE"] == "The step failed. PERIOD_CLOSED (error 8ddb28b2-1111-4222-8333-444455556666)"


def test_a_step_that_was_stopped_is_told_so() -> None:
    """By the class of the exception, which Dagster itself raises in whoever is cancelled; again, where it arrives."""
    for text in ("", "Acme Capital 4711.25"):
        error = wall.error(serializable_error_info_from_exc_info(_caught(DagsterExecutionInterruptedError(text))))
        assert error == wall.error(error) == SerializableErrorInfo("RUN_INTERRUPTED", [], "RUN_INTERRUPTED")
    assert words.failure("RUN_INTERRUPTED by Acme Capital") == words.UNEXPECTED


def _caught(error: BaseException) -> Any:
    try:
        raise error
    except BaseException:
        return sys.exc_info()


def _raise(text: str) -> None:
    raise RuntimeError(text)


def test_what_is_left_out_is_counted_and_never_told(instance: DagsterInstance) -> None:
    wall.dropped.clear()
    hostile.talking.execute_in_process(instance=instance, tags={"remark": "x"})
    assert wall.dropped["log line"] > 0
    assert wall.dropped["tag"] > 0
    assert not any(secret in str(wall.dropped) for secret in PLANTED.values())


def test_the_moment_of_an_event_is_kept(instance: DagsterInstance) -> None:
    before = datetime.now(UTC).timestamp()
    hostile.talking.execute_in_process(instance=instance)
    (run,) = instance.get_runs()
    assert all(before <= entry.timestamp <= time.time() for entry in instance.all_logs(run.run_id))


def test_a_run_says_whose_it_is_whoever_launched_it() -> None:
    tags = {
        "dagster/code_location": "acme",
        "dagster/partition": "spv-1|2026-10",
        "ntro/tenant": "borough",
        "ntro/unit": "acme|x|2026-10",
    }
    told = wall.run(DagsterRun(job_name="__ASSET_JOB", tags=tags)).tags
    assert (told["ntro/tenant"], told["ntro/unit"]) == ("acme", "acme|spv-1|2026-10")
    assert wall.run(DagsterRun(job_name="month_end", tags={})).tags == {}
