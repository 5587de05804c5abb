"""Proposals as Dagster sees them: what a tenant defines, when the sensor asks for a run, and what the run says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dagster import AssetKey, DagsterInstance, Definitions, RunRequest, build_sensor_context
from dagster._core.definitions.partitions.context import partition_loading_context
from let_flat import RUNBOOK, LetFlat

from ntro_dagster.boundary import vocabulary as words
from ntro_dagster.boundary.names import entities_set
from ntro_dagster.bundles.active import ActiveSet, with_platform
from ntro_dagster.orchestration.month_end import tenant_definitions
from ntro_dagster.subledger.registry import load_types

JOB, PARTITION = "nav_monthly_journals", "flat|2022-01"
PROPOSALS = AssetKey(["acme", "proposals", "nav_monthly_journals__journal_proposals"])
INPUTS = [f"nav_monthly_journals__{name}" for name in ("rental_statement", "repairs", "landlord_statement")]


@pytest.fixture
def definitions(flat: LetFlat, monkeypatch: pytest.MonkeyPatch) -> Definitions:
    monkeypatch.setenv("NTRO_TENANT", "acme")
    monkeypatch.setenv("NTRO_PLATFORM_URL", flat.credentials.app)
    active = ActiveSet((RUNBOOK,))
    load_types(*with_platform(active.bundles))
    return tenant_definitions(active)


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as ephemeral:
        ephemeral.add_dynamic_partitions(entities_set("acme"), ["flat"])
        yield ephemeral


def asked_for(definitions: Definitions, instance: DagsterInstance, sensor: str) -> list[RunRequest]:
    repository = definitions.get_repository_def()
    sees = partition_loading_context(dynamic_partitions_store=instance)
    with build_sensor_context(instance=instance, repository_def=repository) as context, sees:
        return list(repository.get_sensor_def(sensor).evaluate_tick(context).run_requests or [])


def test_what_is_made_of_which(definitions: Definitions) -> None:
    specs = {spec.key: spec for spec in definitions.resolve_all_asset_specs()}
    assert {dep.asset_key for dep in specs[PROPOSALS].deps} == {
        *(AssetKey(["acme", "ledgers", name]) for name in INPUTS),
        *(AssetKey(["acme", "review", f"{name}_decisions"]) for name in INPUTS),
    }
    assert [dep.asset_key for dep in specs[AssetKey(["acme", "ledgers", "journal_proposals"])].deps] == [PROPOSALS]
    names = {sensor.name for sensor in definitions.get_repository_def().sensor_defs}
    assert {f"{JOB}_intake", f"{JOB}_proposals"} <= names
    assert not definitions.get_repository_def().schedule_defs, "nobody is bound to it"


def test_a_run_is_asked_for_once_the_rows_are_reviewed_and_the_partition_is_then_done(
    flat: LetFlat, definitions: Definitions, instance: DagsterInstance
) -> None:
    sensor = f"{JOB}_proposals"
    flat.rent("2022-01", rent_received="1000.00")
    assert asked_for(definitions, instance, sensor) == []
    flat.decide(flat.rental, "approve", period="2022-01")
    (request,) = asked_for(definitions, instance, sensor)
    assert (str(request.partition_key), list(request.asset_selection or [])) == (PARTITION, [PROPOSALS])
    assert words.run_key(request.run_key) == f"proposals:{PARTITION}:0"
    assert words.work(request.tags["ntro/work"]) == "proposals"

    run = definitions.resolve_job_def(JOB).execute_in_process(
        partition_key=request.partition_key, asset_selection=[PROPOSALS], instance=instance, tags=request.tags
    )
    assert run.success
    (made,) = run.asset_materializations_for_node(run.get_asset_materialization_events()[0].node_name)
    counts = {name: value.value for name, value in made.metadata.items()}
    assert counts["inserted"] == 2
    assert all(words.count(name, value) == value for name, value in counts.items()), "every word may cross the wall"
    assert asked_for(definitions, instance, sensor) == []
    assert flat.fetch("SELECT count(*) FROM system.runs WHERE run_id = %s", run.run_id) == [(1,)]


def test_approved_rows_that_are_not_posted_do_not_wake_the_posting_sensor(
    flat: LetFlat, definitions: Definitions, instance: DagsterInstance
) -> None:
    flat.rent("2022-01", rent_received="1000.00")
    flat.decide(flat.rental, "approve", period="2022-01")
    assert asked_for(definitions, instance, "month_end_posting") == []
    flat.derive("2022-01")
    flat.decide(flat.proposals, "approve", period="2022-01")
    assert len(asked_for(definitions, instance, "month_end_posting")) == 1
