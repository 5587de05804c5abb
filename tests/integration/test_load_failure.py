"""A code server whose definitions do not load: it stays, says a code and an error id, and comes back when they are mended."""

from __future__ import annotations

import json
import secrets
import shutil
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
from cli_home import CommandLine
from stub_processes import code_server_process, relay_process
from test_run_worker import free_port

from ntro_dagster.boundary.storage import prepare_instance
from ntro_dagster.host.dagster_instance import ReloadError, reload_workspace, write_instance, write_workspace
from ntro_dagster.host.home import Home, Role, write_private
from ntro_dagster.host.launch import write_environment
from ntro_dagster.host.supervision import ProcessSpec, Supervisor
from ntro_dagster.host.surveys import survey_tenants
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.platforms.postgres.server import PostgresServer
from ntro_dagster.workspace.registry import Registry

T = TypeVar("T")
SECRET = "Wq8-Maple-Holdings-4711.25"
GOOD = """
from dagster import Definitions, asset
import os
@asset(key=[os.environ["NTRO_TENANT"], "quick"])
def quick(): ...
defs = Definitions(assets=[quick])
"""
BROKEN = {
    "a syntax error": (f"defs = (  # {SECRET}\n", "SyntaxError"),
    "a secret in what is raised": (f"raise ValueError({SECRET!r})\n", SECRET),
    "the end of the process": (f"import sys\nsys.exit({SECRET!r})\n", SECRET),
    "no definitions": ("", "defs"),
}
SHORT = {"a secret in what is raised", "the end of the process"}
ASK = """{ locationOrError: workspaceOrError { ... on Workspace { locationEntries { name loadStatus locationOrLoadError {
  __typename ... on PythonError { message className stack errorChain { error { message stack } } } } } } } }"""


def wait_for(look: Callable[[], T], what: str, seconds: float = 90.0) -> T:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)
    return found


@dataclass
class Place:
    home: Home
    supervisor: Supervisor
    web: str
    url: str
    code: Path

    def error(self) -> dict[str, Any] | None:
        """What Dagster's page shows of the location, if it is an error."""
        body = json.dumps({"query": ASK}).encode()
        request = urllib.request.Request(f"{self.web}/graphql", body, {"Content-Type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - our own webserver
            (entry,) = json.load(response)["data"]["locationOrError"]["locationEntries"]
        found: dict[str, Any] | None = entry["locationOrLoadError"]
        return found if found and found["__typename"] == "PythonError" else None

    def reload(self) -> bool:
        try:
            return reload_workspace(self.web).get("acme", False)
        except ReloadError:
            return False

    def told(self) -> dict[str, Any] | None:
        """The error, once it is that of the code server. The webserver sees by itself that it is another one."""
        error = self.error()
        return error if error and "DEFINITIONS" in error["message"] else None


@pytest.fixture(scope="module")
def place(
    postgres_server: PostgresServer, deployed: DatabaseCredentials, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("loading")
    home, port, code = Home(root / ".ntro"), free_port(), root / "code"
    code.mkdir()
    (code / "changing_tenant.py").write_text(GOOD)
    home.create(webserver_port=port)
    name = f"loading_{secrets.token_hex(4)}"
    with psycopg.connect(postgres_server.admin_dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
    url = postgres_server.admin_dsn(name)
    prepare_instance(url)
    registry = Registry(url)
    registry.prepare()
    registry.create_tenant("acme")
    registry.dispose()
    write_instance(home)
    write_workspace(home, ["acme"])
    environment = {
        "NTRO_DEFINITIONS_MODULE": "changing_tenant",
        "PYTHONPATH": str(code),
        "PYTHONDONTWRITEBYTECODE": "1",  # two versions of one second and size
        "NTRO_PLATFORM_URL": deployed.app,
    }
    acme = code_server_process(home, "acme", environment)
    write_private(home.tenant("acme").credential(Role.AUDITOR), deployed.auditor)
    given = {
        "DAGSTER_HOME": str(home.dagster),
        "NTRO_PLANE": "workspace",
        "NTRO_INSTANCE_URL": url,
        "NTRO_SURVEYS": str(home.surveys),
    }
    write_environment(home.process_env("webserver"), given)
    argv = [sys.executable, "-P", "-m", "ntro_dagster.workspace.webserver", "-h", "127.0.0.1", "-p", str(port)]
    web = ProcessSpec(
        name="webserver",
        argv=[*argv, "-w", str(home.workspace_file)],
        environment=home.process_env("webserver"),
        log=home.logs / "webserver.log",
    )
    survey_tenants(home, ["acme"])
    supervisor = Supervisor(home)
    found = Place(home, supervisor, f"http://127.0.0.1:{port}", url, code / "changing_tenant.py")
    try:
        supervisor.start([relay_process(home, url), acme, web])
        wait_for(found.reload, "acme is loaded")
        yield found
    finally:
        supervisor.stop()
        shutil.rmtree(home.sockets)


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=() if kind in SHORT else pytest.mark.long) for kind in BROKEN])
def test_what_does_not_load_is_told_by_an_error_id_and_comes_back(place: Place, kind: str) -> None:
    text, story = BROKEN[kind]
    place.code.write_text(text)
    place.supervisor.restart("tenant-acme")
    error = wait_for(place.told, "the location tells why")

    assert error["message"].startswith("DEFINITIONS_NOT_LOADED (error ")
    assert (error["className"], error["stack"], error["errorChain"]) == ("DEFINITIONS_NOT_LOADED", [], [])
    error_id = error["message"].split("(error ")[1][:36]

    ntro = CommandLine(place.home.root)
    status = ntro("status", "--json")
    assert status.code == 1
    assert status.json["load_failures"] == [{"tenant": "acme", "code": "DEFINITIONS_NOT_LOADED", "error_id": error_id}]
    shown = ntro.ok("errors", "show", error_id, "--tenant", "acme")
    assert story in shown["story"] + shown["traceback"]
    assert shown["step"] == "definitions"
    if story == SECRET:
        assert SECRET in shown["story"]

    before = next(process for process in place.supervisor.status() if process.name == "tenant-acme")
    assert not place.reload()

    def again() -> bool:
        told = place.told()
        return bool(told) and error_id not in str(told)

    wait_for(again, "asked to reload what is still broken, it says so again, under another id")
    assert SECRET not in json.dumps(place.error())
    with psycopg.connect(place.url) as connection:
        tables = connection.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'").fetchall()
        kept = [connection.execute(f"SELECT t::text FROM public.{name} t".encode()).fetchall() for (name,) in tables]
    output = "".join(path.read_text(errors="replace") for path in place.home.logs.iterdir())
    assert SECRET not in output + str(kept) + ntro("status").out

    place.code.write_text(GOOD)
    wait_for(place.reload, "mended, it is back after a reload")
    after = next(process for process in place.supervisor.status() if process.name == "tenant-acme")
    assert (after.pid, after.restarts) == (before.pid, before.restarts)
    assert place.home.tenant("acme").load_failure is None
    assert ntro("status", "--json").json["load_failures"] == []
