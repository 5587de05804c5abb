"""A workspace with two tenants and its relay, and the same process as any of them."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
from dagster import (
    AssetKey,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    Definitions,
    MaterializeResult,
    asset,
    define_asset_job,
    in_process_executor,
)
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run_iterator

from ntro_dagster.boundary.answers.survey import Survey, survey_file
from ntro_dagster.boundary.names import CODE_LOCATION_TAG
from ntro_dagster.boundary.pool import pooled_engine
from ntro_dagster.boundary.relay import connection
from ntro_dagster.boundary.storage import prepare_instance
from ntro_dagster.host.dagster_instance import write_instance
from ntro_dagster.host.home import Home, private_directory
from ntro_dagster.platforms.postgres.server import PostgresServer
from ntro_dagster.workspace.registry import Registry
from ntro_dagster.workspace.relay import RelayServer
from ntro_dagster.workspace.relay_listener import ListenerSettings

TENANTS = ("acme", "beta")


def definitions(tenant: str, steps: int = 2) -> Definitions:
    """One job of a few steps."""

    def step(number: int) -> object:
        this, before = (AssetKey([tenant, "ledgers", f"things_{each}"]) for each in (number, number - 1))

        @asset(key=this, deps=[before])
        def things() -> MaterializeResult:  # type: ignore[type-arg]
            return MaterializeResult(metadata={"PENDING": number})

        return things

    assets = [step(number) for number in range(1, steps + 1)]
    return Definitions(assets=assets, jobs=[define_asset_job("month_end", assets)], executor=in_process_executor)  # type: ignore[arg-type]


def names(tenant: str) -> frozenset[str]:
    """What a survey of `definitions` says."""
    steps = {f"things_{number}" for number in range(100)}
    return frozenset({"month_end", "ledgers", "adds_up", "result", *steps, *(f"{tenant}__ledgers__{step}" for step in steps)})


@dataclass
class World:
    """What stands, and how to be somebody in it."""

    home: Home
    url: str
    workspace: DagsterInstance

    def socket(self, tenant: str) -> Path:
        return self.home.tenant(tenant).relay_socket

    @contextmanager
    def tenant(self, slug: str) -> Iterator[DagsterInstance]:
        """The instance as a process of the tenant opens it."""
        before = {name: os.environ.get(name) for name in ("NTRO_PLANE", "NTRO_INSTANCE_URL", "NTRO_RELAY", "NTRO_ARTIFACTS")}
        for name in ("NTRO_PLANE", "NTRO_INSTANCE_URL"):
            os.environ.pop(name, None)
        os.environ["NTRO_RELAY"] = f"unix:{self.socket(slug)}"
        os.environ["NTRO_ARTIFACTS"] = self.home.tenant(slug).places["NTRO_ARTIFACTS"]
        connection.forget()
        try:
            with DagsterInstance.from_ref(self.workspace.get_ref()) as opened:
                yield opened
        finally:
            connection.forget()
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value

    def create_run(self, slug: str, steps: int = 2) -> DagsterRun:
        """As the workspace creates one of the tenant's."""
        job = definitions(slug, steps).resolve_job_def("month_end")
        tags = {CODE_LOCATION_TAG: slug}
        return self.workspace.create_run_for_job(job, run_id=str(uuid4()), tags=tags, status=DagsterRunStatus.STARTING)

    def execute(self, opened: DagsterInstance, run: DagsterRun, slug: str, steps: int = 2) -> None:
        """As a worker of the tenant does."""
        list(execute_run_iterator(InMemoryJob(definitions(slug, steps).resolve_job_def("month_end")), run, opened))

    def dump(self) -> dict[str, list[tuple[object, ...]]]:
        """Every row of the workspace's database, but for the relay's own keys."""
        with psycopg.connect(self.url) as connection:
            tables = connection.execute(
                "SELECT quote_ident(table_schema) || '.' || quote_ident(table_name) FROM information_schema.tables "
                "WHERE table_schema IN ('public', 'registry') ORDER BY 1"
            ).fetchall()
            return {table: connection.execute(f"SELECT * FROM {table} t ORDER BY t::text").fetchall() for (table,) in tables}  # type: ignore[arg-type]


def write_survey(home: Home, tenant: str) -> None:
    """For a relay in a process of its own."""
    private_directory(home.surveys)
    made = Survey(tenant, "", "", "", "", {}, {}, names(tenant))
    survey_file(home.surveys, tenant).write_text(made.to_json())


@contextmanager
def world(server: PostgresServer, root: Path) -> Iterator[World]:
    """Database, registry and Dagster instance of a workspace; no relay yet."""
    name = f"relay_{secrets.token_hex(4)}"
    with psycopg.connect(server.admin_dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        url = server.admin_dsn(name)
        prepare_instance(url)
        home = Home(root)
        home.create()
        write_instance(home)
        registry = Registry(url)
        registry.prepare()
        for slug in TENANTS:
            registry.create_tenant(slug)
            home.create_sockets()
            private_directory(home.tenant(slug).relay_socket.parent)
            write_survey(home, slug)
        registry.dispose()
        os.environ |= {"NTRO_PLANE": "workspace", "NTRO_INSTANCE_URL": url}
        try:
            with DagsterInstance.from_config(str(home.dagster)) as workspace:
                yield World(home, url, workspace)
        finally:
            for variable in ("NTRO_PLANE", "NTRO_INSTANCE_URL"):
                os.environ.pop(variable, None)
            pooled_engine(url).dispose()
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def serving(
    world: World, names: Callable[[str], frozenset[str]] = names, listener: ListenerSettings | None = None
) -> Iterator[RelayServer]:
    """A relay in a thread of this process; `listener`: also on TCP."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="relay", daemon=True)
    thread.start()
    server = RelayServer(world.url, world.workspace, world.home.sockets, names)
    asyncio.run_coroutine_threadsafe(server.open_sockets(), loop).result(30)
    if listener is not None:
        asyncio.run_coroutine_threadsafe(server.listen(listener), loop).result(30)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
