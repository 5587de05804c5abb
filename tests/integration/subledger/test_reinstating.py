"""The way back from REJECTED and EXCLUDED: a new row in the place of the one that was turned down by mistake."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import date
from typing import Any
from uuid import UUID, uuid4

import pytest
from desk_members import ROLES, Desk
from ledger_tenant import PERIOD, Connection, Tenant, refusal, use_signal

from ntro_dagster.bundles import platform_bundle
from ntro_dagster.orchestration.due import DueRule, StatusRule, take_due_steps
from ntro_dagster.platforms.postgres.database import RefusedByDatabaseError
from ntro_dagster.subledger.filing import ContentMovedError, file_matching, summarise
from ntro_dagster.subledger.registry import subledger_type
from ntro_dagster.subledger.reinstating import MARK
from ntro_dagster.subledger.review import Applied, apply_signals, file_signal
from ntro_dagster.subledger.row import row_id
from ntro_dagster.subledger.selection import Filter

CONTENT = "vendor, amount_gross, vat_amount, currency, notes, raw_payload, validation_errors, entity_id, period"


@pytest.fixture
def at_desk(tenant: Tenant, entity: UUID) -> Iterator[Desk]:
    tenant.add_members(ROLES)
    desk = Desk(tenant, entity)
    yield desk
    desk.limit("GBP", None)


def turned_down(at_desk: Desk, kind: str = "reject", **columns: Any) -> UUID:
    row = at_desk.row(**columns)
    at_desk.decide("user:pat", kind, row)
    return row


def successor(tenant: Tenant, row: UUID) -> UUID:
    ((found,),) = tenant.fetch("SELECT successor_id FROM system.reinstatements WHERE row_id = %s", row)
    return found  # type: ignore[no-any-return]


def reinstated(at_desk: Desk, row: UUID, *, by: str = "user:quinn") -> UUID:
    assert at_desk.decide(by, "reinstate", row) == Applied(1, 1, 0)
    return successor(at_desk.tenant, row)


def column(tenant: Tenant, row: UUID, names: str) -> tuple[Any, ...]:
    (found,) = tenant.fetch(f"SELECT {names} FROM ledgers.expenses WHERE id = %s", row)
    return found


@pytest.mark.parametrize("kind", ["reject", "exclude"])
def test_a_new_row_takes_the_place_of_the_one_that_was_set_aside(tenant: Tenant, at_desk: Desk, kind: str) -> None:
    row = turned_down(
        at_desk, kind, source_ref=f"doc:{uuid4()}#L7", vendor="Œuvre & Söhne", amount_gross="12.30", vat_amount=None
    )
    before = column(tenant, row, "*")
    new = reinstated(at_desk, row)
    assert column(tenant, row, "*") == before
    assert column(tenant, new, CONTENT) == column(tenant, row, CONTENT)
    assert column(tenant, new, "status, made_by, approved_by, source_ref") == (
        "NEEDS_ATTENTION",
        None,
        None,
        f"{column(tenant, row, 'source_ref')[0]}~reinstated:1",
    )


def test_both_rows_keep_who_reinstated_and_why(tenant: Tenant, at_desk: Desk) -> None:
    row = turned_down(at_desk)
    new = reinstated(at_desk, row)
    records = "SELECT h.action, c.actor, c.reason, s.kind FROM system.history h JOIN system.changes c ON c.id = h.change_id " \
        "LEFT JOIN system.signals s ON s.id = c.signal_id WHERE h.row_id = %s ORDER BY c.id DESC LIMIT 1"  # fmt: skip
    assert tenant.fetch(records, row) == [("REINSTATED", "user:quinn", "because", "reinstate")]
    assert tenant.fetch(records, new) == [("REINSTATES", "user:quinn", "because", "reinstate")]


def test_it_is_accepted_approved_and_posted_as_any_other(at_desk: Desk) -> None:
    new = reinstated(at_desk, turned_down(at_desk))
    assert at_desk.decide("user:pat", "accept", new) == Applied(1, 1, 0)
    assert at_desk.decide("user:ann", "approve", new) == Applied(1, 1, 0)
    assert at_desk.post() == 1
    assert at_desk.status(new) == "POSTED"


def test_a_row_is_reinstated_once_and_after_that_its_successor(tenant: Tenant, at_desk: Desk) -> None:
    row = turned_down(at_desk, source_ref="doc:x#L1")
    new = reinstated(at_desk, row)
    with pytest.raises(ContentMovedError) as moved:
        at_desk.file("user:pat", "reinstate", row)
    assert [one.code for one in moved.value.rows] == ["ALREADY_REINSTATED"]
    tenant.file("reinstate", [row], by="user:pat")
    assert at_desk.apply() == Applied(1, 0, 1)
    assert at_desk.last(row) == ("REFUSED", "ALREADY_REINSTATED")
    at_desk.decide("user:pat", "reject", new)
    third = reinstated(at_desk, new)
    assert column(tenant, third, "source_ref") == ("doc:x#L1~reinstated:2",)
    assert tenant.fetch("SELECT forebears FROM system.reinstatements WHERE successor_id = %s", third) == [([row, new],)]


def test_of_two_runs_one_reinstates(tenant: Tenant, at_desk: Desk) -> None:
    rows = [turned_down(at_desk) for _ in range(5)]
    for _ in range(2):
        tenant.file("reinstate", rows, by="user:pat")

    async def both() -> list[Applied]:
        async def one() -> Applied:
            async with tenant.database() as database:
                return await apply_signals(tenant.handle(at_desk.entity, database=database), period=PERIOD)

        return list(await asyncio.gather(one(), one()))

    done = asyncio.run(both())
    assert sum(each.applied for each in done) == 5
    assert sum(each.refused for each in done) == 5
    assert tenant.fetch("SELECT count(*) FROM ledgers.expenses WHERE entity_id = %s", at_desk.entity) == [(10,)]


def test_rows_that_share_a_source_are_reinstated_each(tenant: Tenant, at_desk: Desk) -> None:
    rows = [
        turned_down(at_desk, source_ref="the same"),
        turned_down(at_desk, source_ref=None),
        turned_down(at_desk, source_ref="the same"),
    ]
    assert at_desk.decide("user:pat", "reinstate", *rows) == Applied(1, 3, 0)
    assert len({successor(tenant, row) for row in rows}) == 3


def test_what_stands_where_the_successor_would_is_no_reason_to_fail(at_desk: Desk) -> None:
    blocked = turned_down(at_desk)
    at_desk.row(id=row_id(at_desk.entity, PERIOD, "expenses", f"row:{blocked}{MARK}"))
    assert at_desk.decide("user:pat", "reinstate", blocked) == Applied(1, 0, 1)
    assert at_desk.last(blocked) == ("REFUSED", "ALREADY_REINSTATED")


# Who may, and who approves


def test_whoever_prepares_or_approves_may_and_no_program(tenant: Tenant, at_desk: Desk) -> None:
    for by in ("user:pat", "user:ann"):
        reinstated(at_desk, turned_down(at_desk), by=by)
    row = turned_down(at_desk)
    for by in ("agent:reader", "user:eve", "user:root"):
        with pytest.raises(RefusedByDatabaseError) as refused:
            at_desk.file(by, "reinstate", row)
        assert refused.value.code == "ROLE_MAY_NOT"


def test_to_reinstate_is_not_to_make(at_desk: Desk) -> None:
    new = reinstated(at_desk, turned_down(at_desk), by="user:ann")
    at_desk.decide("user:pat", "accept", new)
    assert at_desk.decide("user:ann", "approve", new) == Applied(1, 1, 0)


def test_who_made_what_was_turned_down_does_not_approve_its_successor(tenant: Tenant, at_desk: Desk) -> None:
    row = at_desk.row()
    at_desk.decide("user:bob", "edit", row, values={"notes": "mine"})
    at_desk.decide("user:pat", "reject", row)
    new = reinstated(at_desk, reinstated_and_turned_down(at_desk, row))
    at_desk.decide("user:pat", "accept", new)
    with pytest.raises(ContentMovedError) as moved:
        at_desk.file("user:bob", "approve", new)
    assert [one.code for one in moved.value.rows] == ["MAKER_IS_NOT_CHECKER"]
    signal = tenant.file("approve", [new], by="user:bob")
    app = tenant.connect("app")
    use_signal(app, signal)
    approve = "UPDATE ledgers.expenses SET status = 'APPROVED', approved_by = 'user:bob', approved_at = now() WHERE id = %s"
    assert refusal(app, approve, [new]) == "MAKER_IS_NOT_CHECKER"
    app.rollback()
    assert at_desk.apply() == Applied(1, 0, 1)
    assert at_desk.last(new) == ("REFUSED", "MAKER_IS_NOT_CHECKER")
    assert at_desk.decide("user:ann", "approve", new) == Applied(1, 1, 0)


def reinstated_and_turned_down(at_desk: Desk, row: UUID) -> UUID:
    new = reinstated(at_desk, row)
    at_desk.decide("user:pat", "reject", new)
    return new


def test_no_run_accepts_or_changes_what_a_person_reinstated(tenant: Tenant, at_desk: Desk, app: Connection) -> None:
    new = reinstated(at_desk, turned_down(at_desk))
    assert refusal(app, "UPDATE ledgers.expenses SET status = 'PENDING' WHERE id = %s", [new]) == "MADE_BY_A_PERSON"
    assert refusal(app, "UPDATE ledgers.expenses SET notes = 'x' WHERE id = %s", [new]) == "MADE_BY_A_PERSON"


def test_a_step_that_time_takes_leaves_it_alone(tenant: Tenant, at_desk: Desk) -> None:
    new = reinstated(at_desk, turned_down(at_desk))
    other = at_desk.row(status="NEEDS_ATTENTION")
    rule = StatusRule("expenses", "NEEDS_ATTENTION", "PENDING", when="TRUE", reason="time is up")
    due = DueRule(subledger_type("expenses"), rule, platform_bundle())
    moved = at_desk.run(
        "app",
        lambda app: take_due_steps(tenant.handle(at_desk.entity, database=app), [due], period=PERIOD, day=date(2025, 2, 1)),
    )
    assert (moved, at_desk.status(new), at_desk.status(other)) == (1, "NEEDS_ATTENTION", "PENDING")


# Many at once


def test_a_filter_takes_each_row_once(tenant: Tenant, at_desk: Desk) -> None:
    kind, where = subledger_type("expenses"), Filter(entity=at_desk.entity)
    first, _second = turned_down(at_desk, amount_gross=100), turned_down(at_desk, "exclude", amount_gross=50)
    reinstated_and_turned_down(at_desk, first)
    at_desk.row(amount_gross=70)
    found = at_desk.run("desk", lambda desk: summarise(desk, kind, "reinstate", where, by="user:pat"))
    assert (found.count, dict(found.totals)) == (2, {"GBP": 150})
    assert dict(found.skipped) == {"ALREADY_REINSTATED": 1, "ILLEGAL_TRANSITION": 1}
    dry = at_desk.run(
        "desk",
        lambda desk: file_signal(
            desk, kind, "reinstate", filed_by="user:pat", reason="x", entity_id=at_desk.entity, dry_run=True
        ),
    )
    assert [each.rows for each in dry] == [2]
    at_desk.run(
        "desk",
        lambda desk: file_matching(
            desk, kind, "reinstate", filed_by="user:pat", reason="x", values=None, where=where, seen=found.seen
        ),
    )
    assert at_desk.apply() == Applied(1, 2, 0)
    assert tenant.fetch(
        "SELECT count(*) FROM ledgers.expenses WHERE entity_id = %s AND status = 'NEEDS_ATTENTION'", at_desk.entity
    ) == [(2,)]


def test_thousands_in_a_few_statements(tenant: Tenant, at_desk: Desk) -> None:
    with tenant.as_owner() as owner:
        owner.execute("ALTER TABLE ledgers.expenses DISABLE TRIGGER USER")
        owner.execute(
            "INSERT INTO ledgers.expenses (id, entity_id, period, task_id, status, vendor, amount_gross, currency, source_ref) "
            "SELECT gen_random_uuid(), %s, %s, gen_random_uuid(), 'REJECTED', 'Smith', n, 'GBP', 'doc:1#L' || n "
            "FROM generate_series(1, 5000) n",
            [at_desk.entity, PERIOD],
        )
        owner.execute("ALTER TABLE ledgers.expenses ENABLE TRIGGER USER")
    kind = subledger_type("expenses")
    at_desk.run(
        "desk", lambda desk: file_signal(desk, kind, "reinstate", filed_by="user:pat", reason="x", entity_id=at_desk.entity)
    )
    statements = 0

    async def work(app: Any) -> Applied:
        nonlocal statements
        plain = app.execute

        async def counted(*given: Any) -> int:
            nonlocal statements
            statements += 1
            return await plain(*given)  # type: ignore[no-any-return]

        app.execute = counted
        return await apply_signals(tenant.handle(at_desk.entity, database=app), period=PERIOD)

    assert at_desk.run("app", work) == Applied(1, 5000, 0)
    assert statements < 20


# A closed month


def test_in_a_closed_month_it_waits_like_any_other(tenant: Tenant, at_desk: Desk) -> None:
    row = turned_down(at_desk)
    with tenant.as_owner() as owner:
        owner.execute(
            "INSERT INTO ledgers.periods (entity_id, period, status) VALUES (%s, %s, 'CLOSED')", [at_desk.entity, PERIOD]
        )
    new = reinstated(at_desk, row)
    at_desk.decide("user:pat", "accept", new)
    at_desk.decide("user:ann", "approve", new)
    with pytest.raises(RefusedByDatabaseError) as refused:
        at_desk.post()
    assert refused.value.code == "PERIOD_CLOSED"
    assert at_desk.status(new) == "APPROVED"


# What the database refuses, whatever the program with the app's role does


CLAIM = "INSERT INTO system.reinstatements (row_id, successor_id, signal_id) VALUES (%s, %s, %s)"


def made_by_hand(app: Connection, row: UUID, **other: Any) -> UUID:
    """A successor as the platform inserts it, but for what is `other`."""
    names = [
        name
        for (name,) in app.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'ledgers.expenses'::regclass AND attnum > 0 AND NOT attisdropped "
            "AND attname <> ALL('{id,status,source_ref,made_by,approved_by,approved_at,posted_to_gl,posted_journal_ref}')"
        ).fetchall()
    ]
    new = uuid4()
    own = {"id": new, "status": "NEEDS_ATTENTION", "source_ref": f"again:{new}"} | other
    copied = [name for name in names if name not in own]
    app.execute(
        f"INSERT INTO ledgers.expenses ({', '.join([*own, *copied])}) "
        f"SELECT {', '.join(['%s'] * len(own))}, {', '.join(copied)} FROM ledgers.expenses WHERE id = %s",
        [*own.values(), row],
    )
    return new


def applied(app: Connection, signal: UUID) -> None:
    app.execute("UPDATE system.signal_rows SET outcome = 'APPLIED' WHERE signal_id = %s", [signal])


def test_the_attacks_below_are_refused_for_what_they_are(tenant: Tenant, at_desk: Desk, app: Connection) -> None:
    row = turned_down(at_desk)
    signal = tenant.file("reinstate", [row])
    applied(app, signal)
    app.execute(CLAIM, [row, made_by_hand(app, row), signal])
    app.execute("UPDATE system.signals SET applied_at = now() WHERE id = %s", [signal])


@pytest.mark.parametrize("status", ["POSTED", "APPROVED", "PENDING"])
def test_nothing_but_what_was_set_aside_is_reinstated(tenant: Tenant, at_desk: Desk, app: Connection, status: str) -> None:
    row = tenant.row_in(status, at_desk.entity)
    signal = tenant.file("reinstate", [row])
    assert at_desk.apply() == Applied(1, 0, 1)
    assert at_desk.last(row) == ("REFUSED", "ILLEGAL_TRANSITION")
    signal = tenant.file("reinstate", [row])
    applied(app, signal)
    assert refusal(app, CLAIM, [row, made_by_hand(app, row), signal]) == "ILLEGAL_TRANSITION"


def test_it_takes_a_decision_about_this_row(tenant: Tenant, at_desk: Desk, app: Connection) -> None:
    row, other = turned_down(at_desk), turned_down(at_desk)
    rejecting = tenant.file("reject", [row])
    applied(app, rejecting)
    assert refusal(app, CLAIM, [row, made_by_hand(app, row), rejecting]) == "NEEDS_A_DECISION"
    signal = tenant.file("reinstate", [row])
    assert refusal(app, CLAIM, [row, made_by_hand(app, row), signal]) == "NEEDS_A_DECISION"  # not applied
    applied(app, signal)
    assert refusal(app, CLAIM, [other, made_by_hand(app, other), signal]) == "NEEDS_A_DECISION"


@pytest.mark.parametrize(
    "other",
    [{"vendor": "Jones"}, {"status": "PENDING"}, {"raw_payload": "{}"}, {"validation_errors": "[{}]"}, {"period": "2025-02"}, {}],
    ids=lambda other: next(iter(other), "an old row"),
)  # fmt: skip
def test_a_successor_is_the_same_row_again(tenant: Tenant, at_desk: Desk, app: Connection, other: dict[str, Any]) -> None:
    row = turned_down(at_desk)
    signal = tenant.file("reinstate", [row])
    applied(app, signal)
    if other:
        new = made_by_hand(app, row, **other)
    else:  # one that has been there before
        with tenant.connect("app") as before:
            new = made_by_hand(before, row)
    assert refusal(app, CLAIM, [row, new, signal]) == "SUCCESSOR_DIFFERS"
    assert refusal(app, CLAIM, [row, uuid4(), signal]) == "SUCCESSOR_DIFFERS"
    assert refusal(app, CLAIM, [row, row, signal]) == "SUCCESSOR_DIFFERS"


def test_one_row_has_one_successor_for_ever(tenant: Tenant, at_desk: Desk, app: Connection) -> None:
    row = turned_down(at_desk)
    reinstated(at_desk, row)
    signal = tenant.file("reinstate", [row])
    applied(app, signal)
    assert refusal(app, CLAIM, [row, made_by_hand(app, row), signal]) == "UniqueViolation"
    attacks = (
        "UPDATE system.reinstatements SET row_id = row_id",
        "DELETE FROM system.reinstatements",
        "DELETE FROM system.reinstatable",
        "INSERT INTO system.reinstatable VALUES ('x', '{POSTED}', 'PENDING')",
    )
    for role in ("app", "desk", "auditor"):
        for attack in attacks:
            assert refusal(tenant.connect(role), attack) == "InsufficientPrivilege"
    assert refusal(tenant.connect("owner"), "DELETE FROM system.reinstatements") == "HISTORY_IS_APPEND_ONLY"
    for role in ("desk", "auditor"):
        assert refusal(tenant.connect(role), CLAIM, [row, row, signal]) == "InsufficientPrivilege"


def test_forebears_are_not_for_a_program_to_say(app: Connection) -> None:
    claim = "INSERT INTO system.reinstatements (row_id, successor_id, signal_id, forebears) VALUES (%s, %s, %s, '{}')"
    assert refusal(app, claim, [uuid4(), uuid4(), uuid4()]) == "InsufficientPrivilege"


def test_what_was_applied_has_its_successor(tenant: Tenant, at_desk: Desk, app: Connection) -> None:
    signal = tenant.file("reinstate", [turned_down(at_desk)])
    applied(app, signal)
    assert refusal(app, "UPDATE system.signals SET applied_at = now() WHERE id = %s", [signal]) == "SIGNAL_NOT_DECIDED"


def test_a_decision_is_used_once(tenant: Tenant, at_desk: Desk, app: Connection) -> None:
    row = turned_down(at_desk)
    reinstated(at_desk, row)
    ((signal,),) = tenant.fetch("SELECT signal_id FROM system.reinstatements WHERE row_id = %s", row)
    other = turned_down(at_desk)
    assert refusal(app, CLAIM, [other, made_by_hand(app, other), signal]) == "SIGNAL_ALREADY_APPLIED"
