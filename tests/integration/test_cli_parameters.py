"""Parameters through the command line and real runs: set, used, changed, kept with each run, and nowhere in the workspace."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cli_home import CommandLine, command_line

from ntro_dagster.authoring.bundle import new_bundle
from ntro_dagster.host.home import Home, Role
from ntro_dagster.host.installation import credential
from ntro_dagster.platforms.postgres.server import PostgresServer

FIRST, SECOND = "7.3141", "8.4152"
"""Nowhere else."""
PARAMETERS = """parameters:
  type: object
  properties:
    fee: {type: string, format: decimal, pattern: '%s', default: "1"}
"""
ANY, WHOLE = r"^[0-9]{1,3}(\.[0-9]{1,4})?$", r"^[0-9]{1,3}$"
LINES = "Date,Supplier,Amount,Description\n2026-03-01,{},120.00,x\n"


@pytest.fixture(scope="module")
def ntro() -> Iterator[CommandLine]:
    with command_line() as ntro:
        ntro.ok("up", "--detach")
        ntro.ok("tenant", "create", "acme", "--name", "Acme Capital")
        for entity in ("spv-1", "spv-2"):
            ntro.ok("entity", "create", entity, "--tenant", "acme", "--name", entity)
        yield ntro


def bundle(folder: Path, pattern: str) -> Path:
    new_bundle("fee-roll", folder)
    root = folder / "fee-roll"
    page, assets = root / "runbook.md", root / "assets.py"
    page.write_text(page.read_text().replace("---\n", "---\n" + PARAMETERS % pattern, 1))
    said = "\"description\": f\"{run.parameters['fee']} {type(run.parameters['fee']).__name__}\""
    assets.write_text(assets.read_text().replace('"description": read["notes"]', said))
    return root


def asked(ntro: CommandLine, query: str) -> list[Any]:
    with psycopg.connect(credential(Home(ntro.home), "acme", Role.AUDITOR)) as connection:
        return [value for (value,) in connection.execute(query.encode()).fetchall()]


def file(ntro: CommandLine, folder: Path, entity: str, supplier: str) -> str:
    """What the row of its one line was made with."""
    path = folder / f"{supplier}.csv"
    path.write_text(LINES.format(supplier))
    source = ("--source", "supplier-statement", "--period", "2026-03")
    ntro.ok("ingest", path, "--tenant", "acme", "--entity", entity, *source, "--wait")
    (row,) = [row for row in ntro.ok("rows", "statement_lines", "--tenant", "acme")["rows"] if row["supplier"] == supplier]
    return str(row["description"])


def dump(ntro: CommandLine, url: str) -> str:
    program = PostgresServer(Home(ntro.home).postgres).binaries.program("pg_dump")
    return subprocess.run([program, "--inserts", url], capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.long
def test_from_the_command_line_to_a_run_and_back(ntro: CommandLine, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = bundle(tmp_path / "one", ANY)
    to = ("--path", one, "--tenant", "acme", "--entity", "spv-1")
    assert ntro.refused("workflow", "create", *to, "--set", "fee=much") == ("PARAMETER_VALUE_INVALID", 2)
    assert ntro.ok("workflow", "list", "--tenant", "acme") == [], "refused before anything is deployed"
    made = ntro.ok("workflow", "create", *to, "--set", f"fee={FIRST}")
    of = made["workflow_id"][:8]
    other = ntro.ok("workflow", "bind", "fee-roll", "--tenant", "acme", "--entity", "spv-2")["workflow_id"]
    assert file(ntro, tmp_path, "spv-1", "Adams") == f"{FIRST} Decimal"
    assert file(ntro, tmp_path, "spv-2", "Baker") == "1 Decimal"
    assert ntro.ok("workflow", "set", of, f"fee={SECOND}", "--as", "ann")["parameters"] == {"fee": SECOND}
    assert file(ntro, tmp_path, "spv-1", "Clark") == f"{SECOND} Decimal"
    began = asked(ntro, "SELECT parameters ->> 'fee' FROM system.runs WHERE runbook = 'fee-roll' ORDER BY began_at")
    assert list(dict.fromkeys(began)) == [FIRST, "1", SECOND]
    set_by = asked(ntro, "SELECT set_by FROM system.workflow_parameters ORDER BY seq")
    assert set_by[1:] == ["user:ann"] and set_by[0].startswith("user:")
    shown = {each["entity"]: each["parameters"] for each in ntro.ok("workflow", "bindings")}
    assert shown == {"spv-1": {"fee": SECOND}, "spv-2": {}}
    assert f"fee={SECOND}" in ntro("workflow", "bindings").out

    two = bundle(tmp_path / "two", WHOLE)
    pushed = ntro.ok("workflow", "push", two)["version"]
    refused = ntro("workflow", "deploy", "fee-roll", "--tenant", "acme", "--json")
    assert (refused.code, refused.error["code"]) == (2, "PARAMETERS_UNSATISFIED")
    assert "runbook.md:5: fee does not fit its pattern, for entity spv-1" in refused.error["message"]
    assert ntro.ok("workflow", "list", "--tenant", "acme")[0]["version"] != pushed
    ntro.ok("workflow", "set", of, "fee=9", "--for", pushed)
    assert {each["entity"]: each["parameters"] for each in ntro.ok("workflow", "bindings")}["spv-1"] == {"fee": SECOND}
    ntro.ok("workflow", "deploy", "fee-roll", "--tenant", "acme")
    assert file(ntro, tmp_path, "spv-1", "Dyer") == "9 Decimal"
    ntro.ok("workflow", "rollback", "fee-roll", "--tenant", "acme")
    assert file(ntro, tmp_path, "spv-1", "Evans") == f"{SECOND} Decimal"
    assert ntro.refused("workflow", "set", "ffffffff", "fee=1") == ("WORKFLOW_NOT_FOUND", 4)
    assert ntro.refused("workflow", "set", other, "fees=1") == ("PARAMETER_VALUE_INVALID", 2)

    home = Home(ntro.home)
    known = dump(ntro, credential(home, "acme", Role.OWNER))
    assert FIRST in known and SECOND in known, "the search finds nothing at all"
    told = dump(ntro, (ntro.home / "credentials" / "workspace").read_text().strip())
    assert "fee-roll" in told
    logs = "".join(path.read_text(errors="replace") for path in (ntro.home / "logs").rglob("*") if path.is_file())
    for secret in (FIRST, SECOND):
        assert secret not in told and secret not in logs
