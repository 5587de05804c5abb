"""Approved rows become journals: every one, once, in balance; whatever dies on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from ledger_tenant import PERIOD, Tenant, approved
from psycopg.types.json import Jsonb

from ntro_dagster.errors import NtroError
from ntro_dagster.gl import batches
from ntro_dagster.gl.batches import AccountUnknownError, Batches, RowsLostError
from ntro_dagster.gl.chart import AccountRoleMissingError
from ntro_dagster.gl.held_back import RowsNotPostedError
from ntro_dagster.gl.posting import Posted, post_approved
from ntro_dagster.gl.settings import repeat
from ntro_dagster.gl.translation import RateMissingError
from ntro_dagster.gl.trial_balance import TrialBalance, draw_up, trial_balance
from ntro_dagster.platforms.postgres.database import RefusedByDatabaseError, TenantDatabase
from ntro_dagster.subledger import JournalEntryLineItem, JournalProposal, external_id_of
from ntro_dagster.subledger.registry import subledger_type


def post(tenant: Tenant, entity: UUID, *, name: str = "expenses", runs: int = 1) -> list[Posted]:
    async def one() -> Posted:
        async with tenant.database() as database:
            return await post_approved(tenant.handle(entity, name=name, database=database), period=PERIOD, currency="GBP")

    async def run() -> list[Posted]:
        return await asyncio.gather(*(one() for _ in range(runs)))

    return asyncio.run(run())


def lines(tenant: Tenant, row: UUID) -> list[tuple[Any, ...]]:
    return tenant.fetch(
        "SELECT account_code, debit, credit, party FROM ledgers.journal_lines WHERE row_id = %s ORDER BY journal_id, line_no", row
    )


def journals(tenant: Tenant, entity: UUID) -> int:
    ((count,),) = tenant.fetch("SELECT count(*) FROM ledgers.journals WHERE entity_id = %s", entity)
    return int(count)


def posted_rows(tenant: Tenant, entity: UUID) -> int:
    ((count,),) = tenant.fetch("SELECT count(*) FROM ledgers.expenses WHERE entity_id = %s AND status = 'POSTED'", entity)
    return int(count)


def balance(tenant: Tenant, entity: UUID, period: str = PERIOD) -> TrialBalance:
    async def run() -> TrialBalance:
        async with tenant.database() as database:
            return await trial_balance(database, entity_id=entity, period=period)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            {"amount_gross": 120, "vat_amount": 20, "category": "5000"},
            [("5000", 100, 0, None), ("1400", 20, 0, None), ("2000", 0, 120, "Smith")],
        ),
        ({"amount_gross": 120, "vat_amount": None, "category": "5000"}, [("5000", 120, 0, None), ("2000", 0, 120, "Smith")]),
        ({"amount_gross": 120, "vat_amount": 0}, [("5999", 120, 0, None), ("2000", 0, 120, "Smith")]),
        ({"amount_gross": 20, "vat_amount": 20}, [("1400", 20, 0, None), ("2000", 0, 20, "Smith")]),
        (
            {"amount_gross": "0.000000003", "vat_amount": "0.000000001"},
            [("5999", Decimal("2E-9"), 0, None), ("1400", Decimal("1E-9"), 0, None), ("2000", 0, Decimal("3E-9"), "Smith")],
        ),
    ],
    ids=["with VAT", "without VAT", "no category: suspense", "all VAT", "last decimal"],
)
def test_a_bill_becomes_a_balanced_journal(
    tenant: Tenant, entity: UUID, columns: Mapping[str, Any], expected: list[tuple[Any, ...]]
) -> None:
    (row,) = approved(tenant, entity, **columns)
    assert post(tenant, entity) == [Posted(1, 1)]
    assert lines(tenant, row) == expected
    assert balance(tenant, entity).balanced


@pytest.mark.parametrize(("day", "booked"), [("2025-01-07", "2025-01-07"), ("2024-12-30", "2025-01-31"), (None, "2025-01-31")])
def test_a_bill_is_booked_in_its_rows_period(tenant: Tenant, entity: UUID, day: str | None, booked: str) -> None:
    approved(tenant, entity, expense_date=day)
    post(tenant, entity)
    assert tenant.fetch("SELECT posting_date::text, period FROM ledgers.journals WHERE entity_id = %s", entity) == [
        (booked, PERIOD)
    ]


def test_only_approved_rows_of_the_partition_are_posted(tenant: Tenant, entity: UUID) -> None:
    (row,) = approved(tenant, entity)
    others = [tenant.row_in(status, entity) for status in ("NEEDS_ATTENTION", "PENDING", "REJECTED", "EXCLUDED")]
    (later,) = approved(tenant, tenant.new_entity())
    assert post(tenant, entity) == [Posted(1, 1)]
    assert lines(tenant, row)
    assert not any(lines(tenant, other) for other in [*others, later])


def test_posting_twice_posts_once(tenant: Tenant, entity: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH", 4)
    approved(tenant, entity, 10)
    assert post(tenant, entity) == [Posted(10, 3)]
    assert post(tenant, entity) == [Posted()]
    assert (journals(tenant, entity), posted_rows(tenant, entity)) == (10, 10)


def test_runs_at_once_post_each_row_once(tenant: Tenant, entity: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH", 3)
    approved(tenant, entity, 20)
    results = post(tenant, entity, runs=3)
    assert sum(posted.rows for posted in results) == 20
    assert (journals(tenant, entity), posted_rows(tenant, entity)) == (20, 20)
    assert balance(tenant, entity).totals() == {"GBP": (Decimal(2400), Decimal(2400))}


def test_a_death_at_any_statement_leaves_whole_batches_and_the_next_run_completes(
    tenant: Tenant, entity: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "BATCH", 2)
    dies_at, seen = 0, 0

    def mortal(method: Any) -> Any:
        async def call(self: TenantDatabase, *arguments: Any, **named: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == dies_at:
                with psycopg.connect(tenant.credentials.app, autocommit=True) as other:
                    other.execute("SELECT pg_terminate_backend(%s, 10000)", [(await self.connection()).info.backend_pid])
            return await method(self, *arguments, **named)

        return call

    for name in ("execute", "fetch", "copy_in"):
        monkeypatch.setattr(TenantDatabase, name, mortal(getattr(TenantDatabase, name)))
    deaths, total = 0, 0
    while True:
        dies_at, seen = dies_at + 1, 0
        approved(tenant, entity, 4)
        total += 4
        try:
            post(tenant, entity)
        except Exception as error:
            deaths += 1
            assert "DATABASE_UNREACHABLE" in str(error) or "terminat" in str(error) or "closed" in str(error)
        finished = seen < dies_at
        assert journals(tenant, entity) == posted_rows(tenant, entity)
        assert posted_rows(tenant, entity) % 2 == 0  # whole batches
        seen = dies_at + 1
        post(tenant, entity)
        assert (journals(tenant, entity), posted_rows(tenant, entity)) == (total, total)
        if finished:
            break
    assert deaths > 20
    totals = balance(tenant, entity).totals()
    assert totals == {"GBP": (Decimal(120 * total), Decimal(120 * total))}


def held(tenant: Tenant, entity: UUID) -> list[tuple[Any, ...]]:
    """Row and reason, as the desk shows them."""
    return tenant.fetch(
        "SELECT h.row_id, h.code FROM ledgers.held h JOIN ledgers.posting_refusals r USING (row_id) WHERE r.entity_id = %s "
        "GROUP BY 1, 2 ORDER BY 1",
        entity,
    )


@pytest.mark.parametrize("account", ["9999", "0002"], ids=["unknown", "not active"])
def test_a_row_that_cannot_be_posted_is_held_back_alone(
    tenant: Tenant, entity: UUID, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "BATCH", 4)
    with tenant.as_owner() as owner:
        owner.execute("INSERT INTO ledgers.accounts VALUES ('0002', 'old', 'EXPENSE', FALSE) ON CONFLICT DO NOTHING")
    approved(tenant, entity, 5)
    (bad,) = approved(tenant, entity, category=account)
    approved(tenant, entity, 5)
    with pytest.raises(RowsNotPostedError) as refused:
        post(tenant, entity)
    assert refused.value.values == {
        "rows": 1,
        "which": f"{bad} ACCOUNT_UNKNOWN (not in the chart of accounts, or not active: {account})",
    }
    assert (journals(tenant, entity), posted_rows(tenant, entity)) == (10, 10)
    assert held(tenant, entity) == [(bad, "ACCOUNT_UNKNOWN")]
    assert tenant.fetch("SELECT code FROM system.history WHERE row_id = %s AND action = 'HELD'", bad) == [("ACCOUNT_UNKNOWN",)]
    assert post(tenant, entity) == [Posted()]  # until something has changed
    with tenant.as_owner() as owner:
        owner.execute("INSERT INTO ledgers.accounts VALUES ('9999', 'new', 'EXPENSE') ON CONFLICT DO NOTHING")
        owner.execute("UPDATE ledgers.accounts SET active = TRUE WHERE code = %s", [account])
    assert held(tenant, entity) == []
    assert post(tenant, entity) == [Posted(1, 1)]
    with tenant.as_owner() as owner:
        owner.execute("UPDATE ledgers.accounts SET active = FALSE WHERE code = %s", [account])


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda tenant, row: tenant.decide("undo", row), id="taken back"),
        pytest.param(lambda tenant, row: repeat(tenant.credentials.owner, entity_id=None, by="operator"), id="retry"),
    ],
)
def test_what_is_held_back_is_let_go_by(tenant: Tenant, entity: UUID, change: Callable[[Tenant, UUID], object]) -> None:
    (bad,) = approved(tenant, entity, category="9998")
    with pytest.raises(RowsNotPostedError):
        post(tenant, entity)
    assert held(tenant, entity) == [(bad, "ACCOUNT_UNKNOWN")]
    change(tenant, bad)
    assert held(tenant, entity) == []


def test_a_change_during_the_posting_is_not_missed(tenant: Tenant, entity: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chart changed after the row was judged and before it was held: it is not held, and tried again."""
    (bad,) = approved(tenant, entity, category="9997")
    hold = Batches._hold

    async def later(of: Batches) -> None:
        with tenant.as_owner() as owner:
            owner.execute("INSERT INTO ledgers.accounts VALUES ('9997', 'late', 'EXPENSE')")
        monkeypatch.setattr(Batches, "_hold", hold)
        await hold(of)

    monkeypatch.setattr(Batches, "_hold", later)
    with pytest.raises(RowsNotPostedError):
        post(tenant, entity)
    assert tenant.fetch("SELECT code FROM ledgers.posting_refusals WHERE row_id = %s", bad) == [("ACCOUNT_UNKNOWN",)]
    assert held(tenant, entity) == []
    assert post(tenant, entity) == [Posted(1, 1)]


def proposes_nothing_for(monkeypatch: pytest.MonkeyPatch, row_id: UUID, error: Exception | None) -> None:
    """From now on the type raises `error` for that row, or says nothing of it."""
    model: Any = subledger_type("expenses").model
    propose = model.propose_for_gl

    def propose_for_gl(row: Any) -> Any:
        if row.id != row_id:
            return propose(row)
        if error:
            raise error
        return None

    monkeypatch.setattr(model, "propose_for_gl", propose_for_gl)


def test_a_proposal_that_fails_holds_its_row_alone(tenant: Tenant, entity: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    good = approved(tenant, entity, 6)
    proposes_nothing_for(monkeypatch, good[2], LookupError("no such thing"))
    with pytest.raises(RowsNotPostedError):
        post(tenant, entity)
    assert posted_rows(tenant, entity) == 5
    assert held(tenant, entity) == [(good[2], "PROPOSAL_FAILED")]


class OddError(NtroError):
    code = "no tax rate"
    detail = "nothing known of {this}"


class Mute(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("error", [OddError(), Mute(), ValueError("a\0b"), None], ids=["odd code", "mute", "NUL", "no proposal"])
def test_nothing_a_type_does_keeps_its_row_from_being_held_back(
    tenant: Tenant, entity: UUID, error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = approved(tenant, entity, 3)
    proposes_nothing_for(monkeypatch, good[1], error)
    with pytest.raises(RowsNotPostedError):
        post(tenant, entity)
    assert held(tenant, entity) == [(good[1], "PROPOSAL_FAILED")]
    assert posted_rows(tenant, entity) == 2


def test_a_role_without_account_is_no_rows_fault(tenant: Tenant, entity: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = sorted(approved(tenant, entity, 2, vat_amount=20, amount_gross=120))
    proposes_nothing_for(monkeypatch, rows[0], LookupError("no such thing"))
    with tenant.as_owner() as owner:
        ((code,),) = owner.execute("UPDATE ledgers.accounts SET role = NULL WHERE role = 'VAT' RETURNING code").fetchall()
    try:
        with pytest.raises(AccountRoleMissingError):
            post(tenant, entity)
    finally:
        with tenant.as_owner() as owner:
            owner.execute("UPDATE ledgers.accounts SET role = 'VAT' WHERE code = %s", [code])
    assert held(tenant, entity) == []


def test_what_waits_for_a_rate_is_no_fault(tenant: Tenant, entity: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MOST_REFUSED", 3)
    approved(tenant, entity, 4)
    waiting = approved(tenant, entity, 6, currency="USD", expense_date="2023-01-10")
    (bad,) = approved(tenant, entity, category="9994")
    with pytest.raises(RowsNotPostedError):
        post(tenant, entity)
    assert posted_rows(tenant, entity) == 4
    assert set(held(tenant, entity)) == {(bad, "ACCOUNT_UNKNOWN"), *((row, "RATE_MISSING") for row in waiting)}


def test_many_refusals_take_no_more_locks_than_one(tenant: Tenant, entity: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks are the whole server's: what one batch took, no tenant would have."""
    approved(tenant, entity, 120)
    with tenant.connect("app") as app:
        for _ in range(40):
            tenant.new_row(entity, connection=app, category="9993")
    approve_all = tenant.fetch("SELECT id FROM ledgers.expenses WHERE entity_id = %s AND status = 'PENDING'", entity)
    for (row,) in approve_all:
        tenant.decide("approve", row)
    locks: list[int] = []
    hold = Batches._hold

    async def counted(of: Batches) -> None:
        found = await of._handle.database.fetch_single("SELECT count(*) AS locks FROM pg_locks WHERE pid = pg_backend_pid()")
        locks.append(found["locks"])
        await hold(of)

    monkeypatch.setattr(Batches, "_hold", counted)
    with pytest.raises(RowsNotPostedError):
        post(tenant, entity)
    assert (posted_rows(tenant, entity), len(held(tenant, entity))) == (120, 40)
    assert locks[0] < 300


def test_statements_that_change_nothing_let_go_of_nothing(tenant: Tenant, entity: UUID) -> None:
    (bad,) = approved(tenant, entity, category="9992")
    with pytest.raises(RowsNotPostedError):
        post(tenant, entity)
    with tenant.as_owner() as owner:
        owner.execute("INSERT INTO ledgers.accounts VALUES ('5999', 'x', 'EXPENSE') ON CONFLICT DO NOTHING")
        owner.execute("UPDATE ledgers.accounts SET active = TRUE WHERE code = 'none'")
        owner.execute("INSERT INTO ledgers.dimensions SELECT 'x', 'x' WHERE FALSE")
    add_rate(tenant, "0.8", day="2022-01-01")
    assert held(tenant, entity) == [(bad, "ACCOUNT_UNKNOWN")]


def test_a_row_that_does_not_stand_approved_is_not_held(tenant: Tenant, entity: UUID) -> None:
    pending = tenant.new_row(entity)
    with tenant.connect("app") as app:
        app.execute(
            "INSERT INTO ledgers.posting_refusals "
            "(row_id, entity_id, period, subledger, external_id, code, detail, seen, run_id) "
            "SELECT %s, %s, %s, kind, 'x', 'X', 'x', number, %s "
            "FROM ledgers.releases, unnest(ARRAY['expenses', 'nonsense']) kind",
            [pending, entity, PERIOD, uuid4()],
        )
        app.commit()
    assert held(tenant, entity) == []


def test_where_nearly_all_are_refused_it_is_no_rows_fault(tenant: Tenant, entity: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MOST_REFUSED", 3)
    approved(tenant, entity, 2)
    approved(tenant, entity, 5, category="9996")
    with pytest.raises(AccountUnknownError):
        post(tenant, entity)
    assert (posted_rows(tenant, entity), held(tenant, entity)) == (0, [])


def test_rows_that_make_one_journal_are_posted_and_held_back_together(
    tenant: Tenant, entity: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By supplier: one journal for all rows of each."""
    model: Any = subledger_type("expenses").model

    def by_vendor(rows: Sequence[Any]) -> Iterator[JournalProposal]:
        for vendor in sorted({row.vendor for row in rows}):
            own = [row for row in rows if row.vendor == vendor]
            total = sum((row.amount_gross for row in own), Decimal(0))
            yield JournalProposal(
                external_id=external_id_of("expenses", [row.id for row in own]),
                row_ids=tuple(row.id for row in own),
                posting_date=date(2025, 1, 31),
                description=vendor,
                currency="GBP",
                lines=(
                    JournalEntryLineItem(account_code=own[0].category, debit=total),
                    JournalEntryLineItem(account_code="2000", credit=total, party=vendor),
                ),
            )

    monkeypatch.setattr(model, "aggregate_for_gl", by_vendor, raising=False)
    good = approved(tenant, entity, 3, vendor="Able", category="5000")
    bad = approved(tenant, entity, 2, vendor="Baker", category="9995")
    approved(tenant, entity, 2, vendor="Charlie", category="5000")
    with pytest.raises(RowsNotPostedError):
        post(tenant, entity)
    assert (journals(tenant, entity), posted_rows(tenant, entity)) == (2, 5)
    assert held(tenant, entity) == [(row, "ACCOUNT_UNKNOWN") for row in sorted(bad)]
    tenant.decide("undo", bad[0])  # the other one would make another journal now
    assert held(tenant, entity) == []
    tenant.decide("reject", bad[0])
    with pytest.raises(RowsNotPostedError):
        post(tenant, entity)
    assert held(tenant, entity) == [(bad[1], "ACCOUNT_UNKNOWN")]
    named = "SELECT r.row_id FROM ledgers.journals j JOIN ledgers.journal_rows r ON r.journal_id = j.id WHERE j.description = %s"
    assert sorted(tenant.fetch(named, "Able")) == [(row,) for row in sorted(good)]
    monkeypatch.setattr(model, "aggregate_for_gl", lambda rows: list(by_vendor(rows[1:])))
    approved(tenant, entity, 2, vendor="Delta", category="5000")
    with pytest.raises(RowsLostError):
        post(tenant, entity)
    assert posted_rows(tenant, entity) == 5


@pytest.mark.parametrize(
    "attack",
    [
        "DELETE FROM ledgers.held_rows",
        "INSERT INTO ledgers.held_rows (row_id, refusal_id) SELECT row_id, id FROM ledgers.posting_refusals",
        "UPDATE ledgers.posting_refusals SET code = 'X'",
        "DELETE FROM ledgers.posting_refusals",
        "UPDATE ledgers.releases SET number = 0",
        "SELECT ledgers.release_refused(NULL, NULL)",
        "INSERT INTO ledgers.given_up (delivery_id, reason, recorded_by) VALUES (gen_random_uuid(), 'x', 'y')",
    ],
)
@pytest.mark.parametrize("role", ["app", "desk"])
def test_nobody_but_the_operator_lets_go(tenant: Tenant, role: str, attack: str) -> None:
    with tenant.connect(role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(attack)


def test_a_journal_of_other_content_under_a_rows_id_is_a_conflict(tenant: Tenant, entity: UUID) -> None:
    (row,) = approved(tenant, entity)
    with tenant.connect("app") as app:
        journal = uuid4()
        app.execute(
            "INSERT INTO ledgers.journals "
            "(id, entity_id, period, external_id, posting_date, description, currency, run_id, row_id) "
            "VALUES (%s, %s, %s, %s, '2025-01-31', 'x', 'GBP', %s, %s)",
            [journal, entity, PERIOD, f"expenses:{row}", uuid4(), row],
        )
        app.execute(
            "INSERT INTO ledgers.journal_lines (journal_id, line_no, account_code, debit, credit, row_id) "
            "VALUES (%s, 1, '5999', 7, 0, %s), (%s, 2, '2000', 0, 7, %s)",
            [journal, row, journal, row],
        )
    with pytest.raises(RowsNotPostedError):
        post(tenant, entity)
    assert posted_rows(tenant, entity) == 0
    assert held(tenant, entity) == [(row, "POSTING_CONFLICT")]


@pytest.mark.parametrize(
    ("closing", "code"),
    [
        ("INSERT INTO ledgers.periods VALUES (%s, '2025-01', 'CLOSED')", "PERIOD_CLOSED"),
        ("UPDATE system.entities SET status = 'CLOSED' WHERE id = %s", "ENTITY_CLOSED"),
    ],
)
def test_nothing_is_posted_once_closed(tenant: Tenant, entity: UUID, closing: str, code: str) -> None:
    approved(tenant, entity, 2)
    with tenant.as_owner() as owner:
        owner.execute(closing, [entity])
    with pytest.raises(RefusedByDatabaseError) as refused:
        post(tenant, entity)
    assert refused.value.code == code
    assert (journals(tenant, entity), posted_rows(tenant, entity)) == (0, 0)


def reviewed(tenant: Tenant, entity: UUID, *proposed: dict[str, Any]) -> UUID:
    """A journal of somebody's, approved."""
    row = uuid4()
    with tenant.connect("app") as app:
        app.execute(
            "INSERT INTO ledgers.journal_proposals (id, entity_id, period, task_id, status, lines) "
            "VALUES (%s, %s, %s, %s, 'PENDING', %s)",
            [row, entity, PERIOD, uuid4(), Jsonb(list(proposed))],
        )
        app.commit()
        with tenant.connect("desk") as desk:
            signal = uuid4()
            desk.execute(
                "INSERT INTO system.signals (id, subledger, entity_id, period, kind, filed_by) "
                "VALUES (%s, 'journal_proposals', %s, %s, 'approve', 'user:bob')",
                [signal, entity, PERIOD],
            )
            desk.execute(
                "INSERT INTO system.signal_rows (signal_id, row_id, content_digest) "
                "SELECT %s, id, ledgers.journal_proposals_digest(t) FROM ledgers.journal_proposals t WHERE id = %s",
                [signal, row],
            )
        app.execute("SELECT set_config('ntro.signal_id', %s, TRUE)", [str(signal)])
        app.execute(
            "UPDATE ledgers.journal_proposals SET status = 'APPROVED', approved_by = 'user:bob', approved_at = now() "
            "WHERE id = %s",
            [row],
        )
    return row


def test_what_the_database_refuses_is_held_back_alone(tenant: Tenant, entity: UUID) -> None:
    def journal(**more: Any) -> UUID:
        debit, credit = {"account_code": "5200", "debit": "10.50"}, {"account_code": "2000", "credit": "10.50"}
        return reviewed(tenant, entity, debit | more, credit)

    good = [journal() for _ in range(5)]
    bad = [journal(dimensions={"no_such": "x"}) for _ in range(2)]
    with pytest.raises(RowsNotPostedError):
        post(tenant, entity, name="journal_proposals")
    assert held(tenant, entity) == [(row, "DIMENSION_UNKNOWN") for row in sorted(bad)]
    assert all(len(lines(tenant, row)) == 2 for row in good)
    with tenant.as_owner() as owner:
        owner.execute("INSERT INTO ledgers.dimensions VALUES ('no_such', 'It is there now')")
    assert post(tenant, entity, name="journal_proposals") == [Posted(2, 1)]


def test_a_reviewed_journal_is_posted_as_it_stands(tenant: Tenant, entity: UUID) -> None:
    row = reviewed(
        tenant,
        entity,
        {"account_code": "5200", "debit": "10.50", "description": "accrual"},
        {"account_code": "2000", "credit": "10.50"},
    )
    assert post(tenant, entity, name="journal_proposals") == [Posted(1, 1)]
    assert lines(tenant, row) == [("5200", Decimal("10.5"), 0, None), ("2000", 0, Decimal("10.5"), None)]
    # proposals that name no currency are in the one that the caller says is the entity's
    assert tenant.fetch("SELECT currency FROM ledgers.journals WHERE entity_id = %s", entity) == [("GBP",)]


# Foreign currency


def add_rate(tenant: Tenant, rate: str, *, day: str = "2025-01-28", source: str = "central bank") -> None:
    with tenant.connect("owner") as owner:
        owner.execute(
            "INSERT INTO ledgers.exchange_rates (from_currency, to_currency, on_date, rate, source, recorded_by) "
            "VALUES ('USD', 'GBP', %s, %s, %s, 'user:ann')",
            [day, rate, source],
        )


def test_without_a_rate_a_row_waits_and_holds_nothing_up(tenant: Tenant, entity: UUID) -> None:
    approved(tenant, entity, 2, currency="USD", expense_date="2025-01-10")
    approved(tenant, entity, 3, currency="GBP")
    add_rate(tenant, "0.79", day="2025-01-02")  # eight days old
    add_rate(tenant, "0.78", day="2025-01-11")  # the day after
    with pytest.raises(RateMissingError) as waiting:
        post(tenant, entity)
    assert waiting.value.values == {"rates": "USD on 2025-01-10", "rows": 2}
    assert posted_rows(tenant, entity) == 3
    assert post(tenant, entity) == [Posted()]  # no run is needed for what waits
    approved(tenant, entity)
    assert post(tenant, entity) == [Posted(1, 1)]
    add_rate(tenant, "0.77", day="2025-01-03")
    assert post(tenant, entity) == [Posted(2, 1)]
    assert tenant.fetch(
        "SELECT DISTINCT functional_currency, rate, rate_source FROM ledgers.journals WHERE entity_id = %s AND currency = 'USD'",
        entity,
    ) == [("GBP", Decimal("0.77"), "central bank, 2025-01-03")]


def test_a_foreign_journal_balances_in_both_currencies(tenant: Tenant, entity: UUID) -> None:
    # translated, the parts make 15.00 and the whole 15.01
    add_rate(tenant, "0.15", day="2025-01-31")
    (row,) = approved(tenant, entity, currency="USD", amount_gross="100.06", vat_amount="0.03", expense_date="2025-01-31")
    post(tenant, entity)
    assert tenant.fetch(
        "SELECT account_code, debit, credit, functional_debit, functional_credit FROM ledgers.journal_lines "
        "WHERE row_id = %s ORDER BY line_no",
        row,
    ) == [
        ("5999", Decimal("100.03"), 0, Decimal("15.00"), 0),
        ("1400", Decimal("0.03"), 0, Decimal("0.00"), 0),
        ("2000", 0, Decimal("100.06"), 0, Decimal("15.01")),
        ("5950", 0, 0, Decimal("0.01"), 0),
    ]


# Trial balance


def test_currencies_never_mix(tenant: Tenant, entity: UUID) -> None:
    approved(tenant, entity, 2, currency="GBP")
    approved(tenant, entity, 3, currency="USD", category="5000")
    add_rate(tenant, "0.8")
    post(tenant, entity)
    drawn = balance(tenant, entity)
    assert drawn.totals() == {"GBP": (Decimal(240), Decimal(240)), "USD": (Decimal(360), Decimal(360))}
    assert drawn.balanced
    creditors = {line.currency: line.balance for line in drawn.lines if line.account_code == "2000"}
    assert creditors == {"GBP": Decimal(-240), "USD": Decimal(-360)}
    assert {line.account_code for line in drawn.lines if line.currency == "GBP"} == {"5999", "1400", "2000"}


def test_movements_are_the_periods_and_balances_are_carried_forward(tenant: Tenant, entity: UUID) -> None:
    tenant.journal(entity, None, period="2024-12", amount=50)
    tenant.journal(entity, None, period="2025-01", amount=70)
    tenant.journal(entity, None, period="2025-02", amount=90)
    tenant.journal(tenant.new_entity(), None, period="2025-01", amount=1000)
    found = {line.account_code: (line.debit, line.credit, line.balance) for line in balance(tenant, entity).lines}
    assert found == {"2000": (0, 70, -120), "5999": (70, 0, 120)}


def test_an_empty_trial_balance_balances(tenant: Tenant, entity: UUID) -> None:
    assert (balance(tenant, entity).lines, balance(tenant, entity).balanced) == ((), True)


def test_drawing_up_records_the_close_and_what_came_after_shows(tenant: Tenant, entity: UUID) -> None:
    async def close(salt: bytes) -> TrialBalance:
        async with tenant.database() as database:
            return await draw_up(database, entity_id=entity, period=PERIOD, run_id=uuid4(), salt=salt)

    def state() -> list[tuple[Any, ...]]:
        return tenant.fetch(
            "SELECT last_change = closed_change FROM system.partition_activity WHERE entity_id = %s AND period = %s",
            entity,
            PERIOD,
        )

    approved(tenant, entity, 2)
    post(tenant, entity)
    assert state() == [(False,)]
    drawn = asyncio.run(close(b"salt"))
    assert state() == [(True,)]
    closes = "SELECT journals, digest, last_change > 0 FROM ledgers.closes WHERE entity_id = %s ORDER BY id"
    assert tenant.fetch(closes, entity) == [(2, bytes.fromhex(drawn.digest(b"salt")), True)]
    assert drawn.digest(b"salt") != drawn.digest(b"other")
    approved(tenant, entity, 1)
    assert state() == [(False,)]
    post(tenant, entity)
    asyncio.run(close(b"salt"))
    first, second = tenant.fetch(closes, entity)
    assert (second[0], first[1] != second[1]) == (3, True)
