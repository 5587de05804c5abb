"""Two approvers above an amount, and approvals taken back until they are posted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from uuid import UUID

import pytest
from desk_members import ROLES, Desk
from ledger_tenant import PERIOD, Connection, Tenant, move, refusal, use_signal

from ntro_dagster.platforms.postgres.database import RefusedByDatabaseError
from ntro_dagster.subledger.filing import ContentMovedError, summarise
from ntro_dagster.subledger.registry import subledger_type
from ntro_dagster.subledger.review import Applied, apply_signals
from ntro_dagster.subledger.selection import Filter

SIGNED = ("SIGNED", None)
APPLIED = ("APPLIED", None)


@pytest.fixture
def at_desk(tenant: Tenant, entity: UUID) -> Iterator[Desk]:
    tenant.add_members(ROLES)
    desk = Desk(tenant, entity)
    desk.limit("GBP", 1000)
    desk.limit("EUR", None)
    yield desk
    desk.limit("GBP", None)


def actions(tenant: Tenant, row: UUID) -> list[tuple[str, str]]:
    return tenant.fetch(
        "SELECT h.action, c.actor FROM system.history h JOIN system.changes c ON c.id = h.change_id "
        "WHERE h.row_id = %s AND h.action <> 'INSERT' ORDER BY c.id",
        row,
    )


# Two approvers


def test_above_the_limit_two_approve(tenant: Tenant, at_desk: Desk) -> None:
    large, small = at_desk.row(amount_gross="1000.01"), at_desk.row(amount_gross="1000.00")
    assert at_desk.decide("user:ann", "approve", large, small) == Applied(1, 1, 0, 1)
    assert (at_desk.status(large), at_desk.status(small)) == ("PENDING", "APPROVED")
    assert at_desk.last(large) == SIGNED
    assert actions(tenant, large) == [("SIGNED", "user:ann")]
    assert at_desk.decide("user:bob", "approve", large) == Applied(1, 1, 0)
    assert at_desk.status(large) == "APPROVED"
    assert actions(tenant, large) == [("SIGNED", "user:ann"), ("TRANSITION", "user:bob")]
    assert at_desk.post() == 2


def test_one_person_does_not_sign_twice(at_desk: Desk) -> None:
    row = at_desk.row(amount_gross=5000)
    at_desk.decide("user:ann", "approve", row)
    with pytest.raises(ContentMovedError) as moved:
        at_desk.file("user:ann", "approve", row)
    assert [(one.id, one.code) for one in moved.value.rows] == [(row, "ALREADY_SIGNED")]
    at_desk.tenant.file("approve", [row], by="user:ann")  # raw, as the desk's role
    assert at_desk.apply() == Applied(1, 0, 1)
    assert at_desk.last(row) == ("REFUSED", "ALREADY_SIGNED")
    assert at_desk.status(row) == "PENDING"


@pytest.mark.parametrize("back", [False, True], ids=["changed", "changed and changed back"])
def test_a_change_of_content_voids_the_first_signature(at_desk: Desk, back: bool) -> None:
    row = at_desk.row(amount_gross=5000, notes="a")
    before = at_desk.seen([row])
    at_desk.decide("user:ann", "approve", row)
    at_desk.decide("user:pat", "edit", row, values={"notes": "b"})
    if back:
        at_desk.decide("user:pat", "edit", row, values={"notes": "a"})
        assert at_desk.seen([row]) == before
    assert at_desk.decide("user:bob", "approve", row) == Applied(1, 0, 0, 1)
    assert at_desk.status(row) == "PENDING"
    assert at_desk.decide("user:ann", "approve", row) == Applied(1, 1, 0)


def test_an_edit_that_changes_nothing_voids_its_own_authors_signature_only(at_desk: Desk) -> None:
    row, other = at_desk.row(amount_gross=5000, notes="a"), at_desk.row(amount_gross=5000, notes="a")
    at_desk.decide("user:ann", "approve", row, other)
    at_desk.decide("user:ann", "edit", row, values={"notes": "a"})
    at_desk.decide("user:pat", "edit", other, values={"notes": "a"})
    assert at_desk.decide("user:bob", "approve", row) == Applied(1, 0, 0, 1)
    assert at_desk.decide("user:bob", "approve", other) == Applied(1, 1, 0)


def test_what_nobody_knows_is_above_every_limit(tenant: Tenant, at_desk: Desk) -> None:
    needs = "SELECT system.needs_two(%s::numeric, %s, %s)"
    expected = {(None, "GBP"): True, (None, "USD"): True, (None, None): True, ("-5000", "GBP"): True, ("5000", None): True}
    expected |= {("NaN", "GBP"): True, ("5000", "USD"): False, ("1000", "GBP"): False, ("5000", "EUR"): False}
    for (amount, currency), two in expected.items():
        assert tenant.fetch(needs, amount, currency, at_desk.entity) == [(two,)], (amount, currency)
    at_desk.limit("GBP", None)
    for amount in (None, "1e20"):
        assert tenant.fetch(needs, amount, "GBP", at_desk.entity) == [(False,)]


def test_limits_are_recorded_and_kept(tenant: Tenant, at_desk: Desk) -> None:
    for role in ("app", "desk", "auditor"):
        for attack in (
            "INSERT INTO system.approval_limit_changes (currency, amount, recorded_by) VALUES ('GBP', 1e9, 'x')",
            "UPDATE system.approval_limit_changes SET amount = 1e9",
            "DELETE FROM system.approval_limit_changes",
        ):
            assert refusal(tenant.connect(role), attack) == "InsufficientPrivilege"
    owner = tenant.connect("owner")
    assert refusal(owner, "UPDATE system.approval_limit_changes SET amount = 1e9") == "HISTORY_IS_APPEND_ONLY"
    for amount in ("-1", "NaN"):
        insert = "INSERT INTO system.approval_limit_changes (currency, amount, recorded_by) VALUES ('GBP', %s, 'x')"
        assert refusal(owner, insert, [amount]) == "CheckViolation"


def test_the_app_cannot_do_without_the_second(tenant: Tenant, at_desk: Desk, app: Connection) -> None:
    row = at_desk.row(amount_gross=5000)
    approve = "UPDATE ledgers.expenses SET status = 'APPROVED', approved_by = %s, approved_at = now() WHERE id = %s"
    first = tenant.file("approve", [row], by="user:ann")
    use_signal(app, first)
    assert refusal(app, approve, ["user:ann", row]) == "SECOND_APPROVAL_MISSING"
    # nor by taking one person's two decisions for two people's
    app.execute("UPDATE system.signal_rows SET outcome = 'SIGNED' WHERE signal_id = %s", [first])
    app.execute("UPDATE system.signals SET applied_at = now() WHERE id = %s", [first])
    app.commit()
    again = tenant.file("approve", [row], by="user:ann")
    use_signal(app, again)
    assert refusal(app, approve, ["user:ann", row]) == "SECOND_APPROVAL_MISSING"
    assert refusal(app, approve, ["user:bob", row]) == "SECOND_APPROVAL_MISSING"
    # nor by the signature of who made it
    made = at_desk.row(amount_gross=5000)
    at_desk.decide("user:bob", "edit", made, values={"notes": "x"})
    signal = tenant.file("approve", [made], by="user:bob")
    sign = "UPDATE system.signal_rows SET outcome = 'SIGNED' WHERE signal_id = %s"
    assert refusal(app, sign, [signal]) == "MAKER_IS_NOT_CHECKER"
    # nor by a signature under another kind, or under content that is gone
    assert refusal(app, sign, [tenant.file("reject", [row], by="user:bob")]) == "NEEDS_A_DECISION"
    late = tenant.file("approve", [row], by="user:bob")
    with tenant.connect("app") as other:
        other.execute("UPDATE ledgers.expenses SET notes = 'changed' WHERE id = %s", [row])
    assert refusal(app, sign, [late]) == "CONTENT_CHANGED"


def test_two_signatures_applied_at_one_time_approve(tenant: Tenant, at_desk: Desk) -> None:
    rows = [at_desk.row(amount_gross=5000) for _ in range(20)]
    for by in ("user:ann", "user:bob"):
        tenant.file("approve", rows, by=by)

    async def both() -> None:
        async def one() -> Applied:
            async with tenant.database() as database:
                return await apply_signals(tenant.handle(at_desk.entity, database=database), period=PERIOD)

        await asyncio.gather(one(), one())

    asyncio.run(both())
    assert {at_desk.status(row) for row in rows} == {"APPROVED"}


def test_a_limit_that_is_lifted_lets_the_first_one_through(at_desk: Desk) -> None:
    row = at_desk.row(amount_gross=5000)
    at_desk.decide("user:ann", "approve", row)
    at_desk.limit("GBP", 9000)
    assert at_desk.decide("user:ann", "approve", row) == Applied(1, 1, 0)


def test_a_dry_run_says_who_has_signed(at_desk: Desk) -> None:
    row = at_desk.row(amount_gross=5000)
    at_desk.decide("user:ann", "approve", row)
    where = Filter(entity=at_desk.entity)

    def skipped(by: str) -> dict[str, int]:
        found = at_desk.run("desk", lambda desk: summarise(desk, subledger_type("expenses"), "approve", where, by=by))
        return dict(found.skipped)

    assert skipped("user:ann") == {"ALREADY_SIGNED": 1}
    assert skipped("user:bob") == {}


# Taking an approval back


def test_an_approval_is_taken_back_until_it_is_posted(tenant: Tenant, at_desk: Desk) -> None:
    row, posted = at_desk.row(), tenant.row_in("PENDING", at_desk.entity)
    at_desk.decide("user:ann", "approve", row, posted)
    at_desk.decide("user:bob", "undo", row)
    found = tenant.fetch("SELECT status, approved_by, approved_at FROM ledgers.expenses WHERE id = %s", row)
    assert found == [("PENDING", None, None)]
    assert at_desk.post() == 1
    assert at_desk.status(posted) == "POSTED"
    tenant.file("undo", [posted], by="user:bob")
    assert at_desk.apply() == Applied(1, 0, 1)
    assert at_desk.last(posted) == ("REFUSED", "ILLEGAL_TRANSITION")
    assert at_desk.decide("user:ann", "approve", row) == Applied(1, 1, 0)  # to have approved it once is not to have made it
    assert at_desk.post() == 1


def test_who_approved_an_edited_row_may_approve_it_again(at_desk: Desk) -> None:
    row = at_desk.row()
    at_desk.decide("user:pat", "edit", row, values={"notes": "x"})
    at_desk.decide("user:ann", "approve", row)
    at_desk.decide("user:ann", "undo", row)
    assert at_desk.decide("user:ann", "approve", row) == Applied(1, 1, 0)


def test_after_an_undo_both_sign_again(at_desk: Desk) -> None:
    row = at_desk.row(amount_gross=5000)
    for by in ("user:ann", "user:bob"):
        at_desk.decide(by, "approve", row)
    at_desk.decide("user:carol", "undo", row)
    assert at_desk.decide("user:bob", "approve", row) == Applied(1, 0, 0, 1)
    assert at_desk.decide("user:carol", "approve", row) == Applied(1, 1, 0)


@pytest.mark.parametrize("final", ["REJECTED", "EXCLUDED", "POSTED"])
def test_what_is_final_stays(tenant: Tenant, at_desk: Desk, app: Connection, final: str) -> None:
    row = at_desk.row()
    if final == "POSTED":
        at_desk.decide("user:ann", "approve", row)
        at_desk.post()
    else:
        at_desk.decide("user:ann", {"REJECTED": "reject", "EXCLUDED": "exclude"}[final], row)
    use_signal(app, tenant.file("undo", [row], by="user:ann"))
    with pytest.raises(Exception, match="ROW_IS_FINAL"):
        move(app, row, "PENDING", "undo")


def test_an_undo_clears_the_approval_and_nothing_else_does(tenant: Tenant, at_desk: Desk, app: Connection) -> None:
    row = at_desk.row()
    at_desk.decide("user:ann", "approve", row)
    use_signal(app, tenant.file("undo", [row], by="user:bob"))
    update = "UPDATE ledgers.expenses SET status = 'PENDING'{} WHERE id = %s"
    assert refusal(app, update.format(""), [row]) == "APPROVAL_FORGED"
    assert refusal(app, update.format(", approved_at = NULL"), [row]) == "APPROVAL_FORGED"
    cleared = ", approved_by = NULL, approved_at = NULL"
    assert refusal(app, update.format(cleared + ", amount_gross = 121"), [row]) == "CONTENT_IS_FROZEN"
    assert refusal(app, f"UPDATE ledgers.expenses SET task_id = task_id{cleared} WHERE id = %s", [row]) == "APPROVAL_FORGED"
    app.execute("SELECT set_config('ntro.signal_id', '', TRUE)")
    assert refusal(app, update.format(cleared), [row]) == "NEEDS_A_DECISION"


@pytest.mark.parametrize("first", ["posting", "undo"])
def test_posting_and_undo_race_safely(tenant: Tenant, at_desk: Desk, first: str) -> None:
    """Whoever holds the row first wins; the other one sees it, and neither fails."""
    row = at_desk.row()
    at_desk.decide("user:ann", "approve", row)
    at_desk.file("user:bob", "undo", row)
    holder = tenant.connect("app")
    if first == "undo":
        holder.execute("SELECT FROM ledgers.expenses WHERE id = %s FOR NO KEY UPDATE", [row])
        assert at_desk.post() == 0
        holder.rollback()
        assert at_desk.apply() == Applied(1, 1, 0)
        assert at_desk.post() == 0
        return
    reference = tenant.journal(at_desk.entity, row, connection=holder)
    move(holder, row, "POSTED", "post", journal=reference)

    async def race() -> Applied:
        async with tenant.database() as database:
            applying = asyncio.create_task(apply_signals(tenant.handle(at_desk.entity, database=database), period=PERIOD))
            waits = "SELECT FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple')"
            deadline = time.monotonic() + 20
            while not applying.done() and not tenant.fetch(waits):
                assert time.monotonic() < deadline
                await asyncio.sleep(0)
            holder.commit()
            return await applying

    assert asyncio.run(race()) == Applied(1, 0, 1)
    assert at_desk.last(row) == ("REFUSED", "ILLEGAL_TRANSITION")
    assert at_desk.status(row) == "POSTED"


def test_who_may_take_an_approval_back(at_desk: Desk) -> None:
    row = at_desk.row()
    at_desk.decide("user:ann", "approve", row)
    for by in ("user:pat", "agent:reader", "user:eve", "user:root"):
        with pytest.raises(RefusedByDatabaseError) as refused:
            at_desk.file(by, "undo", row)
        assert refused.value.code == "ROLE_MAY_NOT"
