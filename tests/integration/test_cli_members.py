"""`ntro member`, `ntro approval`, and whom `ntro review` takes for an author. Against a tenant's database, no processes."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from ntro_dagster.cli import invocation
from ntro_dagster.cli.main import run
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials

TOMORROW = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}"
EXPENSES = ("--tenant", "acme", "--subledger", "expenses")


@dataclass(frozen=True)
class Typed:
    """`ntro` in this process, in a home that knows the tenant's credentials and nothing else."""

    home: Path
    credentials: DatabaseCredentials

    def __call__(self, *arguments: str) -> tuple[int, Any]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(["--home", str(self.home), "--json", *arguments])
        return code, json.loads((out if code in {0, 5} else err).getvalue())

    def ok(self, *arguments: str) -> Any:
        code, value = self(*arguments)
        assert code == 0, (arguments, value)
        return value

    def refused(self, *arguments: str) -> str:
        code, value = self(*arguments)
        assert code in {2, 4}, (arguments, value)
        assert value["mend"]
        return value["code"]  # type: ignore[no-any-return]

    def fetch(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.credentials.auditor) as auditor:
            return auditor.execute(query).fetchall()


@pytest.fixture
def ntro(deployed: DatabaseCredentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    folder = tmp_path / "tenants" / "acme" / "credentials"
    folder.mkdir(parents=True)
    (tmp_path / "home.json").write_text(json.dumps({"format": 1, "created_at": "2026-01-01T00:00:00Z"}))
    for role in ("owner", "app", "desk", "auditor"):
        (folder / role).write_text(getattr(deployed, role) + "\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery\n"))
    monkeypatch.setattr(invocation.invocation, "home_option", None)
    return Typed(tmp_path, deployed)


@pytest.fixture
def a_row(deployed: DatabaseCredentials) -> str:
    entity, row = uuid4(), uuid4()
    with psycopg.connect(deployed.owner) as owner:
        owner.execute(
            "INSERT INTO system.entities (id, slug, name, currency, schema_name) VALUES (%s, %s, 'Fund', 'GBP', %s)",
            [entity, f"e{entity.hex[:12]}", f"s{entity.hex[:12]}"],
        )
    with psycopg.connect(deployed.app) as app:
        app.execute(
            "INSERT INTO ledgers.expenses (id, entity_id, period, task_id, status, vendor, amount_gross, currency) "
            "VALUES (%s, %s, '2025-01', gen_random_uuid(), 'PENDING', 'Smith', 120, 'GBP')",
            [row, entity],
        )
    return str(row)


def test_members_decide_once_there_are_any(ntro: Typed, a_row: str, monkeypatch: pytest.MonkeyPatch) -> None:
    approve = ("review", "approve", a_row, *EXPENSES, "--as", "anyone")
    if not ntro.ok("member", "list", "--tenant", "acme"):  # taken at its word
        assert ntro.ok(*approve)["filed_by"] == "user:anyone"
    ntro.ok("member", "add", "ann", "--tenant", "acme", "--name", "Ann", "--role", "approver")
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    assert ntro.refused("member", "add", "sam", "--tenant", "acme", "--name", "S", "--role", "preparer") == "PASSWORD_TOO_SHORT"
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery\n"))
    ntro.ok("member", "add", "pat", "--tenant", "acme", "--name", "Pat", "--role", "preparer")
    agent = ntro.ok("member", "add", "reader", "--tenant", "acme", "--name", "Reader", "--role", "agent")
    assert agent["login"] == "agent:reader"
    kept = ntro.fetch("SELECT login, role FROM system.members ORDER BY login")
    assert kept == [("agent:reader", "agent"), ("user:ann", "approver"), ("user:pat", "preparer")]
    assert ntro.refused(*approve) == "NOT_A_MEMBER"
    assert ntro.refused(*approve[:-1], "pat") == "ROLE_MAY_NOT"
    assert ntro.refused(*approve[:-1], "agent:reader") == "ROLE_MAY_NOT"
    assert ntro.ok(*approve[:-1], "ann")["rows"] == 1
    with psycopg.connect(ntro.credentials.desk) as desk:
        (held,) = desk.execute("SELECT digest FROM system.desk_sessions WHERE id = %s", [agent["key_id"]]).fetchall()
    assert agent["key"].encode() not in bytes(held[0])


def test_limits(ntro: Typed) -> None:
    ntro.ok("approval", "limit", "GBP", "10000.50", "--tenant", "acme")
    ntro.ok("approval", "limit", "EUR", "5", "--tenant", "acme")
    ntro.ok("approval", "limit", "EUR", "none", "--tenant", "acme")
    limits = ntro.ok("approval", "list", "--tenant", "acme")["limits"]
    assert [(one["currency"], one["amount"]) for one in limits] == [("GBP", "10000.50")]
    assert ntro.fetch("SELECT count(*) FROM system.approval_limit_changes") == [(3,)]
    assert ntro.fetch("SELECT DISTINCT recorded_by LIKE 'operator:%' FROM system.approval_limit_changes") == [(True,)]
    for amount in ("ten", "NaN", "-1", "1e30", "0.0000000001"):
        assert ntro.refused("approval", "limit", "GBP", "--tenant", "acme", "--", amount) == "AMOUNT_UNREADABLE"
    assert ntro.refused("approval", "limit", "pounds", "1", "--tenant", "acme") == "CURRENCY_INVALID"


def test_delegations(ntro: Typed, add: Callable[[str, str], None]) -> None:
    for login, role in (("dora", "approver"), ("dick", "preparer"), ("emil", "auditor")):
        add(login, role)
    give = ("approval", "delegate", "dora", "dick", "--tenant", "acme", "--reason", "holiday", "--until")
    made = ntro.ok(*give, TOMORROW)
    (known,) = ntro.ok("approval", "list", "--tenant", "acme")["delegations"]
    assert (known["id"], known["from_login"], known["to_login"], known["active"]) == (made["id"], "user:dora", "user:dick", True)
    assert known["ends_at"].startswith(f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%d}")  # to the end of that day
    assert ntro.refused(*give, "2020-01-01") == "DAYS_REVERSED"
    assert ntro.refused(*give[:2], "dick", "dora", *give[4:], TOMORROW) == "DELEGATION_INVALID"
    assert ntro.refused(*give[:3], "emil", *give[4:], TOMORROW) == "DELEGATION_INVALID"
    assert ntro.refused(*give[:3], "nobody", *give[4:], TOMORROW) == "MEMBER_NOT_FOUND"
    for blank in (("end", made["id"]), ("delegate", "dora", "dick", "--until", TOMORROW)):
        code, said = ntro("approval", *blank, "--tenant", "acme", "--reason", " ")
        assert (code, "blank" in said["message"]) == (2, True)
    ntro.ok("approval", "end", made["id"], "--tenant", "acme", "--reason", "back")
    assert ntro.refused("approval", "end", made["id"], "--tenant", "acme", "--reason", "back") == "DELEGATION_NOT_FOUND"
    assert [one["active"] for one in ntro.ok("approval", "list", "--tenant", "acme")["delegations"]] == [False]


def test_what_a_member_cannot_be(ntro: Typed, add: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    add("scribe", "agent")

    def refused(*arguments: str) -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery\n"))
        return ntro.refused("member", *arguments, "--tenant", "acme")

    assert refused("add", "gus", "--role", "preparer", "--name", " ") == "MEMBER_NAME_INVALID"
    assert refused("add", "gus", "--role", "preparer", "--name", "g" * 201) == "MEMBER_NAME_INVALID"
    assert refused("add", "g us", "--role", "preparer", "--name", "Gus") == "LOGIN_INVALID"
    assert refused("add", "agent:gus", "--role", "preparer", "--name", "Gus") == "LOGIN_INVALID"
    assert refused("add", "user:gus", "--role", "agent", "--name", "Gus") == "LOGIN_INVALID"
    assert refused("password", "agent:scribe") == "AGENT_HAS_NO_PASSWORD"
    assert refused("password", "gus") == "MEMBER_NOT_FOUND"


def test_keys_are_for_agents_and_operators(ntro: Typed, add: Callable[[str, str], None]) -> None:
    create = ("member", "key", "create", "--tenant", "acme")
    for login, role in (("fay", "approver"), ("hal", "preparer"), ("ida", "auditor"), ("clerk", "agent")):
        add(login, role)
    for person in ("fay", "hal"):
        assert ntro.refused(*create, person) == "KEY_IS_FOR_AGENTS"
        assert ntro.refused(*create, person, "--label", "script") == "KEY_IS_FOR_AGENTS"
        assert ntro.ok(*create, person, "--label", "ops")["key"]
    assert ntro.ok(*create, "ida")["key"]
    assert ntro.ok(*create, "agent:clerk", "--label", "nights")["key"]
    assert ntro.refused(*create, "nobody") == "MEMBER_NOT_FOUND"


def test_a_new_password_ends_log_ins_and_leaves_keys(
    ntro: Typed, add: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    add("joe", "approver")
    ntro.ok("member", "key", "create", "joe", "--tenant", "acme", "--label", "ops")
    with psycopg.connect(ntro.credentials.desk) as desk:
        desk.execute(
            "INSERT INTO system.desk_sessions (digest, login, expires_at) VALUES (%s, 'user:joe', now() + INTERVAL '1 hour')",
            [uuid4().bytes * 2],
        )
    held = "SELECT kind FROM system.desk_sessions WHERE login = 'user:joe' AND ended_at IS NULL ORDER BY kind"

    def kinds() -> list[tuple[Any, ...]]:
        with psycopg.connect(ntro.credentials.desk) as desk:
            return desk.execute(held).fetchall()

    assert kinds() == [("key",), ("session",)]
    monkeypatch.setattr("sys.stdin", io.StringIO("another horse battery\n"))
    ntro.ok("member", "password", "joe", "--tenant", "acme")
    assert kinds() == [("key",)]
    ntro.ok("member", "deactivate", "joe", "--tenant", "acme")
    assert kinds() == []


@pytest.fixture
def add(ntro: Typed, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    def member(login: str, role: str) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery\n"))
        ntro.ok("member", "add", login, "--tenant", "acme", "--name", login, "--role", role)

    return member
