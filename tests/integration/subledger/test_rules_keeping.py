"""What is kept stays as it was written, attacked with raw SQL as each role."""

from __future__ import annotations

from hashlib import sha256
from typing import Any
from uuid import uuid4

import pytest
from ledger_tenant import Connection, Tenant, refusal

ERROR = "INSERT INTO system.errors (id, code, story, traceback) VALUES (%s, 'X', 'because', 'Traceback')"
SENT = "INSERT INTO system.transcript (call, key, sent) VALUES ('store_event', %s, '\\x00ff')"
ANSWER = "INSERT INTO system.answers (method, digest, content) VALUES (%s, %s, %s)"


def answer(content: bytes = b"IDLE") -> list[Any]:
    return [f"/api.DagsterApi/{uuid4().hex}", sha256(content).digest(), content]


def test_the_app_appends_and_desk_and_auditor_read(tenant: Tenant, app: Connection) -> None:
    error, key, given = uuid4(), uuid4(), answer()
    app.execute(ERROR, [error])
    app.execute(SENT, [key])
    app.execute(ANSWER, given)
    app.commit()
    for role in ("desk", "auditor"):
        reader = tenant.connect(role)
        assert reader.execute("SELECT story FROM system.errors WHERE id = %s", [error]).fetchone() == ("because",)
        assert reader.execute("SELECT sent FROM system.transcript WHERE key = %s", [key]).fetchone() == (b"\x00\xff",)
        assert reader.execute("SELECT content FROM system.answers WHERE method = %s", given[:1]).fetchone() == (b"IDLE",)


@pytest.mark.parametrize("role", ["desk", "auditor"])
@pytest.mark.parametrize("table", ["errors", "transcript", "answers"])
def test_nobody_else_appends(tenant: Tenant, role: str, table: str) -> None:
    statement, values = {"errors": (ERROR, [uuid4()]), "transcript": (SENT, [uuid4()]), "answers": (ANSWER, answer())}[table]
    assert refusal(tenant.connect(role), statement, values) == "InsufficientPrivilege"


@pytest.mark.parametrize("column", ["story", "traceback", "values"])
def test_the_app_reads_no_error_back(app: Connection, column: str) -> None:
    assert refusal(app, f"SELECT {column} FROM system.errors") == "InsufficientPrivilege"


def test_an_answer_is_stored_under_the_digest_of_what_it_says(app: Connection) -> None:
    method, digest, _ = answer()
    assert refusal(app, ANSWER, [method, digest, b"something else"]) == "CheckViolation"


def test_an_error_is_told_once(app: Connection) -> None:
    error = uuid4()
    app.execute(ERROR, [error])
    assert refusal(app, ERROR, [error]) == "UniqueViolation"


def test_an_equal_answer_moves_its_count_and_its_last_time_only(tenant: Tenant, app: Connection) -> None:
    given = answer()
    app.execute(ANSWER, given)
    app.execute("UPDATE system.answers SET times = times + 1, last_at = clock_timestamp() WHERE method = %s", given[:1])
    app.commit()
    where = f"WHERE method = '{given[0]}'"
    for change in ("content = 'x'", "digest = 'x'", "first_at = now()", "method = 'x'"):
        assert refusal(app, f"UPDATE system.answers SET {change} {where}") == "InsufficientPrivilege"
    owner = tenant.connect("owner")
    for change in (
        "first_at = now() - interval '1 day'", "method = 'x'", "content = 'x', digest = sha256('x')", "times = times - 1",
        "times = times", "last_at = last_at - interval '1 s', times = times + 1",
    ):  # fmt: skip
        for connection in (app, owner) if change.startswith(("times", "last_at")) else (owner,):
            assert refusal(connection, f"UPDATE system.answers SET {change} {where}") == "HISTORY_IS_APPEND_ONLY", change
    assert tenant.fetch("SELECT times FROM system.answers WHERE method = %s", given[0]) == [(2,)]
