"""Decisions that bind to what was seen: filed over exactly that, or not at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from ledger_tenant import PERIOD, Tenant
from psycopg import sql

from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.filing import (
    ContentMovedError,
    Moved,
    RowSeenTwiceError,
    Seen,
    Summary,
    file_matching,
    file_seen,
    summarise,
)
from ntro_dagster.subledger.registry import subledger_type
from ntro_dagster.subledger.review import Filed, apply_signals
from ntro_dagster.subledger.selection import Filter

T = TypeVar("T")


def as_desk(tenant: Tenant, work: Callable[[TenantDatabase], Awaitable[T]]) -> T:
    async def run() -> T:
        async with tenant.database("desk") as desk:
            return await work(desk)

    return asyncio.run(run())


def seen(tenant: Tenant, *rows: UUID) -> list[Seen]:
    found = tenant.fetch("SELECT id, ledgers.expenses_digest(t) FROM ledgers.expenses t WHERE id = ANY(%s)", list(rows))
    return [Seen(*row) for row in found]


def file(
    tenant: Tenant, signal: str, rows: Sequence[Seen], *, by: str = "user:bob", values: dict[str, str] | None = None
) -> list[Filed]:
    kind = subledger_type("expenses")
    return as_desk(tenant, lambda desk: file_seen(desk, kind, signal, filed_by=by, reason="because", values=values, rows=rows))


def try_out(tenant: Tenant, signal: str, where: Filter, *, by: str = "user:bob") -> Summary:
    return as_desk(tenant, lambda desk: summarise(desk, subledger_type("expenses"), signal, where, by=by))


def file_all(tenant: Tenant, signal: str, where: Filter, seen: bytes, *, by: str = "user:bob") -> list[Filed]:
    kind = subledger_type("expenses")
    return as_desk(
        tenant, lambda desk: file_matching(desk, kind, signal, filed_by=by, reason="x", values=None, where=where, seen=seen)
    )


def apply(tenant: Tenant, entity: UUID) -> None:
    async def run() -> None:
        async with tenant.database() as database:
            await apply_signals(tenant.handle(entity, database=database), period=PERIOD)

    asyncio.run(run())


def change(tenant: Tenant, row: UUID) -> None:
    """As a run does that reads the document again."""

    async def run() -> None:
        async with tenant.database() as database:
            entity = tenant.fetch("SELECT entity_id FROM ledgers.expenses WHERE id = %s", row)[0][0]
            await tenant.handle(entity, database=database).edit([row], {"amount_gross": Decimal(1200)})

    asyncio.run(run())


def filed(tenant: Tenant, *rows: UUID) -> int:
    return tenant.fetch("SELECT count(*) FROM system.signal_rows WHERE row_id = ANY(%s)", list(rows))[0][0]  # type: ignore[no-any-return]


# Rows


def test_a_decision_is_filed_over_the_rows_seen(tenant: Tenant, entity: UUID) -> None:
    other = tenant.new_entity()
    rows = [tenant.new_row(entity), tenant.new_row(entity), tenant.new_row(other)]
    shown = seen(tenant, *rows)
    signals = file(tenant, "approve", shown)
    assert sorted((one.entity_id, one.period, one.rows) for one in signals) == sorted([(entity, PERIOD, 2), (other, PERIOD, 1)])
    found = tenant.fetch("SELECT row_id, content_digest FROM system.signal_rows WHERE row_id = ANY(%s)", rows)
    assert sorted(found) == sorted((one.id, one.digest) for one in shown)


@pytest.mark.parametrize("right_one", [0, 1])
def test_a_row_with_two_digests_is_not_filed(tenant: Tenant, entity: UUID, right_one: int) -> None:
    row = tenant.new_row(entity)
    (shown,) = seen(tenant, row)
    both = [Seen(row, bytes(32))]
    both.insert(right_one, shown)
    with pytest.raises(RowSeenTwiceError) as refused:
        file(tenant, "approve", both)
    assert str(row) not in str(refused.value)
    assert filed(tenant, row) == 0
    file(tenant, "approve", [shown, shown])
    assert filed(tenant, row) == 1


def test_what_moved_is_told_and_nothing_is_filed(tenant: Tenant, entity: UUID) -> None:
    good, changed, waiting, made, posted, gone = (
        *(tenant.new_row(entity) for _ in range(4)),
        tenant.row_in("POSTED", entity),
        uuid4(),
    )
    file(tenant, "edit", seen(tenant, made), by="user:bob", values={"notes": "x"})
    apply(tenant, entity)
    before = [*seen(tenant, good, changed, waiting, made, posted), Seen(gone, bytes(32))]
    file(tenant, "reject", seen(tenant, waiting), by="user:ann")
    change(tenant, changed)
    with pytest.raises(ContentMovedError) as moved:
        file(tenant, "approve", before)
    assert {(row.id, row.code, row.by) for row in moved.value.rows} == {
        (changed, "CONTENT_CHANGED", None),
        (waiting, "DECISION_WAITING", "user:ann"),
        (made, "MAKER_IS_NOT_CHECKER", None),
        (posted, "ILLEGAL_TRANSITION", None),
        (gone, "ROW_NOT_FOUND", None),
    }
    assert filed(tenant, good, changed) == 0
    assert str(gone) not in str(moved.value)


def test_of_two_who_decide_at_one_time_the_second_is_told(tenant: Tenant, entity: UUID) -> None:
    rows = [tenant.new_row(entity) for _ in range(2)]
    shown = seen(tenant, *rows)
    kind = subledger_type("expenses")

    async def both() -> list[Moved]:
        def decide(desk: TenantDatabase, by: str) -> Coroutine[Any, Any, list[Filed]]:
            return file_seen(desk, kind, "approve", filed_by=by, reason=None, values=None, rows=shown)

        async with tenant.database("desk") as first, tenant.database("desk") as second:
            async with first.transaction():
                await decide(first, "user:ann")
                late = asyncio.create_task(decide(second, "user:bob"))
                deadline = time.monotonic() + 20
                while not late.done() and not tenant.fetch("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0)
            with pytest.raises(ContentMovedError) as moved:
                await late
        return list(moved.value.rows)

    assert {(row.code, row.by) for row in asyncio.run(both())} == {("DECISION_WAITING", "user:ann")}
    assert filed(tenant, *rows) == 2


# Filters


def test_a_filter_is_bound_to_its_dry_run(tenant: Tenant, entity: UUID) -> None:
    rows = [tenant.new_row(entity, vat_amount=None, amount_gross=amount) for amount in ("10.25", "0.75")]
    tenant.new_row(entity, currency="EUR", vat_amount=None, amount_gross=7)
    attention = tenant.new_row(entity, status="NEEDS_ATTENTION", validation_errors='[{"code": "x"}]')
    where = Filter(entity=entity, period=PERIOD)
    found = try_out(tenant, "approve", where)
    assert (found.count, found.findings, found.skipped) == (3, 0, {"ILLEGAL_TRANSITION": 1})
    assert found.totals == {"GBP": Decimal(11), "EUR": Decimal(7)}
    assert try_out(tenant, "accept", where).findings == 1
    (one,) = file_all(tenant, "approve", where, found.seen)
    assert one.rows == 3
    assert filed(tenant, attention) == 0
    waiting = try_out(tenant, "approve", where)
    assert waiting.skipped == {"DECISION_WAITING": 3, "ILLEGAL_TRANSITION": 1}
    assert waiting.count == 0
    assert file_all(tenant, "approve", where, waiting.seen) == []
    assert filed(tenant, *rows) == 2


@pytest.mark.parametrize("happens", ["changed", "come", "gone", "decided"])
def test_a_filter_that_matches_something_else_files_nothing(tenant: Tenant, entity: UUID, happens: str) -> None:
    row, other = tenant.new_row(entity), tenant.new_row(entity)
    where = Filter(entity=entity, statuses=["PENDING"])
    found = try_out(tenant, "approve", where)
    if happens == "changed":
        change(tenant, other)
    elif happens == "come":
        tenant.new_row(entity)
    elif happens == "gone":
        tenant.decide("reject", other)
    else:
        file(tenant, "reject", seen(tenant, other), by="user:ann")
    with pytest.raises(ContentMovedError) as moved:
        file_all(tenant, "approve", where, found.seen)
    assert filed(tenant, row) == 0
    assert moved.value.now is not None
    assert moved.value.now.count == {"changed": 2, "come": 3, "gone": 1, "decided": 1}[happens]
    assert file_all(tenant, "approve", where, moved.value.now.seen)


def test_what_nobody_matches(tenant: Tenant, entity: UUID) -> None:
    where = Filter(entity=entity, period="2031-01")
    found = try_out(tenant, "approve", where)
    assert (found.count, found.totals, found.skipped) == (0, {}, {})
    assert file_all(tenant, "approve", where, found.seen) == []


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("ACME", ["100% Acme_Ltd"]),
        ("%", ["100% Acme_Ltd"]),
        ("e_l", ["100% Acme_Ltd"]),
        ("e_x", []),
        ("\\", ["a\\b"]),
        ("CAFÉ", ["Café"]),
        ("doc:1#l1", ["100% Acme_Ltd", "Café", "a\\b"]),
        ("'; DROP TABLE", []),
    ],
)
def test_text_is_what_was_typed(tenant: Tenant, entity: UUID, text: str, matches: list[str]) -> None:
    for vendor in ("100% Acme_Ltd", "a\\b", "Café"):
        tenant.new_row(entity, vendor=vendor)

    async def find(desk: TenantDatabase) -> list[str]:
        condition, parameters = Filter(entity=entity, text=text).to_sql(subledger_type("expenses"))
        found = await desk.fetch(sql.SQL("SELECT t.vendor FROM ledgers.expenses t WHERE {}").format(condition), parameters)
        return sorted(row["vendor"] for row in found)

    assert as_desk(tenant, find) == sorted(matches)


def test_a_filter_is_everything_that_is_given(tenant: Tenant, entity: UUID) -> None:
    row = tenant.new_row(entity)
    tenant.new_row(entity, period="2025-02")
    slug = tenant.fetch("SELECT slug FROM system.entities WHERE id = %s", entity)[0][0]
    assert try_out(tenant, "approve", Filter(entity=slug)).count == 2
    assert try_out(tenant, "approve", Filter(entity="nobody")).count == 0
    assert try_out(tenant, "approve", Filter(entity=slug, ids=[row], period=PERIOD, statuses=["PENDING"])).count == 1
    assert try_out(tenant, "approve", Filter(entity=slug, ids=[])).count == 0


# Amounts


def test_an_amount_in_lines_is_their_sum(tenant: Tenant) -> None:
    cases = {
        '[{"debit": "10.5"}, {"credit": "10.5"}, {"debit": " 2 ", "credit": null}]': "12.5",
        '[{"debit": 0.1}, {"debit": 0.2}, {"debit": ""}]': "0.3",
        '[{"debit": "10"}, {"debit": "ten"}]': None,
        '[{"debit": "1e400000"}]': None,
        '[{"debit": "NaN"}]': None,
        "[]": None,
        "{}": None,
    }
    for items, total in cases.items():
        found = tenant.fetch("SELECT system.sum_of(%s, 'debit')", items)[0][0]
        assert found == (None if total is None else Decimal(total)), items
