"""What members say beside their decisions, in raw SQL: comments are kept, views are not."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from ledger_tenant import Connection, Tenant, refusal

COMMENT = "INSERT INTO system.row_comments (subledger, row_id, by, text) VALUES (%s, %s, %s, %s)"
VIEW = "INSERT INTO system.saved_views (login, name, subledger, query) VALUES (%s, %s, 'expenses', %s)"


@pytest.fixture(autouse=True)
def members(tenant: Tenant) -> None:
    tenant.add_members({"user:ann": "preparer", "user:eve": "auditor", "user:gone": "approver"})
    with tenant.as_owner() as owner:
        owner.execute("UPDATE system.members SET active = FALSE WHERE login = 'user:gone'")


def test_a_comment_is_said_once_and_kept(tenant: Tenant, entity: UUID, desk: Connection) -> None:
    row = tenant.new_row(entity)
    desk.execute(COMMENT, ["expenses", row, "user:ann", "Which invoice?"])
    desk.execute(COMMENT, ["expenses", row, "user:eve", "x" * 4000])
    desk.commit()
    said = "SELECT by, text, at <= now() FROM system.row_comments WHERE row_id = %s ORDER BY at LIMIT 1"
    assert tenant.fetch(said, row) == [("user:ann", "Which invoice?", True)]
    for statement in ("UPDATE system.row_comments SET text = 'x'", "DELETE FROM system.row_comments"):
        for role in ("app", "desk", "auditor"):
            assert refusal(tenant.connect(role), statement) == "InsufficientPrivilege"
        assert refusal(tenant.connect("owner"), statement) == "HISTORY_IS_APPEND_ONLY"


def test_who_may_comment_on_what(tenant: Tenant, entity: UUID, desk: Connection, app: Connection) -> None:
    row = tenant.new_row(entity)
    assert refusal(desk, COMMENT, ["expenses", row, "user:gone", "x"]) == "NOT_A_MEMBER"
    assert refusal(desk, COMMENT, ["expenses", row, "user:nobody", "x"]) == "ForeignKeyViolation"
    assert refusal(desk, COMMENT, ["expenses", uuid4(), "user:ann", "x"]) == "ROW_NOT_FOUND"
    assert refusal(desk, COMMENT, ["journal_proposals", row, "user:ann", "x"]) == "ROW_NOT_FOUND"
    assert refusal(desk, COMMENT, ["nothing", row, "user:ann", "x"]) == "ForeignKeyViolation"
    for text in ("", "  ", "x" * 4001):
        assert refusal(desk, COMMENT, ["expenses", row, "user:ann", text]) == "CheckViolation"
    backdated = COMMENT.replace("by, text)", "by, text, at)").replace("%s)", "%s, '2020-01-01')")
    assert refusal(desk, backdated, ["expenses", row, "user:ann", "x"]) == "InsufficientPrivilege"
    assert refusal(app, COMMENT, ["expenses", row, "user:ann", "x"]) == "InsufficientPrivilege"


def test_views_come_and_go(tenant: Tenant, desk: Connection, app: Connection) -> None:
    desk.execute(VIEW, ["user:ann", "mine", '{"status": "PENDING"}'])
    desk.execute("UPDATE system.saved_views SET query = '{}', updated_at = now() WHERE login = 'user:ann'")
    assert refusal(desk, "UPDATE system.saved_views SET login = 'user:eve'") == "InsufficientPrivilege"
    assert refusal(desk, VIEW, ["user:ann", "mine", "{}"]) == "UniqueViolation"
    assert refusal(desk, VIEW, ["user:ann", "list", "[]"]) == "CheckViolation"
    assert refusal(desk, VIEW, ["user:nobody", "mine", "{}"]) == "ForeignKeyViolation"
    assert desk.execute("DELETE FROM system.saved_views WHERE login = 'user:ann'").rowcount == 1
    assert refusal(app, "SELECT FROM system.saved_views") == "InsufficientPrivilege"
