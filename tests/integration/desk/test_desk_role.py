"""The desk's credential in the wrong hands, in raw SQL: it looks, files what its members may file, and changes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from uuid import UUID, uuid4

import psycopg
import pytest
from desk_at_work import DeskAtWork
from ledger_tenant import Connection, refusal

SESSION = "INSERT INTO system.desk_sessions (digest, login, expires_at) VALUES (%s, %s, now() + INTERVAL '1 hour')"
KEY = "INSERT INTO system.desk_sessions (digest, login, kind) VALUES (%s, %s, 'key')"
SIGNAL = (
    "INSERT INTO system.signals (id, subledger, entity_id, period, kind, reason, payload, filed_by) "
    "VALUES (%s, 'expenses', %s, '2025-01', %s, 'because', '{}', %s)"
)


@pytest.fixture
def sql(desk: DeskAtWork) -> Iterator[Connection]:
    with psycopg.connect(desk.tenant.credentials.desk) as connection:
        yield connection
        connection.rollback()


def digest() -> bytes:
    return hashlib.sha256(uuid4().bytes).digest()


def test_it_changes_no_row_of_any_ledger(desk: DeskAtWork, sql: Connection) -> None:
    tables = desk.tenant.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'ledgers'")
    assert ("expenses",) in tables
    for (table,) in tables:
        (column,) = desk.tenant.fetch(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'ledgers' AND table_name = %s LIMIT 1", table
        )[0]
        for statement in (
            f"UPDATE ledgers.{table} SET {column} = DEFAULT",
            f"DELETE FROM ledgers.{table}",
            f"TRUNCATE ledgers.{table}",
            f"INSERT INTO ledgers.{table} DEFAULT VALUES",
            f"ALTER TABLE ledgers.{table} DISABLE TRIGGER ALL",
        ):
            assert refusal(sql, statement) == "InsufficientPrivilege", statement


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE system.members SET role = 'approver'",
        "UPDATE system.members SET active = TRUE",
        "UPDATE system.members SET password_hash = NULL",
        "INSERT INTO system.failed_logins (login, at) VALUES ('user:ann', '2020-01-01')",
        "INSERT INTO system.members (login, name, role, created_by) VALUES ('user:mallory', 'M', 'approver', 'x')",
        "DELETE FROM system.members",
        "UPDATE system.desk_sessions SET login = 'user:ann'",
        "UPDATE system.desk_sessions SET kind = 'key'",
        "UPDATE system.desk_sessions SET expires_at = NULL",
        "DELETE FROM system.desk_sessions",
        "DELETE FROM system.failed_logins",
        "UPDATE system.signals SET applied_at = now()",
        "UPDATE system.signal_rows SET outcome = 'APPLIED'",
        "INSERT INTO system.changes (subledger, actor, actor_kind) VALUES ('expenses', 'user:ann', 'person')",
        "INSERT INTO system.history (change_id, row_id, action) VALUES (1, gen_random_uuid(), 'approve')",
        "UPDATE system.entities SET status = 'CLOSED'",
        "INSERT INTO ingest.submitted_documents (submitted_at) VALUES (now())",
        "INSERT INTO ingest.submitted_documents (txid) VALUES (pg_current_xact_id())",
        "CREATE TABLE public.mine (a INT)",
        "CREATE TABLE system.mine (a INT)",
        "CREATE OR REPLACE FUNCTION system.may_file(role TEXT, kind TEXT) RETURNS BOOLEAN LANGUAGE sql AS 'SELECT TRUE'",
        "SET ROLE ntro_app",
        "SET SESSION AUTHORIZATION DEFAULT; SET session_replication_role = replica",
        "COPY system.members TO PROGRAM 'true'",
    ],
)
def test_it_makes_nobody_anything(sql: Connection, statement: str) -> None:
    assert refusal(sql, statement) == "InsufficientPrivilege"


@pytest.mark.parametrize(
    ("login", "kinds"),
    [
        ("user:eve", ["approve", "reject", "edit"]),
        ("user:adm", ["approve", "reject"]),
        ("user:pat", ["approve"]),
        ("agent:bot", ["approve", "reject"]),
    ],
)
def test_no_role_files_more_than_its_own(sql: Connection, entity: UUID, login: str, kinds: list[str]) -> None:
    for kind in kinds:
        assert refusal(sql, SIGNAL, [uuid4(), entity, kind, login]) == "ROLE_MAY_NOT"
    assert refusal(sql, SIGNAL, [uuid4(), entity, "edit", "user:mallory"]) == "NOT_A_MEMBER"
    assert refusal(
        sql,
        SIGNAL.replace("filed_by)", "filed_by, filed_at)").replace("%s)", "%s, now())"),
        [uuid4(), entity, "edit", "user:ann"],
    ) == ("InsufficientPrivilege")


def test_a_program_has_no_session_and_a_person_no_key_of_the_desks_making(sql: Connection) -> None:
    assert refusal(sql, SESSION, [digest(), "agent:bot"]) == "CheckViolation"
    for login in ("user:ann", "agent:bot"):
        assert refusal(sql, KEY, [digest(), login]) == "InsufficientPrivilege"
    assert refusal(sql, SESSION, [digest(), "user:mallory"]) == "ForeignKeyViolation"
    assert refusal(sql, SESSION.replace("1 hour", "30 days"), [digest(), "user:ann"]) == "CheckViolation"
    sql.execute(SESSION, [digest(), "user:ann"])


def test_what_ended_stays_ended(sql: Connection) -> None:
    session = digest()
    sql.execute(SESSION, [session, "user:ann"])
    sql.execute("UPDATE system.desk_sessions SET ended_at = now() WHERE digest = %s", [session])
    assert refusal(sql, "UPDATE system.desk_sessions SET ended_at = NULL WHERE digest = %s", [session]) == "SESSION_HAS_ENDED"


def test_passwords_are_read_by_the_desk_alone(desk: DeskAtWork) -> None:
    for role in ("app", "auditor"):
        with psycopg.connect(getattr(desk.tenant.credentials, role)) as other:
            assert refusal(other, "SELECT password_hash FROM system.members") == "InsufficientPrivilege"
