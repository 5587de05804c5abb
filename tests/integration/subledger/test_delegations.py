"""Approvers who let a preparer approve until a day, in the database and in raw SQL."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest
from desk_members import ROLES, Desk
from ledger_tenant import PERIOD, Connection, Tenant, refusal, use_signal

from ntro_dagster.platforms.postgres.database import RefusedByDatabaseError
from ntro_dagster.subledger.filing import ContentMovedError
from ntro_dagster.subledger.review import Applied

FILE = (
    "INSERT INTO system.signals (id, subledger, entity_id, period, kind, reason, filed_by, on_behalf_of) "
    "VALUES (gen_random_uuid(), 'expenses', %s, %s, %s, 'because', %s, %s)"
)


@pytest.fixture
def at_desk(tenant: Tenant, entity: UUID) -> Iterator[Desk]:
    tenant.add_members(ROLES)
    desk = Desk(tenant, entity)
    yield desk
    desk.end_delegations()
    desk.limit("GBP", None)
    with tenant.as_owner() as owner:
        for login, role in ROLES.items():
            owner.execute("UPDATE system.members SET role = %s, active = TRUE WHERE login = %s", [role, login])


def may_approve(at_desk: Desk, login: str) -> bool:
    try:
        at_desk.file(login, "approve", at_desk.row())
    except RefusedByDatabaseError as error:
        assert error.code == "ROLE_MAY_NOT"
        return False
    return True


def test_a_delegate_approves_and_the_history_says_for_whom(tenant: Tenant, at_desk: Desk) -> None:
    row = at_desk.row()
    assert not may_approve(at_desk, "user:pat")
    at_desk.delegate("user:ann", "user:pat")
    assert at_desk.decide("user:pat", "approve", row) == Applied(1, 1, 0)
    assert tenant.fetch("SELECT approved_by FROM ledgers.expenses WHERE id = %s", row) == [("user:pat",)]
    told = tenant.fetch(
        "SELECT c.actor, c.on_behalf_of, h.to_status FROM system.history h JOIN system.changes c ON c.id = h.change_id "
        "WHERE h.row_id = %s ORDER BY c.id DESC LIMIT 1",
        row,
    )
    assert told == [("user:pat", "user:ann", "APPROVED")]
    assert at_desk.decide("user:pat", "undo", row) == Applied(1, 1, 0)
    assert at_desk.decide("user:pat", "reject", row) == Applied(1, 1, 0)
    of_the_role = "SELECT on_behalf_of FROM system.signals WHERE filed_by = 'user:pat' AND kind = 'reject'"
    assert tenant.fetch(of_the_role) == [(None,)]


@pytest.mark.parametrize(("begins", "ends"), [("-2 hours", "-1 hour"), ("1 hour", "2 hours")])
def test_only_as_long_as_it_was_given(at_desk: Desk, begins: str, ends: str) -> None:
    at_desk.delegate("user:ann", "user:pat", begins=begins, ends=ends)
    assert not may_approve(at_desk, "user:pat")


def test_it_ends_early_by_a_record(tenant: Tenant, at_desk: Desk) -> None:
    at_desk.delegate("user:ann", "user:pat")
    at_desk.end_delegations()
    assert not may_approve(at_desk, "user:pat")
    for table in ("delegations", "delegation_ends"):
        assert refusal(tenant.connect("owner"), f"DELETE FROM system.{table}") == "HISTORY_IS_APPEND_ONLY"
    extend = "UPDATE system.delegations SET ends_at = now() + interval '1 year'"
    assert refusal(tenant.connect("owner"), extend) == "HISTORY_IS_APPEND_ONLY"


@pytest.mark.parametrize(
    "change",
    [
        "active = FALSE WHERE login = 'user:ann'",
        "role = 'preparer' WHERE login = 'user:ann'",
        "role = 'auditor' WHERE login = 'user:pat'",
    ],
)
def test_it_ends_with_the_role_of_either(tenant: Tenant, at_desk: Desk, change: str) -> None:
    at_desk.delegate("user:ann", "user:pat")
    with tenant.as_owner() as owner:
        owner.execute(f"UPDATE system.members SET {change}")
    assert not may_approve(at_desk, "user:pat")


@pytest.mark.parametrize(
    ("giver", "taker"),
    [("user:pat", "user:quinn"), ("user:ann", "user:bob"), ("user:ann", "agent:reader"), ("user:ann", "user:eve")],
)
def test_an_approver_delegates_to_a_preparer(tenant: Tenant, at_desk: Desk, giver: str, taker: str) -> None:
    insert = (
        "INSERT INTO system.delegations (from_login, to_login, ends_at, reason, recorded_by) "
        "VALUES (%s, %s, now() + interval '1 day', 'x', 'x')"
    )
    assert refusal(tenant.connect("owner"), insert, [giver, taker]) == "DELEGATION_INVALID"


def test_nobody_says_for_whom_but_as_delegated(at_desk: Desk, desk: Connection) -> None:
    at_desk.delegate("user:ann", "user:pat")
    who = [at_desk.entity, PERIOD, "approve"]
    assert refusal(desk, FILE, [*who, "user:pat", "user:bob"]) == "ROLE_MAY_NOT"
    assert refusal(desk, FILE, [*who, "user:quinn", "user:ann"]) == "ROLE_MAY_NOT"
    assert refusal(desk, FILE, [*who, "user:bob", "user:ann"]) == "ROLE_MAY_NOT"
    assert refusal(desk, FILE, [at_desk.entity, PERIOD, "reject", "user:pat", "user:ann"]) == "ROLE_MAY_NOT"
    desk.execute(FILE, [*who, "user:pat", "user:ann"])


@pytest.mark.parametrize("maker", ["user:pat", "user:ann"], ids=["the delegate", "the approver"])
def test_neither_made_what_is_approved(tenant: Tenant, at_desk: Desk, app: Connection, maker: str) -> None:
    at_desk.delegate("user:ann", "user:pat")
    row = at_desk.row()
    at_desk.decide(maker, "edit", row, values={"notes": "x"})
    with pytest.raises(ContentMovedError) as moved:
        at_desk.file("user:pat", "approve", row)
    assert [one.code for one in moved.value.rows] == ["MAKER_IS_NOT_CHECKER"]
    signal = tenant.file("approve", [row], by="user:pat")
    use_signal(app, signal)
    approve = "UPDATE ledgers.expenses SET status = 'APPROVED', approved_by = 'user:pat', approved_at = now() WHERE id = %s"
    assert refusal(app, approve, [row]) == "MAKER_IS_NOT_CHECKER"
    assert at_desk.apply() == Applied(1, 0, 1)
    assert at_desk.last(row) == ("REFUSED", "MAKER_IS_NOT_CHECKER")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("user:ann", "user:pat"),
        ("user:pat", "user:ann"),
        ("user:pat", "user:quinn"),
    ],
    ids=["herself, then for her", "for her, then herself", "two delegates of one"],
)
def test_two_signatures_are_of_two_authorities(tenant: Tenant, at_desk: Desk, app: Connection, first: str, second: str) -> None:
    at_desk.limit("GBP", 1000)
    at_desk.delegate("user:ann", "user:pat")
    at_desk.delegate("user:ann", "user:quinn")
    row = at_desk.row(amount_gross=5000)
    assert at_desk.decide(first, "approve", row) == Applied(1, 0, 0, 1)
    signal = tenant.file("approve", [row], by=second)
    use_signal(app, signal)
    approve = "UPDATE ledgers.expenses SET status = 'APPROVED', approved_by = %s, approved_at = now() WHERE id = %s"
    assert refusal(app, approve, [second, row]) == "SECOND_APPROVAL_MISSING"
    app.rollback()
    assert at_desk.apply() == Applied(1, 0, 1)
    assert at_desk.last(row) == ("REFUSED", "ALREADY_SIGNED")
    assert at_desk.decide("user:bob", "approve", row) == Applied(1, 1, 0)


def test_one_delegate_of_two_signs_once(tenant: Tenant, at_desk: Desk, desk: Connection) -> None:
    at_desk.limit("GBP", 1000)
    at_desk.delegate("user:ann", "user:pat", begins="-2 hours")
    at_desk.delegate("user:bob", "user:pat")
    row = at_desk.row(amount_gross=5000)
    assert at_desk.decide("user:pat", "approve", row) == Applied(1, 0, 0, 1)
    signal = desk.execute(FILE + " RETURNING id", [at_desk.entity, PERIOD, "approve", "user:pat", "user:bob"]).fetchone()
    assert signal
    desk.execute(
        "INSERT INTO system.signal_rows SELECT %s, t.id, ledgers.expenses_digest(t) FROM ledgers.expenses t WHERE t.id = %s",
        [signal[0], row],
    )
    desk.commit()
    assert at_desk.apply() == Applied(1, 0, 1)
    assert at_desk.last(row) == ("REFUSED", "ALREADY_SIGNED")
    with pytest.raises(ContentMovedError):  # the delegate signed for her
        at_desk.file("user:ann", "approve", row)
    assert at_desk.decide("user:bob", "approve", row) == Applied(1, 1, 0)
