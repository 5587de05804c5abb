"""A workspace whose tenants answer what they like: real code servers, webserver and daemon."""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import hostile_server
import psycopg
import pytest
from dagster import DagsterInstance
from dagster._core.workspace.context import WorkspaceProcessContext, WorkspaceRequestContext
from dagster._core.workspace.load_target import WorkspaceFileTarget

from ntro_dagster.boundary.names import INSTANCE_URL, PLANE, SURVEYS, WORKSPACE, entities_set
from ntro_dagster.boundary.pool import pooled_engine
from ntro_dagster.boundary.storage import prepare_instance
from ntro_dagster.host.dagster_instance import write_instance, write_workspace
from ntro_dagster.host.home import Home
from ntro_dagster.host.installation import RELAY_ORDER, TENANT_ORDER, WORKSPACE_ORDER
from ntro_dagster.host.launch import write_environment
from ntro_dagster.host.supervision import ProcessSpec, Supervisor
from ntro_dagster.host.surveys import survey_tenants
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.platforms.postgres.server import PostgresServer
from ntro_dagster.workspace.registry import Registry

T = TypeVar("T")
DATA = "Xq7Zk"
"""The hostile tenants' data."""

HOSTILE, NAMING, BETA = "acme", "gamma", "beta"
TALKING, CALLING = "delta", "epsilon"
TENANTS: dict[str, dict[str, str]] = {
    HOSTILE: {"HOSTILE_DATA": DATA},
    NAMING: {"HOSTILE_DATA": DATA, "HOSTILE_NAMES": "1"},
    TALKING: {"HOSTILE_DATA": DATA},
    CALLING: {"HOSTILE_DATA": DATA, "HOSTILE_NAMES": "1"},
    BETA: {},
}
"""What each knows. The first two have torn down their own half of the guard; the next two say the same through it."""
UNWALLED = (HOSTILE, NAMING)


def eventually(look: Callable[[], T], what: str, seconds: float = 90.0) -> T:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)
    return found


def told(text: str) -> set[str]:
    """Channels whose secret stands in a text, in whatever form."""
    text = text.casefold()
    return {channel for channel in hostile_server.channels() if any(form in text for form in _forms(channel))}


def _forms(channel: str) -> list[str]:
    said = hostile_server.secret(channel, DATA)
    raw = said.encode()
    return [form.casefold() for form in (said, json.dumps(said)[1:-1], raw.hex(), base64.b64encode(raw).decode().rstrip("="))]


@dataclass
class Place:
    """A workspace with tenants that talk, tenants that put data into names, and an honest one."""

    home: Home
    url: str
    instance: DagsterInstance
    web: str

    def graphql(self, query: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.web}/graphql", body, {"Content-Type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - our own webserver
            return json.load(response)

    def code_locations(self) -> Iterator[WorkspaceRequestContext]:
        """What the webserver and the daemon make of the code servers, in this process."""
        target = WorkspaceFileTarget([str(self.home.workspace_file)])
        with WorkspaceProcessContext(self.instance, target) as process:
            yield process.create_request_context()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _specs(home: Home, url: str, port: int, database: DatabaseCredentials) -> Iterator[ProcessSpec]:
    for slug, data in TENANTS.items():
        tenant = home.tenant(slug)
        tenant.create()
        code = {"NTRO_DEFINITIONS_MODULE": "hostile_server", "PYTHONPATH": str(Path(__file__).parent)}
        given = tenant.places | {"NTRO_PLATFORM_URL": database.app}
        write_environment(tenant.process_env, {**data, **code, **given})
        script = [str(Path(__file__).with_name("unwalled.py"))] if slug in UNWALLED else ["-m", "ntro_dagster.tenant.code_server"]
        argv = [sys.executable, *script]
        log = tenant.logs / "code_server.log"
        yield ProcessSpec(name=f"tenant-{slug}", argv=argv, environment=tenant.process_env, log=log, order=TENANT_ORDER)
    workspace = ["-w", str(home.workspace_file)]
    for name, arguments in {
        "relay": [],
        "webserver": ["-h", "127.0.0.1", "-p", str(port), *workspace],
        "daemon": workspace,
    }.items():
        given = {"DAGSTER_HOME": str(home.dagster), PLANE: WORKSPACE, INSTANCE_URL: url, SURVEYS: str(home.surveys)}
        write_environment(home.process_env(name), given | {"NTRO_RELAY_SOCKETS": str(home.sockets)})
        argv = [sys.executable, "-P", "-m", f"ntro_dagster.workspace.{name}", *arguments]
        order = RELAY_ORDER if name == "relay" else WORKSPACE_ORDER  # runs tell the relay of their end
        yield ProcessSpec(name=name, argv=argv, environment=home.process_env(name), log=home.logs / f"{name}.log", order=order)


@contextmanager
def opened(postgres_server: PostgresServer, directory: Path, database: DatabaseCredentials) -> Iterator[Place]:
    home, port = Home(directory / ".ntro"), _free_port()
    home.create(webserver_port=port)
    name = f"answers_{secrets.token_hex(4)}"
    with psycopg.connect(postgres_server.admin_dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    url = postgres_server.admin_dsn(name)
    prepare_instance(url)
    write_instance(home)
    registry = Registry(url)
    registry.prepare()
    for slug in TENANTS:
        registry.create_tenant(slug)
    registry.dispose()
    write_workspace(home, TENANTS)
    specs = list(_specs(home, url, port, database))
    survey_tenants(home, TENANTS)
    supervisor = Supervisor(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PLANE, WORKSPACE)
        patch.setenv(INSTANCE_URL, url)
        patch.setenv(SURVEYS, str(home.surveys))
        with DagsterInstance.from_config(str(home.dagster)) as instance:
            for slug in (HOSTILE, TALKING):
                instance.add_dynamic_partitions(entities_set(slug), [hostile_server.ENTITY])
            instance.add_dynamic_partitions(entities_set(BETA), ["b-1"])
            try:
                supervisor.start(specs)
                web = Place(home, url, instance, f"http://127.0.0.1:{port}")
                eventually(lambda: _serves(web), "the webserver has loaded the locations")
                yield web
            finally:
                supervisor.stop()
                shutil.rmtree(home.sockets, ignore_errors=True)
    pooled_engine(url).dispose()


def _serves(place: Place) -> bool:
    """Asks for a reload, because the webserver may have looked before the code servers listened."""
    try:
        answer = place.graphql("mutation { reloadWorkspace { ... on Workspace { locationEntries { name loadStatus } } } }")
        entries = place.graphql(
            "{ workspaceOrError { ... on Workspace { locationEntries { name locationOrLoadError { __typename } } } } }"
        )
    except OSError:
        return False
    loaded = {
        each["name"]
        for each in entries["data"]["workspaceOrError"]["locationEntries"]
        if each["locationOrLoadError"]["__typename"] == "RepositoryLocation"
    }
    return bool(answer) and {HOSTILE, TALKING, BETA} <= loaded
