"""Decisions of people: filed over rows, applied by runs, in order, once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from ledger_tenant import PERIOD, Tenant
from psycopg.types.json import Jsonb

from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger import SubledgerHandle, review
from ntro_dagster.subledger.registry import subledger_type
from ntro_dagster.subledger.review import (
    Applied,
    FieldNotEditableError,
    Filed,
    ReasonMissingError,
    ValuesNotTakenError,
    apply_signals,
    file_signal,
)


def file(tenant: Tenant, signal: str, *, by: str = "user:bob", reason: str | None = "because", **which: Any) -> list[Filed]:
    async def run() -> list[Filed]:
        async with tenant.database("desk") as desk:
            return await file_signal(desk, subledger_type("expenses"), signal, filed_by=by, reason=reason, **which)

    return asyncio.run(run())


def apply(tenant: Tenant, entity: UUID, *, period: str = PERIOD) -> Applied:
    async def run() -> Applied:
        async with tenant.database() as database:
            return await apply_signals(tenant.handle(entity, database=database), period=period)

    return asyncio.run(run())


def status(tenant: Tenant, *rows: UUID) -> list[str]:
    return [tenant.fetch("SELECT status FROM ledgers.expenses WHERE id = %s", row)[0][0] for row in rows]


def outcomes(tenant: Tenant, row: UUID) -> list[tuple[str, str | None, str | None]]:
    return tenant.fetch(
        "SELECT s.kind, r.outcome, r.code FROM system.signal_rows r JOIN system.signals s ON s.id = r.signal_id "
        "WHERE r.row_id = %s ORDER BY s.seq",
        row,
    )


def column(tenant: Tenant, name: str, row: UUID) -> Any:
    return tenant.fetch(f"SELECT {name} FROM ledgers.expenses WHERE id = %s", row)[0][0]


@pytest.mark.parametrize(
    ("kind", "source", "target"),
    [
        ("approve", "PENDING", "APPROVED"),
        ("reject", "PENDING", "REJECTED"),
        ("reject", "NEEDS_ATTENTION", "REJECTED"),
        ("reject", "APPROVED", "REJECTED"),
        ("exclude", "PENDING", "EXCLUDED"),
        ("accept", "NEEDS_ATTENTION", "PENDING"),
    ],
)
def test_a_decision_takes_its_rows_along(tenant: Tenant, entity: UUID, kind: str, source: str, target: str) -> None:
    row, bystander = tenant.row_in(source, entity), tenant.row_in(source, entity)
    (filed,) = file(tenant, kind, ids=[row])
    assert (filed.entity_id, filed.period, filed.rows) == (entity, PERIOD, 1)
    assert status(tenant, row) == [source]  # nothing happens until a run applies it
    assert apply(tenant, entity) == Applied(1, 1, 0)
    assert status(tenant, row, bystander) == [target, source]
    assert outcomes(tenant, row)[-1] == (kind, "APPLIED", None)
    assert apply(tenant, entity) == Applied()


def test_an_edit_changes_content_and_names_its_maker(tenant: Tenant, entity: UUID) -> None:
    row = tenant.new_row(entity)
    file(tenant, "edit", ids=[row], values={"amount_gross": "99.50", "notes": "typo"}, by="user:ann")
    assert apply(tenant, entity) == Applied(1, 1, 0)
    assert (status(tenant, row), column(tenant, "made_by", row)) == (["PENDING"], "user:ann")
    assert (str(column(tenant, "amount_gross", row)), column(tenant, "notes", row)) == ("99.500000000", "typo")


def test_an_edit_to_the_value_that_is_there_is_applied(tenant: Tenant, entity: UUID) -> None:
    rows = [tenant.new_row(entity, notes=notes) for notes in (None, "same")]
    file(tenant, "edit", ids=rows, values={"notes": "same"})
    assert apply(tenant, entity) == Applied(1, 2, 0)


def test_an_edit_that_would_not_stand_is_refused_for_that_row_alone(tenant: Tenant, entity: UUID) -> None:
    small, large = tenant.new_row(entity, vat_amount=None, amount_gross=5), tenant.new_row(entity)
    file(tenant, "edit", ids=[small, large], values={"vat_amount": "10"})
    assert apply(tenant, entity) == Applied(1, 1, 1)
    assert outcomes(tenant, small) == [("edit", "REFUSED", "STILL_INVALID")]
    assert outcomes(tenant, large) == [("edit", "APPLIED", None)]


def test_repair_and_acceptance_may_be_one_act(tenant: Tenant, entity: UUID) -> None:
    row = tenant.new_row(entity, status="NEEDS_ATTENTION", vendor=None)
    file(tenant, "accept", ids=[row], by="user:ann")
    assert apply(tenant, entity) == Applied(1, 0, 1)
    assert outcomes(tenant, row) == [("accept", "REFUSED", "STILL_INVALID")]
    file(tenant, "accept", ids=[row], values={"vendor": "Jones"}, by="user:ann")
    assert apply(tenant, entity) == Applied(1, 1, 0)
    assert (status(tenant, row), column(tenant, "made_by", row)) == (["PENDING"], "user:ann")
    file(tenant, "approve", ids=[row], by="user:ann")
    assert apply(tenant, entity) == Applied(1, 0, 1)
    assert outcomes(tenant, row)[-1] == ("approve", "REFUSED", "MAKER_IS_NOT_CHECKER")


def test_repair_then_acceptance(tenant: Tenant, entity: UUID) -> None:
    row = tenant.new_row(entity, status="NEEDS_ATTENTION", vendor=None)
    file(tenant, "edit", ids=[row], values={"vendor": "Jones"})
    assert apply(tenant, entity) == Applied(1, 1, 0)
    file(tenant, "accept", ids=[row])
    assert apply(tenant, entity) == Applied(1, 1, 0)
    assert status(tenant, row) == ["PENDING"]
    assert column(tenant, "validation_errors", row) is None


def test_a_decision_holds_for_what_was_seen(tenant: Tenant, entity: UUID) -> None:
    row = tenant.new_row(entity)
    file(tenant, "approve", ids=[row])

    async def improve() -> None:
        async with tenant.database() as database:
            await tenant.handle(entity, database=database).edit([row], {"amount_gross": 1200})

    asyncio.run(improve())
    assert apply(tenant, entity) == Applied(1, 0, 1)
    assert outcomes(tenant, row) == [("approve", "REFUSED", "CONTENT_CHANGED")]


def test_signals_are_applied_in_the_order_they_were_filed(tenant: Tenant, entity: UUID) -> None:
    row = tenant.new_row(entity)
    file(tenant, "edit", ids=[row], values={"notes": "first"}, by="user:ann")
    file(tenant, "edit", ids=[row], values={"notes": "second"}, by="user:carol")
    file(tenant, "approve", ids=[row])
    file(tenant, "exclude", ids=[row])
    assert apply(tenant, entity) == Applied(4, 1, 3)
    assert column(tenant, "notes", row) == "first"
    assert [outcome for _, outcome, _ in outcomes(tenant, row)] == ["APPLIED", "REFUSED", "REFUSED", "REFUSED"]


def test_of_two_reviewers_the_first_decides(tenant: Tenant, entity: UUID) -> None:
    row = tenant.new_row(entity)
    file(tenant, "reject", ids=[row], by="user:ann")
    file(tenant, "approve", ids=[row], by="user:bob")
    assert apply(tenant, entity) == Applied(2, 1, 1)
    assert status(tenant, row) == ["REJECTED"]
    assert outcomes(tenant, row) == [("reject", "APPLIED", None), ("approve", "REFUSED", "ILLEGAL_TRANSITION")]


@pytest.mark.parametrize("editors", [("user:bob",), ("user:bob", "user:ann")], ids=["last", "before another"])
def test_who_edited_does_not_approve(tenant: Tenant, entity: UUID, editors: tuple[str, ...]) -> None:
    row = tenant.new_row(entity)
    for editor in editors:
        file(tenant, "edit", ids=[row], values={"notes": editor}, by=editor)
        apply(tenant, entity)
    file(tenant, "approve", ids=[row], by="user:bob")
    assert apply(tenant, entity) == Applied(1, 0, 1)
    assert outcomes(tenant, row)[-1] == ("approve", "REFUSED", "MAKER_IS_NOT_CHECKER")
    file(tenant, "approve", ids=[row], by="user:dan")
    assert apply(tenant, entity) == Applied(1, 1, 0)


# Filing


def test_a_filter_takes_the_rows_that_the_decision_leads_on_from(tenant: Tenant, entity: UUID) -> None:
    pending, waiting = tenant.new_row(entity), tenant.row_in("NEEDS_ATTENTION", entity)
    tenant.row_in("APPROVED", entity)
    tenant.new_row(entity, period="2025-02")
    tenant.new_row(tenant.new_entity())
    assert [filed.rows for filed in file(tenant, "approve", entity_id=entity, period=PERIOD, dry_run=True)] == [1]
    assert [filed.rows for filed in file(tenant, "reject", entity_id=entity, period=PERIOD, dry_run=True)] == [3]
    narrowed = file(tenant, "reject", entity_id=entity, period=PERIOD, status="NEEDS_ATTENTION")
    assert [filed.rows for filed in narrowed] == [1]
    assert apply(tenant, entity) == Applied(1, 1, 0)
    assert status(tenant, pending, waiting) == ["PENDING", "REJECTED"]


def test_trying_out_files_nothing(tenant: Tenant, entity: UUID) -> None:
    tenant.new_row(entity)
    assert file(tenant, "approve", entity_id=entity, dry_run=True)
    assert tenant.fetch("SELECT count(*) FROM system.signals WHERE entity_id = %s", entity) == [(0,)]


def test_no_rows_no_signal(tenant: Tenant, entity: UUID) -> None:
    assert file(tenant, "approve", entity_id=entity) == []
    assert file(tenant, "approve", ids=[uuid4()]) == []
    assert file(tenant, "approve", entity_id=entity, status="NEEDS_ATTENTION") == []


def test_a_decision_over_several_partitions_is_one_signal_each(tenant: Tenant, entity: UUID) -> None:
    other = tenant.new_entity()
    rows = [tenant.new_row(entity), tenant.new_row(entity, period="2025-02"), tenant.new_row(other), tenant.new_row(other)]
    filed = file(tenant, "approve", ids=rows)
    assert {(f.entity_id, f.period): f.rows for f in filed} == {
        (entity, PERIOD): 1, (entity, "2025-02"): 1, (other, PERIOD): 2,
    }  # fmt: skip
    assert apply(tenant, entity) == Applied(1, 1, 0)
    assert status(tenant, *rows) == ["APPROVED", "PENDING", "PENDING", "PENDING"]
    assert apply(tenant, other) == Applied(1, 2, 0)
    assert apply(tenant, entity, period="2025-02") == Applied(1, 1, 0)


@pytest.mark.parametrize("kind", ["reject", "exclude", "edit", "accept"])
@pytest.mark.parametrize("reason", [None, "", "  "])
def test_only_an_approval_needs_no_reason(tenant: Tenant, entity: UUID, kind: str, reason: str | None) -> None:
    with pytest.raises(ReasonMissingError):
        file(tenant, kind, entity_id=entity, reason=reason, values={"notes": "x"} if kind == "edit" else None)
    tenant.new_row(entity)
    assert file(tenant, "approve", entity_id=entity, reason=None)


def test_only_editable_fields_are_edited_and_only_where_a_decision_takes_values(tenant: Tenant, entity: UUID) -> None:
    for name in ("status", "made_by", "id", "confidence", "no_such"):
        with pytest.raises(FieldNotEditableError):
            file(tenant, "edit", entity_id=entity, values={name: "x"})
    for kind, values in (("approve", {"notes": "x"}), ("reject", {"notes": "x"}), ("edit", {}), ("edit", None)):
        with pytest.raises(ValuesNotTakenError):
            file(tenant, kind, entity_id=entity, values=values)


# Several at once, and crashes


def together(tenant: Tenant, entity: UUID, work: Callable[[SubledgerHandle], Awaitable[Any]], count: int = 2) -> list[Any]:
    async def one() -> Any:
        async with tenant.database() as database:
            return await work(tenant.handle(entity, database=database))

    async def run() -> list[Any]:
        return await asyncio.gather(*(one() for _ in range(count)))

    return asyncio.run(run())


def test_two_runs_at_once_apply_each_signal_once(tenant: Tenant, entity: UUID) -> None:
    rows = [tenant.new_row(entity) for _ in range(12)]
    for row in rows:
        file(tenant, "approve", ids=[row])
    results = together(tenant, entity, lambda handle: apply_signals(handle, period=PERIOD), count=3)
    assert sum(applied.applied for applied in results) == len(rows)
    assert sum(applied.refused for applied in results) == 0
    assert set(status(tenant, *rows)) == {"APPROVED"}
    ((records,),) = tenant.fetch("SELECT count(*) FROM system.history WHERE action = 'TRANSITION' AND row_id = ANY(%s)", rows)
    assert records == len(rows)


def test_a_crash_between_two_signals_loses_and_doubles_nothing(
    tenant: Tenant, entity: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [tenant.new_row(entity) for _ in range(3)]
    for row in rows:
        file(tenant, "approve", ids=[row])
    moved: list[Any] = []
    move = review._move

    async def dies_at_the_second(handle: SubledgerHandle, signal: Any) -> int:
        rows = await move(handle, signal)
        moved.append(signal)
        if len(moved) == 2:
            await handle.database.fetch("SELECT pg_terminate_backend(pg_backend_pid())")
        return rows

    monkeypatch.setattr(review, "_move", dies_at_the_second)
    with pytest.raises(Exception, match=r"terminating|DATABASE_UNREACHABLE"):
        apply(tenant, entity)
    assert status(tenant, *rows) == ["APPROVED", "PENDING", "PENDING"]
    assert apply(tenant, entity) == Applied(2, 2, 0)
    assert status(tenant, *rows) == ["APPROVED"] * 3


def test_nothing_of_a_signal_is_left_when_a_statement_of_it_fails(
    tenant: Tenant, entity: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection dies at each of the signal's statements in turn; then the signal is applied whole."""
    rows = [tenant.new_row(entity) for _ in range(2)]
    file(tenant, "edit", ids=rows, values={"notes": "x"})
    execute = TenantDatabase.execute
    dies_at, seen = 0, 0

    async def mortal(self: TenantDatabase, statement: Any, parameters: Any = None) -> int:
        nonlocal seen
        seen += 1
        if seen == dies_at:
            await execute(self, "SELECT pg_terminate_backend(pg_backend_pid())")
        return await execute(self, statement, parameters)

    monkeypatch.setattr(TenantDatabase, "execute", mortal)
    while True:
        dies_at, seen = dies_at + 1, 0
        try:
            applied = apply(tenant, entity)
        except Exception as error:
            assert "terminating" in str(error) or "DATABASE_UNREACHABLE" in str(error)
            assert outcomes(tenant, rows[0]) == [("edit", None, None)]
            assert column(tenant, "notes", rows[0]) is None
        else:
            break
    assert dies_at > 5
    assert applied == Applied(1, 2, 0)
    ((records,),) = tenant.fetch("SELECT count(*) FROM system.history WHERE action = 'EDIT' AND row_id = ANY(%s)", rows)
    assert records == 2


@pytest.mark.parametrize("account", ["9999", "0003"], ids=["unknown", "not active"])
def test_a_row_that_could_not_be_posted_is_not_approved(tenant: Tenant, entity: UUID, account: str) -> None:
    with tenant.as_owner() as owner:
        owner.execute("INSERT INTO ledgers.accounts VALUES ('0003', 'old', 'EXPENSE', FALSE) ON CONFLICT DO NOTHING")
    good, bad = tenant.new_row(entity, category="5000"), tenant.new_row(entity, category=account)
    file(tenant, "approve", ids=[good, bad])
    assert apply(tenant, entity) == Applied(1, 1, 1)
    assert status(tenant, good, bad) == ["APPROVED", "PENDING"]
    assert outcomes(tenant, bad) == [("approve", "REFUSED", "ACCOUNT_UNKNOWN")]


def test_a_journal_on_an_unknown_account_is_not_approved(tenant: Tenant, entity: UUID) -> None:
    rows = {account: uuid4() for account in ("5200", "9999")}
    with tenant.connect("app") as app:
        for account, row in rows.items():
            app.execute(
                "INSERT INTO ledgers.journal_proposals (id, entity_id, period, task_id, status, lines) "
                "VALUES (%s, %s, %s, %s, 'PENDING', %s)",
                [
                    row,
                    entity,
                    PERIOD,
                    uuid4(),
                    Jsonb([{"account_code": "2000", "credit": 1}, {"account_code": account, "debit": 1}]),
                ],
            )

    async def review_all() -> Applied:
        async with tenant.database("desk") as desk, tenant.database() as database:
            await file_signal(desk, subledger_type("journal_proposals"), "approve", filed_by="user:bob", entity_id=entity)
            return await apply_signals(tenant.handle(entity, name="journal_proposals", database=database), period=PERIOD)

    assert asyncio.run(review_all()) == Applied(1, 1, 1)
    assert outcomes(tenant, rows["9999"]) == [("approve", "REFUSED", "ACCOUNT_UNKNOWN")]
