"""What the comparison needs of a system that carries out the unit of work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import psycopg

from benchmarks.bare_month import environment
from benchmarks.installed import installed
from benchmarks.peers.processes import Processes, processes
from benchmarks.peers.venvs import Venv
from benchmarks.processor_time import used
from ntro_dagster.host.installation import Installation
from ntro_dagster.host.ports import free_port

READY_PATIENCE_S = 90.0
FIRST_PORT = 4300


class System(Protocol):
    """One that is up. `installation`: the tenant's, whose PostgreSQL is the system's too."""

    installation: Installation

    def submit(self, entities: Sequence[str]) -> None:
        """A tracked run for each, all together; returns when the system knows of all of them."""

    def unfinished(self) -> int:
        """Runs that it knows of and that have not ended."""

    def unsuccessful(self) -> int:
        """Runs that ended otherwise than well."""

    def used(self) -> dict[str, float]:
        """CPU seconds by kind of process, PostgreSQL included."""


Up = Callable[[Sequence[str]], AbstractContextManager[System]]
"""Brings a system up for these entities."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run the unit.

    Attributes:
        steps: of a run.
        fewer: it is measured with a tenth of the entities, or the comparison would take an hour.
        alone: each run has a process of its own.
    """

    name: str
    up: Up
    steps: int = 1
    fewer: bool = False
    alone: bool = True


@dataclass(slots=True)
class Peer:
    """Processes beside a tenant whose own are not started, and a database of their own on the tenant's PostgreSQL."""

    installation: Installation
    processes: Processes
    database: psycopg.Connection[tuple[object, ...]]

    def used(self) -> dict[str, float]:
        return self.processes.used() | {"postgres": used(self.installation)["postgres"]}

    def count(self, query: str) -> int:
        self.processes.check()
        row = self.database.execute(query).fetchone()
        assert row
        return int(str(row[0]))

    def until(self, there: Callable[[], object], what: str) -> None:
        """Raises: `PeerFailedError`, `TimeoutError`."""
        deadline = time.monotonic() + READY_PATIENCE_S
        while not there():
            self.processes.check()
            if time.monotonic() > deadline:
                raise TimeoutError(what)
            time.sleep(0.2)


Settings = Callable[[Path, str, int], dict[str, str]]
"""A peer's environment, of: its directory, its database as `user:password@host:port/name`, a port for its server."""


@contextmanager
def beside_a_tenant(entities: Sequence[str], venv: Venv, places: Sequence[Path], settings: Settings) -> Iterator[Peer]:
    with installed(entities=entities, started=False) as installation:
        home = installation.home.root.parent / "peer"
        home.mkdir()
        admin = installation.admin_dsn()
        with psycopg.connect(admin, autocommit=True) as server:
            server.execute("CREATE DATABASE peer")
        parts = urlsplit(admin)
        variables = venv.environment(*places) | environment(installation)
        variables |= {"HOME": str(home)} | settings(home, f"{parts.netloc}/peer", free_port(FIRST_PORT))
        with (
            psycopg.connect(parts._replace(path="/peer").geturl(), autocommit=True) as database,
            processes(home, variables) as started,
        ):
            yield Peer(installation, started, database)
