"""What Dagster's storages would look up in the tables again and again: they are as this release makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.errors import DagsterInvariantViolationError
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData, TickData, TickStatus
from dagster._core.storage.dagster_run import RunsFilter
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, AssetEventTagsTable
from dagster._core.storage.schedules import sql_schedule_storage
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.schedule_storage import schedule_storage
from sqlalchemy import event, text

from ntro_dagster.boundary import storage, wall
from ntro_dagster.boundary.pool import driver_url, pooled_engine
from ntro_dagster.boundary.storage import PURGE_EVERY_S, PooledPostgresStorage, prepare_instance


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


def sensor(name: str, **data: float) -> InstigatorState:
    repository = RemoteRepositoryOrigin(GrpcServerCodeLocationOrigin(host="localhost", socket="/none"), "repository")
    origin = RemoteInstigatorOrigin(repository, name)
    known = SensorInstigatorData(min_interval=5, **data)  # type: ignore[arg-type]
    return InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, known)


@contextmanager
def heard(url: str) -> Iterator[list[str]]:
    """The statements that our storages make meanwhile."""
    said: list[str] = []

    def hear(_: object, __: object, statement: str, *___: object) -> None:
        said.append(statement)

    event.listen(pooled_engine(url), "before_cursor_execute", hear)
    try:
        yield said
    finally:
        event.remove(pooled_engine(url), "before_cursor_execute", hear)


def test_a_tick_does_not_inspect_the_tables(url: str) -> None:
    known = PooledPostgresStorage(url)
    state = sensor("month_end_close")
    origin = state.origin

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
    with heard(url) as said:
        look()
    assert said, "the search works"
    assert [statement for statement in said if "pg_catalog" in statement or "secondary_indexes" in statement] == []


def test_a_sensors_state_is_written_as_stock_code_writes_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, stock = PooledPostgresStorage(url), DagsterPostgresStorage(driver_url(url), should_autocreate_tables=False)
    at = datetime(2026, 10, 5, tzinfo=UTC)
    for place in (storage, sql_schedule_storage, schedule_storage):
        monkeypatch.setattr(place, "get_current_datetime", lambda: at)
    written = []
    for by, name in ((ours, "sensor_of_ours"), (stock, "sensor_of_stock")):
        by.schedule_storage.add_instigator_state(sensor(name))
        changed = wall.instigator_state(sensor(name, last_tick_timestamp=2.0).with_status(InstigatorStatus.STOPPED))
        with heard(url) as said:
            assert by.schedule_storage.update_instigator_state(changed) == changed
        assert len(said) == (1 if by is ours else 0), "by one statement"  # stock code has connections of its own
        found = []
        for table, key, row in (
            ("jobs", "job_origin_id", "selector_id, repository_origin_id, status, job_type, job_body, update_timestamp"),
            ("instigators", "selector_id", "repository_selector_id, status, instigator_type, instigator_body, update_timestamp"),
        ):
            whose = changed.instigator_origin_id if table == "jobs" else changed.selector_id
            with pooled_engine(url).connect() as connection:
                asked = text(f"SELECT {row} FROM {table} WHERE {key} = :whose")
                found += [str(tuple(connection.execute(asked, {"whose": whose}).one()))]
        written.append([each.replace(name, "it").replace(changed.selector_id, "selector") for each in found])
        assert by.schedule_storage.get_instigator_state(changed.instigator_origin_id, changed.selector_id) == changed
    assert written[0] == written[1]


def test_the_state_of_a_sensor_that_is_not_there(url: str) -> None:
    with pytest.raises(DagsterInvariantViolationError):
        PooledPostgresStorage(url).schedule_storage.update_instigator_state(sensor("nobody"))


def test_old_ticks_are_looked_for_once_an_hour(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known, state, now = PooledPostgresStorage(url).schedule_storage, sensor("month_end_review"), [0.0]
    whose = state.instigator_origin_id, state.selector_id
    monkeypatch.setattr(storage, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def tick(status: TickStatus) -> None:
        known.create_tick(TickData(whose[0], "month_end_review", InstigatorType.SENSOR, status, 1.0, selector_id=whose[1]))

    def left() -> list[TickStatus]:
        return sorted((found.status for found in known.get_ticks(*whose)), key=lambda status: status.value)

    tick(TickStatus.SKIPPED)
    tick(TickStatus.STARTED)
    known.purge_ticks(*whose, before=2.0, tick_statuses=[TickStatus.SKIPPED])
    assert left() == [TickStatus.STARTED]
    tick(TickStatus.SKIPPED)
    known.purge_ticks(*whose, before=2.0, tick_statuses=[TickStatus.SKIPPED])
    assert left() == [TickStatus.SKIPPED, TickStatus.STARTED], "it was looked for them just now"
    known.purge_ticks(*whose, before=2.0, tick_statuses=[TickStatus.STARTED])
    assert left() == [TickStatus.SKIPPED], "not for those"
    now[0] = PURGE_EVERY_S
    known.purge_ticks(*whose, before=2.0, tick_statuses=[TickStatus.SKIPPED])
    assert left() == []
