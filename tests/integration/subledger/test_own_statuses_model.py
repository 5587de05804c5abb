"""Random lifecycles, deployed, and walked beside a model that knows the edges and nothing of SQL."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from ledger_tenant import PERIOD, Tenant, code_of
from own_statuses import deployed_type, handle_on
from walks import PATIENT

from ntro_dagster.gl.posting import post_approved
from ntro_dagster.gl.trial_balance import draw_up
from ntro_dagster.orchestration.work import Work, waiting
from ntro_dagster.subledger.lifecycle import Edge, Lifecycle, LifecycleInvalidError, check
from ntro_dagster.subledger.review import SignalUnknownError, apply_signals, file_signal
from ntro_dagster.subledger.row import row_id

T = TypeVar("T")

PEOPLE = ("user:ann", "user:bob")
SIGNALS = ("approve", "reject", "confirm", "declare", None)
NAMES = ("S_0", "S_1", "S_2", "S_3", "S_4")
lines = st.integers(0, 3)
numbers = count()


@st.composite
def lifecycles(draw: st.DrawFn) -> Lifecycle:
    """Any that a deployment takes: a tree of statuses, more edges at will, and now and then a posted status with what follows."""
    edges = [Edge("DOUBT", "CLEAN", "accept", by_machine=draw(st.booleans()))]
    strict = ["CLEAN"]
    for name in NAMES[: draw(st.integers(1, len(NAMES)))]:
        edges.append(_edge(draw, draw(st.sampled_from(strict)), name))
        strict.append(name)
    for _ in range(draw(st.integers(0, 4))):
        edges.append(_edge(draw, draw(st.sampled_from(["DOUBT", *strict])), draw(st.sampled_from(["GONE", *strict]))))
    posted = None
    if draw(st.booleans()):
        posted = "BOOKED"
        edges += [Edge(draw(st.sampled_from(strict)), "READY", "approve"), Edge("READY", "BOOKED")]
        if draw(st.booleans()):
            edges += [Edge("BOOKED", "SETTLED", "confirm", by_machine=draw(st.booleans())), Edge("BOOKED", "LOST", "declare")]
    initial = ("DOUBT", "CLEAN")
    editable = (*initial, *draw(st.lists(st.sampled_from(strict[1:]), max_size=2, unique=True)))
    made = Lifecycle(tuple(edges), initial, editable, posted, ("DOUBT", "GONE"))
    try:
        check("random", made, made.statuses)
    except LifecycleInvalidError:
        assume(False)
    return made


def _edge(draw: st.DrawFn, source: str, target: str) -> Edge:
    signal = draw(st.sampled_from(SIGNALS))
    return Edge(source, target, signal, by_machine=signal not in {None, "approve"} and draw(st.booleans()))


@dataclass
class Known:
    status: str
    label: str | None
    makers: list[str] = field(default_factory=list)
    posted: bool = False


@dataclass
class Decision:
    kind: str
    by: str
    seen: dict[int, str | None]


class Walk(RuleBasedStateMachine):
    tenant: Tenant

    @initialize(made=lifecycles())
    def deploy(self, made: Lifecycle) -> None:
        self.runner = asyncio.Runner()
        self.made = made
        self.kind = deployed_type(self.tenant, f"walk_{next(numbers)}", made)
        self.entity = self.tenant.new_entity()
        self.database, self.desk = self.tenant.database(), self.tenant.database("desk")
        self.handle = handle_on(self.kind, self.entity, self.database, uuid4())
        self.rows: dict[int, Known] = {}
        self.waiting: list[Decision] = []

    def await_(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.await_(self.database.close())
            self.await_(self.desk.close())
            self.runner.close()

    def id(self, line: int) -> UUID:
        return row_id(self.entity, PERIOD, self.kind.table, f"L{line}")

    @rule(line=lines, label=st.sampled_from((None, "a", "b")))
    def stage(self, line: int, label: str | None) -> None:
        self.await_(self.handle.stage([{"source_ref": f"L{line}", "label": label}], period=PERIOD))
        status = self.made.clean if label else self.made.in_doubt
        row = self.rows.get(line)
        if row is None:
            self.rows[line] = Known(status, label)
        elif not row.makers and row.status == status:
            row.label = label
        elif not row.makers and row.status == self.made.in_doubt and self.made.allows_a_run(row.status, status):
            row.status, row.label = status, label

    @precondition(lambda self: self.rows)
    @rule(kind=st.sampled_from(("approve", "reject", "confirm", "declare", "accept", "edit")), by=st.sampled_from(PEOPLE),
          chosen=st.sets(lines, min_size=1))  # fmt: skip
    def decide(self, kind: str, by: str, chosen: set[int]) -> None:
        sources = self.made.sources(kind)
        taken = {line: row.label for line in chosen if (row := self.rows.get(line)) and row.status in sources}
        values = {"label": "c"} if kind in {"edit", "accept"} else None
        try:
            filed = self.await_(
                file_signal(
                    self.desk, self.kind, kind, filed_by=by, reason="because", values=values, ids=[self.id(x) for x in chosen]
                )
            )
        except SignalUnknownError:
            assert kind not in self.made.signals
            return
        assert sum(signal.rows for signal in filed) == len(taken)
        if taken:
            self.waiting.append(Decision(kind, by, taken))

    @rule()
    def apply(self) -> None:
        applied = self.await_(apply_signals(self.handle, period=PERIOD))
        counted = sum(
            self.carry_out(decision, self.rows[line], seen) for decision in self.waiting for line, seen in decision.seen.items()
        )
        assert applied.applied == counted
        assert applied.refused == sum(len(decision.seen) for decision in self.waiting) - counted
        self.waiting = []

    def carry_out(self, decision: Decision, row: Known, seen: str | None) -> bool:
        if row.status not in self.made.sources(decision.kind) or row.label != seen:
            return False
        if decision.kind == "approve" and decision.by in row.makers:
            return False
        if decision.kind in {"edit", "accept"}:
            row.label = "c"
            row.makers.append(decision.by)
        row.status = self.made.targets(decision.kind).get(row.status, row.status)
        return True

    @rule()
    def post(self) -> None:
        posted = self.await_(post_approved(self.handle, period=PERIOD, currency="GBP"))
        ready = [row for row in self.rows.values() if self.made.approved and row.status == self.made.approved]
        assert posted.rows == len(ready)
        for row in ready:
            row.status, row.posted = str(self.made.posted), True

    @precondition(lambda self: self.rows)
    @rule(line=lines, to=st.sampled_from(("DOUBT", "CLEAN", "GONE", "READY", "BOOKED", "SETTLED", "LOST", *NAMES)))
    def attack(self, line: int, to: str) -> None:
        """A program on its own, with raw SQL: it gets through where a run may go, and nowhere else."""
        row = self.rows.get(line)
        if row is None:
            return
        edge = next((e for e in self.made.edges if (e.source, e.target) == (row.status, to)), None)
        touched = row.status in self.made.editable and bool(row.makers)
        free = edge is not None and to != self.made.posted and (edge.signal is None or (edge.by_machine and not touched))
        try:
            with psycopg.connect(self.tenant.credentials.app) as app:
                app.execute(f"UPDATE ledgers.{self.kind.table} SET status = %s WHERE id = %s", [to, self.id(line)])
        except psycopg.Error as error:
            expected = {"NEEDS_A_DECISION", "APPROVAL_FORGED"} if edge else {"ILLEGAL_TRANSITION"}
            expected |= {"POSTED_WITHOUT_JOURNAL"} if edge and to == self.made.posted else set()
            assert code_of(error) in (expected if row.status in self.made.open else {"ROW_IS_FINAL"}), (row, to)
            assert not free, (row, to, code_of(error))
        else:
            assert free, (row, to)
            row.status = to

    @invariant()
    def the_database_agrees(self) -> None:
        found = {row.id: row for row in self.await_(self.handle.query())}
        assert found.keys() == {self.id(line) for line in self.rows}
        for line, row in self.rows.items():
            real: Any = found[self.id(line)]
            assert (real.status, real.label, real.posted_to_gl) == (row.status, row.label, row.posted), line
            assert real.made_by == (row.makers[-1] if row.makers else None)

    @invariant()
    def sensors_see_what_there_is_to_do(self) -> None:
        kinds = {self.kind.table: self.made}
        (slug,) = self.tenant.fetch("SELECT slug FROM system.entities WHERE id = %s", self.entity)[0]
        for work, expected in (
            (Work.REVIEW, bool(self.waiting)),
            (Work.POSTING, any(row.status == self.made.approved for row in self.rows.values())),
            (Work.CLOSE, bool(self.rows) and not any(row.status in self.made.open for row in self.rows.values())),
        ):
            found = self.await_(waiting(self.database, work, kinds))
            assert any(each.entity == slug for each in found) == expected, work

    @invariant()
    def a_month_with_open_rows_is_not_closed(self) -> None:
        """Last, because it is asked for by drawing up the books, which is undone again."""
        is_open = any(row.status in self.made.open for row in self.rows.values())

        async def look() -> int:
            class _UndoneError(Exception):
                pass

            closes = 0
            try:
                async with self.database.transaction():
                    await draw_up(self.database, entity_id=self.entity, period=PERIOD, run_id=uuid4(), salt=b"s")
                    found = await self.database.fetch("SELECT id FROM ledgers.closes WHERE entity_id = %s", [self.entity])
                    closes = len(found)
                    raise _UndoneError
            except _UndoneError:
                return closes

        assert self.await_(look()) == (0 if is_open else 1)


@pytest.fixture
def machine(tenant: Tenant) -> Iterator[type[Walk]]:
    Walk.tenant = tenant
    yield Walk
    del Walk.tenant


def test_a_short_walk(machine: type[Walk]) -> None:
    run_state_machine_as_test(machine, settings=settings(PATIENT, max_examples=10, stateful_step_count=25, derandomize=True))


@pytest.mark.long
def test_a_long_walk(machine: type[Walk]) -> None:
    run_state_machine_as_test(machine, settings=settings(PATIENT, max_examples=150, stateful_step_count=50))
