"""Dagster's storages on a pool."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from dagster import DagsterEvent, DagsterEventType, DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter, asset, materialize
from dagster._core.events.log import EventLogEntry
from sqlalchemy.exc import ProgrammingError

from ntro_dagster.boundary import pool
from ntro_dagster.boundary.names import CODE_LOCATION_TAG
from ntro_dagster.boundary.pool import pooled_engine
from ntro_dagster.boundary.storage import PooledPostgresStorage, prepare_instance
from ntro_dagster.host.dagster_instance import write_instance
from ntro_dagster.host.home import Home


@pytest.fixture
def url(instance_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    with instance_database() as url:
        yield url


def test_tables_are_made_only_when_asked(url: str) -> None:
    made = PooledPostgresStorage(url)
    with pytest.raises(ProgrammingError):
        made.run_storage.get_runs()
    prepare_instance(url)
    prepare_instance(url)
    assert made.run_storage.get_runs() == []
    assert made.run_storage.has_run_stats_index_cols() is True  # type: ignore[attr-defined]
    assert "start_time" in _columns(url)  # what it asserts without looking


def test_a_run_needs_few_connections(url: str, tmp_path: Path, as_workspace: Callable[[str], None]) -> None:
    prepare_instance(url)
    home = Home(tmp_path)
    home.create()
    write_instance(home)
    as_workspace(url)

    @asset
    def thing() -> None: ...

    with psycopg.connect(url, autocommit=True) as watcher:
        before = _sessions(watcher)
        with DagsterInstance.from_config(str(home.dagster)) as instance:
            assert materialize([thing], instance=instance).success
            assert len(instance.get_runs()) == 1
        assert _sessions(watcher) - before <= 2  # one is open since the tables were made


def test_a_daemons_threads_open_no_connection_twice(url: str) -> None:
    prepare_instance(url)
    made, threads = PooledPostgresStorage(url), 6
    together = threading.Barrier(threads)

    def look(_: int) -> None:
        with made.run_storage.connect():  # type: ignore[attr-defined]
            together.wait(30)

    with ThreadPoolExecutor(threads) as pool, psycopg.connect(url, autocommit=True) as watcher:
        list(pool.map(look, range(threads)))
        before = _sessions(watcher)
        list(pool.map(look, range(threads)))
        made.run_storage.get_runs()
        assert _sessions(watcher) == before


def test_forked_child_opens_its_own_connection(url: str) -> None:
    engine = pooled_engine(url)
    with engine.connect() as connection:
        mine = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            with engine.connect() as connection:
                os.write(write, str(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(read, 20)) != mine
    with engine.connect() as connection:  # and the parent's is as good as before
        assert connection.exec_driver_sql("SELECT pg_backend_pid()").scalar() == mine


def test_a_connection_that_was_lost_just_now_has_said_so(url: str) -> None:
    engine = pooled_engine(url)
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT")
    _end_all(url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1


@pytest.mark.parametrize("status", [DagsterRunStatus.CANCELING, DagsterRunStatus.CANCELED])
def test_a_run_that_is_cancelled_is_not_at_work_again_by_what_it_said_of_its_beginning(
    url: str, status: DagsterRunStatus
) -> None:
    prepare_instance(url)
    made = PooledPostgresStorage(url)
    for given, wanted in ((status, status), (DagsterRunStatus.STARTING, DagsterRunStatus.STARTED)):
        run = made.run_storage.add_run(DagsterRun("month_end", tags={CODE_LOCATION_TAG: "acme"}, status=given))
        start = DagsterEvent(DagsterEventType.RUN_START.value, run.job_name)
        told = EventLogEntry(None, 20, "", run.run_id, 1.0, job_name=run.job_name, dagster_event=start)  # type: ignore[no-untyped-call]
        made.event_log_storage.store_event(told)
        (stored,) = made.run_storage.get_runs(RunsFilter(run_ids=[run.run_id]))
        assert stored.status is wanted
        assert len(made.event_log_storage.get_records_for_run(run.run_id).records) == 1


def test_a_connection_that_was_lost_while_it_rested_is_opened_anew_and_so_are_all(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, several = pooled_engine(url), 3
    monkeypatch.setattr(pool, "QUIET_S", 0.0)
    monkeypatch.setattr(pool, "_was_told_something", lambda _: False)
    with ExitStack() as together:
        for _ in range(several):
            together.enter_context(engine.connect()).exec_driver_sql("SELECT")
    _end_all(url)
    with ExitStack() as together:
        for _ in range(several):
            assert together.enter_context(engine.connect()).exec_driver_sql("SELECT 1").scalar() == 1


def test_a_connection_that_was_at_work_just_now_is_not_asked_whether_it_lives(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, asked = pooled_engine(url), 0
    ping = engine.dialect.do_ping

    def counted(opened: Any) -> bool:
        nonlocal asked
        asked += 1
        return ping(opened)

    monkeypatch.setattr(engine.dialect, "do_ping", counted)
    monkeypatch.setattr(pool, "QUIET_S", 3600.0)
    for _ in range(3):
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT")
    assert asked == 0
    monkeypatch.setattr(pool, "QUIET_S", 0.0)
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT")
    assert asked == 1


def _end_all(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def _sessions(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    """Connections ever opened to this database."""
    row = connection.execute("SELECT sessions FROM pg_stat_database WHERE datname = current_database()").fetchone()
    assert row
    return int(str(row[0]))


def _columns(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT column_name FROM information_schema.columns WHERE table_name = 'runs'")
        return {row[0] for row in rows}
