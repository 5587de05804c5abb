"""Events stored together are what stock storage makes of them one by one: the same rows in every table of Dagster's."""

# No `from __future__ import annotations`: Dagster inspects the annotation of `context`.
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg
import pytest
from dagster import (
    AssetCheckResult,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
    AssetObservation,
    DagsterInstance,
    DagsterRun,
    DataVersion,
    Definitions,
    DynamicPartitionsDefinition,
    JobDefinition,
    MaterializeResult,
    MultiPartitionKey,
    MultiPartitionsDefinition,
    StaticPartitionsDefinition,
    asset,
    define_asset_job,
    in_process_executor,
)
from dagster._core.events import ASSET_CHECK_EVENTS, DagsterEventType
from dagster._core.events.log import EventLogEntry
from dagster._core.instance import InstanceType
from dagster._core.launcher import DefaultRunLauncher
from dagster._core.run_coordinator import DefaultRunCoordinator
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster_postgres import DagsterPostgresStorage

from ntro_dagster.boundary import wall
from ntro_dagster.boundary.names import CODE_LOCATION_TAG, TENANT_TAG
from ntro_dagster.boundary.pool import driver_url
from ntro_dagster.boundary.storage import PooledPostgresStorage, prepare_instance

KEY = MultiPartitionKey({"entity": "spv", "period": "2026-10"})
MONTHS = MultiPartitionsDefinition(
    {"entity": DynamicPartitionsDefinition(name="acme__entities"), "period": StaticPartitionsDefinition(["2026-10"])}
)
TABLES = {
    "event_logs": "run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition",
    "asset_keys": "asset_key, last_run_id, last_materialization_timestamp, "
    "regexp_replace(last_materialization, 'storage_id\": [0-9]+', '')",
    "asset_event_tags": "asset_key, key, value, event_timestamp, event_id - (SELECT min(id) FROM event_logs)",
    "asset_check_executions": "asset_key, check_name, partition, run_id, execution_status, evaluation_event, "
    "evaluation_event_timestamp, evaluation_event_storage_id - (SELECT min(id) FROM event_logs)",
    "runs": "run_id, status, start_time, end_time, run_body, update_timestamp",
    "run_tags": "run_id, key, value",
}


Databases = Callable[[], AbstractContextManager[str]]
OF_ASSETS = (
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_OBSERVATION,
)


@asset(
    key=AssetKey(["acme", "ledgers", "things"]),
    partitions_def=MONTHS,
    check_specs=[AssetCheckSpec("adds_up", asset=AssetKey(["acme", "ledgers", "things"]))],
)
def things(context: AssetExecutionContext) -> MaterializeResult:  # type: ignore[type-arg]
    context.log_event(AssetObservation(context.asset_key, partition=context.partition_key, metadata={"PENDING": 1}))
    return MaterializeResult(data_version=DataVersion("1"), check_results=[AssetCheckResult(passed=True, check_name="adds_up")])


@asset(key=AssetKey(["acme", "ledgers", "others"]), deps=[things], partitions_def=MONTHS)
def others() -> MaterializeResult[None]:
    raise RuntimeError


def _job() -> JobDefinition:
    job = define_asset_job("month_end", [things, others], partitions_def=MONTHS)
    return Definitions(assets=[things, others], jobs=[job], executor=in_process_executor).resolve_job_def("month_end")


@pytest.fixture(scope="module")
def happened() -> tuple[DagsterRun, list[EventLogEntry]]:
    """A run that fails in its second step, and all of its events."""
    with DagsterInstance.ephemeral() as nowhere:
        nowhere.add_dynamic_partitions("acme__entities", ["spv"])
        result = _job().execute_in_process(partition_key=KEY, instance=nowhere, raise_on_error=False)
        assert not result.success
        run = nowhere.get_run_by_id(result.run_id)
        assert run
        known = [wall.event(record) for record in nowhere.all_logs(run.run_id)]
        begun = DagsterRun(run.job_name, run_id=run.run_id, tags={CODE_LOCATION_TAG: "acme", TENANT_TAG: "acme"})
        return begun, [event for event in known if event]


@contextmanager
def _instance(storage: DagsterPostgresStorage, directory: str) -> Iterator[DagsterInstance]:
    with DagsterInstance(
        instance_type=InstanceType.PERSISTENT,
        local_artifact_storage=LocalArtifactStorage(directory),
        run_storage=storage.run_storage,
        event_storage=storage.event_log_storage,
        schedule_storage=storage.schedule_storage,
        compute_log_manager=NoOpComputeLogManager(),
        run_coordinator=DefaultRunCoordinator(),
        run_launcher=DefaultRunLauncher(),
    ) as opened:
        yield opened


def _rows(url: str) -> dict[str, list[tuple[Any, ...]]]:
    with psycopg.connect(url) as connection:
        return {
            table: connection.execute(f"SELECT {columns} FROM {table} ORDER BY {columns}").fetchall()  # type: ignore[arg-type]
            for table, columns in TABLES.items()
        }


def test_together_they_are_what_they_are_one_by_one(
    instance_database: Databases, tmp_path: Any, happened: tuple[DagsterRun, Sequence[EventLogEntry]]
) -> None:
    run, events = happened
    kinds = {event.dagster_event_type for event in events}
    assert kinds > ASSET_CHECK_EVENTS
    assert {*OF_ASSETS, DagsterEventType.RUN_START, DagsterEventType.RUN_FAILURE} < kinds
    with instance_database() as stock_url, instance_database() as our_url:
        for url in (stock_url, our_url):
            prepare_instance(url)
        stock, ours = (
            DagsterPostgresStorage(driver_url(stock_url), should_autocreate_tables=False),
            PooledPostgresStorage(our_url),
        )
        for storage in (stock, ours):
            storage.run_storage.add_run(run)
        with _instance(stock, str(tmp_path)) as opened:
            for event in events:
                opened.handle_new_event(event)
        ours.event_log_storage.store_event_batch(events)
        theirs, mine = _rows(stock_url), _rows(our_url)
        assert all(theirs[table] for table in TABLES), "each table has something to compare"
        assert mine == theirs


def test_none_is_stored_where_one_cannot_be(
    instance_database: Databases, happened: tuple[DagsterRun, Sequence[EventLogEntry]]
) -> None:
    run, events = happened
    with instance_database() as url, psycopg.connect(url, autocommit=True) as connection:
        prepare_instance(url)
        storage = PooledPostgresStorage(url)
        storage.run_storage.add_run(run)
        before = _rows(url)
        connection.execute("ALTER TABLE runs ADD CHECK (status <> 'FAILURE') NOT VALID")
        with pytest.raises(Exception, match="runs_status_check"):
            storage.event_log_storage.store_event_batch(events)
        assert _rows(url) == before
