"""The rules of an enum of a type's own, attacked with raw SQL as the app role: that of capital calls, with all its steps."""

from __future__ import annotations

from collections.abc import Callable
from enum import auto
from itertools import product
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from ledger_tenant import PERIOD, Connection, Tenant, code_of, refusal, use_signal
from own_statuses import deployed_type, sign

from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.subledger import Edge, StatusEnum, lifecycle
from ntro_dagster.subledger.deployment import StatusInUseError, attach
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.lifecycle import Lifecycle
from ntro_dagster.subledger.registry import SubledgerType


@lifecycle(
    Edge("NEEDS_ATTENTION", "PENDING", "accept", by_machine=True),
    Edge("NEEDS_ATTENTION", "REJECTED", "reject"),
    Edge("PENDING", "APPROVED", "approve"),
    Edge("PENDING", "REJECTED", "reject"),
    Edge("APPROVED", "REJECTED", "reject"),
    Edge("APPROVED", "AWAITING_BANK"),
    Edge("AWAITING_BANK", "PAID", "confirm_payment"),
    Edge("AWAITING_BANK", "DEFAULTED", "declare_default", by_machine=True),
    posted="AWAITING_BANK",
)
class CallStatus(StatusEnum):
    NEEDS_ATTENTION = auto()
    PENDING = auto()
    APPROVED = auto()
    AWAITING_BANK = auto()
    PAID = auto()
    DEFAULTED = auto()
    REJECTED = auto()


KNOWN = CallStatus.lifecycle
LEGAL = {(edge.source, edge.target): edge for edge in KNOWN.edges}
ILLEGAL = [pair for pair in product(KNOWN.statuses, repeat=2) if pair not in LEGAL]
BY_SIGNAL = [(edge.source, edge.target, edge.signal) for edge in KNOWN.edges if edge.signal]
WAYS = {
    "NEEDS_ATTENTION": [],
    "PENDING": [],
    "APPROVED": ["approve"],
    "AWAITING_BANK": ["approve", "post"],
    "PAID": ["approve", "post", "confirm_payment"],
    "DEFAULTED": ["approve", "post", "declare_default"],
    "REJECTED": ["reject"],
}
STAMPS = {
    "approve": ", approved_by = 'user:bob', approved_at = now()",
    "accept": ", made_by = 'user:bob'",
    "post": ", posted_to_gl = TRUE, posted_journal_ref = %(journal)s",
}


@pytest.fixture(scope="module")
def calls(deployed: DatabaseCredentials) -> SubledgerType:
    return deployed_type(Tenant(deployed), "calls", KNOWN)


@pytest.fixture
def row_in(tenant: Tenant, entity: UUID, calls: SubledgerType) -> Callable[[str], UUID]:
    def row_in(status: str) -> UUID:
        row = uuid4()
        with psycopg.connect(tenant.credentials.app) as app:
            app.execute(
                "INSERT INTO ledgers.calls (id, entity_id, period, task_id, status, label) VALUES (%s, %s, %s, %s, %s, 'A')",
                [row, entity, PERIOD, uuid4(), "NEEDS_ATTENTION" if status == "NEEDS_ATTENTION" else "PENDING"],
            )
        at = "PENDING"
        for step in WAYS[status]:
            to = next(e.target for e in KNOWN.edges if e.source == at and (e.signal or "post") == step)
            move(tenant, calls, row, to, step)
            at = to
        return row

    return row_in


def move(tenant: Tenant, calls: SubledgerType, row: UUID, to: str, step: str, *, by: str = "user:bob") -> None:
    """One legal step, committed."""
    signal = file(tenant, calls, row, step, by=by) if step != "post" else None
    with psycopg.connect(tenant.credentials.app) as app:
        if signal:
            use_signal(app, signal)
        app.execute(statement(step), {"to": to, "row": row, "journal": journal(tenant, row) if step == "post" else None})
        if signal:
            app.execute("UPDATE system.signal_rows SET outcome = 'APPLIED' WHERE signal_id = %s", [signal])
            app.execute("UPDATE system.signals SET applied_at = now() WHERE id = %s", [signal])


def statement(step: str) -> str:
    return f"UPDATE ledgers.calls SET status = %(to)s{STAMPS.get(step, '')} WHERE id = %(row)s"


def file(tenant: Tenant, calls: SubledgerType, row: UUID, kind: str, *, by: str = "user:bob") -> UUID:
    signal = uuid4()
    with psycopg.connect(tenant.credentials.desk) as desk:
        sign(desk, calls, signal, kind, [row], by=by)
    return signal


def journal(tenant: Tenant, row: UUID) -> str:
    ((entity,),) = tenant.fetch("SELECT entity_id FROM ledgers.calls WHERE id = %s", row)
    known = tenant.fetch("SELECT external_id FROM ledgers.journals WHERE row_id = %s", row)
    return str(known[0][0]) if known else tenant.journal(entity, row)


def status_of(tenant: Tenant, row: UUID) -> str:
    ((status,),) = tenant.fetch("SELECT status FROM ledgers.calls WHERE id = %s", row)
    return str(status)


@pytest.mark.parametrize("status", [*(s for s in KNOWN.statuses if s not in KNOWN.initial), "POSTED", "paid", ""])
def test_a_row_is_born_with_an_initial_status(app: Connection, entity: UUID, calls: SubledgerType, status: str) -> None:
    insert = "INSERT INTO ledgers.calls (id, entity_id, period, task_id, status) VALUES (%s, %s, %s, %s, %s)"
    assert refusal(app, insert, [uuid4(), entity, PERIOD, uuid4(), status]) == "NOT_AN_INITIAL_STATUS"


@pytest.mark.parametrize("edge", ILLEGAL, ids="-".join)
def test_an_illegal_edge_is_refused_with_any_signal_and_without(
    app: Connection, tenant: Tenant, calls: SubledgerType, row_in: Callable[[str], UUID], edge: tuple[str, str]
) -> None:
    source, target = edge
    row = row_in(source)
    code = "ILLEGAL_TRANSITION" if source in KNOWN.open else "ROW_IS_FINAL"
    for step in ("", "approve", "post"):
        values = {"to": target, "row": row, "journal": journal(tenant, row)}
        assert refusal(app, statement(step), values) == code, step
    for kind in KNOWN.signals:
        use_signal(app, file(tenant, calls, row, kind, by="user:eve"))
        assert refusal(app, statement(kind), {"to": target, "row": row}) == code, kind
    assert status_of(tenant, row) == source


@pytest.mark.parametrize("target", ["POSTED", "EXCLUDED", "pending", "", None])
def test_a_status_is_one_of_the_enum(app: Connection, row_in: Callable[[str], UUID], target: str | None) -> None:
    row = row_in("PENDING")
    assert refusal(app, statement(""), {"to": target, "row": row}) in {"ILLEGAL_TRANSITION", "NotNullViolation"}


@pytest.mark.parametrize("edge", BY_SIGNAL, ids=" ".join)
def test_an_edge_is_open_to_its_own_signal_only(
    app: Connection, tenant: Tenant, calls: SubledgerType, row_in: Callable[[str], UUID], edge: tuple[str, str, str]
) -> None:
    source, target, kind = edge
    row = row_in(source)
    values = {"to": target, "row": row}
    if not KNOWN.allows_a_run(source, target):
        assert refusal(app, statement(kind), values) == "NEEDS_A_DECISION"
    for other in KNOWN.signals:
        if other != kind:
            use_signal(app, file(tenant, calls, row, other))
            assert refusal(app, statement(kind), values) == "NEEDS_A_DECISION", other
    use_signal(app, file(tenant, calls, row, kind))
    assert app.execute(statement(kind), values).rowcount == 1
    app.commit()
    assert status_of(tenant, row) == target


def test_a_run_declares_a_default_whoever_made_the_call_and_no_payment(
    app: Connection, tenant: Tenant, calls: SubledgerType, row_in: Callable[[str], UUID]
) -> None:
    row = row_in("NEEDS_ATTENTION")
    move(tenant, calls, row, "PENDING", "accept", by="user:bob")
    assert file(tenant, calls, row, "approve", by="user:ann")
    signal = file(tenant, calls, row, "approve", by="user:ann")
    use_signal(app, signal)
    app.execute(
        "UPDATE ledgers.calls SET status = 'APPROVED', approved_by = 'user:ann', approved_at = now() WHERE id = %s", [row]
    )
    app.execute("UPDATE system.signal_rows SET outcome = 'APPLIED' WHERE signal_id = %s", [signal])
    app.execute("UPDATE system.signals SET applied_at = now() WHERE id = %s", [signal])
    app.commit()
    use_signal(app, "")
    app.execute(statement("post"), {"to": "AWAITING_BANK", "row": row, "journal": journal(tenant, row)})
    app.commit()
    assert refusal(app, statement(""), {"to": "PAID", "row": row}) == "NEEDS_A_DECISION"
    assert app.execute(statement(""), {"to": "DEFAULTED", "row": row}).rowcount == 1


def test_maker_is_not_checker(app: Connection, tenant: Tenant, calls: SubledgerType, row_in: Callable[[str], UUID]) -> None:
    row = row_in("NEEDS_ATTENTION")
    move(tenant, calls, row, "PENDING", "accept")
    use_signal(app, file(tenant, calls, row, "approve"))
    assert refusal(app, statement("approve"), {"to": "APPROVED", "row": row}) == "MAKER_IS_NOT_CHECKER"


def test_what_is_posted_has_a_journal_of_its_own_and_keeps_it(
    app: Connection, tenant: Tenant, entity: UUID, calls: SubledgerType, row_in: Callable[[str], UUID]
) -> None:
    row, other = row_in("APPROVED"), row_in("APPROVED")
    assert refusal(app, statement(""), {"to": "AWAITING_BANK", "row": row}) == "POSTED_WITHOUT_JOURNAL"
    foreign = {"to": "AWAITING_BANK", "row": row, "journal": journal(tenant, other)}
    assert refusal(app, statement("post"), foreign) == "POSTED_WITHOUT_JOURNAL"
    move(tenant, calls, row, "AWAITING_BANK", "post")
    for change in ("posted_to_gl = FALSE", "posted_journal_ref = NULL", "posted_journal_ref = 'test:other'"):
        for more in ("", ", status = 'DEFAULTED'"):
            code = refusal(app, f"UPDATE ledgers.calls SET {change}{more} WHERE id = %s", [row])
            assert code == "POSTED_WITHOUT_JOURNAL", (change, more)
    move(tenant, calls, row, "PAID", "confirm_payment")
    ((reference, posted),) = tenant.fetch("SELECT posted_journal_ref, posted_to_gl FROM ledgers.calls WHERE id = %s", row)
    assert (reference, posted) == (journal(tenant, row), True)


@pytest.mark.parametrize("status", ["APPROVED", "AWAITING_BANK", "PAID", "DEFAULTED", "REJECTED"])
def test_content_is_fixed_once_it_was_decided(app: Connection, row_in: Callable[[str], UUID], status: str) -> None:
    row = row_in(status)
    code = refusal(app, "UPDATE ledgers.calls SET amount = 1 WHERE id = %s", [row])
    assert code == ("CONTENT_IS_FROZEN" if status in KNOWN.open else "ROW_IS_FINAL")


@pytest.mark.parametrize("status", ["AWAITING_BANK"])
def test_a_decision_of_its_own_changes_no_content(
    app: Connection, tenant: Tenant, calls: SubledgerType, row_in: Callable[[str], UUID], status: str
) -> None:
    row = row_in(status)
    use_signal(app, file(tenant, calls, row, "confirm_payment"))
    change = "UPDATE ledgers.calls SET status = 'PAID', amount = 1 WHERE id = %s"
    assert refusal(app, change, [row]) in {"CONTENT_IS_FROZEN", "CONTENT_CHANGED"}
    forged = "UPDATE ledgers.calls SET status = 'PAID', approved_by = 'user:eve' WHERE id = %s"
    assert refusal(app, forged, [row]) == "APPROVAL_FORGED"


@pytest.mark.parametrize(("subledger", "kind"), [("calls", "exclude"), ("calls", "post"), ("expenses", "confirm_payment")])
def test_a_signal_is_of_a_kind_that_the_type_declares(
    desk: Connection, entity: UUID, calls: SubledgerType, subledger: str, kind: str
) -> None:
    insert = (
        "INSERT INTO system.signals (id, subledger, entity_id, period, kind, reason, filed_by) "
        "VALUES (%s, %s, %s, %s, %s, 'because', 'user:bob')"
    )
    assert refusal(desk, insert, [uuid4(), subledger, entity, PERIOD, kind]) == "ForeignKeyViolation"


@pytest.mark.parametrize("role", ["app", "desk", "auditor"])
def test_nobody_but_a_deployment_declares_kinds(tenant: Tenant, calls: SubledgerType, role: str) -> None:
    connection = tenant.connect(role)
    for attack in (
        "INSERT INTO system.signal_kinds VALUES ('calls', 'wave')",
        "UPDATE system.signal_kinds SET kind = 'wave'",
        "DELETE FROM system.signal_kinds",
    ):
        assert refusal(connection, attack) == "InsufficientPrivilege"


def test_a_status_that_rows_are_in_is_not_taken_away(tenant: Tenant, calls: SubledgerType, row_in: Callable[[str], UUID]) -> None:
    row_in("DEFAULTED")
    narrowed = Lifecycle(
        tuple(edge for edge in KNOWN.edges if edge.target != "DEFAULTED"),
        KNOWN.initial,
        KNOWN.editable,
        KNOWN.posted,
        KNOWN.loose,
    )
    described: Any = TypeDescription.of(calls)
    fields = {name: getattr(described, name) for name in described.__slots__} | {"lifecycle": narrowed}
    with tenant.as_owner() as owner, pytest.raises(StatusInUseError):
        attach(owner, [TypeDescription(**fields)])


def test_deploying_again_changes_nothing(
    app: Connection, tenant: Tenant, calls: SubledgerType, row_in: Callable[[str], UUID]
) -> None:
    with tenant.as_owner() as owner:
        attach(owner, [TypeDescription.of(calls)])
    try:
        app.execute(statement(""), {"to": "PAID", "row": row_in("PENDING")})
    except psycopg.Error as error:
        assert code_of(error) == "ILLEGAL_TRANSITION"
    else:
        pytest.fail("let through")
