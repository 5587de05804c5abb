"""Which month a tick is for, and what is asked for then."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from unittest.mock import patch
from zoneinfo import ZoneInfo

import pytest
from dagster import DagsterInstance, RunRequest, build_schedule_context
from dagster._core.test_utils import freeze_time

from ntro_dagster.boundary import vocabulary as words
from ntro_dagster.boundary.names import entities_set
from ntro_dagster.boundary.schedules import GRACE, Schedule
from ntro_dagster.bundles import platform_bundle, runbook_bundle
from ntro_dagster.bundles.active import ActiveSet
from ntro_dagster.orchestration import schedules
from ntro_dagster.orchestration.month_end import tenant_definitions
from ntro_dagster.orchestration.schedules import Due
from ntro_dagster.subledger.registry import load_types

RUNBOOK = "expense-processor"
BOUND = [Due("spv-1", -1, "v_0123456789ab"), Due("spv-2", 0, None), Due("spv-3", -13, None)]


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterInstance]:
    with DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as local:
        local.add_dynamic_partitions(entities_set("acme"), [due.entity for due in BOUND])
        yield local


def evaluated(instance: DagsterInstance, tick: datetime, timezone: str, now: datetime) -> list[RunRequest]:
    """What the one schedule asks for at `tick`, when the daemon comes to it at `now`."""
    time = {"runbook": RUNBOOK, "cron": "0 8 5 * *", "timezone": timezone}
    load_types(platform_bundle())
    active = ActiveSet((runbook_bundle(RUNBOOK),), (time, time, {**time, "runbook": "another"}))
    repository = tenant_definitions(active).get_repository_def()
    (schedule,) = repository.schedule_defs
    assert words.name(schedule.name)
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 8 5 * *", timezone)
    context = build_schedule_context(instance=instance, repository_def=repository, scheduled_execution_time=tick)

    async def due(runbook: str, asked: Schedule, at: datetime) -> list[Due]:
        assert (runbook, asked, at) == (RUNBOOK, Schedule("0 8 5 * *", timezone), tick)
        return BOUND

    with patch.object(schedules, "_due", due), freeze_time(now):
        return list(schedule.evaluate_tick(context).run_requests or [])


@pytest.mark.parametrize(
    ("tick", "periods"),
    [
        (datetime(2026, 1, 5, 8, tzinfo=ZoneInfo("Europe/London")), ["2025-12", "2026-01", "2024-12"]),
        (datetime(2026, 3, 5, 8, tzinfo=ZoneInfo("Europe/London")), ["2026-02", "2026-03", "2025-02"]),
        (datetime(2024, 3, 31, 23, 59, tzinfo=ZoneInfo("America/New_York")), ["2024-02", "2024-03", "2023-02"]),
        (datetime(2026, 7, 1, 2, 30, tzinfo=ZoneInfo("Europe/Luxembourg")), ["2026-06", "2026-07", "2025-06"]),
    ],
)
@pytest.mark.parametrize("late", [timedelta(0), GRACE])
def test_a_tick_is_for_the_month_that_each_binding_says(
    tick: datetime, periods: list[str], late: timedelta, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NTRO_TENANT", "acme")
    found = evaluated(instance, tick, str(tick.tzinfo), tick + late)
    partitions = [f"{due.entity}|{period}" for due, period in zip(BOUND, periods, strict=True)]
    assert [request.partition_key for request in found] == partitions
    assert [request.run_key for request in found] == [
        f"monthly:{partitions[0]}:v_0123456789ab",
        f"monthly:{partitions[1]}",
        f"monthly:{partitions[2]}",
    ]
    assert all(words.run_key(request.run_key) for request in found)
    assert [request.tags.get("ntro/version") for request in found] == ["v_0123456789ab", None, None]
    assert [request.tags["ntro/unit"] for request in found] == [f"acme|{partition}" for partition in partitions]


def test_a_tick_that_is_too_late_starts_nothing(instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NTRO_TENANT", "acme")
    tick = datetime(2026, 1, 5, 8, tzinfo=ZoneInfo("Europe/London"))
    assert evaluated(instance, tick, "Europe/London", tick + GRACE + timedelta(seconds=1)) == []


def test_where_nothing_is_bound_there_is_no_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NTRO_TENANT", "acme")
    load_types(platform_bundle())
    repository = tenant_definitions(ActiveSet((runbook_bundle(RUNBOOK),))).get_repository_def()
    assert list(repository.schedule_defs) == []
