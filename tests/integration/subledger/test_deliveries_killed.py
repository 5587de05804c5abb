"""`kill -9` while rows are on their way to a ledger that misbehaves: before every line of the code that sends them.

A point is the first time that a line of the delivery's code is about to run. The worker is a fork of this process, and dies there
itself; or it kills its database process there, whereupon PostgreSQL ends all others and recovers from its log. Afterwards runs
are started as the sensor would: nobody lifts a finger.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from elsewhere import (
    assert_in_both,
    assert_nothing_half,
    keep_at,
    options_for,
    place_for,
    run,
    statuses,
)
from ledger_tenant import Tenant, approved
from misbehaving_ledger import SECRETS, Elsewhere, misbehaving_ledger
from psycopg import sql

import ntro_dagster.gl
from ntro_dagster.gl.providers import erpnext, http, xero  # noqa: F401 - loaded before the fork
from ntro_dagster.platforms.postgres import database
from ntro_dagster.platforms.postgres.database import DatabaseUnreachableError, TenantDatabase
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.platforms.postgres.server import PostgresServer

ROWS = 3
RECOVERED_S = 10.0
SEEDS = range(5)
MOODS = {
    "writes": {
        "ok": 4, "commit_then_silence": 2, "silence": 1, "commit_late": 2, "commit_then_500": 2, "500": 1, "commit_then_reset": 2,
        "reset": 1, "429": 1,
    },
    "reads": {"ok": 12, "500": 1, "reset": 1, "429": 1},
}  # fmt: skip
SHORT_STEP, LONG_POINTS = 24, 100

SENDING = Path(ntro_dagster.gl.__file__).parent
WATCHED = str(SENDING)
DATABASE = database.__file__


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    with misbehaving_ledger() as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def durable(deployed: DatabaseCredentials, postgres_server: PostgresServer) -> None:
    """What is committed outlives the database's death, as it does in every installation; other tests do without."""
    with psycopg.connect(postgres_server.admin_dsn(), autocommit=True) as admin:
        name = psycopg.conninfo.conninfo_to_dict(deployed.owner)["dbname"]
        admin.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = on").format(sql.Identifier(str(name))))
        admin.execute("CHECKPOINT")


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


class Points:
    """Counts lines of the delivery's code as they run for the first time, and strikes before the one that is wanted."""

    def __init__(self, wanted: int | None, strike: Callable[[], None]) -> None:
        self.wanted, self.strike = wanted, strike
        self.seen: set[tuple[str, int]] = set()

    def watch(self) -> None:
        sys.settrace(self._call)
        threading.settrace(self._call)

    def _call(self, frame: types.FrameType, event: str, _: object) -> Callable[..., object] | None:
        name = frame.f_code.co_filename
        return self._line if name.startswith(WATCHED) or name == DATABASE else None

    def _line(self, frame: types.FrameType, event: str, _: object) -> Callable[..., object]:
        if event == "line":
            place = (frame.f_code.co_filename, frame.f_lineno)
            if place not in self.seen:
                self.seen.add(place)
                if len(self.seen) == self.wanted:
                    self.strike()
        return self._line


def in_a_fork(tenant: Tenant, entity: UUID, point: int | None, kill: str) -> int:
    """One run in a process of its own. Returns how many points it passed; -1: it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        with os.fdopen(reading) as told:
            said = told.read()
        _, status = os.waitpid(child, 0)
        return -1 if os.WIFSIGNALED(status) else int(said or 0)
    backends: list[int] = []
    connect = TenantDatabase.connection

    async def remembering(self: TenantDatabase) -> object:
        connection = await connect(self)
        if connection.info.backend_pid not in backends:
            backends.append(connection.info.backend_pid)
        return connection

    def strike() -> None:
        if kill == "worker" or not backends:
            os.kill(os.getpid(), signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.kill(backends[-1], signal.SIGKILL)

    TenantDatabase.connection = remembering  # type: ignore[assignment,method-assign]
    points = Points(point, strike)
    try:
        points.watch()
        run(tenant, entity)
    except BaseException:  # noqa: S110 - what a run says when its database dies under it
        pass
    finally:
        sys.settrace(None)
        os.write(writing, str(len(points.seen)).encode())
        os._exit(0)


def recover(tenant: Tenant, entity: UUID, rows: int) -> float:
    """Runs until everything is posted. Returns the seconds since database and ledger answer."""
    answers(tenant)
    begun, last = time.monotonic(), ""
    while True:
        try:
            assert_nothing_half(tenant, entity)
            if statuses(tenant, entity) == {"POSTED": rows}:
                return time.monotonic() - begun
            run(tenant, entity)
        except (psycopg.OperationalError, DatabaseUnreachableError) as error:  # it recovers
            last = repr(error)
        time.sleep(0.1)  # a tick
        assert time.monotonic() - begun < RECOVERED_S + 10, f"never posted: {last}"


def answers(tenant: Tenant) -> None:
    deadline = time.monotonic() + 90
    while True:
        try:
            tenant.fetch("SELECT 1")
            return
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def killed_at(tenant: Tenant, elsewhere: Elsewhere, provider: str, *, seed: int, point: int, kill: str) -> float:
    """Killed at that point, with a ledger that misbehaves until the run after has ended. Returns how long the rest took."""
    entity, place = tenant.new_entity(), place_for(provider)
    keep_at(tenant, entity, provider, options_for(provider, elsewhere, place, timeout_seconds=0.4, settle_seconds=0.5))
    elsewhere.mood(place, seed=seed * 1000 + point, silence_s=0.6, late_s=0.5, retry_after="0", **MOODS)
    approved(tenant, entity, ROWS)
    in_a_fork(tenant, entity, point, kill)
    answers(tenant)
    with suppress(psycopg.OperationalError, DatabaseUnreachableError):
        run(tenant, entity)
    elsewhere.mood(place)  # how long the rest takes is ours, once it behaves
    took = recover(tenant, entity, ROWS)
    assert_in_both(tenant, entity, elsewhere, place, ROWS)
    return took


def points_of(tenant: Tenant, elsewhere: Elsewhere, provider: str) -> int:
    """How many a run has in which nothing goes wrong."""
    entity, place = tenant.new_entity(), place_for(provider)
    keep_at(tenant, entity, provider, options_for(provider, elsewhere, place))
    approved(tenant, entity, ROWS)
    return in_a_fork(tenant, entity, None, "worker")


@pytest.mark.parametrize(("provider", "kill"), [("xero", "worker"), ("erpnext", "postgres")])
def test_killed_on_the_way(
    tenant: Tenant, elsewhere: Elsewhere, provider: str, kill: str, record_property: Callable[[str, object], None]
) -> None:
    every = points_of(tenant, elsewhere, provider)
    assert every >= LONG_POINTS
    step = SHORT_STEP if kill == "worker" else SHORT_STEP * 4
    took = [killed_at(tenant, elsewhere, provider, seed=0, point=point, kill=kill) for point in range(step // 2, every, step)]
    record_property("slowest_recovery_s", round(max(took), 1))
    assert max(took) < RECOVERED_S


@pytest.mark.long
@pytest.mark.parametrize("kill", ["worker", "postgres"])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("provider", ["xero", "erpnext"])
def test_killed_at_every_point(
    tenant: Tenant, elsewhere: Elsewhere, provider: str, *, kill: str, seed: int, record_property: Callable[[str, object], None]
) -> None:
    every = points_of(tenant, elsewhere, provider)
    points = range(1 + seed % 2, every + 1, max(1, every // LONG_POINTS) if kill == "worker" else 20)
    took = [killed_at(tenant, elsewhere, provider, seed=seed, point=point, kill=kill) for point in points]
    record_property("points", len(took))
    record_property("slowest_recovery_s", round(max(took), 1))
    print(f"{provider}, seed {seed}: {len(took)} times {kill} killed, slowest recovery {max(took):.1f} s")
    assert max(took) < RECOVERED_S
    assert kill == "postgres" or len(took) >= LONG_POINTS
