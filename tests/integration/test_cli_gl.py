"""`ntro gl`: settings, secrets and what is seen of them. Against a tenant's database, no processes."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from ntro_dagster.cli import invocation
from ntro_dagster.cli.main import run
from ntro_dagster.gl.chart import install_chart
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials

ORGANISATION = "00000000-0000-4000-8000-000000000001"
XERO = ("gl", "set", "xero", "--tenant", "acme", "--option", f"organisation={ORGANISATION}")


@pytest.fixture
def home(deployed: DatabaseCredentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tenants" / "acme" / "credentials"
    folder.mkdir(parents=True)
    (tmp_path / "home.json").write_text(json.dumps({"format": 1, "created_at": "2026-01-01T00:00:00Z"}))
    for role in ("owner", "app", "desk", "auditor"):
        (folder / role).write_text(getattr(deployed, role) + "\n")
    monkeypatch.setattr(invocation.invocation, "home_option", None)
    with psycopg.connect(deployed.owner) as owner:
        install_chart(owner)
    return tmp_path


def ntro(home: Path, *arguments: str) -> tuple[int, Any]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(["--home", str(home), "--json", *arguments])
    return code, json.loads((out if code == 0 else err).getvalue())


def new_entity(credentials: DatabaseCredentials) -> str:
    entity = uuid4()
    with psycopg.connect(credentials.owner) as owner:
        owner.execute(
            "INSERT INTO system.entities (id, slug, name, currency, schema_name) VALUES (%s, %s, 'Fund', 'GBP', %s)",
            [entity, f"e{entity.hex[:12]}", f"s{entity.hex[:12]}"],
        )
    return f"e{entity.hex[:12]}"


def test_which_ledger_an_entity_has(home: Path, deployed: DatabaseCredentials) -> None:
    entity = new_entity(deployed)
    code, said = ntro(home, *XERO, "--entity", entity, "--option", "settle_seconds=90", "--option", 'accounts={"5999": "429"}')
    assert (code, said["place"], said["options"]["accounts"]) == (0, ORGANISATION, {"5999": "429"})
    _, found = ntro(home, "gl", "status", "--tenant", "acme", "--entity", entity)
    (held,) = found["ledgers"]
    assert (held["provider"], held["place"], held["options"]["settle_seconds"]) == ("xero", ORGANISATION, 90)
    assert held["recorded_by"].startswith("operator:")
    assert ntro(home, "gl", "retry", "--tenant", "acme", "--entity", entity)[1]["again"] == 1
    assert ntro(home, "gl", "set", "tenant", "--tenant", "acme", "--entity", entity)[0] == 0
    assert ntro(home, "gl", "status", "--tenant", "acme", "--entity", entity)[1]["ledgers"] == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("set", "sap"), "PROVIDER_NOT_REGISTERED"),
        (("set", "xero"), "GL_OPTIONS_INVALID"),
        (("set", "xero", "-o", f"organisation={ORGANISATION}", "-o", "password=hunter2"), "GL_OPTIONS_INVALID"),
        (("set", "xero", "-o", f"organisation={ORGANISATION}", "-o", "url=http://ledger.example.com"), "GL_OPTIONS_INVALID"),
        (
            ("set", "xero", "-o", f"organisation={ORGANISATION}", "-o", "url=https://me:pw@ledger.example.com"),
            "GL_OPTIONS_INVALID",
        ),
        (("set", "erpnext", "-o", "company"), "GL_OPTION_UNREADABLE"),
        (("retry",), "NOTHING_HELD_BACK"),
    ],
)
def test_what_is_off_is_refused(home: Path, arguments: tuple[str, ...], code: str) -> None:
    refused, told = ntro(home, "gl", *arguments, "--tenant", "acme")
    assert (refused, told["code"]) == (2, code)
    assert told["mend"] and "hunter2" not in json.dumps(told)


def test_giving_up_says_why_and_what_is_in_doubt(home: Path, deployed: DatabaseCredentials) -> None:
    entity = new_entity(deployed)
    give_up = ("gl", "give-up", "--tenant", "acme", "--entity", entity, "--reason", "switched off")
    assert ntro(home, *give_up)[1]["code"] == "NOTHING_HELD_BACK"
    assert ntro(home, *XERO, "--entity", entity)[0] == 0
    with psycopg.connect(deployed.owner) as owner:
        owner.execute(
            "INSERT INTO ledgers.deliveries (id, entity_id, period, subledger, external_id, provider, place, proposal, run_id, "
            "attempts, wait_until) SELECT gen_random_uuid(), id, '2025-01', 'expenses', 'expenses:' || n, 'xero', %s, '{}', "
            "gen_random_uuid(), n, CASE WHEN n > 0 THEN now() END FROM system.entities, generate_series(0, 1) n WHERE slug = %s",
            [ORGANISATION, entity],
        )
    assert ntro(home, *give_up) == (0, {"tenant": "acme", "entity": entity, "in_doubt": ["expenses:1"]})
    assert ntro(home, "gl", "set", "native", "--tenant", "acme", "--entity", entity)[0] == 0


def test_a_secret_is_a_private_file_and_nowhere_else(
    home: Path, deployed: DatabaseCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("id:hunter2\n"))
    code, said = ntro(home, "gl", "secret", "xero", "--tenant", "acme")
    assert (code, said) == (0, {"tenant": "acme", "secret": "xero"})
    (kept,) = (home / "tenants" / "acme" / "secrets").iterdir()
    assert (kept.read_text(), kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == ("id:hunter2\n", 0o600, 0o700)
    assert ntro(home, "gl", "secret", "../xero", "--tenant", "acme")[0] == 2


def test_accounts_of_a_ledger_in_files(home: Path, deployed: DatabaseCredentials) -> None:
    entity = new_entity(deployed)
    assert ntro(home, "gl", "set", "beancount", "--tenant", "acme", "--entity", entity)[0] == 0
    _, found = ntro(home, "gl", "accounts", "--tenant", "acme", "--entity", entity)
    assert {x["code"]: x["there"] for x in found}["5999"] is None  # declared when it is first needed
