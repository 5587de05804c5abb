"""Two operators at once; and deployments while the code server or PostgreSQL dies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
import psycopg
import pytest
from installed import Client, Site, eventually
from killing import _kill
from samples import TENANT, Sample
from sqlalchemy.exc import OperationalError
from standing import applied, assert_told, push, shown, told

from ntro_dagster.host import deployments
from ntro_dagster.host.deployments import DeploymentBusyError, ReloadFailedError, Runbooks
from ntro_dagster.host.home import Role
from ntro_dagster.host.installation import credential
from ntro_dagster.host.tenancy import create_tenant
from ntro_dagster.platforms.postgres.server import PostgresServer
from ntro_dagster.tenant.deployment import TablesInUseError

OTHER = "beta"


@pytest.fixture(scope="module")
def both(site: Site) -> Site:
    create_tenant(site.installation, OTHER, name="Beta Fund")
    return site


@contextmanager
def held_up(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Within this, the deployment that calls `name` says that it has come, and goes on when it may."""
    came, may = threading.Event(), threading.Event()
    original = getattr(deployments, name)

    def waiting(*arguments: object) -> object:
        came.set()
        assert may.wait(60)
        return original(*arguments)

    monkeypatch.setattr(deployments, name, waiting)
    try:
        yield came, may
    finally:
        may.set()


def test_two_to_one_tenant(both: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runbooks, client = Runbooks(both.installation), both.client(TENANT)
    before = shown(both, TENANT)
    first, second = (push(both, Sample(slug), tmp_path) for slug in ("first", "second"))
    with ThreadPoolExecutor() as pool, held_up(monkeypatch, "carry_out") as (came, may):
        at_work = pool.submit(runbooks.deploy, "first", TENANT)
        assert came.wait(60)
        with pytest.raises(DeploymentBusyError):
            runbooks.deploy("second", TENANT)
        with pytest.raises(DeploymentBusyError):
            runbooks.settle(TENANT)
        may.set()
        at_work.result(60)
    runbooks.deploy("second", TENANT)
    assert_told(both, client, before | {"first": first.version, "second": second.version})


def test_two_tenants(both: Site, tmp_path: Path) -> None:
    runbooks = Runbooks(both.installation)
    version = push(both, Sample("everywhere"), tmp_path).version
    before = {tenant: shown(both, tenant) for tenant in (TENANT, OTHER)}
    released = "SELECT number FROM ledgers.releases"
    numbers = {tenant: both.client(tenant).value(released) for tenant in before}
    with ThreadPoolExecutor() as pool:
        list(pool.map(partial(runbooks.deploy, "everywhere"), before))
    for tenant, known in before.items():
        assert_told(both, both.client(tenant), known | {"everywhere": version})
        assert both.client(tenant).value(released) > numbers[tenant]  # rows that the code before could not post


def test_a_table_that_a_run_holds_is_not_waited_for(both: Site, tmp_path: Path) -> None:
    runbooks, client = Runbooks(both.installation), both.client(TENANT)
    runbooks.deploy("in-use", TENANT, push(both, Sample("in-use"), tmp_path).version)
    wider = push(both, Sample("in-use", columns=1), tmp_path).version
    before = told(both, client)
    with psycopg.connect(credential(both.home, TENANT, Role.APP)) as run:
        run.execute("UPDATE ledgers.in_use__lines SET vendor = 'x' WHERE FALSE")
        with pytest.raises(TablesInUseError):
            runbooks.deploy("in-use", TENANT, wider)
    assert told(both, client) == before
    runbooks.deploy("in-use", TENANT, wider)
    assert applied(client, "in-use") == ["001_lines.sql", "002_extra_1.sql"]


def kill_code_server(site: Site) -> None:
    _kill(site.process(f"tenant-{TENANT}"))


def kill_postgres(site: Site) -> None:
    postmaster = PostgresServer(site.home.postgres).postmaster()
    assert postmaster
    _kill(postmaster)


SHORT = {(kill_code_server, "reload_location"), (kill_postgres, "carry_out")}


def come_back(site: Site) -> None:
    def answers() -> bool:
        with suppress(psycopg.Error, OperationalError, psutil.Error, OSError):
            return bool(told(site, site.client(TENANT)))
        return False

    eventually(answers, "everything answers again")


DEATHS = [
    pytest.param(kill, name, marks=() if (kill, name) in SHORT else pytest.mark.long)
    for kill in (kill_code_server, kill_postgres)
    for name in ("carry_out", "keep_survey", "reload_location")
]


@pytest.mark.parametrize(("kill", "name"), DEATHS)
def test_something_dies_under_a_deployment(
    both: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, kill: Callable[[Site], None]
) -> None:
    slug = f"{kill.__name__.removeprefix('kill_')}-{name}".replace("_", "-")[:30]
    runbooks, client = Runbooks(both.installation), both.client(TENANT)
    before = shown(both, TENANT)
    version = push(both, Sample(slug), tmp_path).version
    with ThreadPoolExecutor() as pool, held_up(monkeypatch, name) as (came, may):
        at_work = pool.submit(runbooks.deploy, slug, TENANT)
        assert came.wait(60)
        kill(both)
        may.set()
        with suppress(psycopg.Error, OperationalError, ReloadFailedError):
            at_work.result(60)
    come_back(both)
    eventually(lambda: settled(runbooks), "settled")
    assert_told(both, client, before | ({slug: version} if known(client, slug) else {}))
    runbooks.deploy(slug, TENANT)
    assert_told(both, client, before | {slug: version})


def settled(runbooks: Runbooks) -> bool:
    with suppress(psycopg.Error, OperationalError):
        runbooks.settle(TENANT)
        return True
    return False


def known(client: Client, slug: str) -> bool:
    return bool(client.ask("SELECT 1 FROM system.active_runbooks WHERE slug = %s", [slug]))


def test_the_code_server_dies_while_it_loads(both: Site, tmp_path: Path) -> None:
    """It comes up again by itself, with what is active."""
    runbooks, client = Runbooks(both.installation), both.client(TENANT)
    before = shown(both, TENANT)
    reached = tmp_path / "reached"
    process = both.process(f"tenant-{TENANT}")
    # stands still where it is loaded, once, in the code server only
    still = (
        f"import os, pathlib, time\nif 'NTRO_SOCKET' in os.environ and not pathlib.Path({str(reached)!r}).exists():\n"
        f"    pathlib.Path({str(reached)!r}).touch()\n    time.sleep(60)\n"
    )
    sample = Sample("loading")
    version = push(both, sample.with_file("assets.py", still + sample.content()["assets.py"]), tmp_path).version
    with ThreadPoolExecutor() as pool:
        at_work = pool.submit(runbooks.deploy, "loading", TENANT)
        eventually(reached.exists, "it loads", 60)
        _kill(process)
        with pytest.raises(ReloadFailedError):
            at_work.result(60)
    come_back(both)
    runbooks.settle(TENANT)
    assert_told(both, client, before | {"loading": version})
