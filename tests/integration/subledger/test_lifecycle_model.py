"""The handle, signals and posting beside a model: a dict of rows that knows the rules and nothing of SQL."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from ledger_tenant import PERIOD, Tenant
from walks import PATIENT

from ntro_dagster.gl.posting import post_approved
from ntro_dagster.gl.trial_balance import trial_balance
from ntro_dagster.platforms.postgres.database import RefusedByDatabaseError
from ntro_dagster.subledger import SubledgerHandle
from ntro_dagster.subledger.registry import subledger_type
from ntro_dagster.subledger.review import apply_signals, file_signal
from ntro_dagster.subledger.row import row_id
from ntro_dagster.subledger.status import IllegalTransitionError, SubledgerStatus

T = TypeVar("T")

PEOPLE = ("user:ann", "user:bob", "user:carol")
TARGETS = {"approve": "APPROVED", "reject": "REJECTED", "exclude": "EXCLUDED", "accept": "PENDING"}
SOURCES = {
    "approve": {"PENDING"},
    "reject": {"NEEDS_ATTENTION", "PENDING", "APPROVED"},
    "exclude": {"PENDING"},
    "accept": {"NEEDS_ATTENTION"},
    "edit": {"NEEDS_ATTENTION", "PENDING"},
}
VENDORS = (None, "Smith", "Jones")
AMOUNTS = (None, Decimal("-1"), Decimal("0.01"), Decimal("120"))

lines = st.integers(0, 5)
readings = st.lists(st.tuples(lines, st.sampled_from(VENDORS), st.sampled_from(AMOUNTS)), max_size=6, unique_by=lambda r: r[0])
edits = st.fixed_dictionaries(
    {},
    optional={
        "vendor": st.sampled_from(VENDORS[1:]),
        "amount_gross": st.sampled_from(("-1", "0.01", "7")),
        "notes": st.just("x"),
    },
).filter(bool)


@dataclass
class Known:
    """A row of the model."""

    status: str
    vendor: str | None
    amount_gross: Decimal | None
    notes: str | None = None
    makers: list[str] = field(default_factory=list)
    approved_by: str | None = None

    @property
    def content(self) -> tuple[Any, ...]:
        return (self.vendor, self.amount_gross, self.notes)

    @property
    def complete(self) -> bool:
        return self.vendor is not None and self.amount_gross is not None and self.amount_gross > 0

    def edited(self, values: dict[str, str], *, complete: bool) -> bool:
        """Take the values, unless the result would not stand."""
        vendor, amount = values.get("vendor", self.vendor), values.get("amount_gross", self.amount_gross)
        new = Known(self.status, vendor, None if amount is None else Decimal(amount), values.get("notes", self.notes))
        if complete and not new.complete:
            return False
        self.vendor, self.amount_gross, self.notes = new.content
        return True


@dataclass
class Decision:
    kind: str
    by: str
    seen: dict[int, tuple[Any, ...]]
    values: dict[str, str]


class Lifecycle(RuleBasedStateMachine):
    tenant: Tenant

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.entity = self.tenant.new_entity()
        self.database, self.desk = self.tenant.database(), self.tenant.database("desk")
        self.handle: SubledgerHandle = self.tenant.handle(self.entity, database=self.database)
        self.kind = subledger_type("expenses")
        self.rows: dict[int, Known] = {}
        self.waiting: list[Decision] = []

    def await_(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.await_(self.database.close())
        self.await_(self.desk.close())
        self.runner.close()

    def id(self, line: int) -> UUID:
        return row_id(self.entity, PERIOD, "expenses", f"L{line}")

    @rule(readings=readings)
    def stage(self, readings: list[tuple[int, str | None, Decimal | None]]) -> None:
        payloads = [
            {"source_ref": f"L{line}", "vendor": vendor, "amount_gross": amount, "currency": "GBP"}
            for line, vendor, amount in readings
        ]
        staged = self.await_(self.handle.stage(payloads, period=PERIOD))
        assert staged.payloads == len(readings)
        assert staged.inserted == sum(line not in self.rows for line, _, _ in readings)
        for line, vendor, amount in readings:
            new = Known("PENDING", vendor, amount)
            new.status = "PENDING" if new.complete else "NEEDS_ATTENTION"
            old = self.rows.get(line)
            if old is None:
                self.rows[line] = new
            elif (
                old.makers
                or old.status not in {"NEEDS_ATTENTION", "PENDING"}
                or (old.status, new.status) == ("PENDING", "NEEDS_ATTENTION")
            ):
                continue
            else:
                self.rows[line] = new

    @precondition(lambda self: self.rows)
    @rule(
        kind=st.sampled_from(sorted(SOURCES)), by=st.sampled_from(PEOPLE), chosen=st.sets(lines, min_size=1), values=edits,
        repairs=st.booleans(),
    )  # fmt: skip
    def file(self, kind: str, by: str, chosen: set[int], values: dict[str, str], repairs: bool) -> None:
        given = values if kind == "edit" or (kind == "accept" and repairs) else {}
        taken = {line for line in chosen if line in self.rows and self.rows[line].status in SOURCES[kind]}
        filed = self.await_(
            file_signal(self.desk, self.kind, kind, filed_by=by, reason="because", values=given, ids=[self.id(n) for n in chosen])
        )
        assert sum(signal.rows for signal in filed) == len(taken)
        if taken:
            self.waiting.append(Decision(kind, by, {line: self.rows[line].content for line in taken}, given))

    @rule()
    def apply(self) -> None:
        applied = self.await_(apply_signals(self.handle, period=PERIOD))
        counted = 0
        for decision in self.waiting:
            counted += sum(self.carry_out(decision, self.rows[line], seen) for line, seen in decision.seen.items())
        assert (applied.signals, applied.applied) == (len(self.waiting), counted)
        assert applied.refused == sum(len(decision.seen) for decision in self.waiting) - counted
        self.waiting = []

    @staticmethod
    def carry_out(decision: Decision, row: Known, seen: tuple[Any, ...]) -> bool:
        if row.status not in SOURCES[decision.kind] or row.content != seen:
            return False
        if decision.kind == "approve" and decision.by in row.makers:
            return False
        if decision.kind in {"edit", "accept"}:
            if not row.edited(decision.values, complete=decision.kind == "accept" or row.status == "PENDING"):
                return False
            row.makers.append(decision.by)
        if decision.kind == "approve":
            row.approved_by = decision.by
        row.status = TARGETS.get(decision.kind, row.status)
        return True

    @rule()
    def post(self) -> None:
        posted = self.await_(post_approved(self.handle, period=PERIOD, currency="GBP"))
        ready = [row for row in self.rows.values() if row.status == "APPROVED"]
        assert posted.rows == len(ready)
        for row in ready:
            row.status = "POSTED"

    @precondition(lambda self: self.rows)
    @rule(line=lines, source=st.sampled_from(SubledgerStatus), to=st.sampled_from(SubledgerStatus))
    def move_without_a_decision(self, line: int, source: SubledgerStatus, to: SubledgerStatus) -> None:
        """A program on its own completes a row that no person has touched, and does nothing else."""
        row = self.rows.get(line)
        try:
            moved = self.await_(self.handle.transition([self.id(line)], to, from_status=source))
        except IllegalTransitionError:
            assert not source.lifecycle.allows(source, to)
        except RefusedByDatabaseError as refused:
            assert row is not None
            assert row.status == source
            assert refused.code in {"NEEDS_A_DECISION", "POSTED_WITHOUT_JOURNAL", "APPROVAL_FORGED"}
        except Exception as error:
            assert "complete_outside_needs_attention" in str(error)
            assert row is not None
            assert not row.complete
        else:
            if moved:
                assert row is not None
                assert (row.status, to, row.makers) == ("NEEDS_ATTENTION", "PENDING", [])
                row.status = "PENDING"

    @invariant()
    def the_database_agrees(self) -> None:
        found = {row.id: row for row in self.await_(self.handle.query())}
        assert found.keys() == {self.id(line) for line in self.rows}
        for line, row in self.rows.items():
            real: Any = found[self.id(line)]
            assert (real.status, real.vendor, real.amount_gross, real.notes) == (row.status, *row.content), line
            assert real.made_by == (row.makers[-1] if row.makers else None)
            assert real.approved_by == row.approved_by
            assert real.posted_to_gl == (row.status == "POSTED")

    @invariant()
    def the_books_carry_what_was_posted(self) -> None:
        drawn = self.await_(trial_balance(self.database, entity_id=self.entity, period=PERIOD))
        total = sum((row.amount_gross or Decimal(0) for row in self.rows.values() if row.status == "POSTED"), Decimal(0))
        assert drawn.totals() == ({"GBP": (total, total)} if total else {})

    @invariant()
    def the_history_leads_from_birth_to_where_a_row_stands(self) -> None:
        steps: dict[UUID, list[tuple[Any, ...]]] = {}
        for row, *step in self.tenant.fetch(
            "SELECT h.row_id, h.from_status, h.to_status, h.before, h.after FROM system.history h "
            "JOIN ledgers.expenses t ON t.id = h.row_id WHERE t.entity_id = %s AND action <> 'REFUSED' ORDER BY change_id",
            self.entity,
        ):
            steps.setdefault(row, []).append(tuple(step))
        for line, row in self.rows.items():
            first, *rest = steps[self.id(line)]
            assert first[0] is None
            last = first
            for step in rest:
                assert (step[0], step[2]) == (last[1], last[3])
                last = step
            assert last[1] == row.status


@pytest.fixture
def machine(tenant: Tenant) -> Iterator[type[Lifecycle]]:
    Lifecycle.tenant = tenant
    yield Lifecycle
    del Lifecycle.tenant


def test_a_short_walk(machine: type[Lifecycle]) -> None:
    run_state_machine_as_test(machine, settings=settings(PATIENT, max_examples=10, stateful_step_count=20, derandomize=True))


@pytest.mark.long
def test_a_long_walk(machine: type[Lifecycle]) -> None:
    run_state_machine_as_test(machine, settings=settings(PATIENT, max_examples=150, stateful_step_count=50))
