"""A version that cannot be deployed is refused with file, line and reason, and nothing is changed anywhere."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from bad_samples import FLAWS, OTHER, SLUG, flawed
from dagster._grpc.client import DagsterGrpcClient
from installed import APPROVER, Client, Site, eventually
from samples import TENANT, Sample
from standing import Told, active, assert_told, push, submit, told

from ntro_dagster.bundles import Bundle
from ntro_dagster.errors import NtroError
from ntro_dagster.host import deployments
from ntro_dagster.host.deployments import Runbooks
from ntro_dagster.host.home import Role
from ntro_dagster.host.installation import credential
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.platforms.postgres.server import PostgresServer
from ntro_dagster.subledger.registry import load_types, subledger_type
from ntro_dagster.subledger.review import file_signal

GOOD = Sample(SLUG, columns=1)
UNSTEADY = ("system.transcript", "system.answers")
"""Written whenever the workspace asks something."""


@pytest.fixture(autouse=True)
def pushed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """`push` refuses most of these by looking at the files; here it is asked of the deployment."""
    monkeypatch.setattr(deployments, "must_pass", lambda _root: None)


@pytest.fixture(scope="module")
def good(site: Site, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two runbooks are active."""
    folder = tmp_path_factory.mktemp("good")
    versions = {slug: push(site, sample, folder).version for slug, sample in ((SLUG, GOOD), (OTHER, Sample(OTHER)))}
    for slug in versions:
        Runbooks(site.installation).deploy(slug, TENANT)
    return versions


def dump(site: Site) -> str:
    """The tenant's database as SQL: schema and data."""
    program = PostgresServer(site.home.postgres).binaries.program("pg_dump")
    left_out = [f"--exclude-table-data={name}" for name in UNSTEADY]
    said = subprocess.run(
        [program, *left_out, credential(site.home, TENANT, Role.OWNER)], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert "CREATE TABLE ledgers.expenses" in said
    # numbers that a sequence has given are not taken back; \restrict carries a random word
    return re.sub(r"(?m)^(SELECT pg_catalog\.setval|\\(un)?restrict).*$", "", said)


def whole(site: Site) -> tuple[Told, str, str, dict[str, Any], str]:
    home = site.home.tenant(TENANT)
    survey = json.loads((home.surveys / f"{TENANT}.json").read_text())
    client = site.client(TENANT)
    return (
        told(site, client),
        dump(site),
        home.active.read_text(),
        survey,
        DagsterGrpcClient(socket=str(home.socket)).get_server_id(),
    )


@pytest.mark.parametrize("flaw", [pytest.param(x, marks=() if n % 3 == 0 else pytest.mark.long) for n, x in enumerate(FLAWS)])
def test_a_flawed_version_is_refused(site: Site, good: dict[str, str], flaw: str, tmp_path: Path) -> None:
    version = push(site, flawed(flaw, GOOD), tmp_path)
    before = whole(site)
    with pytest.raises(NtroError) as refused:
        Runbooks(site.installation).deploy(SLUG, TENANT, version.version)
    said = refused.value.explain()
    assert refused.value.code == FLAWS[flaw].code, said
    assert [part for part in FLAWS[flaw].says if part not in said] == [], said
    assert whole(site) == before


def test_the_survey_of_a_flaw_stays_with_the_operator(site: Site, good: dict[str, str], tmp_path: Path) -> None:
    version = push(site, flawed("syntax error", GOOD), tmp_path)
    with pytest.raises(NtroError) as refused:
        Runbooks(site.installation).deploy(SLUG, TENANT, version.version)
    assert "assets.py" not in str(refused.value)


def withdraw(site: Site) -> None:
    Runbooks(site.installation).withdraw(SLUG, TENANT)


def test_open_work_keeps_a_runbook(site: Site, good: dict[str, str], tmp_path: Path) -> None:
    """Documents that wait, rows that are open; once all is final it may go, and its rows stay."""
    client: Client = site.client(TENANT)
    gate = tmp_path / "gate"
    gate.mkdir()
    (gate / "closed").touch()
    held = push(site, Sample(SLUG, columns=1, code="held", gate=str(gate)), tmp_path)
    Runbooks(site.installation).deploy(SLUG, TENANT, held.version)
    submit(client, SLUG, "one", tmp_path)
    eventually(lambda: [*gate.glob("standing-*")], "a run stands in the author's function")
    before = whole(site)[0]
    with pytest.raises(NtroError) as waiting:
        withdraw(site)
    assert (waiting.value.code, waiting.value.values) == ("DOCUMENTS_STILL_WAITING", {"table": "bad__lines", "documents": 1})
    (gate / "closed").unlink()
    eventually(lambda: client.holds("SELECT count(*) > 0 FROM ledgers.bad__lines"), "rows are staged")
    with pytest.raises(NtroError) as opened:
        withdraw(site)
    assert (opened.value.code, opened.value.values["rows"]) == ("ROWS_STILL_OPEN", 3)
    assert whole(site)[0] == before == active({**good, SLUG: held.version})
    with pytest.raises(NtroError) as gone:
        Runbooks(site.installation).withdraw("nobody", TENANT)
    assert gone.value.code == "RUNBOOK_NOT_DEPLOYED"
    reject_all(site, held.version)
    withdraw(site)
    assert_told(site, client, {OTHER: good[OTHER]})
    assert client.value("SELECT count(*) FROM ledgers.bad__lines") == 3


def reject_all(site: Site, version: str) -> None:
    """As a person does."""
    bundle = Bundle(SLUG, site.home.tenant(TENANT).bundles / SLUG / version, version)
    load_types(bundle)

    async def filing() -> None:
        async with TenantDatabase(credential(site.home, TENANT, Role.DESK)) as desk:
            await file_signal(desk, subledger_type("lines", SLUG, version), "reject", filed_by=APPROVER, reason="not ours")

    asyncio.run(filing())
    client = site.client(TENANT)
    eventually(lambda: client.holds("SELECT count(*) = 0 FROM ledgers.bad__lines WHERE status <> 'REJECTED'"), "rejected")
