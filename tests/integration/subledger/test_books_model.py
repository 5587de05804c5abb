"""Books walked beside a model of them: accounts, journals, reversals, closes and reopenings, in any order. 0 differences."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from typing import Any, TypeVar
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from ledger_tenant import Connection, Tenant, code_of
from walks import PATIENT

from ntro_dagster.boundary.periods import shifted
from ntro_dagster.errors import NtroError
from ntro_dagster.gl.periods import (
    Act,
    PeriodStatus,
    ask_reopening,
    close_period,
    confirm_reopening,
    period_state,
    seal_closing,
)
from ntro_dagster.gl.trial_balance import trial_balance

T = TypeVar("T")

FIRST = "2024-11"
PERIODS = tuple(shifted(FIRST, month) for month in range(4))
PEOPLE = ("user:ann", "user:bob")
OPEN, CLOSING, CLOSED = PeriodStatus.OPEN, PeriodStatus.CLOSING, PeriodStatus.CLOSED
periods = st.sampled_from(PERIODS)
accounts = st.integers(0, 3)
amounts = st.integers(1, 10**6).map(lambda cents: Decimal(cents) / 100)
walks = count()


@dataclass
class Known:
    """A journal as the model knows it: by account, debit less credit."""

    id: UUID
    period: str
    day: int
    moved: list[tuple[int, Decimal]]
    reverses: UUID | None = None


class Walk(RuleBasedStateMachine):
    tenant: Tenant

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.entity = self.tenant.new_entity()
        self.names = [f"w{next(walks)}-{number}" for number in range(4)]
        types = ("ASSET", "LIABILITY", "INCOME", "EXPENSE")
        with self.tenant.as_owner() as owner:
            owner.cursor().executemany(
                "INSERT INTO ledgers.accounts (code, name, type) VALUES (%s, %s, %s)",
                [(name, name, kind) for name, kind in zip(self.names, types, strict=True)],
            )
        self.app = self.tenant.connect("app")
        self.desk, self.runs, self.reader = (self.tenant.database(role) for role in ("desk", "app", "auditor"))
        self.journals: list[Known] = []
        self.active = dict.fromkeys(range(4), True)
        self.status = dict.fromkeys(PERIODS, OPEN)
        self.carried: dict[str, Decimal] = {}
        self.asked: dict[str, str] = {}
        self.acts: dict[str, list[tuple[Act, str]]] = {period: [] for period in PERIODS}

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            for database in (self.desk, self.runs, self.reader):
                self.await_(database.close())
            self.app.close()
            self.runner.close()

    def await_(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def code_of(self, work: Coroutine[Any, Any, None]) -> str | None:
        try:
            self.await_(work)
        except NtroError as refused:
            return refused.code
        return None

    # -- journals

    @rule(period=periods, day=st.integers(1, 28), debit=accounts, credit=accounts, amount=amounts, astray=st.booleans())
    def post(self, period: str, day: int, debit: int, credit: int, amount: Decimal, astray: bool) -> None:  # noqa: PLR0917
        astray = astray and day % 5 == 0
        journal = Known(uuid4(), period, day, [(debit, amount), (credit, -amount)])
        off = Decimal("0.01") if astray else Decimal(0)
        code = self.write(journal, [(debit, amount + off, Decimal(0)), (credit, Decimal(0), amount)])
        if not self.takes_journals(period):
            assert code == "PERIOD_CLOSED"
        elif astray:
            assert code == "JOURNAL_DOES_NOT_BALANCE"
        elif not (self.active[debit] and self.active[credit]):
            assert code == "ACCOUNT_NOT_ACTIVE"
        else:
            assert code is None
            self.journals.append(journal)

    @precondition(lambda self: self.journals)
    @rule(which=st.integers(0), period=periods, day=st.integers(1, 28), faithful=st.integers(0, 4))
    def reverse(self, which: int, period: str, day: int, faithful: int) -> None:
        original = self.journals[which % len(self.journals)]
        moved = [(account, -amount) for account, amount in original.moved]
        journal = Known(uuid4(), period, day, moved, original.id)
        lines = [(account, max(amount, Decimal(0)), max(-amount, Decimal(0))) for account, amount in moved]
        if not faithful:
            lines = [(account, debit * 2, credit * 2) for account, debit, credit in lines]
        code = self.write(journal, lines)
        twice = any(known.reverses == original.id for known in self.journals)
        early = (period, day) < (original.period, original.day)
        if twice:
            assert code == "UniqueViolation"
        elif not self.takes_journals(period):
            assert code == "PERIOD_CLOSED"
        elif early or original.reverses is not None or not faithful:
            assert code == "REVERSAL_DIFFERS"
        else:
            assert code is None
            self.journals.append(journal)

    def write(self, journal: Known, lines: list[tuple[int, Decimal, Decimal]]) -> str | None:
        app: Connection = self.app
        try:
            app.execute(
                "INSERT INTO ledgers.journals (id, entity_id, period, external_id, posting_date, description, currency, run_id, "
                "kind, reverses) VALUES (%s, %s, %s, %s, %s, 'x', 'GBP', %s, %s, %s)",
                [
                    journal.id,
                    self.entity,
                    journal.period,
                    str(journal.id),
                    f"{journal.period}-{journal.day:02d}",
                    uuid4(),
                    "REVERSAL" if journal.reverses else "ENTRY",
                    journal.reverses,
                ],
            )
            values = ", ".join(["(%s, %s, %s, %s, %s)"] * len(lines))
            app.execute(
                f"INSERT INTO ledgers.journal_lines (journal_id, line_no, account_code, debit, credit) VALUES {values}",
                [x for number, (account, d, c) in enumerate(lines, 1) for x in (journal.id, number, self.names[account], d, c)],
            )
            app.commit()
        except psycopg.Error as error:
            app.rollback()
            return code_of(error)
        return None

    @rule(account=accounts, active=st.booleans())
    def switch(self, account: int, active: bool) -> None:
        with self.tenant.as_owner() as owner:
            owner.execute("UPDATE ledgers.accounts SET active = %s WHERE code = %s", [active, self.names[account]])
        self.active[account] = active

    # -- periods

    @rule(period=periods, by=st.sampled_from(PEOPLE), reason=st.sampled_from((None, "because")))
    def close(self, period: str, by: str, reason: str | None) -> None:
        code = self.code_of(close_period(self.desk, entity_id=self.entity, period=period, by=by, reason=reason))
        earlier = any(known.period < period and self.status[known.period] is OPEN for known in self.journals)
        if self.status[period] is not OPEN:
            assert code == "PERIOD_CLOSED"
        elif earlier:
            assert code == "PERIOD_NOT_READY"
        elif self.implausible(period) and reason is None:
            assert code == "CLOSE_NEEDS_A_REASON"
        else:
            assert code is None
            self.status[period] = CLOSING
            self.carried[period] = self.worth(period)
            self.asked.pop(period, None)
            self.acts[period].append((Act.CLOSE, by))

    def implausible(self, period: str) -> bool:
        now, before = self.worth(period), self.worth(shifted(period, -1))
        return before != 0 and abs(now - before) > abs(before) / 5

    def takes_journals(self, period: str) -> bool:
        """Neither it nor a later month is closed: what a closed month carries forward stays."""
        return self.status[period] is OPEN and not self.later_closed(period)

    def worth(self, period: str) -> Decimal:
        """Of the first two accounts, which are owned and owed."""
        return sum((a for known in self.journals if known.period <= period for n, a in known.moved if n < 2), Decimal(0))

    @rule(period=periods)
    def seal(self, period: str) -> None:
        sealed = self.await_(seal_closing(self.runs, entity_id=self.entity, period=period, run_id=uuid4()))
        assert sealed is (self.status[period] is CLOSING)
        if sealed:
            self.status[period] = CLOSED

    def later_closed(self, period: str) -> bool:
        return any(self.status[later] is not OPEN for later in PERIODS if later > period)

    @rule(period=periods, by=st.sampled_from(PEOPLE))
    def ask(self, period: str, by: str) -> None:
        code = self.code_of(ask_reopening(self.desk, entity_id=self.entity, period=period, by=by, reason="late"))
        if self.status[period] is not CLOSED:
            assert code == "PERIOD_NOT_CLOSED"
        elif self.later_closed(period):
            assert code == "LATER_PERIOD_CLOSED"
        else:
            assert code is None
            self.asked[period] = by
            self.acts[period].append((Act.ASK_REOPEN, by))

    @rule(period=periods, by=st.sampled_from(PEOPLE))
    def reopen(self, period: str, by: str) -> None:
        code = self.code_of(confirm_reopening(self.desk, entity_id=self.entity, period=period, by=by, reason="agreed"))
        if self.status[period] is not CLOSED or period not in self.asked:
            assert code == "REOPENING_NOT_ASKED"
        elif self.later_closed(period):
            assert code == "LATER_PERIOD_CLOSED"
        elif self.asked[period] == by:
            assert code == "MAKER_IS_NOT_CHECKER"
        else:
            assert code is None
            self.status[period] = OPEN
            del self.asked[period]
            self.acts[period].append((Act.REOPEN, by))

    # -- 0 differences

    @invariant()
    def the_books_are_the_models(self) -> None:
        if not hasattr(self, "runner"):
            return
        for period in PERIODS:
            drawn = self.await_(trial_balance(self.reader, entity_id=self.entity, period=period))
            expected: dict[str, Decimal] = {}
            for known in self.journals:
                if known.period <= period:
                    for account, amount in known.moved:
                        expected[self.names[account]] = expected.get(self.names[account], Decimal(0)) + amount
            assert {line.account_code: line.balance for line in drawn.lines} == expected
            assert drawn.balanced

    @invariant()
    def the_periods_are_the_models(self) -> None:
        if not hasattr(self, "runner"):
            return
        for period in PERIODS:
            state = self.await_(period_state(self.reader, entity_id=self.entity, period=period))
            assert state.status is self.status[period]
            assert [(act.act, act.login) for act in state.acts] == self.acts[period]
            assert (state.seal is not None) is (self.status[period] is CLOSED)
            assert state.seal is None or state.seal.holds
            assert state.status is OPEN or state.net_assets == self.carried[period]
            assert (state.net_assets, state.net_assets_before) == (self.worth(period), self.worth(shifted(period, -1)))

    @invariant()
    def numbers_have_no_gaps(self) -> None:
        if not hasattr(self, "runner"):
            return
        numbers = self.tenant.fetch(
            "SELECT n.year, array_agg(n.number ORDER BY n.number), count(DISTINCT j.id) FROM ledgers.journal_numbers n "
            "JOIN ledgers.journals j ON j.id = n.journal_id AND left(j.period, 4)::int = n.year "
            "WHERE n.entity_id = %s GROUP BY 1",
            self.entity,
        )
        for year, given, journals in numbers:
            assert given == list(range(1, journals + 1)), year
        assert sum(journals for *_, journals in numbers) == len(self.journals)


@pytest.fixture
def machine(tenant: Tenant) -> Iterator[type[Walk]]:
    Walk.tenant = tenant
    yield Walk
    del Walk.tenant


def test_a_short_walk(machine: type[Walk]) -> None:
    run_state_machine_as_test(machine, settings=settings(PATIENT, max_examples=8, stateful_step_count=30, derandomize=True))


@pytest.mark.long
def test_a_long_walk(machine: type[Walk]) -> None:
    run_state_machine_as_test(machine, settings=settings(PATIENT, max_examples=150, stateful_step_count=60))
