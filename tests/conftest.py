"""What several suites need: one PostgreSQL per test session (per xdist worker), and fresh tenant databases in it."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from ntro_dagster.bundles import platform_bundle
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials, provision_database
from ntro_dagster.platforms.postgres.server import PostgresServer
from ntro_dagster.subledger.deployment import deploy

# Homes of several workers start at one moment, and a port that is free then is free for each of them. What the process that
# starts the workers has chosen for itself, they inherit.
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ["NTRO_FIRST_DESK_PORT"] = str(9000 + 400 * int(worker.removeprefix("gw")))
os.environ.setdefault("NTRO_FIRST_DESK_PORT", "8600")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Here, because with xdist the process that reports reads no conftest below this one."""
    folder = Path(os.environ.get("NTRO_SCREENSHOTS") or Path(__file__).parent / "browser" / "screenshots")
    if any("tests/browser/" in report.nodeid for report in terminalreporter.stats.get("passed", [])):
        terminalreporter.write_line(f"screenshots of Dagster's pages: {folder} ({len([*folder.glob('*.png')])})")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running embedded server, whose fsync is off: a test's data need not survive the machine."""
    directory = Path(tempfile.mkdtemp(prefix="ntro-pg-"))
    directory.chmod(0o755)  # else, as root, the data would go to /var/lib/ntro
    server = PostgresServer(directory)
    try:
        server.initialise()
        with (server.data / "postgresql.auto.conf").open("a") as conf:
            conf.write("fsync = off\nfull_page_writes = off\nsynchronous_commit = off\n")
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def instance_database(postgres_server: PostgresServer) -> Callable[[], AbstractContextManager[str]]:
    """Each call opens an empty database for Dagster's storages, by its URL; it is dropped at the end."""

    from ntro_dagster.boundary.pool import pooled_engine  # noqa: PLC0415 - Dagster takes a second to import

    @contextmanager
    def opened() -> Iterator[str]:
        name = f"instance_{secrets.token_hex(4)}"
        with psycopg.connect(postgres_server.admin_dsn(), autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name}")
            url = postgres_server.admin_dsn(name)
            yield url
            pooled_engine(url).dispose()
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    return opened


@pytest.fixture(scope="module")
def make_database(postgres_server: PostgresServer) -> Iterator[Callable[[], DatabaseCredentials]]:
    """Each call provisions a fresh tenant database with its roles; they are dropped after the module."""
    admin_dsn = postgres_server.admin_dsn()
    keys: list[str] = []

    def make() -> DatabaseCredentials:
        keys.append(f"t_{secrets.token_hex(4)}")
        return provision_database(admin_dsn, key=keys[-1])

    yield make
    with psycopg.connect(admin_dsn, autocommit=True) as admin:
        for key in keys:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(key)))
            for role in ("owner", "app", "desk", "auditor"):
                admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(f"{key}_{role}")))


@pytest.fixture(scope="module")
def deployed(make_database: Callable[[], DatabaseCredentials]) -> DatabaseCredentials:
    """A tenant's database with the platform's migrations, for processes that keep a journal."""
    credentials = make_database()
    deploy(credentials.owner, platform_bundle())
    return credentials


@pytest.fixture
def as_workspace(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make this process one of the workspace's, on the database of that URL."""

    def become(url: str) -> None:
        monkeypatch.setenv("NTRO_PLANE", "workspace")
        monkeypatch.setenv("NTRO_INSTANCE_URL", url)

    return become


@pytest.fixture
def tenant_credentials(make_database: Callable[[], DatabaseCredentials]) -> DatabaseCredentials:
    """A fresh tenant database for this test alone."""
    return make_database()
