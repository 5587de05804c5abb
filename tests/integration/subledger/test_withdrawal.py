"""Decisions taken back before a run applies them: one of both happens, never both and never neither."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID, uuid4

import pytest
from desk_members import ROLES, Desk
from ledger_tenant import PERIOD, Connection, Tenant, refusal, use_signal

from ntro_dagster.orchestration.work import Work, waiting
from ntro_dagster.platforms.postgres.database import RefusedByDatabaseError
from ntro_dagster.subledger.filing import withdraw
from ntro_dagster.subledger.review import Applied, apply_signals
from ntro_dagster.subledger.status import SubledgerStatus

WITHDRAW = "INSERT INTO system.withdrawals (signal_id, login) VALUES (%s, %s)"


@pytest.fixture
def at_desk(tenant: Tenant, entity: UUID) -> Desk:
    tenant.add_members(ROLES)
    return Desk(tenant, entity)


def test_a_withdrawn_decision_does_nothing_and_leaves_its_record(tenant: Tenant, at_desk: Desk) -> None:
    row = at_desk.row()
    signal = at_desk.file("user:ann", "approve", row)

    def partitions() -> int:
        found = at_desk.run("app", lambda app: waiting(app, Work.REVIEW, {"expenses": SubledgerStatus.lifecycle}))
        slug = tenant.fetch("SELECT slug FROM system.entities WHERE id = %s", at_desk.entity)[0][0]
        return sum(one.entity == slug for one in found)

    assert partitions() == 1
    at_desk.withdraw(signal, by="user:ann")
    assert partitions() == 0  # else the review would be started again and again
    assert at_desk.apply() == Applied()
    assert at_desk.status(row) == "PENDING"
    assert at_desk.last(row) == ("SUPERSEDED", "WITHDRAWN")
    told = tenant.fetch(
        "SELECT h.action, h.code, c.actor, c.actor_kind FROM system.history h JOIN system.changes c ON c.id = h.change_id "
        "WHERE c.signal_id = %s",
        signal,
    )
    assert told == [("SUPERSEDED", "WITHDRAWN", "user:ann", "person")]
    at_desk.decide("user:bob", "reject", row)
    assert at_desk.status(row) == "REJECTED"


@pytest.mark.parametrize(
    ("by", "state", "code"),
    [
        ("user:bob", "waiting", "NOT_YOUR_DECISION"),
        ("user:ann", "applied", "SIGNAL_ALREADY_APPLIED"),
        ("user:ann", "withdrawn", "SIGNAL_WITHDRAWN"),
        ("user:ann", "unknown", "SIGNAL_NOT_FOUND"),
    ],
)
def test_what_cannot_be_withdrawn(at_desk: Desk, by: str, state: str, code: str) -> None:
    signal = at_desk.file("user:ann", "approve", at_desk.row())
    if state == "applied":
        at_desk.apply()
    elif state == "withdrawn":
        at_desk.withdraw(signal, by="user:ann")
    with pytest.raises(RefusedByDatabaseError) as refused:
        at_desk.withdraw(uuid4() if state == "unknown" else signal, by=by)
    assert refused.value.code == code


def test_a_withdrawn_decision_is_not_used_in_raw_sql(tenant: Tenant, at_desk: Desk, app: Connection, desk: Connection) -> None:
    row = at_desk.row()
    signal = at_desk.file("user:ann", "approve", row)
    at_desk.withdraw(signal, by="user:ann")
    use_signal(app, signal)
    approve = "UPDATE ledgers.expenses SET status = 'APPROVED', approved_by = 'user:ann', approved_at = now() WHERE id = %s"
    assert refusal(app, approve, [row]) == "SIGNAL_ALREADY_APPLIED"
    assert (
        refusal(app, "UPDATE system.signal_rows SET outcome = 'APPLIED' WHERE signal_id = %s", [signal])
        == "SIGNAL_ALREADY_APPLIED"
    )
    assert refusal(app, "UPDATE system.signals SET applied_at = now() WHERE id = %s", [signal]) in {
        "SIGNAL_WITHDRAWN",
        "CheckViolation",
    }
    assert refusal(app, "UPDATE system.signals SET withdrawn_at = NULL WHERE id = %s", [signal]) == "InsufficientPrivilege"
    assert refusal(app, WITHDRAW, [signal, "user:ann"]) == "InsufficientPrivilege"
    assert refusal(desk, "DELETE FROM system.withdrawals") == "InsufficientPrivilege"
    owner = tenant.connect("owner")
    assert refusal(owner, "DELETE FROM system.withdrawals") == "HISTORY_IS_APPEND_ONLY"
    assert refusal(owner, "UPDATE system.signals SET withdrawn_at = NULL WHERE id = %s", [signal]) == "SIGNAL_WITHDRAWN"


@pytest.mark.parametrize("first", ["withdrawal", "run"])
@pytest.mark.parametrize("ends", ["commits", "dies"])
def test_of_withdrawal_and_run_exactly_one_happens(tenant: Tenant, at_desk: Desk, first: str, ends: str) -> None:
    """The first holds the signal when the second comes; then it commits, or dies and leaves nothing."""
    row = at_desk.row()
    signal = at_desk.file("user:ann", "reject", row)
    holder = tenant.connect("desk" if first == "withdrawal" else "app")
    if first == "withdrawal":
        holder.execute(WITHDRAW, [signal, "user:ann"])
    else:
        use_signal(holder, signal)
        holder.execute("SELECT FROM system.signals WHERE id = %s FOR NO KEY UPDATE", [signal])
        holder.execute("UPDATE system.signal_rows SET outcome = 'APPLIED' WHERE signal_id = %s", [signal])
        holder.execute("UPDATE ledgers.expenses SET status = 'REJECTED' WHERE id = %s", [row])
        holder.execute("UPDATE system.signals SET applied_at = now() WHERE id = %s", [signal])

    async def second() -> str:
        async with tenant.database("app" if first == "withdrawal" else "desk") as database:
            work = (
                apply_signals(tenant.handle(at_desk.entity, database=database), period=PERIOD)
                if first == "withdrawal"
                else withdraw(database, signal, by="user:ann")
            )
            task = asyncio.ensure_future(work)
            deadline = time.monotonic() + 20
            while not task.done() and not tenant.fetch("SELECT FROM pg_locks WHERE NOT granted"):
                assert time.monotonic() < deadline
                await asyncio.sleep(0)
            if ends == "commits":
                holder.commit()
            else:
                holder.close()
            try:
                result = await task
            except RefusedByDatabaseError as error:
                return error.code
            return "nothing" if result == Applied() else "done"

    outcome = asyncio.run(second())
    happened = (at_desk.status(row), at_desk.last(row)[0])
    rejected, withdrawn = ("REJECTED", "APPLIED"), ("PENDING", "SUPERSEDED")
    expected = {
        ("withdrawal", "commits"): (withdrawn, "nothing"),
        ("withdrawal", "dies"): (rejected, "done"),
        ("run", "commits"): (rejected, "SIGNAL_ALREADY_APPLIED"),
        ("run", "dies"): (withdrawn, "done"),
    }
    assert (happened, outcome) == expected[first, ends]


def test_many_races(tenant: Tenant, at_desk: Desk) -> None:
    rows = [at_desk.row() for _ in range(30)]
    signals = {row: at_desk.file("user:ann", "reject", row) for row in rows}

    async def race() -> set[UUID]:
        taken_back = set()

        async def apply() -> None:
            async with tenant.database() as app:
                await apply_signals(tenant.handle(at_desk.entity, database=app), period=PERIOD)

        async def take_back() -> None:
            async with tenant.database("desk") as desk:
                for row in reversed(rows):
                    try:
                        await withdraw(desk, signals[row], by="user:ann")
                        taken_back.add(row)
                    except RefusedByDatabaseError as error:
                        assert error.code == "SIGNAL_ALREADY_APPLIED"

        await asyncio.gather(apply(), take_back())
        return taken_back

    taken_back = asyncio.run(race())
    at_desk.apply()
    for row in rows:
        expected = ("PENDING", ("SUPERSEDED", "WITHDRAWN")) if row in taken_back else ("REJECTED", ("APPLIED", None))
        assert (at_desk.status(row), at_desk.last(row)) == expected
