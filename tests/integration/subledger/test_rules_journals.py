"""The rules of the general ledger, attacked with raw SQL as the app role."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from ledger_tenant import PERIOD, Connection, Tenant, refusal
from raw_journals import attempt

JOURNAL = (
    "INSERT INTO ledgers.journals (id, entity_id, period, external_id, posting_date, description, currency, run_id) "
    "VALUES (%(id)s, %(entity)s, %(period)s, %(id)s, %(date)s, 'x', 'GBP', gen_random_uuid())"
)


def line(number: int, debit: Any, credit: Any, account: str = "2000") -> str:
    return (
        "INSERT INTO ledgers.journal_lines (journal_id, line_no, account_code, debit, credit) "
        f"VALUES (%(id)s, {number}, '{account}', '{debit}', '{credit}')"
    )


def lines(*amounts: tuple[Any, Any]) -> str:
    values = ", ".join(f"(%(id)s, {number}, '2000', '{d}', '{c}')" for number, (d, c) in enumerate(amounts, 1))
    return f"INSERT INTO ledgers.journal_lines (journal_id, line_no, account_code, debit, credit) VALUES {values}"


def test_a_balanced_journal_is_let_through(app: Connection, entity: UUID) -> None:
    assert attempt(app, entity, JOURNAL, lines((10, 0), (0, 4), (0, 6))) is None


@pytest.mark.parametrize(
    "statements",
    [
        [lines((10, 0), (0, 9))],
        [lines((10, 0), (0, 10.000000001))],
        [lines((10, 0))],
        [line(1, 10, 0), line(2, 0, 10)],
        ["SET CONSTRAINTS ALL DEFERRED", line(1, 10, 0), line(2, 0, 10)],
        [lines((10, 0), (0, 10)), line(3, 5, 0)],
        ["SAVEPOINT a", lines((10, 0), (0, 10)), "ROLLBACK TO a"],
        ["SAVEPOINT a", lines((10, 0), (0, 10)), "ROLLBACK TO a", "SET CONSTRAINTS ALL IMMEDIATE"],
        ["SELECT 1"],
        ["SET CONSTRAINTS ALL IMMEDIATE", lines((10, 0), (0, 10))],
    ],
    ids=["short", "by the last decimal", "one side", "line by line", "deferred", "later line", "lines undone",
         "lines undone, immediate", "no lines", "immediate before the lines"],
)  # fmt: skip
def test_a_journal_that_does_not_balance_is_not_committed(app: Connection, entity: UUID, statements: list[str]) -> None:
    assert attempt(app, entity, JOURNAL, *statements) == "JOURNAL_DOES_NOT_BALANCE"


@pytest.mark.parametrize("amounts", [(-10, 0), (0, -10), (0, 0), (10, 10), (None, 0)], ids=str)
def test_a_line_has_one_side_above_zero(app: Connection, entity: UUID, amounts: tuple[Any, Any]) -> None:
    statement = line(1, *amounts).replace("'None'", "NULL")
    assert attempt(app, entity, JOURNAL, statement) in {"CheckViolation", "NotNullViolation"}


def test_two_unbalanced_journals_do_not_make_up_for_each_other(app: Connection, entity: UUID) -> None:
    other = JOURNAL.replace("%(id)s", "%(other)s")
    crossed = (
        "INSERT INTO ledgers.journal_lines (journal_id, line_no, account_code, debit, credit) "
        "VALUES (%(id)s, 1, '2000', 10, 0), (%(other)s, 1, '2000', 0, 10)"
    )
    assert attempt(app, entity, JOURNAL, other, crossed, other=uuid4()) == "JOURNAL_DOES_NOT_BALANCE"


def test_lines_come_with_their_journal(app: Connection, entity: UUID) -> None:
    journal = uuid4()
    assert attempt(app, entity, JOURNAL, lines((10, 0), (0, 10)), id=journal) is None
    more = lines((10, 0), (0, 10)).replace(", 1,", ", 3,").replace(", 2,", ", 4,")
    assert attempt(app, entity, more, id=journal) == "POSTED_IS_FINAL"


def test_lines_need_a_journal(app: Connection, entity: UUID) -> None:
    assert attempt(app, entity, lines((10, 0), (0, 10))) == "ForeignKeyViolation"


def test_an_external_id_is_used_once(app: Connection, entity: UUID) -> None:
    journal = uuid4()
    assert attempt(app, entity, JOURNAL, lines((10, 0), (0, 10)), id=journal) is None
    again = JOURNAL.replace("VALUES (%(id)s", "VALUES (gen_random_uuid()")
    assert attempt(app, entity, again, id=journal) == "UniqueViolation"


def test_a_journal_lies_in_its_period(app: Connection, entity: UUID) -> None:
    assert attempt(app, entity, JOURNAL, date="2025-02-01") == "CheckViolation"


@pytest.mark.parametrize("column", ["txid", "posted_at"])
def test_who_wrote_a_journal_and_when_is_not_for_the_writer_to_say(app: Connection, entity: UUID, column: str) -> None:
    forged = JOURNAL.replace("run_id)", f"run_id, {column})").replace(
        "gen_random_uuid())", "gen_random_uuid(), " + ("'1'" if column == "txid" else "'2020-01-01'") + ")"
    )
    assert attempt(app, entity, forged, lines((10, 0), (0, 10))) == "InsufficientPrivilege"


def test_when_a_close_was_drawn_up_is_not_for_the_writer_to_say(app: Connection, entity: UUID) -> None:
    columns = "entity_id, period, last_change, journals, digest, run_id"
    values = "%(entity)s, %(period)s, 0, 0, '', gen_random_uuid()"
    for extra, value in (("at", "'2020-01-01'"), ("id", "1")):
        forged = f"INSERT INTO ledgers.closes ({columns}, {extra}) OVERRIDING SYSTEM VALUE VALUES ({values}, {value})"
        assert refusal(app, forged, {"entity": entity, "period": PERIOD}) == "InsufficientPrivilege"


def close_period(connection: Connection, entity: UUID, status: str = "CLOSED") -> None:
    connection.execute(
        "INSERT INTO ledgers.periods (entity_id, period, status) VALUES (%s, %s, %s) "
        "ON CONFLICT (entity_id, period) DO UPDATE SET status = EXCLUDED.status",
        [entity, PERIOD, status],
    )


@pytest.mark.parametrize(
    "close",
    [
        ("INSERT INTO ledgers.periods VALUES (%(entity)s, '2025-01', 'CLOSED')", "PERIOD_CLOSED"),
        ("UPDATE system.entities SET status = 'CLOSED' WHERE id = %(entity)s", "ENTITY_CLOSED"),
    ],
    ids=["period", "entity"],
)
@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_nothing_is_posted_once_closed(
    app: Connection, tenant: Tenant, entity: UUID, isolation: str, close: tuple[str, str]
) -> None:
    closing, code = close
    app.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
    app.execute("SELECT count(*) FROM ledgers.journals")  # an older snapshot must not hide the close
    with tenant.as_owner() as owner:
        owner.execute(closing, {"entity": entity})
    refused = attempt(app, entity, JOURNAL, lines((10, 0), (0, 10)))
    assert refused in ({code} if isolation == "READ COMMITTED" else {"ISOLATION_TOO_HIGH", "SerializationFailure"})


@pytest.mark.parametrize("known", [False, True], ids=["first seen", "opened before"])
def test_a_close_waits_for_a_posting_under_way(app: Connection, tenant: Tenant, entity: UUID, known: bool) -> None:
    if known:
        with tenant.as_owner() as owner:
            close_period(owner, entity, "OPEN")
    values = {"id": uuid4(), "entity": entity, "period": PERIOD, "date": f"{PERIOD}-15"}
    app.execute(JOURNAL, values)
    app.execute(lines((10, 0), (0, 10)), values)
    with tenant.connect("owner") as owner:
        owner.execute("SET lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            close_period(owner, entity)


def test_a_posting_waits_for_a_close_under_way_and_is_refused(app: Connection, tenant: Tenant, entity: UUID) -> None:
    closing = tenant.connect("owner")
    close_period(closing, entity)
    with ThreadPoolExecutor(1) as pool:
        posting = pool.submit(attempt, app, entity, JOURNAL, lines((10, 0), (0, 10)))
        wait_until_blocked(tenant, app.info.backend_pid)
        closing.commit()
        assert posting.result(timeout=30) == "PERIOD_CLOSED"


def wait_until_blocked(tenant: Tenant, pid: int) -> None:
    deadline = time.monotonic() + 30
    while not tenant.fetch("SELECT FROM unnest(pg_blocking_pids(%s))", pid):
        assert time.monotonic() < deadline, "nothing blocks it"


def test_an_account_that_is_not_active_takes_no_line(app: Connection, tenant: Tenant, entity: UUID) -> None:
    with tenant.as_owner() as owner:
        owner.execute("INSERT INTO ledgers.accounts VALUES ('0001', 'old', 'ASSET', FALSE) ON CONFLICT DO NOTHING")
    statement = lines((10, 0), (0, 10)).replace("1, '2000'", "1, '0001'")
    assert attempt(app, entity, JOURNAL, statement) == "ACCOUNT_NOT_ACTIVE"


def test_an_account_must_exist(app: Connection, entity: UUID) -> None:
    assert attempt(app, entity, JOURNAL, lines((10, 0), (0, 10)).replace("2000", "no such")) == "ForeignKeyViolation"
