"""The rules of rows and signals, attacked with raw SQL as the app role: whatever a program does, the database refuses."""

from __future__ import annotations

from itertools import product
from typing import Any
from uuid import UUID, uuid4

import pytest
from ledger_tenant import PERIOD, STAMPS, Connection, Tenant, move, refusal, use_signal

from ntro_dagster.subledger import SubledgerStatus

LEGAL = {(edge.source, edge.target): edge for edge in SubledgerStatus.lifecycle.edges}
ILLEGAL = [pair for pair in product(map(str, SubledgerStatus), repeat=2) if pair not in LEGAL]
KINDS = ("approve", "reject", "exclude", "edit", "accept")
BY_SIGNAL = [(edge.source, edge.target, edge.signal) for edge in LEGAL.values() if edge.signal]
UPDATE = "UPDATE ledgers.expenses SET {} WHERE id = %s"
INSERT = (
    "INSERT INTO ledgers.expenses (id, entity_id, period, task_id, status, vendor, amount_gross, currency{}) "
    "VALUES (%s, %s, %s, %s, %s, 'Smith', 120, 'GBP'{})"
)


def insertion(entity: UUID, status: str = "PENDING", **more: Any) -> tuple[str, list[Any]]:
    statement = INSERT.format("".join(f", {name}" for name in more), ", %s" * len(more))
    return statement, [uuid4(), entity, PERIOD, uuid4(), status, *more.values()]


# Birth


@pytest.mark.parametrize("status", ["APPROVED", "POSTED", "REJECTED", "EXCLUDED", "pending", "", "ANYTHING"])
def test_a_row_is_born_with_an_initial_status(app: Connection, entity: UUID, status: str) -> None:
    assert refusal(app, *insertion(entity, status)) == "NOT_AN_INITIAL_STATUS"


@pytest.mark.parametrize(
    "stamp",
    [{"approved_by": "user:bob"}, {"approved_at": "2025-01-01"}, {"made_by": "user:ann"}],
    ids=lambda stamp: next(iter(stamp)),
)
@pytest.mark.parametrize("status", ["NEEDS_ATTENTION", "PENDING"])
def test_a_row_is_born_untouched_by_people(app: Connection, entity: UUID, status: str, stamp: dict[str, str]) -> None:
    assert refusal(app, *insertion(entity, status, **stamp)) == "NOT_AN_INITIAL_STATUS"


@pytest.mark.parametrize("stamp", [{"posted_to_gl": True}, {"posted_journal_ref": "x"}], ids=lambda stamp: next(iter(stamp)))
def test_a_row_is_born_unposted(app: Connection, entity: UUID, stamp: dict[str, Any]) -> None:
    assert refusal(app, *insertion(entity, **stamp)) == "POSTED_WITHOUT_JOURNAL"


def test_birth_is_checked_in_copy_merge_and_upsert_too(app: Connection, tenant: Tenant, entity: UUID) -> None:
    row = tenant.new_row(entity)
    statement, values = insertion(entity, "APPROVED")
    select = statement.replace("VALUES (", "SELECT ").removesuffix(")")
    assert refusal(app, select, values) == "NOT_AN_INITIAL_STATUS"
    statement, values = insertion(entity)
    upsert = f"{statement} ON CONFLICT (id) DO UPDATE SET status = 'APPROVED', approved_by = 'user:bob', approved_at = now()"
    assert refusal(app, upsert, [row, *values[1:]]) == "NEEDS_A_DECISION"
    merge = (
        "MERGE INTO ledgers.expenses t USING (SELECT %s::uuid AS id) s ON t.id = s.id "
        "WHEN MATCHED THEN UPDATE SET status = 'APPROVED', approved_by = 'user:bob', approved_at = now()"
    )
    assert refusal(app, merge, [row]) == "NEEDS_A_DECISION"


@pytest.mark.parametrize("field", ["amount_gross", "vat_amount"])
def test_an_amount_is_a_number(app: Connection, entity: UUID, field: str) -> None:
    statement, values = insertion(entity, "NEEDS_ATTENTION", vat_amount="NaN")
    if field == "amount_gross":
        statement, values = insertion(entity, "NEEDS_ATTENTION")
        statement = statement.replace("120", "'NaN'")
    assert refusal(app, statement, values) == "CheckViolation"
    assert refusal(app, statement.replace("'NaN'", "'Infinity'"), [v if v != "NaN" else "Infinity" for v in values]) == (
        "NumericValueOutOfRange"
    )


@pytest.mark.parametrize(
    "change",
    ["vendor = NULL", "amount_gross = NULL", "currency = NULL", "amount_gross = 0", "amount_gross = -1", "vat_amount = 121",
     "vat_amount = -1"],
)  # fmt: skip
def test_a_pending_row_is_complete(app: Connection, tenant: Tenant, entity: UUID, change: str) -> None:
    assert refusal(app, UPDATE.format(change), [tenant.new_row(entity)]) == "CheckViolation"


def test_a_row_belongs_to_an_entity_that_exists(app: Connection) -> None:
    assert refusal(app, *insertion(uuid4())) == "ForeignKeyViolation"


# Edges


def edge_update(status: str) -> str:
    """Everything that would go with a move to `status`, so that only the edge can be what is refused."""
    stamp = {"APPROVED": STAMPS["approve"], "POSTED": STAMPS["post"]}.get(status, "")
    return f"UPDATE ledgers.expenses SET status = %(to)s{stamp} WHERE id = %(row)s"


@pytest.mark.parametrize(("source", "target"), ILLEGAL, ids=lambda value: value)
def test_an_illegal_edge_is_refused_with_any_signal_and_without(
    app: Connection, tenant: Tenant, entity: UUID, source: str, target: str
) -> None:
    row = tenant.row_in(source, entity)
    ((journal,),) = tenant.fetch("SELECT external_id FROM ledgers.journals WHERE row_id = %s", row) or [(None,)]
    journal = journal or tenant.journal(entity, row)
    codes = {"ILLEGAL_TRANSITION"} if not SubledgerStatus(source).terminal else {"ROW_IS_FINAL"}
    values = {"to": target, "row": row, "by": "user:eve", "journal": journal}
    assert refusal(app, edge_update(target), values) in codes
    for kind in KINDS:
        use_signal(app, tenant.file(kind, [row], by="user:eve"))
        assert refusal(app, edge_update(target), values) in codes, kind


@pytest.mark.parametrize("target", ["", "pending", "DONE", None])
def test_a_status_is_one_of_the_lifecycle(app: Connection, tenant: Tenant, entity: UUID, target: str | None) -> None:
    row = tenant.new_row(entity)
    assert refusal(app, UPDATE.format("status = %s"), [target, row]) in {"ILLEGAL_TRANSITION", "NotNullViolation"}


@pytest.mark.parametrize("edge", BY_SIGNAL, ids=" ".join)
def test_an_edge_is_open_to_its_own_signal_only(
    app: Connection, tenant: Tenant, entity: UUID, edge: tuple[str, str, str]
) -> None:
    source, target, kind = edge
    row = tenant.row_in(source, entity)
    values = {"to": target, "row": row, "by": "user:eve"}
    statement = f"UPDATE ledgers.expenses SET status = %(to)s{STAMPS.get(kind, '')} WHERE id = %(row)s"
    assert refusal(app, statement, values) in {"NEEDS_A_DECISION", "MAKER_FORGED"}
    for other in KINDS:
        if other != kind:
            use_signal(app, tenant.file(other, [row], by="user:eve"))
            assert refusal(app, statement, values) == "NEEDS_A_DECISION", other
    use_signal(app, tenant.file(kind, [row], by="user:eve"))
    assert app.execute(statement, values).rowcount == 1
    app.commit()
    assert tenant.fetch("SELECT status FROM ledgers.expenses WHERE id = %s", row) == [(target,)]


def test_a_program_may_complete_a_row_that_no_person_has_touched(app: Connection, tenant: Tenant, entity: UUID) -> None:
    row = tenant.row_in("NEEDS_ATTENTION", entity)
    assert move(app, row, "PENDING", "") == 1


def test_a_program_may_not_complete_a_row_that_a_person_has_edited(app: Connection, tenant: Tenant, entity: UUID) -> None:
    row = tenant.row_in("NEEDS_ATTENTION", entity)
    use_signal(app, tenant.file("edit", [row], by="user:ann"))
    app.execute(UPDATE.format("vendor = 'Jones', made_by = 'user:ann'"), [row])
    app.commit()
    assert refusal(app, UPDATE.format("status = 'PENDING'"), [row]) == "NEEDS_A_DECISION"


def test_one_illegal_row_undoes_the_whole_statement(app: Connection, tenant: Tenant, entity: UUID) -> None:
    rows = [tenant.new_row(entity) for _ in range(3)]
    use_signal(app, tenant.file("approve", rows[:2]))
    statement = (
        "UPDATE ledgers.expenses SET status = 'APPROVED', approved_by = 'user:bob', approved_at = now() WHERE id = ANY(%s)"
    )
    assert refusal(app, statement, [rows]) == "NEEDS_A_DECISION"
    assert app.execute(statement, [rows[:2]]).rowcount == 2


# Signals


APPROVE = UPDATE.format("status = 'APPROVED', approved_by = 'user:bob', approved_at = now()")


def test_a_signal_speaks_only_of_its_own_rows(app: Connection, tenant: Tenant, entity: UUID) -> None:
    named, other = tenant.new_row(entity), tenant.new_row(entity)
    use_signal(app, tenant.file("approve", [named]))
    assert refusal(app, APPROVE, [other]) == "NEEDS_A_DECISION"


def test_a_signal_speaks_only_of_rows_of_its_entity_and_period(app: Connection, tenant: Tenant, entity: UUID) -> None:
    row = tenant.new_row(entity)
    use_signal(app, tenant.file("approve", [row], entity=tenant.new_entity()))
    assert refusal(app, APPROVE, [row]) == "NEEDS_A_DECISION"
    use_signal(app, tenant.file("approve", [row], period="2025-02"))
    assert refusal(app, APPROVE, [row]) == "NEEDS_A_DECISION"


def test_an_applied_signal_moves_nothing_more(app: Connection, tenant: Tenant, entity: UUID) -> None:
    row = tenant.new_row(entity)
    signal = tenant.file("approve", [row])
    app.execute("UPDATE system.signal_rows SET outcome = 'APPLIED' WHERE signal_id = %s", [signal])
    app.execute("UPDATE system.signals SET applied_at = now() WHERE id = %s", [signal])
    app.commit()
    use_signal(app, signal)
    assert refusal(app, APPROVE, [row]) == "SIGNAL_ALREADY_APPLIED"


@pytest.mark.parametrize("signal", [uuid4(), "journal_proposals"], ids=["unknown", "of another subledger"])
def test_a_signal_must_exist_for_this_subledger(app: Connection, tenant: Tenant, entity: UUID, signal: UUID | str) -> None:
    row = tenant.new_row(entity)
    use_signal(app, signal if isinstance(signal, UUID) else tenant.file("approve", [row], subledger=signal))
    assert refusal(app, APPROVE, [row]) == "SIGNAL_ALREADY_APPLIED"


@pytest.mark.parametrize("kind", ["approve", "reject", "exclude"])
def test_a_decision_covers_only_the_content_that_was_seen(app: Connection, tenant: Tenant, entity: UUID, kind: str) -> None:
    row = tenant.new_row(entity)
    signal = tenant.file(kind, [row])
    app.execute(UPDATE.format("amount_gross = 1200"), [row])
    app.commit()
    use_signal(app, signal)
    target = {"approve": "APPROVED", "reject": "REJECTED", "exclude": "EXCLUDED"}[kind]
    statement = f"UPDATE ledgers.expenses SET status = %(to)s{STAMPS.get(kind, '')} WHERE id = %(row)s"
    assert refusal(app, statement, {"to": target, "row": row, "by": "user:bob"}) == "CONTENT_CHANGED"


@pytest.mark.parametrize("kind", ["edit", "accept"])
def test_an_edit_starts_from_the_content_that_was_seen(app: Connection, tenant: Tenant, entity: UUID, kind: str) -> None:
    row = tenant.row_in("NEEDS_ATTENTION", entity)
    signal = tenant.file(kind, [row], by="user:ann")
    app.execute(UPDATE.format("amount_gross = 1200"), [row])
    app.commit()
    use_signal(app, signal)
    change = "notes = 'seen', made_by = 'user:ann'" if kind == "edit" else "status = 'PENDING', made_by = 'user:ann'"
    assert refusal(app, UPDATE.format(change), [row]) == "CONTENT_CHANGED"


@pytest.mark.parametrize("kind", ["approve", "reject", "exclude"])
def test_only_an_edit_or_an_acceptance_changes_content(app: Connection, tenant: Tenant, entity: UUID, kind: str) -> None:
    row = tenant.new_row(entity)
    use_signal(app, tenant.file(kind, [row]))
    target = {"approve": "APPROVED", "reject": "REJECTED", "exclude": "EXCLUDED"}[kind]
    moved = f"UPDATE ledgers.expenses SET vendor = 'Eve', status = %(to)s{STAMPS.get(kind, '')} WHERE id = %(row)s"
    assert refusal(app, moved, {"to": target, "row": row, "by": "user:bob"}) in {"CONTENT_CHANGED", "CONTENT_IS_FROZEN"}
    assert refusal(app, UPDATE.format("vendor = 'Eve'"), [row]) in {"CONTENT_CHANGED", "NEEDS_A_DECISION"}


@pytest.mark.parametrize("kind", ["approve", "reject", "exclude", "accept"])
def test_a_decision_is_not_borrowed_for_an_update_that_moves_nothing(
    app: Connection, tenant: Tenant, entity: UUID, kind: str
) -> None:
    row = tenant.row_in("NEEDS_ATTENTION" if kind == "accept" else "PENDING", entity)
    use_signal(app, tenant.file(kind, [row]))
    assert refusal(app, UPDATE.format("task_id = gen_random_uuid()"), [row]) == "NEEDS_A_DECISION"


def test_a_signal_is_not_borrowed_for_a_posting(app: Connection, tenant: Tenant, entity: UUID) -> None:
    row = tenant.row_in("APPROVED", entity)
    journal = tenant.journal(entity, row)
    use_signal(app, tenant.file("reject", [row]))
    statement = f"UPDATE ledgers.expenses SET status = 'POSTED'{STAMPS['post']} WHERE id = %(row)s"
    assert refusal(app, statement, {"row": row, "journal": journal}) == "NEEDS_A_DECISION"


def test_an_edit_that_happens_to_change_nothing_still_names_its_maker(app: Connection, tenant: Tenant, entity: UUID) -> None:
    row = tenant.new_row(entity)
    use_signal(app, tenant.file("edit", [row], by="user:ann"))
    assert refusal(app, UPDATE.format("vendor = 'Smith', made_by = 'user:eve'"), [row]) == "MAKER_FORGED"
    assert app.execute(UPDATE.format("vendor = 'Smith', made_by = 'user:ann'"), [row]).rowcount == 1


# Maker and checker


def edited(tenant: Tenant, entity: UUID, *people: str) -> UUID:
    row = tenant.new_row(entity)
    for person in people:
        with tenant.connect("app") as app:
            use_signal(app, tenant.file("edit", [row], by=person))
            app.execute(UPDATE.format("notes = coalesce(notes, '') || 'x', made_by = %s"), [person, row])
    return row


@pytest.mark.parametrize("people", [("user:bob",), ("user:bob", "user:ann")], ids=["last", "before another"])
def test_nobody_approves_a_row_they_edited(app: Connection, tenant: Tenant, entity: UUID, people: tuple[str, ...]) -> None:
    row = edited(tenant, entity, *people)
    use_signal(app, tenant.file("approve", [row], by="user:bob"))
    assert refusal(app, APPROVE, [row]) == "MAKER_IS_NOT_CHECKER"
    use_signal(app, tenant.file("approve", [row], by="user:carol"))
    assert move(app, row, "APPROVED", "approve", by="user:carol") == 1


def test_nobody_approves_a_row_they_accepted(app: Connection, tenant: Tenant, entity: UUID) -> None:
    row = tenant.row_in("NEEDS_ATTENTION", entity)
    tenant.decide("accept", row, by="user:bob")
    use_signal(app, tenant.file("approve", [row], by="user:bob"))
    assert refusal(app, APPROVE, [row]) == "MAKER_IS_NOT_CHECKER"


@pytest.mark.parametrize("change", ["made_by = 'user:eve'", "made_by = NULL", "notes = 'x', made_by = 'user:eve'"])
def test_a_maker_is_who_filed_the_edit(app: Connection, tenant: Tenant, entity: UUID, change: str) -> None:
    touched = edited(tenant, entity, "user:ann")
    assert refusal(app, UPDATE.format(change), [touched]) in {"MAKER_FORGED", "MADE_BY_A_PERSON"}
    use_signal(app, tenant.file("edit", [touched], by="user:bob"))
    assert refusal(app, UPDATE.format(change), [touched]) == "MAKER_FORGED"
    use_signal(app, tenant.file("approve", [touched], by="user:bob"))
    moved = UPDATE.format(f"{change}, status = 'APPROVED', approved_by = 'user:bob', approved_at = now()")
    assert refusal(app, moved, [touched]) in {"MAKER_FORGED", "CONTENT_IS_FROZEN"}


def test_a_program_leaves_content_alone_that_a_person_made(app: Connection, tenant: Tenant, entity: UUID) -> None:
    assert refusal(app, UPDATE.format("vendor = 'Eve'"), [edited(tenant, entity, "user:ann")]) == "MADE_BY_A_PERSON"


@pytest.mark.parametrize(
    "stamp",
    ["approved_by = 'user:eve', approved_at = now()", "approved_by = NULL, approved_at = now()", "approved_by = 'user:bob'",
     "approved_by = 'user:bob', approved_at = '2020-01-01'", "notes = notes"],
)  # fmt: skip
def test_an_approval_is_by_who_filed_it_and_now(app: Connection, tenant: Tenant, entity: UUID, stamp: str) -> None:
    row = tenant.new_row(entity)
    use_signal(app, tenant.file("approve", [row], by="user:bob"))
    assert refusal(app, UPDATE.format(f"status = 'APPROVED', {stamp}"), [row]) == "APPROVAL_FORGED"


@pytest.mark.parametrize(
    "stamp", ["approved_by = 'user:eve'", "approved_at = '2020-01-01'", "approved_by = NULL, approved_at = NULL"]
)
@pytest.mark.parametrize("status", ["NEEDS_ATTENTION", "PENDING", "APPROVED"])
def test_an_approval_is_not_written_or_rewritten_on_the_side(
    app: Connection, tenant: Tenant, entity: UUID, status: str, stamp: str
) -> None:
    if "NULL" in stamp and status != "APPROVED":
        stamp = "approved_by = '', approved_at = NULL"
    row = tenant.row_in(status, entity)
    assert refusal(app, UPDATE.format(stamp), [row]) == "APPROVAL_FORGED"
    use_signal(app, tenant.file("edit", [row]))
    assert refusal(app, UPDATE.format(stamp), [row]) == "APPROVAL_FORGED"


@pytest.mark.parametrize("edge", [edge for edge in BY_SIGNAL if edge[2] != "approve"], ids=" ".join)
def test_no_other_edge_carries_an_approval(app: Connection, tenant: Tenant, entity: UUID, edge: tuple[str, str, str]) -> None:
    source, target, kind = edge
    row = tenant.row_in(source, entity)
    use_signal(app, tenant.file(kind, [row], by="user:eve"))
    made = ", made_by = 'user:eve'" if kind == "accept" else ""
    forged = UPDATE.format(f"status = '{target}', approved_by = 'user:eve', approved_at = now(){made}")
    assert refusal(app, forged, [row]) == "APPROVAL_FORGED"


def test_a_program_that_completes_a_row_does_not_approve_it(app: Connection, tenant: Tenant, entity: UUID) -> None:
    row = tenant.row_in("NEEDS_ATTENTION", entity)
    forged = UPDATE.format("status = 'PENDING', approved_by = 'user:eve', approved_at = now()")
    assert refusal(app, forged, [row]) == "APPROVAL_FORGED"


@pytest.mark.parametrize("stamp", ["approved_by = 'user:eve'", "approved_at = now()", "made_by = 'user:eve'"])
def test_posting_changes_neither_maker_nor_approver(app: Connection, tenant: Tenant, entity: UUID, stamp: str) -> None:
    row = tenant.row_in("APPROVED", entity)
    journal = tenant.journal(entity, row)
    statement = UPDATE.format(f"status = 'POSTED', posted_to_gl = TRUE, posted_journal_ref = %s, {stamp}")
    assert refusal(app, statement, [journal, row]) in {"APPROVAL_FORGED", "MAKER_FORGED"}


# Content and identity


CONTENT = {
    "event_id": "gen_random_uuid()", "vendor": "'Eve'", "amount_gross": "999", "currency": "'USD'", "notes": "'x'",
    "expense_date": "'2025-01-02'", "payment_method": "'card'", "line_items": "'[{}]'", "vat_amount": "1", "category": "'5000'",
    "category_source": "'llm'", "confidence": "0.5", "validation_errors": "'[]'",
}  # fmt: skip


@pytest.mark.parametrize("column", CONTENT)
@pytest.mark.parametrize("status", ["APPROVED", "POSTED", "REJECTED", "EXCLUDED"])
def test_content_is_frozen_once_decided(app: Connection, tenant: Tenant, entity: UUID, status: str, column: str) -> None:
    row = tenant.row_in(status, entity)
    statement = UPDATE.format(f"{column} = {CONTENT[column]}")
    code = "CONTENT_IS_FROZEN" if status == "APPROVED" else "ROW_IS_FINAL"
    assert refusal(app, statement, [row]) == code
    use_signal(app, tenant.file("edit", [row]))
    assert refusal(app, statement.replace("SET ", "SET made_by = 'user:bob', "), [row]) == code


def test_the_list_of_content_above_is_complete(tenant: Tenant, entity: UUID) -> None:
    assert set(CONTENT) == {*tenant.handle(entity).kind.model.content_fields(), "validation_errors"}


@pytest.mark.parametrize("status", ["POSTED", "REJECTED", "EXCLUDED"])
def test_a_final_row_takes_no_update_at_all(app: Connection, tenant: Tenant, entity: UUID, status: str) -> None:
    row = tenant.row_in(status, entity)
    for change in ("task_id = gen_random_uuid()", "updated_at = now()", "vendor = vendor"):
        assert refusal(app, UPDATE.format(change), [row]) == "ROW_IS_FINAL"


@pytest.mark.parametrize(
    "change",
    ["id = gen_random_uuid()", "period = '2025-02'", "source_ref = 'doc:2#L1'", "source_ref = NULL", "raw_payload = '{\"a\": 1}'",
     "created_at = now() - interval '1 day'"],
)  # fmt: skip
@pytest.mark.parametrize("status", ["NEEDS_ATTENTION", "PENDING", "APPROVED"])
def test_identity_is_fixed(app: Connection, tenant: Tenant, entity: UUID, status: str, change: str) -> None:
    assert refusal(app, UPDATE.format(change), [tenant.row_in(status, entity)]) == "IDENTITY_IS_FIXED"


def test_a_row_does_not_change_its_entity(app: Connection, tenant: Tenant, entity: UUID) -> None:
    row = tenant.new_row(entity)
    assert refusal(app, UPDATE.format("entity_id = %s"), [tenant.new_entity(), row]) == "IDENTITY_IS_FIXED"


# Posting


def test_posted_needs_a_journal_of_its_own(app: Connection, tenant: Tenant, entity: UUID) -> None:
    row, elsewhere, later = (tenant.row_in("APPROVED", entity) for _ in range(3))
    statement = UPDATE.format("status = 'POSTED', posted_to_gl = %s, posted_journal_ref = %s")
    own = tenant.journal(entity, row)
    for posted, reference, wanted in [
        (True, None, row),
        (False, own, row),
        (True, "no such", row),
        (True, tenant.journal(entity, tenant.new_row(entity)), row),
        (True, tenant.journal(entity, None), row),
        (True, tenant.journal(tenant.new_entity(), elsewhere), elsewhere),
        (True, tenant.journal(entity, later, period="2025-02"), later),
    ]:
        assert refusal(app, statement, [posted, reference, wanted]) == "POSTED_WITHOUT_JOURNAL", reference
    assert app.execute(statement, [True, own, row]).rowcount == 1


def test_a_journal_whose_lines_alone_name_the_row_is_not_its_own(app: Connection, tenant: Tenant, entity: UUID) -> None:
    row, other = (tenant.row_in("APPROVED", entity) for _ in range(2))
    journal = uuid4()
    app.execute(
        "INSERT INTO ledgers.journals (id, entity_id, period, external_id, posting_date, description, currency, run_id, row_id) "
        "VALUES (%s, %s, %s, %s, %s, 'x', 'GBP', %s, %s)",
        [journal, entity, PERIOD, str(journal), f"{PERIOD}-15", uuid4(), other],
    )
    app.execute(
        "INSERT INTO ledgers.journal_lines (journal_id, line_no, account_code, debit, credit, row_id) "
        "VALUES (%s, 1, '5999', 1, 0, %s), (%s, 2, '2000', 0, 1, %s)",
        [journal, row, journal, row],
    )
    statement = UPDATE.format("status = 'POSTED', posted_to_gl = TRUE, posted_journal_ref = %s")
    assert refusal(app, statement, [str(journal), row]) == "POSTED_WITHOUT_JOURNAL"


@pytest.mark.parametrize(
    "change", ["posted_to_gl = TRUE", "posted_journal_ref = 'x'", "posted_to_gl = TRUE, posted_journal_ref = 'x'"]
)
@pytest.mark.parametrize("status", ["NEEDS_ATTENTION", "PENDING", "APPROVED"])
def test_a_row_that_is_not_posted_does_not_say_so(
    app: Connection, tenant: Tenant, entity: UUID, status: str, change: str
) -> None:
    assert refusal(app, UPDATE.format(change), [tenant.row_in(status, entity)]) == "POSTED_WITHOUT_JOURNAL"


# Who acts


def test_a_program_does_not_pass_for_a_person(app: Connection, tenant: Tenant, entity: UUID) -> None:
    row = tenant.new_row(entity)
    app.execute("SELECT set_config('ntro.actor', 'user:boss', TRUE), set_config('ntro.actor_kind', 'person', TRUE)")
    assert refusal(app, UPDATE.format("vendor = 'Eve'"), [row]) == "ACTOR_FORGED"
    assert refusal(app, *insertion(entity)) == "ACTOR_FORGED"


def test_under_a_signal_the_history_names_its_author_whatever_the_session_says(
    app: Connection, tenant: Tenant, entity: UUID
) -> None:
    row = tenant.new_row(entity)
    app.execute("SELECT set_config('ntro.actor', 'user:boss', TRUE), set_config('ntro.actor_kind', 'run', TRUE)")
    use_signal(app, tenant.file("approve", [row], by="user:bob"))
    move(app, row, "APPROVED", "approve")
    app.commit()
    recorded = tenant.fetch(
        "SELECT c.actor, c.actor_kind FROM system.history h JOIN system.changes c ON c.id = h.change_id "
        "WHERE h.row_id = %s ORDER BY c.id DESC LIMIT 1",
        row,
    )
    assert recorded == [("user:bob", "person")]


@pytest.mark.parametrize("value", ["not-a-uuid", "' OR TRUE --"])
def test_a_signal_id_that_is_none_is_an_error(app: Connection, tenant: Tenant, entity: UUID, value: str) -> None:
    row = tenant.new_row(entity)
    use_signal(app, value)
    assert refusal(app, APPROVE, [row]) == "InvalidTextRepresentation"
