"""The shape of a tenant, as a text to review: every asset, check, job, sensor and schedule that its code location serves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import yaml
from dagster import AssetKey, AssetSpec, Definitions, MultiPartitionsDefinition, PartitionsDefinition
from syrupy.assertion import SnapshotAssertion

from ntro_dagster.bundles import runbook_bundle
from ntro_dagster.bundles.active import ActiveSet, with_platform
from ntro_dagster.orchestration.month_end import tenant_definitions
from ntro_dagster.subledger.registry import load_types


@pytest.fixture
def definitions(monkeypatch: pytest.MonkeyPatch) -> Definitions:
    """As `ntro_dagster.tenant.definitions` puts them together, for a tenant called acme."""
    monkeypatch.setenv("NTRO_TENANT", "acme")
    active = ActiveSet((runbook_bundle("expense-processor"),), (TIME,))
    load_types(*with_platform(active.bundles))
    return tenant_definitions(active)


TIME = {"runbook": "expense-processor", "cron": "0 8 5 * *", "timezone": "Europe/London"}


def _paths(keys: Iterable[AssetKey]) -> list[str]:
    return sorted(key.to_user_string() for key in keys)


def _partitions(partitions: PartitionsDefinition[Any] | None) -> str:
    if not isinstance(partitions, MultiPartitionsDefinition):
        return str(partitions)
    return " x ".join(part.name for part in partitions.partitions_defs)


def _asset(spec: AssetSpec) -> dict[str, Any]:
    return {
        "group": spec.group_name,
        "kinds": sorted(spec.kinds),
        "deps": _paths(dep.asset_key for dep in spec.deps),
        "partitions": _partitions(spec.partitions_def),
        "description": spec.description,
    }


def _shape(definitions: Definitions) -> dict[str, Any]:
    repository = definitions.get_repository_def()
    graph = repository.asset_graph
    specs = {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}
    jobs = {job.name: job for job in repository.get_all_jobs() if not job.name.startswith("__")}
    dimensions = {
        part.name: str(part.partitions_def)
        for spec in specs.values()
        if isinstance(spec.partitions_def, MultiPartitionsDefinition)
        for part in spec.partitions_def.partitions_defs
    }
    return {
        "assets": {path: _asset(specs[path]) for path in sorted(specs)},
        "partitions": dimensions,
        "asset checks": {
            f"{key.asset_key.to_user_string()}: {key.name}": {
                "blocking": graph.get_check_spec(key).blocking,
                "description": graph.get_check_spec(key).description,
            }
            for key in sorted(graph.asset_check_keys)
        },
        "jobs": {
            name: {
                "assets": _paths(job.asset_layer.executable_asset_keys),
                "partitions": _partitions(job.partitions_def),
                "executor": job.executor_def.name,
                "tags": dict(job.tags),
                "description": job.description,
            }
            for name, job in sorted(jobs.items())
        },
        "sensors": {
            sensor.name: {
                "job": sensor.job_name,
                "seconds": sensor.minimum_interval_seconds,
                "default": sensor.default_status.value,
                "description": sensor.description,
            }
            for sensor in sorted(repository.sensor_defs, key=lambda sensor: sensor.name)
        },
        "schedules": {
            schedule.name: {
                "job": schedule.job_name,
                "cron": schedule.cron_schedule,
                "timezone": schedule.execution_timezone,
                "default": schedule.default_status.value,
                "description": schedule.description,
            }
            for schedule in sorted(repository.schedule_defs, key=lambda schedule: schedule.name)
        },
    }


def test_shape_of_a_tenant(definitions: Definitions, snapshot: SnapshotAssertion) -> None:
    assert yaml.safe_dump(_shape(definitions), sort_keys=False, width=120) == snapshot
