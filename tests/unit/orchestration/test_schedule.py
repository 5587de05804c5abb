"""Which month a tick is for."""

from collections.abc import Iterator
from datetime import datetime
from unittest.mock import patch
from zoneinfo import ZoneInfo

import pytest
from dagster import DagsterInstance, build_schedule_context

from ntro_dagster.boundary.names import entities_set
from ntro_dagster.bundles import platform_bundle, runbook_bundle
from ntro_dagster.bundles.active import ActiveSet
from ntro_dagster.orchestration import schedules
from ntro_dagster.orchestration.month_end import tenant_definitions
from ntro_dagster.subledger.registry import load_types

ENTITIES = ["spv-1", "spv-2"]


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterInstance]:
    with DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as local:
        local.add_dynamic_partitions(entities_set("acme"), ENTITIES)
        yield local


@pytest.mark.parametrize(
    ("tick", "period"),
    [
        (datetime(2026, 1, 5, 8, tzinfo=ZoneInfo("Europe/London")), "2025-12"),
        (datetime(2026, 3, 5, 8, tzinfo=ZoneInfo("Europe/London")), "2026-02"),
        (datetime(2024, 3, 31, 23, 59, tzinfo=ZoneInfo("America/New_York")), "2024-02"),
        (datetime(2026, 11, 1, 0, 0, tzinfo=ZoneInfo("Europe/Luxembourg")), "2026-10"),
    ],
)
def test_a_tick_is_for_the_month_that_ended_before_it(
    tick: datetime, period: str, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def entities() -> list[str]:
        return ENTITIES

    monkeypatch.setenv("NTRO_TENANT", "acme")
    load_types(platform_bundle())
    repository = tenant_definitions(ActiveSet((runbook_bundle("expense-processor"),))).get_repository_def()
    (schedule,) = repository.schedule_defs
    context = build_schedule_context(instance=instance, repository_def=repository, scheduled_execution_time=tick)
    with patch.object(schedules, "_open_entities", entities):
        found = schedule.evaluate_tick(context).run_requests or []
    assert [request.partition_key for request in found] == [f"{entity}|{period}" for entity in ENTITIES]
    assert [request.run_key for request in found] == [f"monthly:{entity}|{period}" for entity in ENTITIES]
