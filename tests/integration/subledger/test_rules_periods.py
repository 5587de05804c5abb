"""Closing and reopening a month: what the database asks of the act, attacked with raw SQL, and what the seal is worth."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Event
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from ledger_tenant import PERIOD, Connection, Tenant, code_of, move, refusal, use_signal

from ntro_dagster.gl import periods
from ntro_dagster.gl.periods import (
    CloseNeedsReasonError,
    PeriodNotReadyError,
    PeriodState,
    PeriodStatus,
    ReopeningNotAskedError,
    ask_reopening,
    close_period,
    confirm_reopening,
    period_state,
    seal_closing,
)

ACT = "INSERT INTO system.period_acts (entity_id, period, act, login, reason, asked) VALUES (%s, %s, %s, %s, %s, %s)"


def act(tenant: Tenant, entity: UUID, kind: str, *, by: str = "user:bob", reason: str | None = "r", period: str = PERIOD,
        asked: int | None = None) -> str | None:  # fmt: skip
    """The code that refuses the act, None where it is let through."""
    try:
        with psycopg.connect(tenant.credentials.desk) as desk:
            desk.execute(ACT, [entity, period, kind, by, reason, asked])
    except psycopg.Error as error:
        return code_of(error)
    return None


def asked(tenant: Tenant, entity: UUID) -> int:
    ((found,),) = tenant.fetch("SELECT max(id) FROM system.period_acts WHERE entity_id = %s AND act = 'ASK_REOPEN'", entity)
    return int(found)


def seal(tenant: Tenant, entity: UUID, period: str = PERIOD) -> bool:
    async def run() -> bool:
        async with tenant.database() as database:
            return await seal_closing(database, entity_id=entity, period=period, run_id=uuid4())

    return asyncio.run(run())


def state(tenant: Tenant, entity: UUID, period: str = PERIOD) -> PeriodState:
    async def run() -> PeriodState:
        async with tenant.database("auditor") as database:
            return await period_state(database, entity_id=entity, period=period)

    return asyncio.run(run())


def status(tenant: Tenant, entity: UUID, period: str = PERIOD) -> PeriodStatus:
    return state(tenant, entity, period).status


def close(tenant: Tenant, entity: UUID, period: str = PERIOD) -> None:
    assert act(tenant, entity, "CLOSE", period=period) is None
    assert seal(tenant, entity, period)


def findings(tenant: Tenant, entity: UUID, period: str = PERIOD) -> dict[str, int]:
    return {finding.code: finding.things for finding in state(tenant, entity, period).findings}


# Closing


def test_closing_is_instant_and_the_seal_comes_behind(tenant: Tenant, app: Connection, entity: UUID) -> None:
    tenant.row_in("POSTED", entity)
    assert status(tenant, entity) is PeriodStatus.OPEN
    assert act(tenant, entity, "CLOSE") is None
    assert status(tenant, entity) is PeriodStatus.CLOSING
    with pytest.raises(psycopg.Error) as refused:
        tenant.journal(entity, None, connection=app)
    assert code_of(refused.value) == "PERIOD_CLOSED"
    assert seal(tenant, entity)
    found = state(tenant, entity)
    assert found.status is PeriodStatus.CLOSED
    assert found.seal is not None
    assert (found.seal.journals, found.seal.holds) == (1, True)
    assert not seal(tenant, entity)
    assert act(tenant, entity, "CLOSE") == "PERIOD_CLOSED"


def a_decision_not_applied(tenant: Tenant, entity: UUID) -> None:
    tenant.file("approve", [tenant.row_in("REJECTED", entity)])


def a_document_not_staged(tenant: Tenant, entity: UUID) -> None:
    document = uuid4()
    with tenant.as_owner() as owner:
        owner.execute(
            "INSERT INTO ingest.submitted_documents (id, sha256, name, bytes, source, period, layout, records, submitted_by) "
            "VALUES (%s, %s, 'x.csv', 1, 'returns', %s, '{}', 0, 'user:ann')",
            [document, document.bytes * 2, PERIOD],
        )
        owner.execute(
            "INSERT INTO ingest.intake (document_id, entity_id, subledger, period, records) VALUES (%s, %s, 'expenses', %s, 1)",
            [document, entity, PERIOD],
        )


def an_earlier_month(tenant: Tenant, entity: UUID) -> None:
    tenant.journal(entity, None, period="2024-11")


def a_journal_without_a_rate(tenant: Tenant, entity: UUID) -> None:
    journal = uuid4()
    with psycopg.connect(tenant.credentials.app) as app:
        app.execute(
            "INSERT INTO ledgers.journals (id, entity_id, period, external_id, posting_date, description, currency, run_id) "
            "VALUES (%s, %s, %s, %s, '2025-01-05', 'x', 'USD', %s)",
            [journal, entity, PERIOD, str(journal), uuid4()],
        )
        app.execute(
            "INSERT INTO ledgers.journal_lines (journal_id, line_no, account_code, debit, credit) "
            "VALUES (%s, 1, '5000', 1, 0), (%s, 2, '2000', 0, 1)",
            [journal, journal],
        )


def a_row_booked_short(tenant: Tenant, entity: UUID) -> None:
    """The row says 120, its journal 119.99 on the control account."""
    row = tenant.row_in("APPROVED", entity)
    with psycopg.connect(tenant.credentials.app) as app:
        move(app, row, "POSTED", "post", journal=tenant.journal(entity, row, connection=app, amount="119.99"))


@pytest.mark.parametrize(
    ("obstacle", "finding"),
    [
        (lambda tenant, entity: tenant.row_in("NEEDS_ATTENTION", entity), "ROWS_STILL_OPEN"),
        (lambda tenant, entity: tenant.row_in("PENDING", entity), "ROWS_STILL_OPEN"),
        (lambda tenant, entity: tenant.row_in("APPROVED", entity), "ROWS_STILL_OPEN"),
        (a_decision_not_applied, "DECISIONS_NOT_APPLIED"),
        (a_document_not_staged, "DOCUMENTS_NOT_STAGED"),
        (an_earlier_month, "EARLIER_PERIOD_OPEN"),
        (a_journal_without_a_rate, "NOT_TRANSLATED"),
        (a_row_booked_short, "CONTROL_ACCOUNT_DIFFERS"),
    ],
    ids=["in doubt", "pending", "approved", "decision", "document", "earlier month", "no rate", "control account"],
)
def test_a_month_that_is_not_ready_is_not_closed_for_any_reason(
    tenant: Tenant, entity: UUID, obstacle: Callable[[Tenant, UUID], Any], finding: str
) -> None:
    obstacle(tenant, entity)
    assert findings(tenant, entity) == {finding: 1}
    assert act(tenant, entity, "CLOSE", reason="I want to") == "PERIOD_NOT_READY"
    assert status(tenant, entity) is PeriodStatus.OPEN

    async def run() -> None:
        async with tenant.database("desk") as database:
            await close_period(database, entity_id=entity, period=PERIOD, by="user:bob", reason="I want to")

    with pytest.raises(PeriodNotReadyError) as refused:
        asyncio.run(run())
    assert refused.value.explain().startswith(f"{PERIOD} cannot be closed yet: not true: ")


def test_what_a_reason_answers(tenant: Tenant, entity: UUID) -> None:
    tenant.journal(entity, None, period="2024-12", amount=100)
    close(tenant, entity, "2024-12")
    tenant.journal(entity, None, amount="20.01")
    with psycopg.connect(tenant.credentials.desk) as desk:
        desk.execute(
            "INSERT INTO system.bank_balances (entity_id, account_code, currency, on_date, balance, recorded_by) "
            "VALUES (%s, '1000', 'GBP', '2025-01-31', 5, 'user:ann')",
            [entity],
        )
    assert findings(tenant, entity) == {"BANK_DIFFERS": 1, "NET_ASSETS_MOVED": 1}

    async def without() -> None:
        async with tenant.database("desk") as database:
            await close_period(database, entity_id=entity, period=PERIOD, by="user:bob", reason="  ")

    with pytest.raises(CloseNeedsReasonError) as asked_for:
        asyncio.run(without())
    assert "the bank agrees, where a balance was recorded" in asked_for.value.explain()
    assert act(tenant, entity, "CLOSE", reason="a cheque is under way, and a new investment was made") is None


@pytest.mark.parametrize(("moved", "plausible"), [("20.00", True), ("20.01", False), ("-20.00", True), ("-20.01", False)])
def test_net_assets_move_within_a_fifth(tenant: Tenant, entity: UUID, moved: str, plausible: bool) -> None:
    tenant.journal(entity, None, period="2024-12", amount=100)
    close(tenant, entity, "2024-12")
    if moved.startswith("-"):
        move_back(tenant, entity, moved[1:])
    else:
        tenant.journal(entity, None, amount=moved)
    assert ("NET_ASSETS_MOVED" not in findings(tenant, entity)) is plausible


def move_back(tenant: Tenant, entity: UUID, amount: str) -> None:
    journal = uuid4()
    with psycopg.connect(tenant.credentials.app) as app:
        app.execute(
            "INSERT INTO ledgers.journals (id, entity_id, period, external_id, posting_date, description, currency, run_id) "
            "VALUES (%s, %s, %s, %s, '2025-01-05', 'x', 'GBP', %s)",
            [journal, entity, PERIOD, str(journal), uuid4()],
        )
        app.execute(
            "INSERT INTO ledgers.journal_lines (journal_id, line_no, account_code, debit, credit) "
            "VALUES (%s, 1, '2000', %s, 0), (%s, 2, '5999', 0, %s)",
            [journal, amount, journal, amount],
        )


def test_a_close_waits_for_postings_under_way_and_then_refuses(tenant: Tenant, app: Connection, entity: UUID) -> None:
    row = tenant.row_in("APPROVED", entity)
    move(app, row, "POSTED", "post", journal=tenant.journal(entity, row, connection=app))
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(act, tenant, entity, "CLOSE")
        waits(tenant, app)
        app.rollback()
        assert closing.result(20) == "PERIOD_NOT_READY"


def test_a_posting_waits_for_a_close_under_way_and_is_then_refused(tenant: Tenant, desk: Connection, entity: UUID) -> None:
    desk.execute(ACT, [entity, PERIOD, "CLOSE", "user:bob", "r", None])

    def post() -> str | None:
        try:
            tenant.journal(entity, None)
        except psycopg.Error as error:
            return code_of(error)
        return None

    with ThreadPoolExecutor(1) as pool:
        posting = pool.submit(post)
        waits(tenant, desk)
        desk.commit()
        assert posting.result(20) == "PERIOD_CLOSED"


def test_a_row_that_comes_while_the_month_is_closed_is_seen(tenant: Tenant, app: Connection, entity: UUID) -> None:
    tenant.row_in("POSTED", entity)
    tenant.new_row(entity, connection=app, source_ref="doc:2#L1")  # not committed yet
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(act, tenant, entity, "CLOSE")
        waits(tenant, app)
        app.commit()
        assert closing.result(20) == "PERIOD_NOT_READY"


def waits(tenant: Tenant, holder: Connection) -> None:
    """Until somebody waits for a lock; else `holder` lets go, so that nobody waits for ever."""
    patience = Event()
    for _ in range(400):
        if tenant.fetch("SELECT FROM pg_locks WHERE NOT granted"):
            return
        patience.wait(0.02)
    holder.rollback()
    pytest.fail("nobody waits")


# Reopening


def test_one_asks_and_another_one_reopens(tenant: Tenant, entity: UUID) -> None:
    close(tenant, entity)
    assert act(tenant, entity, "ASK_REOPEN", by="user:ann", reason="an invoice came late") is None
    assert act(tenant, entity, "REOPEN", by="user:ann", asked=asked(tenant, entity)) == "MAKER_IS_NOT_CHECKER"
    assert status(tenant, entity) is PeriodStatus.CLOSED
    assert act(tenant, entity, "REOPEN", by="user:bob", asked=asked(tenant, entity)) is None
    assert status(tenant, entity) is PeriodStatus.OPEN
    tenant.journal(entity, None)
    close(tenant, entity)
    assert [(each.act, each.login) for each in state(tenant, entity).acts] == [
        ("CLOSE", "user:bob"), ("ASK_REOPEN", "user:ann"), ("REOPEN", "user:bob"), ("CLOSE", "user:bob")]  # fmt: skip
    # what was asked before it was closed again was answered
    assert act(tenant, entity, "REOPEN", by="user:cid", asked=asked(tenant, entity)) in {"REOPENING_NOT_ASKED", "UniqueViolation"}


@pytest.mark.parametrize("reason", [None, "", "  "])
def test_reopening_takes_a_reason(tenant: Tenant, entity: UUID, reason: str | None) -> None:
    close(tenant, entity)
    assert act(tenant, entity, "ASK_REOPEN", reason=reason) == "CheckViolation"


def test_what_was_asked_before_the_last_close_does_not_count(tenant: Tenant, entity: UUID) -> None:
    close(tenant, entity)
    for _ in range(2):
        assert act(tenant, entity, "ASK_REOPEN", by="user:ann") is None
    stale = asked(tenant, entity)
    with psycopg.connect(tenant.credentials.desk) as desk:
        desk.execute(ACT, [entity, PERIOD, "REOPEN", "user:bob", "r", stale - 1])
    close(tenant, entity)
    assert act(tenant, entity, "REOPEN", by="user:bob", asked=stale) == "REOPENING_NOT_ASKED"

    async def confirm() -> None:
        async with tenant.database("desk") as database:
            await confirm_reopening(database, entity_id=entity, period=PERIOD, by="user:bob", reason="r")

    with pytest.raises(ReopeningNotAskedError):
        asyncio.run(confirm())


def test_the_latest_closed_month_first(tenant: Tenant, entity: UUID) -> None:
    for period in ("2024-12", PERIOD):
        close(tenant, entity, period)
    assert act(tenant, entity, "ASK_REOPEN", period="2024-12") == "LATER_PERIOD_CLOSED"
    other = tenant.new_entity()
    close(tenant, other, "2025-03")
    assert act(tenant, entity, "ASK_REOPEN", by="user:ann") is None
    assert act(tenant, entity, "REOPEN", period="2024-12", asked=asked(tenant, entity)) in {
        "LATER_PERIOD_CLOSED",
        "REOPENING_NOT_ASKED",
    }
    assert act(tenant, other, "REOPEN", period="2025-03", asked=asked(tenant, entity)) == "REOPENING_NOT_ASKED"


def test_what_is_open_is_not_reopened(tenant: Tenant, entity: UUID) -> None:
    assert act(tenant, entity, "ASK_REOPEN") == "PERIOD_NOT_CLOSED"
    assert act(tenant, entity, "CLOSE") is None
    assert act(tenant, entity, "ASK_REOPEN") == "PERIOD_NOT_CLOSED"  # not sealed yet


def test_the_platforms_own_words_reopen_too(tenant: Tenant, entity: UUID) -> None:
    close(tenant, entity)

    async def both() -> None:
        async with tenant.database("desk") as database:
            await ask_reopening(database, entity_id=entity, period=PERIOD, by="user:ann", reason="late")
            await confirm_reopening(database, entity_id=entity, period=PERIOD, by="user:bob", reason="agreed")

    asyncio.run(both())
    assert status(tenant, entity) is PeriodStatus.OPEN


def test_of_two_who_confirm_at_one_moment_one_does(tenant: Tenant, entity: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    close(tenant, entity)
    assert act(tenant, entity, "ASK_REOPEN", by="user:ann") is None
    both = threading.Barrier(2)
    record = periods._act

    async def together(*given: Any, **said: Any) -> None:
        both.wait(30)  # each has seen that it is asked
        await record(*given, **said)

    monkeypatch.setattr(periods, "_act", together)

    def confirm(_: int) -> str:
        async def one() -> None:
            async with tenant.database("desk") as database:
                await confirm_reopening(database, entity_id=entity, period=PERIOD, by="user:bob", reason="agreed")

        try:
            asyncio.run(one())
        except ReopeningNotAskedError:
            return "late"
        return "reopened"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(confirm, range(2))) == ["late", "reopened"]
    assert status(tenant, entity) is PeriodStatus.OPEN


def test_a_type_without_its_table_stands_in_no_close(tenant: Tenant, entity: UUID) -> None:
    with tenant.as_owner() as owner:
        columns = [name for (name,) in owner.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'system.subledger_types'::regclass AND attnum > 0 "
            "AND NOT attisdropped AND attname <> 'table_name'").fetchall()]  # fmt: skip
        owner.execute(
            f"INSERT INTO system.subledger_types (table_name, {', '.join(columns)}) "
            f"SELECT 'gone__lines', {', '.join(columns)} FROM system.subledger_types WHERE table_name = 'expenses'"
        )
    try:
        assert state(tenant, entity).ready
    finally:
        with tenant.as_owner() as owner:
            owner.execute("DELETE FROM system.subledger_types WHERE table_name = 'gone__lines'")


# Who


def test_who_may_close_and_reopen(another_tenant: Tenant) -> None:
    tenant = another_tenant
    entity = tenant.new_entity()
    tenant.add_members({"user:pat": "preparer", "user:amy": "approver", "user:aud": "auditor", "agent:bot": "agent"})
    outsiders = {"user:aud": "ROLE_MAY_NOT", "agent:bot": "ROLE_MAY_NOT", "user:eve": "NOT_A_MEMBER"}
    for login, code in {**outsiders, "user:pat": "ROLE_MAY_NOT"}.items():
        assert act(tenant, entity, "CLOSE", by=login) == code
    assert act(tenant, entity, "CLOSE", by="user:amy") is None
    assert seal(tenant, entity)
    for login, none_or_code in {**outsiders, "user:pat": None}.items():
        assert act(tenant, entity, "ASK_REOPEN", by=login) == none_or_code
    for login, none_or_code in {**outsiders, "user:pat": "ROLE_MAY_NOT", "user:amy": None}.items():
        assert act(tenant, entity, "REOPEN", by=login, asked=asked(tenant, entity)) == none_or_code


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO ledgers.periods VALUES (%(entity)s, '2025-02', 'CLOSED')",
        "UPDATE ledgers.periods SET status = 'OPEN'",
        "DELETE FROM ledgers.periods",
        "UPDATE ledgers.seals SET digest = digest",
        "DELETE FROM system.period_acts",
        "UPDATE system.period_acts SET login = 'user:eve'",
        "INSERT INTO ledgers.seals (act_id, entity_id, period, run_id, digest) "
        "SELECT act_id, entity_id, period, run_id, digest FROM ledgers.seals",
        "INSERT INTO ledgers.plausibility_limits (change, recorded_by) VALUES (9, 'x')",
        "INSERT INTO ledgers.exchange_rates (from_currency, to_currency, on_date, rate, source, recorded_by) "
        "VALUES ('USD', 'GBP', '2025-01-01', 1, 'x', 'x')",
    ],
)
@pytest.mark.parametrize("role", ["app", "desk", "auditor"])
def test_no_role_moves_a_period_by_itself(tenant: Tenant, entity: UUID, role: str, statement: str) -> None:
    close(tenant, entity)
    assert refusal(tenant.connect(role), statement, {"entity": entity}) == "InsufficientPrivilege"


def test_a_run_seals_and_does_not_close(tenant: Tenant, app: Connection, desk: Connection, entity: UUID) -> None:
    assert refusal(app, ACT, [entity, PERIOD, "CLOSE", "user:bob", None, None]) == "InsufficientPrivilege"
    close(tenant, entity)
    ((closed,),) = tenant.fetch("SELECT max(id) FROM system.period_acts WHERE entity_id = %s", entity)
    sealing = "INSERT INTO ledgers.seals (act_id, entity_id, period, run_id) VALUES (%s, %s, %s, %s)"
    assert refusal(app, sealing, [closed, entity, PERIOD, uuid4()]) == "PERIOD_NOT_CLOSING"
    assert refusal(app, sealing, [closed, entity, "2025-02", uuid4()]) == "PERIOD_NOT_CLOSING"
    assert refusal(desk, sealing, [closed, entity, PERIOD, uuid4()]) == "InsufficientPrivilege"


# The seal


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE ledgers.journals SET description = 'y'",
        "UPDATE ledgers.journals SET posting_date = posting_date + 1",
        "UPDATE ledgers.journals SET external_id = external_id || 'x'",
        "UPDATE ledgers.journals SET run_id = gen_random_uuid()",
        "UPDATE ledgers.journal_lines SET account_code = '5100' WHERE debit > 0",
        "UPDATE ledgers.journal_lines SET debit = debit + 1, credit = 0 WHERE debit > 0 AND line_no = 1",
        "UPDATE ledgers.journal_lines SET party = 'somebody' WHERE line_no = 2",
        "UPDATE ledgers.journal_lines SET description = 'z' WHERE line_no = 1",
        "UPDATE ledgers.journal_lines SET line_no = line_no + 2",
        "DELETE FROM ledgers.journal_lines WHERE line_no = 2",
        "UPDATE ledgers.journal_numbers SET number = number + 100",
        "DELETE FROM ledgers.journal_rows",
    ],
)  # fmt: skip
def test_a_superuser_who_changes_a_closed_month_breaks_its_seal(tenant: Tenant, entity: UUID, tampering: str) -> None:
    """odoo#17671 and odoo#112320: a hash over the last line only, and without the number."""
    for _ in range(2):
        tenant.row_in("POSTED", entity)
    close(tenant, entity)
    holds = (
        "SELECT (d.journals, d.digest) = (s.journals, s.digest) FROM ledgers.seals s, "
        "ledgers.period_digest(s.entity_id, s.period) d WHERE s.entity_id = %s"
    )
    owner = tenant.connect("owner")
    for table in ("journals", "journal_lines", "journal_numbers", "journal_rows"):
        owner.execute(f"ALTER TABLE ledgers.{table} DISABLE TRIGGER USER")
    assert owner.execute(holds, [entity]).fetchone() == (True,)
    assert owner.execute(tampering).rowcount > 0
    assert owner.execute(holds, [entity]).fetchone() == (False,)
    owner.rollback()


def test_the_seal_does_not_depend_on_the_session(tenant: Tenant, entity: UUID) -> None:
    tenant.row_in("POSTED", entity)
    close(tenant, entity)
    digests = set()
    for zone, style in (("UTC", "ISO, MDY"), ("Asia/Tokyo", "German"), ("America/New_York", "SQL, DMY")):
        with psycopg.connect(tenant.credentials.auditor) as auditor:
            auditor.execute(f"SET TimeZone = '{zone}'")
            auditor.execute(f"SET DateStyle = '{style}'")
            auditor.execute("SET extra_float_digits = -15")
            digests.add(auditor.execute("SELECT ledgers.period_digest(%s, %s)::TEXT", [entity, PERIOD]).fetchone())
    assert len(digests) == 1


def test_what_is_reversed_counts_in_no_close(tenant: Tenant, entity: UUID) -> None:
    """erpnext#25572: closing counted cancelled entries."""
    tenant.journal(entity, None, amount=100)
    close(tenant, entity)
    ((original,),) = tenant.fetch("SELECT id FROM ledgers.journals WHERE entity_id = %s", entity)
    reversal = uuid4()
    with psycopg.connect(tenant.credentials.app) as app:
        app.execute(
            "INSERT INTO ledgers.journals (id, entity_id, period, external_id, posting_date, description, currency, run_id, "
            "kind, reverses) VALUES (%s, %s, '2025-02', %s, '2025-02-01', 'x', 'GBP', %s, 'REVERSAL', %s)",
            [reversal, entity, str(reversal), uuid4(), original],
        )
        app.execute(
            "INSERT INTO ledgers.journal_lines (journal_id, line_no, account_code, debit, credit) "
            "VALUES (%s, 1, '5999', 0, 100), (%s, 2, '2000', 100, 0)",
            [reversal, reversal],
        )
    found = state(tenant, entity, "2025-02")
    assert (found.net_assets, found.net_assets_before) == (Decimal(0), Decimal(-100))
    assert state(tenant, entity).seal is not None
    assert state(tenant, entity).seal.holds  # type: ignore[union-attr]


def test_signals_of_a_closed_month_change_no_journal(tenant: Tenant, app: Connection, entity: UUID) -> None:
    posted = tenant.row_in("POSTED", entity)
    close(tenant, entity)
    use_signal(app, tenant.file("edit", [posted]))
    assert refusal(app, "UPDATE ledgers.expenses SET vendor = 'Eve' WHERE id = %s", [posted]) == "ROW_IS_FINAL"
