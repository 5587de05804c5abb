"""An installation as `ntro up` makes it, with one tenant, in a home of its own; and what it can be compared with."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
import yaml

from benchmarks.subject import RUNBOOK, SLUG
from ntro_dagster.bundles import platform_bundle, runbook_bundle
from ntro_dagster.host.deployments import Runbooks
from ntro_dagster.host.home import Home
from ntro_dagster.host.installation import Installation
from ntro_dagster.host.launch import read_environment, write_environment
from ntro_dagster.host.ports import free_port
from ntro_dagster.host.tenancy import create_tenant, ensure_entities
from ntro_dagster.platforms.postgres.server import PostgresServer
from ntro_dagster.subledger.registry import load_types
from ntro_dagster.tenant.run_worker import START_METHOD

POLL_S = 0.2

Connection = psycopg.Connection[tuple[Any, ...]]
Settings = Callable[[Installation], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Way:
    """How runs are started and stored.

    Attributes:
        settings: keys of dagster.yaml that stand in the place of ours.
        environment: of the tenant's code server, beside what every one is told.
    """

    name: str
    settings: Settings = lambda _: {}
    environment: dict[str, str] = field(default_factory=dict)

    def running(self, code: dict[str, str]) -> Way:
        """The same, with definitions of other code. Args: `code`: environment that says which."""
        return replace(self, environment=self.environment | code)


def _stock_launcher(_: Installation) -> dict[str, Any]:
    return {"run_launcher": {"module": "dagster._core.launcher", "class": "DefaultRunLauncher"}}


def _stock_storages(installation: Installation) -> dict[str, Any]:
    return _stock_launcher(installation) | {"storage": {"postgres": {"postgres_url": installation.workspace_url()}}}


SPAWN = {START_METHOD: "spawn"}

OURS = Way("ours")
STOCK_LAUNCHER = Way("stock launcher", _stock_launcher, SPAWN)
"""Runs are spawned and launched as Dagster does it; relay, wall and pooled storages are ours."""
STOCK_STORAGES = Way("stock launcher and storages", _stock_storages, SPAWN)
"""And every process writes to the workspace's database by dagster-postgres: no relay, no wall, no pool, no transcript. For
comparison alone.
"""


@contextmanager
def installed(way: Way = OURS, *, entities: Sequence[str] = (), started: bool = True) -> Iterator[Installation]:
    """Args: `started`: everything; else PostgreSQL alone."""
    root = Path(tempfile.mkdtemp(prefix="ntro-bench-", dir="/tmp"))
    installation = Installation(Home(root / "h"))
    load_types(platform_bundle())
    try:
        installation.prepare(webserver_port=free_port(3900))
        create_tenant(installation, SLUG, name="Bench")
        if entities:
            runbooks = Runbooks(installation)
            runbooks.push(runbook_bundle(RUNBOOK).root)
            runbooks.deploy(RUNBOOK, SLUG)
            ensure_entities(installation, SLUG, {slug: slug.upper() for slug in entities}, currency="GBP")
        _change(installation, way)
        if started:
            installation.start_services()
        yield installation
    finally:
        installation.down()
        data = PostgresServer(installation.home.postgres).data
        for directory in (root, installation.home.sockets, *([] if data.is_relative_to(root) else [data.parent])):
            shutil.rmtree(directory, ignore_errors=True)


def _change(installation: Installation, way: Way) -> None:
    file = installation.home.dagster / "dagster.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | way.settings(installation), sort_keys=False))
    environment = installation.home.tenant(SLUG).process_env
    write_environment(environment, read_environment(environment) | way.environment)


def until(there: Callable[[], object], patience_s: float) -> None:
    """Raises: `TimeoutError`."""
    deadline = time.monotonic() + patience_s
    while not there():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(POLL_S)


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs since a moment. `seconds`: from start to end of each that succeeded."""

    number: int
    unsuccessful: int
    seconds: tuple[float, ...]


def watching(installation: Installation) -> Connection:
    """Where runs are: one for all questions, for a new one costs as much as a small run's work."""
    return psycopg.connect(installation.workspace_url(), autocommit=True)


def now_of(workspace: Connection) -> int:
    """A moment for `runs_since`."""
    return int(workspace.execute("SELECT coalesce(max(id), 0) FROM runs").fetchone()[0])  # type: ignore[index]


def runs_since(workspace: Connection, moment: int) -> Runs:
    found = workspace.execute("SELECT status, end_time - start_time FROM runs WHERE id > %s", [moment]).fetchall()
    well = [seconds for status, seconds in found if status == "SUCCESS"]
    return Runs(len(found), len(found) - len(well), tuple(well))


def nothing_runs(workspace: Connection) -> bool:
    at_work = "SELECT FROM runs WHERE status NOT IN ('SUCCESS', 'FAILURE', 'CANCELED') LIMIT 1"
    return workspace.execute(at_work).rowcount == 0
