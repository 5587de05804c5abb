"""What members ask for at the desk becomes a run: one for each request, the one that the schedule would start."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from bound_tenant import DEFINITIONS, QUIET, TENANT, Daemon, World, daemon
from dagster import AssetKey
from dagster._core.test_utils import freeze_time
from dagster._daemon.sensor import execute_sensor_iteration

from ntro_dagster.boundary.names import request_key
from ntro_dagster.orchestration.task_requests import RequestSettledError, take_up
from ntro_dagster.platforms.postgres.database import TenantDatabase

NOW = datetime.now(UTC)
PERIOD = f"{NOW.year - 1}-03"
RECORDS, ROWS = AssetKey([TENANT, "ingest", "submitted_records"]), AssetKey([TENANT, "ledgers", "expenses"])
ENDED = ["WORKFLOW_HAS_ENDED", "ENTITY_CLOSED"]


class Clock:
    """The daemon's loop over sensors, each time a minute later."""

    def __init__(self, its: Daemon) -> None:
        self._context, self._at = its._context, NOW

    def look(self) -> None:
        self._at += timedelta(minutes=1)
        with freeze_time(self._at):
            found = [*execute_sensor_iteration(self._context, QUIET, threadpool_executor=None, submit_threadpool_executor=None)]
        assert not [error for error in found if error is not None and not hasattr(error, "name")], found


@pytest.fixture
def workflow(world: World) -> UUID:
    world.sql("INSERT INTO system.members (login, name, role, created_by) VALUES ('user:pat', 'Pat', 'preparer', 'op')")
    bound, _ = world.bind(world.binding("spv-1"), world.binding("spv-2"), at=NOW)
    return bound.id


def ask(world: World, workflow: UUID, period: str = PERIOD) -> UUID:
    ((made,),) = world.sql(
        "INSERT INTO system.task_requests (workflow_id, period, filed_by) VALUES (%s, %s, 'user:pat') RETURNING id",
        workflow,
        period,
    )
    return made  # type: ignore[no-any-return]


def became(world: World, request: UUID) -> tuple[Any, ...]:
    ((run, code),) = world.sql("SELECT run_id::text, code FROM system.task_requests WHERE id = %s", request)
    return run, code


def as_app(world: World, work: Callable[[TenantDatabase], Awaitable[None]]) -> None:
    async def run() -> None:
        async with TenantDatabase(world.app) as database:
            await work(database)

    asyncio.run(run())


def test_a_request_is_one_run_and_the_one_that_the_schedule_starts(world: World, workflow: UUID) -> None:
    request = ask(world, workflow)
    with daemon(world) as its:
        clock = Clock(its)
        clock.look()
        clock.look()
        asked = [tick.run_keys for tick in its.ticks() if tick.instigator_name == "expense_processor_requested"]
    assert asked == [[request_key(request)], []], "what has a run is not asked for again"
    (run,) = world.runs()
    assert (run.job_name, run.tags["dagster/partition"]) == ("expense_processor", f"spv-1|{PERIOD}")
    assert run.tags["dagster/run_key"] == request_key(request)
    assert run.tags["ntro/unit"] == f"{TENANT}|spv-1|{PERIOD}"
    assert "ntro/work" not in run.tags
    assert run.asset_selection == {RECORDS, ROWS}
    assert became(world, request) == (None, None)


def test_requests_of_several_months_and_entities_are_a_run_each(world: World, workflow: UUID) -> None:
    other = next(each.id for each in world.workflows() if each.id != workflow)
    asked = [ask(world, workflow), ask(world, workflow, f"{NOW.year - 1}-04"), ask(world, other)]
    with daemon(world) as its:
        Clock(its).look()
    assert {run.tags["dagster/run_key"] for run in world.runs()} == {request_key(each) for each in asked}


@pytest.mark.parametrize("code", ENDED)
def test_what_was_overtaken_is_refused_and_starts_nothing(world: World, workflow: UUID, code: str) -> None:
    request = ask(world, workflow)
    if code == "ENTITY_CLOSED":
        world.sql("UPDATE system.entities SET status = 'CLOSED' WHERE slug = 'spv-1'")
    else:
        world.sql("UPDATE system.workflows SET closed_at = now() WHERE id = %s", workflow)
    with daemon(world) as its:
        Clock(its).look()
    assert world.runs() == []
    assert became(world, request) == (None, code)


def test_a_run_that_ends_before_it_began_is_told_of(world: World, workflow: UUID) -> None:
    request = ask(world, workflow)
    with daemon(world) as its:
        clock = Clock(its)
        clock.look()
        (run,) = world.runs()
        clock.look()
        assert became(world, request) == (None, None)
        world.instance.report_run_canceled(run)
        clock.look()
    assert became(world, request) == (None, "RUN_DID_NOT_BEGIN")
    assert len(world.runs()) == 1


def execute(world: World, request: UUID, partition: str = f"spv-1|{PERIOD}") -> Any:
    sys.modules.pop(DEFINITIONS, None)
    job = import_module(DEFINITIONS).defs.resolve_job_def("expense_processor")
    with ThreadPoolExecutor(1) as thread:  # a loop of its own
        return thread.submit(
            job.execute_in_process,
            partition_key=partition,
            asset_selection=[RECORDS],
            tags={"dagster/run_key": request_key(request)},
            instance=world.instance,
            raise_on_error=False,
        ).result()


def test_the_run_takes_its_request_up_and_no_other_run_does(world: World, workflow: UUID) -> None:
    request = ask(world, workflow)
    first = execute(world, request)
    assert first.success
    assert became(world, request) == (first.run_id, None)
    second = execute(world, request)
    assert not second.success
    assert became(world, request) == (first.run_id, None)
    assert world.sql("SELECT run_id::text FROM system.runs") == [(first.run_id,)]


def test_steps_of_one_run_take_it_up_again_and_another_month_not(world: World, workflow: UUID) -> None:
    request, run = ask(world, workflow), uuid4()
    ((entity,),) = world.sql("SELECT id FROM system.entities WHERE slug = 'spv-1'")

    async def twice(database: TenantDatabase) -> None:
        with pytest.raises(RequestSettledError):
            await take_up(database, request, run_id=run, entity_id=entity, period=f"{NOW.year - 1}-04")
        for _ in range(2):
            await take_up(database, request, run_id=run, entity_id=entity, period=PERIOD)

    as_app(world, twice)
    assert became(world, request) == (str(run), None)


def test_of_two_runs_at_once_one_takes_it_up(world: World, workflow: UUID) -> None:
    request, runs = ask(world, workflow), [uuid4() for _ in range(4)]
    ((entity,),) = world.sql("SELECT id FROM system.entities WHERE slug = 'spv-1'")
    taken = []

    def begin(run: UUID) -> None:
        async def work(database: TenantDatabase) -> None:
            await take_up(database, request, run_id=run, entity_id=entity, period=PERIOD)
            taken.append(str(run))

        with suppress(RequestSettledError):
            as_app(world, work)

    with psycopg.connect(world.owner) as holder, ThreadPoolExecutor(4) as threads:
        holder.execute("SELECT FROM system.task_requests WHERE id = %s FOR UPDATE", [request])
        begun = [threads.submit(begin, run) for run in runs]
        holder.rollback()
        for each in begun:
            each.result()
    assert taken == [became(world, request)[0]]
