"""A journal is corrected by its mirror, proposed by one and approved by another, once."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from ledger_tenant import PERIOD, Tenant

from ntro_dagster.gl import proposing
from ntro_dagster.gl.batches import RowsNotPostedError
from ntro_dagster.gl.journals import JournalNotFoundError, JournalNumberInvalidError, journal, journals
from ntro_dagster.gl.posting import post_approved
from ntro_dagster.gl.proposing import HANDED_IN, propose
from ntro_dagster.gl.rates import parsed, record
from ntro_dagster.gl.reversals import (
    NoOpenMonthError,
    Reversal,
    ReversalOfReversalError,
    ReversedAlreadyError,
    reverse,
)
from ntro_dagster.subledger.review import apply_signals, file_signal
from ntro_dagster.subledger.staging import Payload

LEDGER = "journal_proposals"


def undo(tenant: Tenant, entity: UUID, number: str = "2025/1", *, by: str = "user:ann", period: str | None = None) -> Reversal:
    async def run() -> Reversal:
        async with tenant.database() as app, tenant.database("desk") as desk:
            found = await journal(app, number, entity_id=entity, entity="e", tenant="t")
            return await reverse(
                tenant.handle(entity, name=LEDGER, database=app), desk, found, by=by, reason="wrong", period=period
            )

    return asyncio.run(run())


def decide(tenant: Tenant, entity: UUID, kind: str, *, period: str = PERIOD, by: str = "user:bob") -> int:
    async def run() -> int:
        async with tenant.database() as app, tenant.database("desk") as desk:
            handle = tenant.handle(entity, name=LEDGER, database=app)
            reason = None if kind == "approve" else "no"
            await file_signal(
                desk, handle.kind, kind, filed_by=by, reason=reason, entity_id=entity, period=period, status="PENDING"
            )
            return (await apply_signals(handle, period=period)).applied

    return asyncio.run(run())


def post(tenant: Tenant, entity: UUID, period: str = PERIOD) -> int:
    async def run() -> int:
        async with tenant.database() as app:
            handle = tenant.handle(entity, name=LEDGER, database=app)
            return (await post_approved(handle, period=period, currency="GBP")).rows

    return asyncio.run(run())


def hand_in(tenant: Tenant, entity: UUID, *, currency: str, amounts: tuple[str, ...]) -> None:
    total = sum(map(Decimal, amounts))
    lines: list[dict[str, Any]] = [
        {"account_code": "5300", "debit": amount, "party": "P", "tax_code": "T1"} for amount in amounts
    ]
    lines.append({"account_code": "1000", "credit": str(total)})
    values = {"description": "Rent", "posting_date": f"{PERIOD}-20", "currency": currency, "lines": lines}

    async def run() -> None:
        async with tenant.database() as app, tenant.database("desk") as desk:
            handle = tenant.handle(entity, name=LEDGER, database=app)
            source = f"test:{uuid4()}"
            await propose(
                handle, desk, [Payload(values, source, [HANDED_IN])], period=PERIOD, source=source, by="user:ann", reason="x"
            )

    asyncio.run(run())
    assert decide(tenant, entity, "approve") == 1
    assert post(tenant, entity) == 1


def balances(tenant: Tenant, entity: UUID) -> list[tuple[Any, ...]]:
    """Of accounts that are not zero, in the transaction's currency and in the entity's."""
    return tenant.fetch(
        "SELECT l.account_code, sum(l.debit - l.credit), sum(f.debit - f.credit) FROM ledgers.journals j "
        "JOIN ledgers.journal_lines l ON l.journal_id = j.id JOIN ledgers.functional_lines f USING (journal_id, line_no) "
        "WHERE j.entity_id = %s GROUP BY 1 HAVING sum(l.debit - l.credit) <> 0 OR sum(f.debit - f.credit) <> 0 ORDER BY 1",
        entity,
    )


@pytest.mark.parametrize("currency", ["GBP", "USD"])
def test_a_reversal_leaves_nothing_of_its_original(tenant: Tenant, entity: UUID, currency: str) -> None:
    said = {"from": "USD", "to": "GBP", "source": "test"}
    rates = [
        parsed(said | {"on": f"{PERIOD}-20", "rate": "0.3333"}, ""),
        parsed(said | {"on": f"{PERIOD}-21", "rate": "0.9"}, ""),
    ]
    record(tenant.credentials.owner, rates, by="operator:test")
    hand_in(tenant, entity, currency=currency, amounts=("0.05", "0.05", "0.05"))
    assert balances(tenant, entity)
    made = undo(tenant, entity)
    assert (made.period, str(made.posting_date)) == (PERIOD, f"{PERIOD}-20")
    assert decide(tenant, entity, "approve", by="user:ann") == 0, "who proposed it cannot approve it"
    assert decide(tenant, entity, "approve") == 1
    assert post(tenant, entity) == 1
    assert balances(tenant, entity) == []

    async def both() -> list[tuple[Any, ...]]:
        async with tenant.database("auditor") as auditor:
            found = await journals(auditor, entity_id=entity)
            return [(each.number, each.kind, each.reverses, each.reversed_by) for each in found]

    assert asyncio.run(both()) == [("2025/1", "ENTRY", None, "2025/2"), ("2025/2", "REVERSAL", "2025/1", None)]


def test_a_later_rate_does_not_matter_to_a_reversal(tenant: Tenant, entity: UUID) -> None:
    said = {"from": "EUR", "to": "GBP", "source": "test"}
    record(tenant.credentials.owner, [parsed(said | {"on": f"{PERIOD}-20", "rate": "0.8"}, "")], by="operator:test")
    hand_in(tenant, entity, currency="EUR", amounts=("100", "0.01", "0.01"))
    assert tenant.fetch("SELECT count(*) FROM ledgers.journal_lines l JOIN ledgers.journals j ON j.id = l.journal_id "
                        "WHERE j.entity_id = %s AND l.debit = 0 AND l.credit = 0", entity) == [(0,)]  # fmt: skip
    record(tenant.credentials.owner, [parsed(said | {"on": f"{PERIOD}-20", "rate": "0.9"}, "")], by="operator:test")
    with tenant.as_owner() as owner:
        owner.execute("INSERT INTO ledgers.periods (entity_id, period, status) VALUES (%s, %s, 'CLOSED')", [entity, PERIOD])
    made = undo(tenant, entity)
    assert (made.period, str(made.posting_date)) == ("2025-02", "2025-02-01")
    assert decide(tenant, entity, "approve", period="2025-02") == 1
    assert post(tenant, entity, "2025-02") == 1
    assert balances(tenant, entity) == []


def test_a_journal_is_reversed_once(tenant: Tenant, entity: UUID) -> None:
    tenant.journal(entity, None)
    undo(tenant, entity)
    with pytest.raises(ReversedAlreadyError) as waiting:
        undo(tenant, entity, period="2025-02")
    assert "PENDING in 2025-01" in waiting.value.explain()
    decide(tenant, entity, "approve")
    post(tenant, entity)
    with pytest.raises(ReversedAlreadyError) as done:
        undo(tenant, entity)
    assert done.value.explain() == "journal 2025/1 is reversed by journal 2025/2"
    with pytest.raises(ReversalOfReversalError):
        undo(tenant, entity, "2025/2")
    assert tenant.fetch("SELECT count(*) FROM ledgers.journal_proposals WHERE entity_id = %s", entity) == [(1,)]


def test_what_was_turned_down_may_be_proposed_again(tenant: Tenant, entity: UUID) -> None:
    tenant.journal(entity, None)
    first = undo(tenant, entity)
    assert decide(tenant, entity, "reject") == 1
    assert undo(tenant, entity).row_id != first.row_id


def test_two_at_one_time_make_one_proposal(tenant: Tenant, entity: UUID) -> None:
    tenant.journal(entity, None)

    async def one(period: str) -> Any:
        async with tenant.database() as app, tenant.database("desk") as desk:
            found = await journal(app, "2025/1", entity_id=entity, entity="e", tenant="t")
            handle = tenant.handle(entity, name=LEDGER, database=app)
            return await reverse(handle, desk, found, by="user:ann", reason="wrong", period=period)

    async def run() -> list[Any]:
        return await asyncio.gather(*(one(period) for period in ("2025-01", "2025-02")), return_exceptions=True)

    results = asyncio.run(run())
    assert sorted(type(each).__name__ for each in results) == ["Reversal", "ReversedAlreadyError"]


@pytest.mark.parametrize("dies", ["file_signal", "apply_signals"])
def test_a_reversal_that_dies_is_completed_by_the_next(
    tenant: Tenant, entity: UUID, monkeypatch: pytest.MonkeyPatch, dies: str
) -> None:
    tenant.journal(entity, None)

    async def killed(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(proposing, dies, killed)
        undo(tenant, entity)
    made = undo(tenant, entity)
    found = tenant.fetch("SELECT id, status, made_by FROM ledgers.journal_proposals WHERE entity_id = %s", entity)
    assert found == [(made.row_id, "PENDING", "user:ann")]


def test_months_that_cannot_take_it(tenant: Tenant, entity: UUID) -> None:
    tenant.journal(entity, None, period="2025-02")
    with tenant.as_owner() as owner:
        owner.execute("INSERT INTO ledgers.periods (entity_id, period, status) VALUES (%s, '2025-03', 'CLOSED')", [entity])
    for period in ("2025-01", "2025-03"):
        with pytest.raises(NoOpenMonthError):
            undo(tenant, entity, period=period)
    assert undo(tenant, entity, period="2025-04").period == "2025-04"


def test_the_database_refuses_a_mirror_that_was_edited(tenant: Tenant, entity: UUID) -> None:
    tenant.journal(entity, None)
    undo(tenant, entity)
    lines = [{"account_code": "5999", "credit": "119"}, {"account_code": "2000", "debit": "119"}]

    async def edit() -> None:
        async with tenant.database() as app, tenant.database("desk") as desk:
            handle = tenant.handle(entity, name=LEDGER, database=app)
            await file_signal(
                desk, handle.kind, "edit", filed_by="user:ann", reason="x", values={"lines": lines}, entity_id=entity
            )
            assert (await apply_signals(handle, period=PERIOD)).applied == 1

    asyncio.run(edit())
    assert decide(tenant, entity, "approve") == 1
    with pytest.raises(RowsNotPostedError, match="ROWS_NOT_POSTED"):
        post(tenant, entity)
    held = "SELECT h.code FROM ledgers.held h JOIN ledgers.journal_proposals p ON p.id = h.row_id WHERE p.entity_id = %s"
    assert tenant.fetch(held, entity) == [("REVERSAL_DIFFERS",)]


def test_numbers_that_are_none(tenant: Tenant, entity: UUID) -> None:
    with pytest.raises(JournalNumberInvalidError):
        undo(tenant, entity, "12")
    with pytest.raises(JournalNotFoundError):
        undo(tenant, entity, "2025/99")
    with psycopg.connect(tenant.credentials.auditor) as auditor:
        assert auditor.execute("SELECT count(*) FROM ledgers.journal_proposals WHERE entity_id = %s", [entity]).fetchone() == (0,)


def test_an_account_that_was_closed_since_does_not_keep_a_mistake_in_the_books(tenant: Tenant, entity: UUID) -> None:
    hand_in(tenant, entity, currency="GBP", amounts=("7.00",))
    with tenant.as_owner() as owner:
        owner.execute("UPDATE ledgers.accounts SET active = FALSE WHERE code = '5300'")
    try:
        undo(tenant, entity)
        assert decide(tenant, entity, "approve") == 1
        assert post(tenant, entity) == 1
        assert balances(tenant, entity) == []
    finally:
        with tenant.as_owner() as owner:
            owner.execute("UPDATE ledgers.accounts SET active = TRUE WHERE code = '5300'")
