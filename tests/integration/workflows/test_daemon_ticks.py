"""Dagster's own scheduler loop, with a clock that is set: what fires, what does not, and what is made up for."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from bound_tenant import VERSIONS, World, daemon, starter, survey
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.test_utils import freeze_time

from ntro_dagster.boundary.schedules import GRACE, IN_FLIGHT
from ntro_dagster.host.bindings import bind, pause, tell_tenant
from ntro_dagster.orchestration.context import pinned_to
from ntro_dagster.platforms.postgres.database import TenantDatabase

YEAR = datetime.now(UTC).year + 1
"""Bindings are made now; ticks come after."""


def moment(month: int, day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(YEAR, month, day, hour, minute, tzinfo=UTC)


def test_a_tick_starts_one_run_for_each_entity_that_is_bound(world: World) -> None:
    for entity in ("spv-1", "spv-2"):
        bind(world.installation, world.binding(entity))
    world.add_entity("spv-3")  # bound to nothing
    with daemon(world) as its:
        its.look(moment(2, 1, 12))
        its.look(moment(2, 5, 7, 59))
        assert world.runs() == []
        its.look(moment(2, 5, 8, 1))
        its.look(moment(2, 5, 8, 2))
    found = sorted(world.runs(), key=lambda run: run.tags["dagster/partition"])
    assert [run.tags["dagster/partition"] for run in found] == [f"spv-1|{YEAR}-01", f"spv-2|{YEAR}-01"]
    assert [run.tags["dagster/run_key"] for run in found] == [f"monthly:{run.tags['dagster/partition']}" for run in found]
    assert {run.tags[".dagster/scheduled_execution_time"] for run in found} == {f"{YEAR}-02-05T08:00:00+00:00"}
    assert {run.tags["ntro/unit"] for run in found} == {f"acme|spv-1|{YEAR}-01", f"acme|spv-2|{YEAR}-01"}


def test_many_entities_on_one_time_are_one_schedule_and_none_is_none(world: World) -> None:
    with daemon(world) as its:
        its.look(moment(2, 5, 8, 1))
        assert world.instance.all_instigator_state() == []
    bind(world.installation, world.binding("spv-1"))
    bind(world.installation, world.binding("spv-2", " 00 8 5 * * "))
    assert [each["cron"] for each in world.active.schedules] == ["0 8 5 * *"]
    with daemon(world) as its:
        its.look(moment(2, 1, 12))
        (state,) = world.instance.all_instigator_state()
        assert state.instigator_name.startswith("expense_processor_at_")


def test_after_an_outage_nothing_starts_until_it_is_asked_for(world: World) -> None:
    bound = world.bind(world.binding("spv-1"), world.binding("spv-2"), at=moment(1, 20, 12))
    with daemon(world) as its:
        its.look(moment(2, 1, 12))
        its.look(moment(2, 5, 8, 1))
        assert len(world.runs()) == 2
        later = moment(5, 5, 7) + GRACE + timedelta(minutes=1)  # 08:00 in London is 07:00 in UTC by then
        its.look(later)
        assert len(world.runs()) == 2
        assert [tick.status for tick in its.ticks()] == [TickStatus.SUCCESS, TickStatus.SKIPPED]
        assert {gap.period for gap in world.missed(later)} == {f"{YEAR}-0{month}" for month in (2, 3)}  # May's is in flight
        later += IN_FLIGHT
        gaps = world.missed(later)
        assert [(gap.workflow.id, gap.period) for gap in gaps] == [
            (workflow.id, f"{YEAR}-0{month}") for month in (2, 3, 4) for workflow in bound
        ]

        survey(world)
        with freeze_time(later):
            first = [starter(world, its).start(gap) for gap in gaps]
            again = [starter(world, its).start(gap) for gap in gaps]
        assert again == first
        assert len(world.runs()) == 2 + 6
        assert world.missed(later) == []
        its.look(later + timedelta(minutes=1))
        assert len(world.runs()) == 2 + 6
        caught = world.instance.get_run_by_id(first[0])
        scheduled = world.runs()[0]
        assert caught
        assert caught.asset_selection == scheduled.asset_selection
        assert caught.tags.keys() >= scheduled.tags.keys() - {"dagster/tick"}


def test_catch_ups_and_the_daemon_at_once_start_one_run(world: World) -> None:
    world.bind(world.binding("spv-1"), at=moment(1, 20, 12))
    survey(world)
    with daemon(world) as its:
        its.look(moment(2, 1, 12))
        (gap,) = world.missed(moment(2, 5, 8, 30) + GRACE)
        with freeze_time(moment(2, 5, 8, 1)), ThreadPoolExecutor(5) as threads:
            asked = [threads.submit(starter(world, its).start, gap) for _ in range(4)]
            looked = threads.submit(its.look, moment(2, 5, 8, 1))
            looked.result()
            started = {each.result() for each in asked}
    assert started == {run.run_id for run in world.runs()}
    assert len(started) == 1


def test_paused_months_are_neither_run_nor_missed(world: World) -> None:
    one, _ = world.bind(world.binding("spv-1"), world.binding("spv-2"), at=moment(1, 20, 12))
    pause(world.installation, one.id)
    world.pauses(one.id, moment(1, 21, 12), moment(3, 1, 12))
    with daemon(world) as its:
        its.look(moment(2, 1, 12))
        its.look(moment(2, 5, 8, 1))
        assert [run.tags["dagster/partition"] for run in world.runs()] == [f"spv-2|{YEAR}-01"]
        tell_tenant(world.installation, world.registry_workflows(), "acme")
        its.look(moment(3, 5, 8, 1))
        assert [(gap.workflow.binding.entity, gap.period) for gap in world.missed(moment(4, 5, 12))] == [
            ("spv-1", f"{YEAR}-03"),
            ("spv-2", f"{YEAR}-03"),
        ]
    assert sorted(run.tags["dagster/partition"] for run in world.runs()) == [
        f"spv-1|{YEAR}-02",
        f"spv-2|{YEAR}-01",
        f"spv-2|{YEAR}-02",
    ]


def test_what_was_run_by_hand_since_is_not_missed(world: World) -> None:
    world.bind(world.binding("spv-1"), at=moment(1, 20, 12))
    later = moment(4, 1, 12)
    assert [gap.period for gap in world.missed(later)] == [f"{YEAR}-01", f"{YEAR}-02"]
    with daemon(world) as its:
        for day, month, work in [(3, 1, {}), (20, 2, {"ntro/work": "intake"}), (20, 1, {"ntro/work": "intake"})]:
            partition = {"dagster/partition": f"spv-1|{YEAR}-0{month}"}
            with freeze_time(moment(2, day, 12)):  # one before its tick, and what sensors do
                its.webserver.launch(tenant="acme", job="expense_processor", tags=partition | work)
        assert [gap.period for gap in world.missed(later)] == [f"{YEAR}-01", f"{YEAR}-02"]
        with freeze_time(moment(2, 20, 12)):
            its.webserver.launch(tenant="acme", job="expense_processor", tags={"dagster/partition": f"spv-1|{YEAR}-01"})
    assert [gap.period for gap in world.missed(later)] == [f"{YEAR}-02"]


def test_a_tick_before_the_binding_was_made_or_resumed_starts_nothing(world: World) -> None:
    bind(world.installation, world.binding("spv-1"))
    with daemon(world) as its:
        its.look(moment(2, 1, 12))
        world.sql("UPDATE system.workflows SET armed_at = %s", moment(2, 5, 8, 1))
        its.look(moment(2, 5, 8, 2))
        assert world.runs() == []
        its.look(moment(3, 5, 8, 2))
    assert len(world.runs()) == 1


async def versions(world: World, *entities: str) -> list[str | None]:
    async with TenantDatabase(world.app) as database:
        active = await database.fetch_one("SELECT version FROM system.active_runbooks WHERE slug = 'expense-processor'")
        pinned = [await pinned_to(database, "expense-processor", entity) for entity in entities]
        return [version or (active["version"] if active else None) for version in pinned]


def test_a_pinned_binding_runs_its_version_and_others_the_active_one(world: World) -> None:
    assert asyncio.run(versions(world, "spv-1")) == [None]
    for version in VERSIONS:
        world.sql("INSERT INTO system.runbook_versions VALUES ('expense-processor', %s, '1', '{}')", version)
        world.sql(
            "INSERT INTO system.deployments (deployment_id, slug, version, act, deployed_by) "
            "VALUES (gen_random_uuid(), 'expense-processor', %s, 'deploy', 'user:ann')",
            version,
        )
    bind(world.installation, world.binding("spv-1", pinned="v_000000000001"))
    bind(world.installation, world.binding("spv-2"))
    assert asyncio.run(versions(world, "spv-1", "spv-2", "spv-3")) == ["v_000000000001", "v_000000000002", "v_000000000002"]
    with daemon(world) as its:
        its.look(moment(2, 1, 12))
        its.look(moment(2, 5, 8, 1))
    told = {run.tags["dagster/run_key"]: run.tags["ntro/version"] for run in world.runs()}
    assert told == {
        f"monthly:spv-1|{YEAR}-01:v_000000000001": "v_000000000001",
        f"monthly:spv-2|{YEAR}-01:v_000000000002": "v_000000000002",
    }
