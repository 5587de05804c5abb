"""Runs through the queue of a real instance, on a real code server: they succeed, and killed ones do not hang."""

from __future__ import annotations

import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import psutil
import psycopg
import pytest
from dagster import DagsterInstance, DagsterRunStatus
from dagster_graphql import DagsterGraphQLClient
from memory import family, holds, libraries
from psycopg.conninfo import conninfo_to_dict
from stub_processes import code_server_process, daemon_process, relay_process, webserver_process

from ntro_dagster.boundary.relay import encoding
from ntro_dagster.boundary.relay.calls import EVENTS, TELL_AND_ASK
from ntro_dagster.boundary.storage import prepare_instance
from ntro_dagster.boundary.tenant_logs import run_log
from ntro_dagster.host.dagster_instance import ReloadError, reload_workspace, write_instance, write_workspace
from ntro_dagster.host.home import Home
from ntro_dagster.host.supervision import ProcessSpec, Supervisor
from ntro_dagster.host.surveys import survey_tenants
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.platforms.postgres.server import PostgresServer
from ntro_dagster.tenant.fork_server import NAME, is_fork_server
from ntro_dagster.tenant.limits import RunLimitInvalidError, RunLimits
from ntro_dagster.tenant.run_worker import RUN
from ntro_dagster.workspace.registry import Registry

T = TypeVar("T")
NOTICED_WITHIN = 20.0  # seconds from the kill to FAILURE


def wait_for(look: Callable[[], T], seconds: float = 60.0) -> T:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "deadline passed"
        time.sleep(0.05)
    return found


@dataclass
class Host:
    home: Home
    supervisor: Supervisor
    instance: DagsterInstance
    client: DagsterGraphQLClient
    url: str
    database: str

    def submit(self, job: str) -> str:
        return self.client.submit_job_execution(job, repository_location_name="acme")

    def status(self, run_id: str) -> DagsterRunStatus:
        run = self.instance.get_run_by_id(run_id)
        assert run
        return run.status

    def await_status(self, run_id: str, wanted: DagsterRunStatus, seconds: float = 60.0) -> None:
        wait_for(lambda: self.status(run_id) is wanted, seconds)

    def worker(self, run_id: str) -> psutil.Process:
        note = self.home.run / run_id
        return psutil.Process(int(wait_for(lambda: note.exists() and note.read_text())))

    def code_server(self) -> psutil.Process:
        pid = next(status.pid for status in self.supervisor.status() if status.name == "tenant-acme")
        return psutil.Process(pid)

    def await_code_server(self) -> None:
        wait_for(lambda: reload_workspace(self.url).get("acme"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


LIMITS = {"NTRO_RUN_MEMORY_MB": "2048", "NTRO_RUN_CPU_S": "4"}
"""What a run may use here."""
NO_DATABASE = "postgresql://nobody@127.0.0.1:1/none"
"""For a code server that no run is given."""


def code_server(home: Home, slug: str, **more: str) -> ProcessSpec:
    stub = {
        "NTRO_DEFINITIONS_MODULE": "stub_tenant",
        "PYTHONPATH": str(Path(__file__).parent),
        "STUB_DIRECTORY": str(home.run),
    }
    return code_server_process(home, slug, stub | more)


@pytest.fixture(scope="module", params=["forkserver", pytest.param("spawn", marks=pytest.mark.long)])
def host(
    request: pytest.FixtureRequest,
    postgres_server: PostgresServer,
    deployed: DatabaseCredentials,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Host]:
    home = Home(tmp_path_factory.mktemp(request.param) / ".ntro")
    port = free_port()
    home.create(webserver_port=port)
    name = f"instance_{secrets.token_hex(4)}"
    with psycopg.connect(postgres_server.admin_dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    url = postgres_server.admin_dsn(name)
    prepare_instance(url)
    registry = Registry(url)
    registry.prepare()
    registry.create_tenant("acme")
    registry.dispose()
    write_instance(home)
    write_workspace(home, ["acme"])
    acme = code_server(home, "acme", NTRO_PLATFORM_URL=deployed.app, NTRO_RUN_START_METHOD=request.param, **LIMITS)
    specs = [relay_process(home, url), acme, daemon_process(home, url), webserver_process(home, url)]
    survey_tenants(home, ["acme"])
    supervisor = Supervisor(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NTRO_PLANE", "workspace")
        patch.setenv("NTRO_INSTANCE_URL", url)
        try:
            supervisor.start(specs)
            web = f"http://127.0.0.1:{port}"

            def serving() -> bool:
                try:
                    return reload_workspace(web).get("acme", False)
                except ReloadError:
                    return False

            wait_for(serving)
            client = DagsterGraphQLClient("127.0.0.1", port_number=port)
            with DagsterInstance.from_config(str(home.dagster)) as instance:
                yield Host(home, supervisor, instance, client, web, url)
        finally:
            supervisor.stop()
            shutil.rmtree(home.sockets)


def test_runs_succeed(host: Host) -> None:
    runs = [host.submit("quick_job") for _ in range(3)]
    for run_id in runs:
        host.await_status(run_id, DagsterRunStatus.SUCCESS)


def test_a_run_imports_and_compiles_nothing_that_it_could_have_been_forked_with(host: Host) -> None:
    run_id = host.submit("imports_job")
    host.await_status(run_id, DagsterRunStatus.SUCCESS)
    imported = (host.home.run / run_id).read_text().splitlines()
    if any(map(is_fork_server, host.code_server().children())):
        assert imported == []
    else:
        assert "dagster" in imported, "spawned: the search works"


@pytest.mark.parametrize(("job", "code"), [("eats_job", "OUT_OF_MEMORY"), ("spins_job", "RUN_CPU_EXCEEDED")])
def test_a_run_that_takes_too_much_ends_and_takes_nothing_from_others(
    host: Host, deployed: DatabaseCredentials, job: str, code: str
) -> None:
    run_id = host.submit(job)
    host.await_status(run_id, DagsterRunStatus.FAILURE)
    with psycopg.connect(deployed.auditor) as auditor:
        assert auditor.execute("SELECT code FROM system.errors WHERE run_id = %s", [run_id]).fetchall() == [(code,)]
    other = host.submit("quick_job")
    host.await_status(other, DagsterRunStatus.SUCCESS)


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "much", ""])
def test_a_limit_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("NTRO_RUN_MEMORY_MB", value)
    with pytest.raises(RunLimitInvalidError):
        RunLimits.from_environment()


def test_killed_worker_fails_its_run(host: Host) -> None:
    run_id = host.submit("slow_job")
    host.worker(run_id).kill()
    host.await_status(run_id, DagsterRunStatus.FAILURE, NOTICED_WITHIN)


def test_no_process_of_a_tenant_holds_the_way_into_the_workspaces_database(host: Host) -> None:
    secret = str(conninfo_to_dict(host.database)["password"]).encode()
    run_id = host.submit("slow_job")
    worker = host.worker(run_id)
    host.await_status(run_id, DagsterRunStatus.STARTED)
    tenants = family(host.code_server())
    assert worker in tenants
    for process in tenants:
        assert not holds(process, secret), process.cmdline()
        assert "psycopg2" not in libraries(process)
    for path in host.home.tenant("acme").root.rglob("*"):
        assert not path.is_file() or secret not in path.read_bytes(), path
    workspace = {status.name: psutil.Process(status.pid) for status in host.supervisor.status()}
    for name in ("relay", "webserver", "daemon"):
        assert holds(workspace[name], secret), f"the search does not work: not found in {name}"
    worker.kill()
    host.await_status(run_id, DagsterRunStatus.FAILURE, NOTICED_WITHIN)


def test_killed_code_server_takes_its_workers_along_and_comes_back(host: Host) -> None:
    run_id = host.submit("slow_job")
    worker, server = host.worker(run_id), host.code_server()
    host.await_status(run_id, DagsterRunStatus.STARTED)
    server.kill()
    wait_for(lambda: not worker.is_running(), 5.0)
    host.await_status(run_id, DagsterRunStatus.FAILURE, NOTICED_WITHIN)
    # and the next run works, on a new server that took over the dead one's socket
    host.await_code_server()
    again = host.submit("quick_job")
    host.await_status(again, DagsterRunStatus.SUCCESS)


def test_killed_fork_server_takes_its_workers_along(host: Host) -> None:
    run_id = host.submit("slow_job")
    worker = host.worker(run_id)
    parent = worker.parent()
    assert parent
    if parent == host.code_server():
        host.instance.run_launcher.terminate(run_id)
        pytest.skip("spawn: there is no fork server")
    assert (parent.name(), worker.name()) == (NAME, RUN), "forked, not executed"
    assert host.code_server().children() == [parent], "nothing else is kept for runs"
    assert parent.num_threads() == 1  # a fork takes no thread along
    assert parent.net_connections("tcp") == []  # nor may two processes share a database connection
    parent.kill()
    wait_for(lambda: not worker.is_running(), 5.0)
    host.await_status(run_id, DagsterRunStatus.FAILURE, NOTICED_WITHIN)
    again = host.submit("quick_job")
    host.await_status(again, DagsterRunStatus.SUCCESS)


@pytest.mark.parametrize("job", ["slow_job", "walled_job"])
def test_cancelled_run_is_cancelled(host: Host, job: str) -> None:
    run_id = host.submit(job)
    host.worker(run_id)
    assert host.instance.run_launcher.terminate(run_id)
    host.await_status(run_id, DagsterRunStatus.CANCELED)


def test_what_a_run_says_is_its_tenants(host: Host, deployed: DatabaseCredentials) -> None:
    run_id = host.submit("talks_job")
    host.await_status(run_id, DagsterRunStatus.FAILURE)
    text = run_log(host.home.tenant("acme").logs, run_id).read_text()
    for said in ("said by print", "said to the log of the step", "said to a logger"):
        assert said in text
    with psycopg.connect(deployed.auditor) as auditor:
        errors = auditor.execute("SELECT story, step FROM system.errors WHERE run_id = %s", [run_id]).fetchall()
        kept = auditor.execute(
            "SELECT call, sent, told FROM system.transcript WHERE run_id = %s AND told IS NOT NULL ORDER BY id", [run_id]
        ).fetchall()
    assert errors == [("said on the way out", "acme__talks")]
    said = [sent.partition(b"\n")[2] if call == TELL_AND_ASK else sent for call, sent, _ in kept]
    events = [event for each in said if each for event in encoding.loads(each)["events"]]
    stored = host.instance.get_records_for_run(run_id, of_type=set(EVENTS)).records
    of_the_run = [record.event_log_entry for record in sorted(stored, key=lambda record: record.storage_id)]
    assert events == [entry for entry in of_the_run if entry in events]
    assert len(events) >= 5
    assert any(not sent and "said to the log of the step" in told for _, sent, told in kept)
    assert not any(b"said to" in sent for _, sent, _ in kept)


def test_stopping_the_code_server_interrupts_what_does_not_end(host: Host) -> None:
    run_id = host.submit("slow_job")
    worker = host.worker(run_id)
    host.supervisor.restart("tenant-acme")
    assert not worker.is_running()
    assert host.status(run_id) is DagsterRunStatus.FAILURE
    host.await_code_server()


def test_tenant_added_while_running(host: Host) -> None:
    beta = code_server(host.home, "beta", NTRO_PLATFORM_URL=NO_DATABASE)
    survey_tenants(host.home, ["beta"])
    host.supervisor.add(beta)
    write_workspace(host.home, ["acme", "beta"])
    wait_for(lambda: reload_workspace(host.url).get("beta"))
    assert reload_workspace(host.url) == {"acme": True, "beta": True}
    host.supervisor.remove("tenant-beta")
    write_workspace(host.home, ["acme"])
    assert reload_workspace(host.url) == {"acme": True}


def test_second_code_server_is_refused(host: Host) -> None:
    spec = code_server(host.home, "acme", NTRO_PLATFORM_URL=NO_DATABASE)
    twin = replace(spec, name="twin", log=host.home.logs / "twin.log")
    before = host.code_server()
    host.supervisor.add(twin)
    wait_for(lambda: twin.log.exists() and "SOCKET_TAKEN" in twin.log.read_text())
    host.supervisor.remove("twin")
    assert host.code_server() == before
    run_id = host.submit("quick_job")
    host.await_status(run_id, DagsterRunStatus.SUCCESS)
