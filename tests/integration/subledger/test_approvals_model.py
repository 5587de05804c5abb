"""Edits, approvals, undos, reinstatements, programs, delegates, withdrawals, runs and postings, over a real database.

The oracle knows nothing of the rules' SQL: from the bare history it works out who had approved a posted row's content, and asks
whether those were enough different people, none of whom had made it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

import psycopg
import pytest
from desk_members import ROLES, Desk
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from ledger_tenant import PERIOD, Tenant, move, use_signal
from walks import PATIENT

from ntro_dagster.gl.posting import post_approved
from ntro_dagster.platforms.postgres.database import RefusedByDatabaseError, TenantDatabase
from ntro_dagster.subledger.filing import ContentMovedError, file_seen, withdraw
from ntro_dagster.subledger.registry import subledger_type
from ntro_dagster.subledger.review import apply_signals

T = TypeVar("T")

APPROVERS, PREPARERS, AGENT = ("user:ann", "user:bob"), ("user:pat", "user:quinn"), "agent:reader"
MAY_SIGN = (*APPROVERS, *PREPARERS)
PEOPLE = (*MAY_SIGN, AGENT)
LIMIT = Decimal(100)

rows = st.integers(0, 2)
"""From the newest row."""
kinds = st.sampled_from(("approve", "approve", "approve", "approve", "edit", "edit", "accept", "undo", "reject", "reinstate"))


class Deciding(RuleBasedStateMachine):
    tenant: Tenant

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.at_desk = Desk(self.tenant, self.tenant.new_entity())
        self.apps = self.tenant.database(), self.tenant.database()
        self.desk = self.tenant.database("desk")
        self.auditor = psycopg.connect(self.tenant.credentials.auditor, autocommit=True)
        self.kind = subledger_type("expenses")
        self.rows: list[UUID] = []
        self.filed: dict[UUID, tuple[str, str]] = {}
        """Every decision: who filed it, and on whose authority, as the model knows the delegations of that moment."""
        self.delegated: dict[str, str] = {}
        self.limit: Decimal | None = None
        self.needed: dict[UUID, int] = {}
        """How many had to approve a row, at the moment it became APPROVED."""

    def await_(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def read(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return self.auditor.execute(query, parameters).fetchall()

    def teardown(self) -> None:
        self.auditor.close()
        for database in (*self.apps, self.desk):
            self.await_(database.close())
        self.runner.close()

    @initialize(limited=st.sampled_from((True, True, False)), deputies=st.sets(st.sampled_from(PREPARERS)))
    def begin(self, limited: bool, deputies: set[str]) -> None:
        self.tenant.add_members(ROLES)
        self.at_desk.end_delegations()
        self.set_limit(limited)
        for deputy in sorted(deputies):
            self.delegate(APPROVERS[0], deputy)
        self.rows = [self.at_desk.row(vat_amount=None, amount_gross=amount, notes="a") for amount in (60, 150, 150)]

    # What people do

    @rule(
        by=st.sampled_from(PEOPLE), kind=kinds, row=rows, amount=st.sampled_from(("60", "150", None)), note=st.sampled_from("ab")
    )
    def file(self, by: str, kind: str, row: int, amount: str | None, note: str) -> None:
        values = {"notes": note} | ({"amount_gross": amount} if amount else {}) if kind == "edit" else None
        try:
            filed = self.await_(
                file_seen(
                    self.desk,
                    self.kind,
                    kind,
                    filed_by=by,
                    reason="because",
                    values=values,
                    rows=self.at_desk.seen([self.rows[-1 - row]]),
                )
            )
        except (ContentMovedError, RefusedByDatabaseError):
            return
        self.filed[filed[0].signal_id] = (by, self.delegated.get(by, by))

    @rule(by=st.sampled_from(PEOPLE), row=rows)
    def file_beside_the_desks_checks(self, by: str, row: int) -> None:
        """As the desk's role with raw SQL: also over rows of which something waits."""
        try:
            signal = self.tenant.file("approve", [self.rows[-1 - row]], by=by)
        except psycopg.Error:
            return
        self.filed[signal] = (by, self.delegated.get(by, by))

    @rule(
        first=st.sampled_from(MAY_SIGN), second=st.sampled_from(MAY_SIGN), between=st.sampled_from(("", "", "edit", "undo")),
        amount=st.sampled_from((60, 150)),
    )  # fmt: skip
    def sign_one_after_the_other(self, first: str, second: str, between: str, amount: int) -> None:
        """Over a new row, so that a walk does not end where all rows are final."""
        self.rows.append(self.at_desk.row(vat_amount=None, amount_gross=amount, notes="a"))
        self.file_beside_the_desks_checks(first, 0)
        self.apply("nothing")
        if between:
            self.file(APPROVERS[1], between, 0, None, "b")
            self.apply("nothing")
        self.file_beside_the_desks_checks(second, 0)
        self.apply("another run")

    @rule(maker=st.sampled_from(APPROVERS), by=st.sampled_from(APPROVERS), amount=st.sampled_from((60, 150)))
    def turn_down_and_reinstate(self, maker: str, by: str, amount: int) -> None:
        """What somebody edited comes back as a row that somebody else accepts, and maybe its maker would approve."""
        self.rows.append(self.at_desk.row(vat_amount=None, amount_gross=amount, notes="a"))
        for who, kind in ((maker, "edit"), (PREPARERS[1], "reject"), (by, "reinstate"), (PREPARERS[1], "accept")):
            self.file(who, kind, 0, None, "b")
            self.apply("another run" if kind == "reinstate" else "nothing")
        self.file_beside_the_desks_checks(by, 0)
        self.apply("nothing")

    @rule(giver=st.sampled_from(APPROVERS), taker=st.sampled_from(PREPARERS))
    def delegate(self, giver: str, taker: str) -> None:
        if taker not in self.delegated:
            self.at_desk.delegate(giver, taker)
            self.delegated[taker] = giver

    @rule()
    def end_delegations(self) -> None:
        self.at_desk.end_delegations()
        self.delegated = {}

    @rule(limited=st.booleans())
    def set_limit(self, limited: bool) -> None:
        self.limit = LIMIT if limited else None
        self.at_desk.limit("GBP", self.limit)

    # What programs do

    @rule(row=rows, note=st.sampled_from("ab"))
    def read_again(self, row: int, note: str) -> None:
        """A run changes what no person has touched."""
        with psycopg.connect(self.tenant.credentials.app) as app:
            app.execute(
                "UPDATE ledgers.expenses SET notes = %s WHERE id = %s AND made_by IS NULL AND status = 'PENDING'",
                [note, self.rows[-1 - row]],
            )

    @rule(beside=st.sampled_from(("nothing", "another run", "posting", "withdrawal")))
    def apply(self, beside: str) -> None:
        first, second = self.apps
        work: list[Coroutine[Any, Any, Any]] = [self._apply(first)]
        if beside == "another run":
            work.append(self._apply(second))
        elif beside == "posting":
            work.append(self._post(second))
        elif beside == "withdrawal":
            work += [self._withdraw(signal) for signal in list(self.filed)[-1:]]

        async def together() -> None:
            await asyncio.gather(*work)

        self.await_(together())
        made = self.read("SELECT successor_id FROM system.reinstatements WHERE row_id = ANY(%s) ORDER BY 1", self.rows)
        self.rows += [row for (row,) in made if row not in self.rows]
        self._note_approvals()

    @rule()
    def post(self) -> None:
        self.await_(self._post(self.apps[0]))

    @rule(row=rows, step=st.sampled_from(("approve", "sign", "post")))
    def cheat(self, row: int, step: str) -> None:
        """The app role with raw SQL and any decision that waits: it may carry out what was decided, and nothing else."""
        waiting = self.read(
            "SELECT s.id, s.filed_by FROM system.signals s JOIN system.signal_rows r ON r.signal_id = s.id "
            "WHERE r.row_id = %s AND s.applied_at IS NULL AND s.withdrawn_at IS NULL ORDER BY s.seq DESC LIMIT 1",
            self.rows[-1 - row],
        )
        try:
            with psycopg.connect(self.tenant.credentials.app) as app:
                if step == "post":
                    journal = self.tenant.journal(self.at_desk.entity, self.rows[-1 - row], connection=app)
                    move(app, self.rows[-1 - row], "POSTED", "post", journal=journal)
                for signal, by in waiting if step != "post" else []:
                    use_signal(app, signal)
                    if step == "approve":
                        move(app, self.rows[-1 - row], "APPROVED", "approve", by=by)
                    outcome = "APPLIED" if step == "approve" else "SIGNED"
                    app.execute("UPDATE system.signal_rows SET outcome = %s WHERE signal_id = %s", [outcome, signal])
                    app.execute("UPDATE system.signals SET applied_at = now() WHERE id = %s", [signal])
        except psycopg.Error:
            return
        self._note_approvals()

    async def _apply(self, database: TenantDatabase) -> None:
        await apply_signals(self.tenant.handle(self.at_desk.entity, database=database), period=PERIOD)

    async def _post(self, database: TenantDatabase) -> None:
        await post_approved(self.tenant.handle(self.at_desk.entity, database=database), period=PERIOD, currency="GBP")

    async def _withdraw(self, signal: UUID) -> None:
        try:
            await withdraw(self.desk, signal, by=self.filed[signal][0])
        except RefusedByDatabaseError as refused:
            assert refused.code in {"SIGNAL_ALREADY_APPLIED", "SIGNAL_WITHDRAWN"}

    def _note_approvals(self) -> None:
        """The limit does not move while something is applied, so what stands APPROVED since was held against this one."""
        for row, status, amount in self._stand():
            if status not in {"APPROVED", "POSTED"}:
                self.needed.pop(row, None)
            elif row not in self.needed:
                self.needed[row] = 2 if self.limit is not None and amount > self.limit else 1

    def _stand(self) -> list[tuple[UUID, str, Decimal]]:
        return self.read("SELECT id, status, amount_gross FROM ledgers.expenses WHERE id = ANY(%s)", self.rows)

    # What must never be otherwise

    @invariant()
    def whatever_is_approved_was_approved_by_enough_others(self) -> None:
        for row, status, _ in self._stand():
            if status not in {"APPROVED", "POSTED"}:
                continue
            approvals, makers = self._approvals(row), self._makers(row)
            assert approvals, (row, status)
            people = [set(self.filed[signal]) for signal in approvals]
            assert all(makers.isdisjoint(person) for person in people[-1:]), (row, people, makers)
            if self.needed[row] == 2:
                others = [person for person in people[:-1] if person.isdisjoint(people[-1]) and makers.isdisjoint(person)]
                assert others, (row, people, makers)
            for signal in approvals[-1:]:
                assert "agent:reader" not in self.filed[signal]
                assert self.filed[signal][1] in APPROVERS

    def _approvals(self, row: UUID) -> list[UUID]:
        """Decisions to approve exactly what the row holds, since it last changed or went back; the last one moved it."""
        (present,) = self.read("SELECT ledgers.expenses_digest(t) FROM ledgers.expenses t WHERE id = %s", row)[0]
        approvals: list[tuple[UUID, bytes]] = []
        for action, before, after, came, went, signal in self.read(
            "SELECT h.action, h.before, h.after, h.from_status, h.to_status, c.signal_id FROM system.history h "
            "JOIN system.changes c ON c.id = h.change_id "
            "WHERE h.row_id = %s AND h.action IN ('EDIT', 'TRANSITION', 'SIGNED') ORDER BY c.id",
            row,
        ):
            if action == "SIGNED":
                approvals.append((signal, before))
            elif (came, went) == ("PENDING", "APPROVED"):
                approvals.append((signal, after))
            elif before != after or (came, went) == ("APPROVED", "PENDING"):
                approvals = []
        outcomes = dict(
            self.read("SELECT signal_id, outcome FROM system.signal_rows WHERE row_id = %s AND outcome IS NOT NULL", row)
        )
        assert all(outcomes[signal] in {"APPLIED", "SIGNED"} for signal, _ in approvals)
        return [signal for signal, digest in approvals if digest == present]

    def _makers(self, row: UUID) -> set[str]:
        found = self.read(
            "SELECT s.filed_by FROM system.signal_rows r JOIN system.signals s ON s.id = r.signal_id "
            "WHERE r.row_id = ANY(%s) AND r.outcome = 'APPLIED' AND s.kind IN ('edit', 'accept')",
            self._line(row),
        )
        return {by for (by,) in found}

    def _line(self, row: UUID) -> list[UUID]:
        """The row, and those in whose place it stands."""
        before = self.read("SELECT row_id FROM system.reinstatements WHERE successor_id = %s", row)
        return [row, *(each for (original,) in before for each in self._line(original))]

    @invariant()
    def of_a_line_of_rows_one_counts(self) -> None:
        """What was reinstated is final, and its successor is the same again until a person changes it."""
        for before, same, moved in self.read(
            "SELECT o.status, (o.vendor, o.amount_gross, o.notes) IS NOT DISTINCT FROM (t.vendor, t.amount_gross, t.notes), "
            "t.made_by IS NOT NULL OR t.status = 'REJECTED' "
            "FROM system.reinstatements r JOIN ledgers.expenses o ON o.id = r.row_id "
            "JOIN ledgers.expenses t ON t.id = r.successor_id WHERE r.row_id = ANY(%s)",
            self.rows,
        ):
            assert before in {"REJECTED", "EXCLUDED"}
            assert same or moved

    @invariant()
    def nothing_half_done_is_left(self) -> None:
        assert self.read(
            "SELECT count(*) FROM system.signals s JOIN system.signal_rows r ON r.signal_id = s.id WHERE s.entity_id = %s "
            "AND (s.applied_at IS NOT NULL OR s.withdrawn_at IS NOT NULL) <> (r.outcome IS NOT NULL)",
            self.at_desk.entity,
        ) == [(0,)]


@pytest.fixture
def machine(tenant: Tenant) -> Iterator[type[Deciding]]:
    Deciding.tenant = tenant
    yield Deciding
    del Deciding.tenant


def test_a_short_walk_of_decisions(machine: type[Deciding]) -> None:
    run_state_machine_as_test(machine, settings=settings(PATIENT, max_examples=6, stateful_step_count=25, derandomize=True))


@pytest.mark.long
def test_a_long_walk_of_decisions(machine: type[Deciding]) -> None:
    run_state_machine_as_test(machine, settings=settings(PATIENT, max_examples=40, stateful_step_count=50))
