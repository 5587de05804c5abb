"""Programs that are members: what they do is told apart from people, and what they may not do is refused, in raw SQL too."""

from __future__ import annotations

from uuid import UUID

import psycopg
import pytest
from desk_members import ROLES, Desk
from ledger_tenant import PERIOD, Connection, Tenant, refusal, use_signal

from ntro_dagster.platforms.postgres.database import RefusedByDatabaseError

AGENT = "agent:reader"
FILE = (
    "INSERT INTO system.signals (id, subledger, entity_id, period, kind, reason, filed_by) "
    "VALUES (gen_random_uuid(), 'expenses', %s, %s, %s, 'because', %s)"
)


@pytest.fixture
def at_desk(tenant: Tenant, entity: UUID) -> Desk:
    tenant.add_members(ROLES)
    return Desk(tenant, entity)


def test_what_an_agent_did_is_told_apart(tenant: Tenant, at_desk: Desk) -> None:
    row = at_desk.row()
    at_desk.decide(AGENT, "edit", row, values={"notes": "read again"})
    at_desk.file("user:pat", "edit", row, values={"notes": "by hand"})
    at_desk.apply()
    found = tenant.fetch(
        "SELECT c.actor, c.actor_kind FROM system.history h JOIN system.changes c ON c.id = h.change_id "
        "WHERE h.row_id = %s AND h.action = 'EDIT' ORDER BY c.id",
        row,
    )
    assert found == [(AGENT, "agent"), ("user:pat", "person")]


def test_a_refused_attempt_of_an_agent_is_an_agents(tenant: Tenant, at_desk: Desk) -> None:
    row = at_desk.row()
    at_desk.file(AGENT, "edit", row, values={"vat_amount": "500"})
    at_desk.apply()
    assert at_desk.last(row) == ("REFUSED", "STILL_INVALID")
    found = tenant.fetch(
        "SELECT c.actor_kind FROM system.history h JOIN system.changes c ON c.id = h.change_id "
        "WHERE h.row_id = %s AND h.action = 'REFUSED'",
        row,
    )
    assert found == [("agent",)]


def test_what_an_agent_made_a_person_approves(at_desk: Desk) -> None:
    row = at_desk.row()
    at_desk.decide(AGENT, "edit", row, values={"notes": "x"})
    with pytest.raises(RefusedByDatabaseError) as refused:
        at_desk.file(AGENT, "reject", row)
    assert refused.value.code == "ROLE_MAY_NOT"
    at_desk.decide("user:ann", "approve", row)
    assert at_desk.status(row) == "APPROVED"


@pytest.mark.parametrize("kind", ["approve", "undo", "reject", "exclude"])
def test_an_agent_files_edits_and_acceptances_only(at_desk: Desk, desk: Connection, kind: str) -> None:
    assert refusal(desk, FILE, [at_desk.entity, PERIOD, kind, AGENT]) == "ROLE_MAY_NOT"
    for filed in ("edit", "accept"):
        desk.execute(FILE, [at_desk.entity, PERIOD, filed, AGENT])


@pytest.mark.parametrize("login", ["user:eve", "user:root", "user:pat"])
def test_nor_do_others_approve_who_may_not(at_desk: Desk, desk: Connection, login: str) -> None:
    for kind in ("approve", "undo"):
        assert refusal(desk, FILE, [at_desk.entity, PERIOD, kind, login]) == "ROLE_MAY_NOT"
    assert refusal(desk, FILE, [at_desk.entity, PERIOD, "approve", "agent:nobody"]) == "NOT_A_MEMBER"


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE ledgers.expenses SET status = 'APPROVED', approved_by = 'user:ann', approved_at = now()",
        "UPDATE ledgers.expenses SET amount_gross = 1",
        "UPDATE ledgers.journal_proposals SET description = 'x'",
        "INSERT INTO ledgers.journals (id) VALUES (gen_random_uuid())",
        "UPDATE system.members SET role = 'approver' WHERE login = 'agent:reader'",
        "UPDATE system.members SET active = TRUE",
        "UPDATE system.members SET login = 'user:mallory' WHERE login = 'agent:reader'",
        "INSERT INTO system.members (login, name, role, created_by) VALUES ('user:mallory', 'M', 'approver', 'x')",
        "DELETE FROM system.members",
        "UPDATE system.desk_sessions SET login = 'user:ann'",
        "UPDATE system.desk_sessions SET expires_at = now() + interval '1 year'",
        "UPDATE system.desk_sessions SET digest = sha256('x')",
        "DELETE FROM system.desk_sessions",
        "UPDATE system.signals SET filed_by = 'user:ann'",
        "UPDATE system.signals SET on_behalf_of = 'user:ann'",
        "UPDATE system.signals SET withdrawn_at = now()",
        "UPDATE system.signals SET applied_at = now()",
        "UPDATE system.signal_rows SET outcome = 'SIGNED'",
        "INSERT INTO system.changes (subledger, actor, actor_kind) VALUES ('expenses', 'user:ann', 'person')",
        "INSERT INTO system.history (change_id, row_id, action) VALUES (1, gen_random_uuid(), 'SIGNED')",
        "INSERT INTO system.approval_limit_changes (currency, amount, recorded_by) VALUES ('GBP', 1e9, 'x')",
        "INSERT INTO system.delegations (from_login, to_login, ends_at, reason, recorded_by) "
        "VALUES ('user:ann', 'user:pat', now() + interval '1 day', 'x', 'x')",
        "INSERT INTO system.delegation_ends (delegation_id, reason, recorded_by) VALUES (gen_random_uuid(), 'x', 'x')",
        "SELECT system.begin_change('expenses', NULL)",
        "SELECT system.attach_approvals('expenses', '{}')",
        "SELECT system.declare_amount('expenses', NULL, NULL)",
        "SET ROLE ntro_app",
        "GRANT ntro_app TO CURRENT_USER",
        "ALTER TABLE ledgers.expenses DISABLE TRIGGER ALL",
        "SET session_replication_role = replica",
    ],
)
def test_the_desks_own_role_cannot_go_around_it(at_desk: Desk, desk: Connection, attack: str) -> None:
    at_desk.row()
    assert refusal(desk, attack) == "InsufficientPrivilege"


def test_an_agent_has_no_password(tenant: Tenant, at_desk: Desk, desk: Connection) -> None:
    give = "UPDATE system.members SET password_hash = '$argon2id$x' WHERE login = %s"
    assert refusal(desk, give, [AGENT]) == refusal(desk, give, ["user:pat"]) == "InsufficientPrivilege"
    with psycopg.connect(tenant.credentials.owner) as owner:
        assert refusal(owner, give, [AGENT]) == "CheckViolation"


@pytest.mark.parametrize("kind", ["person", "agent"])
def test_the_app_cannot_say_that_it_is_a_member(tenant: Tenant, at_desk: Desk, app: Connection, kind: str) -> None:
    row = at_desk.row()
    app.execute("SELECT set_config('ntro.actor', %s, TRUE), set_config('ntro.actor_kind', %s, TRUE)", [AGENT, kind])
    assert refusal(app, "UPDATE ledgers.expenses SET notes = 'x' WHERE id = %s", [row]) == "ACTOR_FORGED"


def test_the_app_cannot_make_an_agents_edit_an_approval(tenant: Tenant, at_desk: Desk, app: Connection) -> None:
    row = at_desk.row()
    signal = at_desk.file(AGENT, "edit", row, values={"notes": "x"})
    use_signal(app, signal)
    approve = "UPDATE ledgers.expenses SET status = 'APPROVED', approved_by = %s, approved_at = now() WHERE id = %s"
    assert refusal(app, approve, [AGENT, row]) == "NEEDS_A_DECISION"
