"""The feed's SQL reads what Dagster's own code reads of runs, their tags, steps and failures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC
from uuid import uuid4

import psycopg
import pytest
from dagster import AssetKey, DagsterEvent, DagsterEventType, DagsterRun, DagsterRunStatus, RunsFilter
from dagster._core.events import StepFailureData
from dagster._core.events.log import EventLogEntry
from dagster._core.execution.plan.objects import StepRetryData, StepSuccessData
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._utils.error import SerializableErrorInfo

from ntro_dagster.boundary.names import CODE_LOCATION_TAG, TENANT_TAG, WORK_TAG
from ntro_dagster.boundary.storage import PooledPostgresStorage, prepare_instance
from ntro_dagster.workspace.feed import ENTITY_TAG, FINISHED, PERIOD_TAG, STATUSES, Feed, RunAmbiguousError, RunNotFoundError

STARTED_AT = 1_780_000_000.25


@dataclass
class Workspace:
    """A workspace's database. Attributes: `dagsters`: stock code's way to it."""

    dagsters: PooledPostgresStorage
    feed: Feed
    connection: psycopg.Connection[tuple[object, ...]]

    def run(self, tags: dict[str, str], **values: object) -> DagsterRun:
        return self.dagsters.run_storage.add_run(DagsterRun(run_id=str(uuid4()), tags=tags, **values))  # type: ignore[arg-type]

    def say(self, run: DagsterRun, kind: DagsterEventType, step: str | None, at: float, error: str | None = None) -> None:
        info = SerializableErrorInfo(error or "", [], None)
        data = {
            DagsterEventType.STEP_SUCCESS: StepSuccessData(1.0),
            DagsterEventType.STEP_FAILURE: StepFailureData(info, None),
            DagsterEventType.STEP_UP_FOR_RETRY: StepRetryData(info),
        }.get(kind)
        event = DagsterEvent(kind.value, run.job_name, step_key=step, event_specific_data=data)
        said = EventLogEntry(None, 10, "", run.run_id, STARTED_AT + at, step, run.job_name, event)
        self.dagsters.event_log_storage.store_event(said)
        if step is None:
            self.dagsters.run_storage.handle_run_event(run.run_id, event)


@pytest.fixture
def workspace(instance_database: Callable[[], AbstractContextManager[str]]) -> Iterator[Workspace]:
    with instance_database() as url, psycopg.connect(url, autocommit=True) as connection:
        prepare_instance(url)
        yield Workspace(PooledPostgresStorage(url), Feed(connection), connection)


def _month(entity: str, period: str = "2026-10", tenant: str = "acme") -> dict[str, str]:
    return {CODE_LOCATION_TAG: tenant, ENTITY_TAG: entity, PERIOD_TAG: period}


def test_runs_are_those_that_dagster_finds(workspace: Workspace) -> None:
    wanted = frozenset({AssetKey(["acme", "review", "expenses"]), AssetKey(["acme", "ledgers", "expenses"])})
    workspace.run(_month("spv-1"), job_name="expense_processor", asset_selection=wanted, status=DagsterRunStatus.MANAGED)
    workspace.run(_month("spv-1", "2026-11") | {WORK_TAG: "posting"}, job_name="posting", status=DagsterRunStatus.STARTED)
    workspace.run(_month("spv-2") | {WORK_TAG: "what I typed"}, job_name="What I typed", status=DagsterRunStatus.SUCCESS)
    workspace.run(_month("spv-1", tenant="beta"), job_name="close", status=DagsterRunStatus.FAILURE)
    workspace.run({TENANT_TAG: "gamma"}, job_name="close", status=DagsterRunStatus.CANCELED)
    workspace.run({}, job_name="of_nobody")
    for filters in (
        {},
        {"limit": 2},
        {"tenant": "acme"},
        {"tenant": "acme", "entity": "spv-1"},
        {"entity": "spv-1", "period": "2026-10"},
        {"tenant": "beta", "statuses": ["SUCCESS", "FAILURE"]},
        {"statuses": ["STARTED"]},
        {"tenant": "nobody"},
    ):
        tags = {CODE_LOCATION_TAG: "tenant", ENTITY_TAG: "entity", PERIOD_TAG: "period"}
        records = workspace.dagsters.run_storage.get_run_records(
            RunsFilter(
                tags={tag: str(filters[name]) for tag, name in tags.items() if name in filters},
                statuses=[DagsterRunStatus(each) for each in filters.get("statuses", [])] or None,  # type: ignore[union-attr]
            ),
            limit=filters.get("limit"),  # type: ignore[arg-type]
        )
        theirs = [
            (
                record.dagster_run.run_id,
                record.dagster_run.tags.get(ENTITY_TAG),
                record.dagster_run.tags.get(PERIOD_TAG),
                record.dagster_run.status.value,
                record.create_timestamp.replace(tzinfo=UTC),
                len(record.dagster_run.asset_selection or ()) or None,
            )
            for record in records
            if record.dagster_run.tags
        ]
        ours = workspace.feed.runs(**filters)  # type: ignore[arg-type]
        assert [(run.run_id, run.entity, run.period, run.status, run.created, run.assets) for run in ours] == theirs
    told = {(run.tenant, run.runbook, run.work) for run in workspace.feed.runs()}
    assert told == {
        ("acme", "expense-processor", None),
        ("acme", "posting", "posting"),
        ("acme", None, None),
        ("beta", "close", None),
        ("gamma", "close", None),
    }


def test_steps_and_failures_are_those_that_dagster_tells_of(workspace: Workspace) -> None:
    run = workspace.run(_month("spv-1"), job_name="month_end", status=DagsterRunStatus.STARTING)
    error_id = str(uuid4())
    step, kind = "acme__review__expenses", DagsterEventType
    workspace.say(run, kind.RUN_START, None, 0)
    workspace.say(run, kind.STEP_START, "acme__ledgers__expenses", 1)
    workspace.say(run, kind.STEP_SUCCESS, "acme__ledgers__expenses", 3.5)
    workspace.say(run, kind.STEP_START, step, 4)
    workspace.say(run, kind.STEP_UP_FOR_RETRY, step, 5)
    workspace.say(run, kind.STEP_RESTARTED, step, 6)
    workspace.say(run, kind.STEP_FAILURE, step, 8, f"DATABASE_LOGIN_REFUSED (error {error_id})")
    workspace.say(run, kind.STEP_SKIPPED, "acme__close__period", 8)
    workspace.say(run, kind.STEP_START, "acme__posting__expenses", 9)
    workspace.say(run, kind.STEP_START, "not_ours", 9)
    workspace.say(run, kind.STEP_FAILURE, "not_ours", 10, "Jane Doe owes 1,000,000.00")
    stats = workspace.dagsters.event_log_storage.get_step_stats_for_run(run.run_id)
    theirs = {
        each.step_key.removeprefix("acme__").replace("__", "/"): (
            each.status.value if each.status else None,
            each.end_time - each.start_time if each.end_time and each.start_time else None,
        )
        for each in stats
        if each.step_key != "not_ours"
    }
    ours = workspace.feed.steps(run.run_id)
    assert {each.asset: (each.status, each.duration_s) for each in ours} == theirs
    assert [each.asset for each in ours] == ["ledgers/expenses", "review/expenses", "posting/expenses", "close/period"]
    assert theirs["review/expenses"] == ("FAILURE", 4.0)
    failures = [(each.asset, each.code, each.error_id) for each in workspace.feed.failures(run.run_id)]
    assert failures == [("review/expenses", "DATABASE_LOGIN_REFUSED", error_id), ("", "UNEXPECTED_ERROR", None)]

    workspace.say(run, kind.RUN_FAILURE, None, 11)
    (record,) = workspace.dagsters.run_storage.get_run_records()
    shown = workspace.feed.run(run.run_id)
    assert record.start_time and record.end_time and shown.started and shown.ended
    assert (shown.started.timestamp(), shown.ended.timestamp()) == (record.start_time, record.end_time)
    assert (shown.status, shown.finished, shown.assets_done) == ("FAILURE", True, 1)


def test_a_run_goes_by_the_beginning_of_its_id(workspace: Workspace) -> None:
    run = workspace.run(_month("spv-1"), job_name="month_end")
    assert workspace.feed.run(run.run_id[:8].upper()).run_id == run.run_id
    for unknown in ("ffffffff", "", "%", "a'b", run.run_id[:3]):
        with pytest.raises(RunNotFoundError):
            workspace.feed.run(unknown)
    twin = DagsterRun("month_end", run_id=run.run_id[:-1] + ("1" if run.run_id[-1] == "0" else "0"), tags=_month("spv-2"))
    workspace.dagsters.run_storage.add_run(twin)
    with pytest.raises(RunAmbiguousError):
        workspace.feed.run(run.run_id[:8])


def test_its_words_are_dagsters() -> None:
    assert set(STATUSES) == {status.value for status in DagsterRunStatus}
    assert {status.value for status in FINISHED_STATUSES} == FINISHED
