"""The connections of a process of the workspace to its database, and what is done over one of them whole or not at all.

Stock `dagster-postgres` opens a connection for every statement outside the webserver: 99 in one short run, 0.7 of its 3.3 CPU
seconds. Here each process keeps a few. Writers of events take turns, so events become visible in the order of their ids, and who
reads them by a cursor misses none.
"""

from __future__ import annotations

import math
import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, partial
from typing import Any

from dagster_postgres.utils import create_pg_connection
from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.event import listen
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry

POOL_SIZE = 8  # kept open per process, once its threads have needed so many at once: another costs as much as a run's events
MAX_OVERFLOW = 24  # opened for a burst of the daemon's threads, closed again after it
RECYCLE_SECONDS = 1800
QUIET_S = 1.0
"""A connection that was at work more recently than this is taken to live: half of what was asked of the database was whether it
is there.
"""


@lru_cache(maxsize=8)
def pooled_engine(url: str) -> Engine:
    """The process's one engine for `url`. In a forked child it starts with no connection: sockets are not shared."""
    engine = create_engine(
        driver_url(url),
        isolation_level="AUTOCOMMIT",  # as dagster-postgres has it
        pool_size=POOL_SIZE,
        max_overflow=MAX_OVERFLOW,
        pool_recycle=RECYCLE_SECONDS,
        pool_use_lifo=True,
    )
    listen(engine, "checkin", _rests)
    listen(engine, "checkout", partial(_lives, engine))
    os.register_at_fork(after_in_child=lambda: engine.dispose(close=False))
    return engine


def _rests(_: object, connection: ConnectionPoolEntry) -> None:
    connection.info[_RESTS_SINCE] = time.monotonic()


def _lives(engine: Engine, opened: Any, connection: ConnectionPoolEntry, _: object) -> None:
    """The server may have been restarted since. Raises: `InvalidatePoolError`, for which all are opened anew."""
    if time.monotonic() - connection.info.get(_RESTS_SINCE, math.inf) < QUIET_S and not _was_told_something(opened):
        return
    try:
        there = engine.dialect.do_ping(opened)
    except engine.dialect.loaded_dbapi.Error:
        there = False
    if not there:
        raise InvalidatePoolError


def _was_told_something(opened: Any) -> bool:
    """By the server, unasked: that it ends."""
    look = select.poll()
    look.register(opened.fileno(), select.POLLIN)
    return bool(look.poll(0))


_RESTS_SINCE = "ntro rests since"


def driver_url(url: str) -> str:
    """`url` for psycopg2, which dagster-postgres is written for (it closes psycopg 3's connections under itself)."""
    return make_url(url).set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)


_shared: ContextVar[Connection | None] = ContextVar("_shared", default=None)
_TURN = text("SELECT pg_advisory_xact_lock(hashtext('ntro events'))")


@contextmanager
def transaction(engine: Engine, *, turn: bool = True) -> Iterator[Connection]:
    """Whatever this process's storages do inside, on this thread, is done whole or not at all; with `turn`, no other event
    meanwhile.
    """
    shared = _shared.get()
    if shared is not None:
        yield shared
        return
    with engine.connect() as connection:
        connection.execution_options(isolation_level="READ COMMITTED")
        with connection.begin():
            if turn:
                connection.execute(_TURN)
            token = _shared.set(connection)
            try:
                yield connection
            finally:
                _shared.reset(token)


@contextmanager
def connected(engine: Engine) -> Iterator[Connection]:
    """The connection of the transaction that is open on this thread, or one of the pool's."""
    shared = _shared.get()
    if shared is not None:
        yield shared
    else:
        with create_pg_connection(engine) as connection:
            yield connection
