"""Dagster's storages on a pool."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from dagster import DagsterInstance, asset, materialize
from sqlalchemy.exc import ProgrammingError

from ntro_dagster.boundary.storage import PooledPostgresStorage, pooled_engine, prepare_instance
from ntro_dagster.host.dagster_instance import write_instance
from ntro_dagster.host.home import Home
from ntro_dagster.platforms.postgres.server import PostgresServer


@pytest.fixture
def url(postgres_server: PostgresServer) -> Iterator[str]:
    name = f"storage_{secrets.token_hex(4)}"
    with psycopg.connect(postgres_server.admin_dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        yield postgres_server.admin_dsn(name)
        pooled_engine(postgres_server.admin_dsn(name)).dispose()
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_tables_are_made_only_when_asked(url: str) -> None:
    storage = PooledPostgresStorage(url)
    with pytest.raises(ProgrammingError):
        storage.run_storage.get_runs()
    prepare_instance(url)
    prepare_instance(url)
    assert storage.run_storage.get_runs() == []
    assert storage.run_storage.has_run_stats_index_cols() is True  # type: ignore[attr-defined]
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
    storage, threads = PooledPostgresStorage(url), 6
    together = threading.Barrier(threads)

    def look(_: int) -> None:
        with storage.run_storage.connect():  # type: ignore[attr-defined]
            together.wait(30)

    with ThreadPoolExecutor(threads) as pool, psycopg.connect(url, autocommit=True) as watcher:
        list(pool.map(look, range(threads)))
        before = _sessions(watcher)
        list(pool.map(look, range(threads)))
        storage.run_storage.get_runs()
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


def _sessions(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    """Connections ever opened to this database."""
    row = connection.execute("SELECT sessions FROM pg_stat_database WHERE datname = current_database()").fetchone()
    assert row
    return int(str(row[0]))


def _columns(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT column_name FROM information_schema.columns WHERE table_name = 'runs'")
        return {row[0] for row in rows}
