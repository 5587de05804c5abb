"""Dagster's storages on PostgreSQL, over a pool of connections. What is written passes the wall.

Nothing creates tables on its own; `prepare_instance()` does, once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any

from dagster import DagsterEvent, DagsterEventType, DagsterRun, DagsterRunStatus
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS, PIPELINE_EVENTS
from dagster._core.events.log import EventLogEntry
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.scheduler.instigation import InstigatorState, InstigatorTick, TickData, TickStatus
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.runs.base import RunStorage
from dagster._daemon.types import DaemonHeartbeat
from dagster._serdes import ConfigurableClassData, deserialize_value, serialize_value
from dagster._time import get_current_datetime
from dagster_postgres import (
    DagsterPostgresStorage,
    PostgresEventLogStorage,
    PostgresRunStorage,
    PostgresScheduleStorage,
)
from sqlalchemy import Connection, text

from ntro_dagster.boundary import scheduled_once, wall
from ntro_dagster.boundary.pool import connected, driver_url, pooled_engine, transaction


def _settled(*_: Any, **__: Any) -> bool:
    """True of every table this release makes (`prepare_instance`); stock code inspects the tables each time, which costs as much
    as what it was going to do.
    """
    return True


@lru_cache(maxsize=128)
def _read_run(body: str) -> DagsterRun:
    """What the queue, the launcher, the monitor and the relay ask again and again of a run at work is read once."""
    return deserialize_value(body, DagsterRun)


_STATUS = text("SELECT status FROM runs WHERE run_id = :run_id")
_CANCELLED = {DagsterRunStatus.CANCELING.value, DagsterRunStatus.CANCELED.value}


class _PooledRunStorage(PostgresRunStorage):
    has_run_stats_index_cols = has_backfill_id_column = has_backfill_tags_table = _settled
    has_bulk_actions_selector_cols = has_bulk_action_job_name_column = _settled

    def __init__(self, url: str) -> None:
        super().__init__(driver_url(url), should_autocreate_tables=False)
        self._engine = pooled_engine(url)

    def connect(self) -> AbstractContextManager[Connection]:
        return connected(self._engine)

    def _row_to_run(self, row: Mapping[str, Any]) -> DagsterRun:
        """The column `status` is right, where the text is older."""
        return _read_run(row["run_body"]).with_status(DagsterRunStatus(row["status"]))

    def add_run(self, dagster_run: DagsterRun) -> DagsterRun:
        """The run as it was stored; where a schedule asked for it once already, the one that there is."""
        known = wall.run(dagster_run)
        claim = scheduled_once.claim_of(known)
        if claim is None:
            return super().add_run(known)
        with transaction(self._engine, turn=False) as connection:
            held_by = scheduled_once.holder(connection, claim, known.run_id)
            if held_by != known.run_id:
                there = self._get_run_by_id(held_by)
                if there is not None:
                    return there
                scheduled_once.take_over(connection, claim, known.run_id)
            return super().add_run(known)

    def handle_run_event(self, run_id: str, event: DagsterEvent, update_timestamp: datetime | None = None) -> None:
        """A run that is being cancelled, or was, is not at work again by what it said of its beginning before it heard so."""
        if event.event_type is DagsterEventType.RUN_START:
            with self.connect() as connection:
                if connection.execute(_STATUS, {"run_id": run_id}).scalar() in _CANCELLED:
                    return
        super().handle_run_event(run_id, event, update_timestamp)

    def add_historical_run(self, dagster_run: DagsterRun, run_creation_time: datetime) -> DagsterRun:
        return super().add_historical_run(wall.run(dagster_run), run_creation_time)

    def add_run_tags(self, run_id: str, new_tags: Mapping[str, str]) -> None:
        super().add_run_tags(run_id, wall.run_tags(new_tags))

    def add_daemon_heartbeat(self, daemon_heartbeat: DaemonHeartbeat) -> None:
        super().add_daemon_heartbeat(wall.heartbeat(daemon_heartbeat))

    def add_backfill(self, partition_backfill: PartitionBackfill) -> None:
        super().add_backfill(wall.backfill(partition_backfill))

    def update_backfill(self, partition_backfill: PartitionBackfill) -> None:
        super().update_backfill(wall.backfill(partition_backfill))


class PooledEventLogStorage(PostgresEventLogStorage):
    """Events in their order, by one statement, with what follows from them, whole or not at all.

    Stock code inserts each by itself, notifies those who listened in releases long gone, and has the instance change the run's
    status in another transaction.
    """

    has_asset_key_col = _has_asset_key_col_on_connection = has_table = _settled
    handles_run_events_in_store_event = True

    def __init__(self, url: str, runs: RunStorage) -> None:
        super().__init__(driver_url(url), should_autocreate_tables=False)
        self._engine = pooled_engine(url)
        self._runs = runs

    def _connect(self) -> AbstractContextManager[Connection]:
        return connected(self._engine)

    def store_event(self, event: EventLogEntry) -> None:
        self.store_event_batch([event])

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        self.store_known([kept for event in events if (kept := wall.event(event))])

    def store_known(self, events: Sequence[EventLogEntry]) -> None:
        """Events that have passed the wall."""
        if not events:
            return
        with transaction(self._engine) as connection:
            ids = connection.execute(_INSERT, [self._event_to_row(event) for event in events]).scalars().all()
            stored = list(zip(events, ids, strict=True))
            self._store_of_assets(connection, [(event, id_) for event, id_ in stored if _of_asset(event)])
            for event, id_ in stored:
                if event.dagster_event_type in ASSET_CHECK_EVENTS:
                    self.store_asset_check_event(event, id_)
                elif event.dagster_event_type in PIPELINE_EVENTS:
                    at = datetime.fromtimestamp(event.timestamp, UTC)
                    self._runs.handle_run_event(event.run_id, event.get_dagster_event(), at)

    def _store_of_assets(self, connection: Connection, stored: Sequence[tuple[EventLogEntry, int]]) -> None:
        """Their tags, and what is known last of each asset."""
        if not stored:
            return
        self._store_asset_event_tags(connection, *zip(*stored, strict=True))
        last = {(event.get_dagster_event().asset_key, event.dagster_event_type): (event, id_) for event, id_ in stored}
        for event, id_ in sorted(last.values(), key=itemgetter(1)):
            self._store_asset_event(connection, event, id_)


_INSERT = SqlEventLogStorageTable.insert().returning(SqlEventLogStorageTable.c.id, sort_by_parameter_order=True)


def _of_asset(event: EventLogEntry) -> bool:
    return event.dagster_event_type in ASSET_EVENTS and event.get_dagster_event().asset_key is not None


PURGE_EVERY_S = 3600.0
_UPDATE_STATE = text("""
    WITH state AS (
        UPDATE instigators SET status = :status, instigator_type = :type, instigator_body = :body, update_timestamp = :now
        WHERE selector_id = :selector
        RETURNING selector_id
    ), job AS (
        UPDATE jobs SET status = :status, job_body = :body, selector_id = :selector, update_timestamp = :now
        FROM state
        WHERE job_origin_id = :origin
    )
    SELECT selector_id FROM state
""")


class _PooledScheduleStorage(PostgresScheduleStorage):
    has_instigators_table = _has_instigators_table = has_secondary_index_table = _settled
    _has_asset_daemon_asset_evaluations_table = _settled

    def __init__(self, url: str) -> None:
        super().__init__(driver_url(url), should_autocreate_tables=False)
        self._engine = pooled_engine(url)
        self._built: set[str] = set()
        self._purged_at: dict[tuple[str, frozenset[TickStatus]], float] = {}

    def has_built_index(self, migration_name: str) -> bool:
        """Asked until it is; what is built stays."""
        if migration_name not in self._built and super().has_built_index(migration_name):
            self._built.add(migration_name)
        return migration_name in self._built

    def add_instigator_state(self, state: InstigatorState) -> InstigatorState:
        return super().add_instigator_state(wall.instigator_state(state))

    def update_instigator_state(self, state: InstigatorState) -> InstigatorState:
        """By one statement; stock code reads the state before, and writes each of the two tables by itself."""
        known = wall.instigator_state(state)
        values = {
            "selector": known.selector_id,
            "origin": known.instigator_origin_id,
            "type": known.instigator_type.value,
            "status": known.status.value,
            "body": serialize_value(known),
            "now": get_current_datetime(),
        }
        with self.connect() as connection:
            if connection.execute(_UPDATE_STATE, values).first():
                return known
        return super().update_instigator_state(known)

    def purge_ticks(
        self, origin_id: str, selector_id: str, before: float, tick_statuses: Sequence[TickStatus] | None = None
    ) -> None:
        """Once in `PURGE_EVERY_S`; the daemon asks for it after each tick, of days."""
        asked, now = (selector_id, frozenset(tick_statuses or TickStatus)), time.monotonic()
        if now - self._purged_at.get(asked, -math.inf) >= PURGE_EVERY_S:
            super().purge_ticks(origin_id, selector_id, before, tick_statuses)
            self._purged_at[asked] = now

    def create_tick(self, tick_data: TickData) -> InstigatorTick:
        return super().create_tick(wall.tick(tick_data))

    def update_tick(self, tick: InstigatorTick) -> InstigatorTick:
        return super().update_tick(wall.instigator_tick(tick))


class PooledPostgresStorage(DagsterPostgresStorage):
    """What the workspace's processes open. The tables must be there (`prepare_instance()`)."""

    def __init__(self, postgres_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        # not DagsterPostgresStorage.__init__(): it makes the stock storages
        DagsterStorage.__init__(self)  # type: ignore[no-untyped-call, arg-type]
        self.postgres_url = postgres_url
        self.should_autocreate_tables = False
        self._inst_data = inst_data
        self._run_storage = _PooledRunStorage(postgres_url)
        self._event_log_storage = PooledEventLogStorage(postgres_url, self._run_storage)
        self._schedule_storage = _PooledScheduleStorage(postgres_url)


_RELAY_TABLES = """
CREATE SCHEMA IF NOT EXISTS relay;
CREATE TABLE IF NOT EXISTS relay.writes (
    tenant TEXT NOT NULL,
    key UUID NOT NULL,
    digest BYTEA NOT NULL,
    answer BYTEA,
    done_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, key)
);
CREATE INDEX IF NOT EXISTS writes_done_at ON relay.writes USING brin (done_at);
CREATE TABLE IF NOT EXISTS relay.counts (
    tenant TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('refused', 'dropped')),
    what TEXT NOT NULL,
    number BIGINT NOT NULL CHECK (number > 0),
    PRIMARY KEY (tenant, kind, what)
);
CREATE TABLE IF NOT EXISTS relay.life (
    one BOOLEAN PRIMARY KEY DEFAULT true CHECK (one),
    started_at TIMESTAMPTZ NOT NULL
);
"""
"""What tenants' calls have changed, by the key of the call: asked again, it is not done again. And what was refused, in numbers,
since the relay started."""


def prepare_instance(url: str) -> None:
    """Create Dagster's tables and the relay's where they are missing. For the host, before any Dagster process starts."""
    DagsterPostgresStorage(driver_url(url), should_autocreate_tables=True)
    with pooled_engine(url).connect() as connection:
        connection.execute(text(_RELAY_TABLES + scheduled_once.TABLE))
