"""What Dagster's storages would look up in the tables again and again: they are as this release makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData, TickData, TickStatus
from dagster._core.storage.dagster_run import RunsFilter
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, AssetEventTagsTable
from dagster_postgres import DagsterPostgresStorage
from sqlalchemy import event

from ntro_dagster.boundary import storage
from ntro_dagster.boundary.storage import PooledPostgresStorage, driver_url, pooled_engine, prepare_instance


@pytest.fixture(scope="module")
def url(instance_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    with instance_database() as url:
        prepare_instance(url)
        yield url


def test_stock_code_finds_in_the_tables_what_ours_takes_for_granted(url: str) -> None:
    ours, stock = PooledPostgresStorage(url), DagsterPostgresStorage(driver_url(url), should_autocreate_tables=False)
    asked = 0
    for part in ("run_storage", "event_log_storage", "schedule_storage"):
        granted = [name for name, what in vars(type(getattr(ours, part))).items() if what is storage._settled]
        found = getattr(stock, part)
        for name in granted:
            if name == "_has_asset_key_col_on_connection":
                continue  # as the one without a connection
            if name == "has_table":
                assert all(found.has_table(table.name) for table in (AssetEventTagsTable, AssetCheckExecutionsTable))
            elif name == "has_asset_key_col":
                columns = ["last_materialization_timestamp", "cached_status_data"]
                assert all(found.has_asset_key_col(column) for column in columns)
            elif name.startswith("_has"):
                with found.connect() as connection:
                    assert getattr(found, name)(connection), name
            else:
                assert getattr(found, name)(), name
            asked += 1
    assert asked == 11


def test_a_tick_does_not_inspect_the_tables(url: str) -> None:
    known = PooledPostgresStorage(url)
    repository = RemoteRepositoryOrigin(GrpcServerCodeLocationOrigin(host="localhost", socket="/none"), "repository")
    origin = RemoteInstigatorOrigin(repository, "month_end_close")
    state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, SensorInstigatorData(min_interval=5))
    said: list[str] = []

    def hear(_: object, __: object, statement: str, *___: object) -> None:
        said.append(statement)

    def look() -> None:
        tick = known.schedule_storage.create_tick(
            TickData(
                instigator_origin_id=origin.get_id(),
                instigator_name="month_end_close",
                instigator_type=InstigatorType.SENSOR,
                status=TickStatus.STARTED,
                timestamp=1.0,
                selector_id=state.selector_id,
            )
        )
        known.schedule_storage.update_tick(tick.with_status(TickStatus.SKIPPED, end_timestamp=2.0))
        known.schedule_storage.update_instigator_state(state)
        known.schedule_storage.get_instigator_state(origin.get_id(), state.selector_id)
        known.run_storage.get_run_records(RunsFilter(tags={"a": "b"}))

    known.schedule_storage.add_instigator_state(state)
    look()
    engine = pooled_engine(url)
    event.listen(engine, "before_cursor_execute", hear)
    try:
        look()
    finally:
        event.remove(engine, "before_cursor_execute", hear)
    assert said, "the search works"
    assert [statement for statement in said if "pg_catalog" in statement or "secondary_indexes" in statement] == []
