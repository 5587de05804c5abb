"""A tenant with twenty runbooks takes up new code while it runs: who is at work is untouched, nobody else notices."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import psycopg
import pytest
from dagster import DagsterRunStatus
from dagster._grpc.client import DagsterGrpcClient
from installed import Client, Site, eventually, installed
from samples import TENANT, Sample
from standing import applied, assert_told, push, shown, submit

from ntro_dagster.boundary.names import PARTITION_TAG, unit
from ntro_dagster.bundles.archive import read_folder
from ntro_dagster.cli.webserver import Webserver
from ntro_dagster.host.deployments import Runbooks, ask
from ntro_dagster.host.home import Role
from ntro_dagster.host.installation import credential
from ntro_dagster.host.orphans import gone
from ntro_dagster.host.tenancy import create_tenant, ensure_entities
from ntro_dagster.tenant.deployment import Change, TablesInUseError, carry_out
from ntro_dagster.tenant.fork_server import NAME, is_fork_server
from ntro_dagster.workspace.deployments import Act

OTHER = "beta"
RUNBOOKS = 20
PERIOD = "2026-03"


def deploy_all(site: Site, versions: dict[str, str]) -> None:
    """As one deployment after the other leaves it, with one question instead of twenty."""
    runbooks, home = Runbooks(site.installation), site.home.tenant(TENANT)
    with runbooks._registry() as known:
        wanted = runbooks._active(known, home, versions)
        answer = ask(home, wanted)
        for bundle in wanted.bundles:
            slug = str(bundle.slug)
            act = known.start(TENANT, slug, bundle.version, Act.DEPLOY)
            types = [kind for kind in answer.types if kind.owner_runbook == slug]
            change = Change(
                act.id,
                "deploy",
                slug,
                bundle.version,
                read_folder(bundle.root),
                bundle.migrations,
                types,
                reads=answer.reads[slug],
            )
            carry_out(credential(site.home, TENANT, Role.OWNER), change)
            known.end(act.id)
        runbooks._follow(home, wanted, answer)


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gate")


@pytest.fixture(scope="module")
def held(gate: Path) -> Sample:
    return Sample("r-00", gate=str(gate))


@pytest.fixture(scope="module")
def site(held: Sample, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with installed() as site:
        for tenant in (TENANT, OTHER):
            create_tenant(site.installation, tenant, name=tenant)
            ensure_entities(site.installation, tenant, {"one": "One", "two": "Two"})
        samples = [held, *(Sample(f"r-{n:02d}") for n in range(1, RUNBOOKS))]
        folder = tmp_path_factory.mktemp("samples")
        deploy_all(site, {sample.slug: push(site, sample, folder).version for sample in samples})
        site.installation.start_services()
        yield site


@pytest.fixture(autouse=True)
def open_gate(gate: Path) -> Iterator[None]:
    yield
    (gate / "closed").unlink(missing_ok=True)


def server_id(site: Site, tenant: str) -> str:
    return DagsterGrpcClient(socket=str(site.home.tenant(tenant).socket)).get_server_id()


def fork_servers(site: Site) -> list[psutil.Process]:
    children = site.process(f"tenant-{TENANT}").children()
    return [child for child in children if is_fork_server(child)]


def listening() -> set[str]:
    """Paths of the unix sockets on which somebody listens."""
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return {words[7] for words in lines if len(words) > 7 and words[3] == "00010000"}


def launch(site: Site, job: str, entity: str) -> str:
    tags = {PARTITION_TAG: f"{entity}|{PERIOD}", f"{PARTITION_TAG}/entity": entity, f"{PARTITION_TAG}/period": PERIOD}
    return Webserver(site.url).launch(tenant=TENANT, job=job, tags=tags | unit(TENANT, tags[PARTITION_TAG]))


def standing(gate: Path) -> str:
    """The run that stands in its author's function."""
    (found,) = eventually(lambda: [*gate.glob("standing-*")], "a run stands in its author's function")
    found.unlink()
    return found.name.removeprefix("standing-")


def succeeded(site: Site, run_id: str) -> bool:
    eventually(lambda: site.run(run_id).is_finished, f"run {run_id} ends")
    return site.run(run_id).status == DagsterRunStatus.SUCCESS


def recorded(client: Client, run_id: str) -> tuple[str, str]:
    (row,) = client.ask("SELECT runbook, version FROM system.runs WHERE run_id = %s", [run_id])
    return row["runbook"], row["version"]


def timed(site: Site, slug: str, version: str) -> float:
    """Seconds from the command until the webserver shows it."""
    began = time.perf_counter()
    Runbooks(site.installation).deploy(slug, TENANT, version)
    eventually(lambda: shown(site, TENANT).get(slug) == version, f"{slug} is served")
    return time.perf_counter() - began


def test_runs_at_work_go_on_with_the_code_they_began_with(site: Site, held: Sample, gate: Path, tmp_path: Path) -> None:
    client = site.client(TENANT)
    before = shown(site, TENANT)
    assert len(before) == RUNBOOKS
    others = server_id(site, OTHER), site.process(f"tenant-{OTHER}").pid
    mine = site.process(f"tenant-{TENANT}").pid
    (retired,) = fork_servers(site)
    was_listening = {path for path in listening() if "listener-" in path}
    sockets = {connection.laddr for connection in retired.net_connections("unix") if connection.laddr in was_listening}
    assert sockets
    (gate / "closed").touch()
    submit(client, held.slug, "one", tmp_path)
    first = standing(gate)
    queued = launch(site, "r_00", "one")

    wider = push(site, replace(held, columns=1), tmp_path).version
    with pytest.raises(TablesInUseError):  # the one thing that has to wait for the run: another shape of the table it fills
        Runbooks(site.installation).deploy(held.slug, TENANT, wider)
    version = push(site, replace(held, code="second"), tmp_path).version
    print(f"a new version: {timed(site, held.slug, version):.1f} s")
    assert applied(client, held.slug) == ["001_lines.sql"]
    assert site.run(first).status == DagsterRunStatus.STARTED
    assert site.run(queued).status == DagsterRunStatus.QUEUED
    assert not any(Path(path).exists() for path in sockets)  # nobody can ask the old fork server for a run

    submit(client, held.slug, "two", tmp_path)
    second = standing(gate)
    (gate / "closed").unlink()
    assert all(succeeded(site, run) for run in (first, second, queued))
    wrote = {run: (gate / f"wrote-{run}").read_text() for run in (first, second, queued)}
    assert wrote == {first: "first", second: "second", queued: "second"}
    assert recorded(client, first) == (held.slug, before[held.slug])
    assert recorded(client, second) == recorded(client, queued) == (held.slug, version)
    eventually(lambda: gone(retired), "the fork server of the old code ends after its last run")
    assert not sockets & listening()
    assert [child for child in psutil.Process(mine).children() if child.status() == psutil.STATUS_ZOMBIE] == []
    assert len(fork_servers(site)) == 1
    assert (server_id(site, OTHER), site.process(f"tenant-{OTHER}").pid) == others
    assert site.process(f"tenant-{TENANT}").pid == mine
    assert_told(site, client, before | {held.slug: version})


def test_one_more_runbook(site: Site, tmp_path: Path) -> None:
    before = shown(site, TENANT)
    version = push(site, Sample("r-20"), tmp_path).version
    print(f"one more: {timed(site, 'r-20', version):.1f} s")
    assert_told(site, site.client(TENANT), before | {"r-20": version})


def test_a_run_at_work_outlives_its_runbook(site: Site, gate: Path, tmp_path: Path) -> None:
    """Nothing is open, so the runbook may go; the names of a run that reads its documents again are still known."""
    client = site.client(TENANT)
    version = push(site, Sample("leaving", gate=str(gate)), tmp_path).version
    Runbooks(site.installation).deploy("leaving", TENANT, version)
    submit(client, "leaving", "two", tmp_path, period="2026-02", rows=1)
    eventually(lambda: client.holds("SELECT count(*) = 1 FROM ledgers.leaving__lines"), "staged")
    client.ask("ALTER TABLE ledgers.leaving__lines DISABLE TRIGGER USER", role=Role.OWNER)
    client.ask("UPDATE ledgers.leaving__lines SET status = 'REJECTED'", role=Role.OWNER)
    client.ask("ALTER TABLE ledgers.leaving__lines ENABLE TRIGGER USER", role=Role.OWNER)
    (gate / "closed").touch()
    tags = {PARTITION_TAG: "two|2026-02", f"{PARTITION_TAG}/entity": "two", f"{PARTITION_TAG}/period": "2026-02"}
    Webserver(site.url).launch(tenant=TENANT, job="leaving", tags=tags | unit(TENANT, tags[PARTITION_TAG]))
    run_id = standing(gate)
    Runbooks(site.installation).withdraw("leaving", TENANT)
    assert "leaving" not in shown(site, TENANT)
    (gate / "closed").unlink()
    assert succeeded(site, run_id)
    assert recorded(client, run_id) == ("leaving", version)


@pytest.mark.parametrize("role", [Role.APP, Role.DESK, Role.AUDITOR, Role.OWNER])
@pytest.mark.parametrize("table", ["system.runs", "system.deployments", "system.runbook_versions"])
@pytest.mark.parametrize("attempt", ["UPDATE {} SET version = 'v_000000000000'", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_the_record_of_code_is_kept(site: Site, role: Role, table: str, attempt: str) -> None:
    client = site.client(TENANT)
    before = client.ask(f"SELECT * FROM {table} ORDER BY 1, 2")
    assert before
    with pytest.raises(psycopg.Error) as refused:
        client.ask(attempt.format(table), role=role)
    assert refused.value.sqlstate == "42501" or "HISTORY_IS_APPEND_ONLY" in str(refused.value)
    assert client.ask(f"SELECT * FROM {table} ORDER BY 1, 2") == before


@pytest.mark.parametrize("role", [Role.APP, Role.DESK, Role.AUDITOR])
@pytest.mark.parametrize(
    "attempt",
    [
        "INSERT INTO system.deployments (deployment_id, slug, act, deployed_by) SELECT gen_random_uuid(), 'r', 'withdraw', 'x'",
        "INSERT INTO system.runbook_versions (slug, version, label, manifest) VALUES ('r-01', 'v_000000000000', '1', '{}')",
        "UPDATE system.subledger_types SET active = FALSE",
        "SELECT system.run_migration('SELECT 1')",
        "ALTER TABLE system.runs DISABLE TRIGGER ALL",
    ],
)
def test_nobody_but_the_owner_deploys(site: Site, role: Role, attempt: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        site.client(TENANT).ask(attempt, role=role)


def test_every_run_names_its_code(site: Site) -> None:
    ran = {record.dagster_run.run_id for record in site.runs(TENANT) if record.dagster_run.status == DagsterRunStatus.SUCCESS}
    rows = site.client(TENANT).ask("SELECT run_id, code, runbook, version FROM system.runs")
    known = {str(row["run_id"]): row for row in rows}
    assert len(ran) >= 3
    assert ran <= known.keys()
    assert all(row["code"].startswith("s_") and (row["runbook"] is None) == (row["version"] is None) for row in rows)
    assert json.dumps([row["runbook"] for row in rows]).count("r-00") >= 3


def test_a_fork_server_forks_its_successor_and_a_dead_one_is_begun_anew(
    site: Site, held: Sample, gate: Path, tmp_path: Path
) -> None:
    code_server = site.process(f"tenant-{TENANT}")
    cases = {"forked": True, "forked again": True, "died": False, "a library installed": False}
    for code, forked in cases.items():
        (old,) = fork_servers(site)
        if code == "died":
            old.kill()
        if code == "a library installed":
            os.utime(Path(psutil.__file__).parents[1])
        Runbooks(site.installation).deploy(held.slug, TENANT, push(site, replace(held, code=code), tmp_path).version)
        run = launch(site, "r_00", "one")
        assert succeeded(site, run)
        assert (gate / f"wrote-{run}").read_text() == code
        eventually(partial(gone, old), "the fork server of the old code ends")
        (now,) = fork_servers(site)
        assert (now.name() == NAME) is forked
        assert now.ppid() == code_server.pid
    assert [child for child in code_server.children() if child.status() == psutil.STATUS_ZOMBIE] == []
