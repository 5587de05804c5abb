"""Approved rows, thousands to a transaction; what cannot be posted is held back, and holds nothing else up (decision 030)."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import psycopg
from psycopg import sql

from ntro_dagster.errors import NtroError, TransientError
from ntro_dagster.gl.bills import as_journal
from ntro_dagster.gl.booking import book
from ntro_dagster.gl.chart import AccountRoleMissingError, NamedAccounts, named_accounts
from ntro_dagster.gl.reversals import as_translated
from ntro_dagster.gl.translation import RateMissingError, Wanted, rates, translated
from ntro_dagster.platforms.postgres.database import Actor, RefusedByDatabaseError
from ntro_dagster.subledger.handle import SubledgerHandle
from ntro_dagster.subledger.proposals import BillProposal, JournalProposal
from ntro_dagster.subledger.registry import SubledgerType

BATCH = 5_000
"""Rows posted per transaction."""

_FIRST = uuid.UUID(int=0)
_NAMED = 20

NOT_HELD = sql.SQL("NOT EXISTS (SELECT FROM ledgers.held_rows h WHERE h.row_id = t.id)")
"""Approved rows `t` that may be tried."""


class AccountUnknownError(NtroError):
    code = "ACCOUNT_UNKNOWN"
    summary = "a row names an account that is not in the chart of accounts"
    detail = "not in the chart of accounts, or not active: {accounts}"
    mend = "take the row back, or add the account: it is posted then"


class RowsLostError(NtroError):
    """Values: `rows`."""

    code = "ROWS_NOT_IN_A_JOURNAL"
    summary = "a type made journals of many rows, and not of each row once"
    detail = "{rows} row(s) are in none of the journals that aggregate_for_gl made, or in several, or were not handed to it"
    mend = "correct the type's aggregate_for_gl; nothing of this batch was posted"


class RowsNotPostedError(NtroError):
    """When everything else is posted. Values: `rows`, `which`: the first of them, each with the code of its reason."""

    code = "ROWS_NOT_POSTED"
    summary = "rows could not be posted; everything else was"
    detail = "{rows} approved row(s) are held back: {which}"
    mend = (
        "the desk shows the reason at each row: take it back and correct it, or correct the chart; they are tried again when "
        "row, chart, rate or runbook changes, and at `ntro gl retry`"
    )


PROPOSAL_FAILED = "PROPOSAL_FAILED"
"""Why a row is held back of which no journal could be made, where nothing better is known."""

MOST_REFUSED = 500
"""Of one batch. More than that is no row's own fault: nothing of the batch is posted, and the last reason is the run's."""

_GENERAL = frozenset(
    {"PERIOD_CLOSED", "LATER_PERIOD_CLOSED", "ENTITY_CLOSED", "ISOLATION_TOO_HIGH", "LEDGER_CHANGED", "NOT_DELIVERED"}
)
"""Refusals that leaving a row out does not help against."""

Propose = Callable[[Sequence[Any]], list[JournalProposal]]
Put = Callable[[SubledgerHandle, str, Sequence[JournalProposal]], Awaitable[None]]


def proposer(kind: SubledgerType, currency: str, accounts: NamedAccounts) -> Propose:
    """What makes journals of rows of that type: one of each, unless the type aggregates. Args: `currency`: for proposals that
    name none.
    """
    model: Any = kind.model

    def one(row: Any) -> JournalProposal:
        if kind.table == "journal_proposals":
            return model.propose_for_gl(row, currency=currency)  # type: ignore[no-any-return]
        proposal = model.propose_for_gl(row)
        return as_journal(proposal, accounts) if isinstance(proposal, BillProposal) else proposal

    def many(rows: Sequence[Any]) -> list[JournalProposal]:
        journals = list(model.aggregate_for_gl(rows))
        named = sorted(row for journal in journals for row in journal.rows)
        if named != sorted(row.id for row in rows):
            raise RowsLostError(rows=len({row.id for row in rows} ^ set(named)) or len(named) - len(set(named)))
        return journals

    return many if hasattr(model, "aggregate_for_gl") else lambda rows: [one(row) for row in rows]


@dataclass(frozen=True, slots=True)
class Refused:
    """Rows that are held back together, because they would make one journal."""

    rows: tuple[uuid.UUID, ...]
    code: str
    detail: str

    @classmethod
    def because(cls, rows: Sequence[uuid.UUID], error: Exception) -> Self:
        if isinstance(error, NtroError):
            return cls(tuple(rows), error.code, error.explain())
        return cls(tuple(rows), PROPOSAL_FAILED, f"{type(error).__name__}: {error}")


class Batches:
    """One transaction after the other, in the order of the rows' ids.

    A batch is posted as a whole. Where that is refused it is posted around the rows that do it, each of which is held back with
    its reason, in the same transaction; so are those for which no rate is known.

    Args:
        put: what is done with a batch's journals in its transaction.
        free: which approved rows are taken, of `t`.
    """

    def __init__(
        self,
        handle: SubledgerHandle,
        period: str,
        currency: str,
        *,
        accounts: NamedAccounts,
        put: Put = book,
        free: sql.Composable = NOT_HELD,
    ) -> None:
        self._handle, self._period, self._currency, self._accounts = handle, period, currency, accounts
        self._propose = proposer(handle.kind, currency, accounts)
        self._put, self._free = put, free
        self._reached = _FIRST
        self._wanted: set[Wanted] = set()
        self._refused: list[Refused] = []
        self.posted = 0
        self.refused: list[Refused] = []

    @classmethod
    async def of(cls, handle: SubledgerHandle, *, period: str, currency: str, **how: Any) -> Self:
        return cls(handle, period, currency, accounts=await named_accounts(handle.database), **how)

    def refuse_the_rest(self) -> None:
        """When all else is done. Raises: `RowsNotPostedError`, `RateMissingError`."""
        faults = [each for each in self.refused if each.code != RateMissingError.code]
        if faults:
            named = [f"{row} {each.code}" for each in faults for row in each.rows]
            more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
            raise RowsNotPostedError(rows=len(named), which=", ".join(named[:_NAMED]) + more)
        if self.refused:
            rates = ", ".join(f"{each.currency} on {each.day.isoformat()}" for each in sorted(self._wanted, key=str))
            raise RateMissingError(rates=rates, rows=sum(len(each.rows) for each in self.refused))

    async def post(self) -> bool:
        """Whether there were rows to look at."""
        reached = self._reached
        try:
            found = await self._batch(self._all)
        except Exception as error:
            if not _one_rows_fault(error):
                raise
            self._reached = reached
            found = await self._batch(self._around)
        self.refused += self._refused
        return found

    async def _batch(self, put: Callable[[list[Any]], Awaitable[None]]) -> bool:
        handle, database = self._handle, self._handle.database
        self.posted, self._refused = 0, []
        async with database.transaction(Actor.run(handle.task_id)):
            seen = (await database.fetch_single("SELECT number FROM ledgers.releases"))["number"]  # before anything is judged
            rows = await self._taken()
            if not rows:
                return False
            self._reached = rows[-1]["id"]
            # Now that they are locked: another run may have taken them between the look and the lock.
            question = sql.SQL("SELECT t.id FROM {} t WHERE t.id = ANY(%s) AND {}").format(self._table, self._free)
            still = {row["id"] for row in await database.fetch(question, [[row["id"] for row in rows]])}
            if models := [handle.model(row) for row in rows if row["id"] in still]:
                await put(models)
            await self._hold(seen)
        return True

    @property
    def _table(self) -> sql.Identifier:
        return sql.Identifier("ledgers", self._handle.kind.table)

    async def _taken(self) -> list[dict[str, Any]]:
        return await self._handle.database.fetch(
            sql.SQL(
                "SELECT * FROM {} t WHERE entity_id = %s AND period = %s AND status = %s AND id > %s AND {} "
                "ORDER BY id LIMIT %s FOR NO KEY UPDATE SKIP LOCKED"
            ).format(self._table, self._free),
            [self._handle.entity_id, self._period, self._handle.kind.lifecycle.approved, self._reached, BATCH],
        )

    async def _all(self, rows: list[Any]) -> None:
        self.posted, self._refused = await self._written(self._propose(rows))

    async def _around(self, rows: list[Any]) -> None:
        """What can be posted. Raises: the last refusal, where there are more than `MOST_REFUSED`."""
        journals: list[JournalProposal] = []
        for some in [rows] if hasattr(self._handle.kind.model, "aggregate_for_gl") else [[row] for row in rows]:
            try:
                journals += self._propose(some)
            except Exception as error:
                if len(some) > 1:
                    raise  # the journals of many rows are the type's own: it has to be corrected
                self._refuse([row.id for row in some], error)
        await self._halves(journals)

    async def _halves(self, journals: Sequence[JournalProposal]) -> None:
        if not journals:
            return
        try:
            async with self._handle.database.attempt():
                posted, waiting = await self._written(journals)
        except Exception as error:
            if not _one_rows_fault(error):
                raise
            if len(journals) == 1:
                self._refuse(journals[0].rows, error)
                return
            middle = len(journals) // 2
            await self._halves(journals[:middle])
            await self._halves(journals[middle:])
        else:
            self.posted += posted
            self._refused += waiting

    def _refuse(self, rows: Sequence[uuid.UUID], error: Exception) -> None:
        self._refused.append(Refused.because(rows, error))
        if len(self._refused) > MOST_REFUSED:
            raise error

    async def _written(self, journals: Sequence[JournalProposal]) -> tuple[int, list[Refused]]:
        """How many rows, and those that wait for a rate."""
        ready, waiting = await self._translated(journals)
        if ready:
            await _check_accounts(self._handle, ready)
            await self._put(self._handle, self._period, ready)
        return sum(len(journal.rows) for journal in ready), waiting

    async def _translated(self, journals: Iterable[JournalProposal]) -> tuple[list[JournalProposal], list[Refused]]:
        """With amounts in the entity's currency; and those for which no rate is known."""
        journals = await as_translated(self._handle.database, list(journals))
        foreign = [x for x in journals if x.currency != self._currency and x.translation is None]
        wanted = {journal.external_id: Wanted(journal.currency, journal.posting_date) for journal in foreign}
        known = await rates(self._handle.database, wanted.values(), to=self._currency)
        ready: list[JournalProposal] = []
        waiting: list[Refused] = []
        for journal in journals:
            if (want := wanted.get(journal.external_id)) is None:
                ready.append(journal)
            elif (rate := known.get((want.currency, want.day))) is not None:
                ready.append(translated(journal, rate, self._accounts))
            else:
                self._wanted.add(want)
                why = f"no rate of {want.currency} to {self._currency} on {want.day.isoformat()} or the days before"
                waiting.append(Refused(tuple(journal.rows), RateMissingError.code, why))
        return ready, waiting

    async def _hold(self, seen: int) -> None:
        handle = self._handle
        if self._refused:
            await handle.database.copy_in(
                sql.Identifier("ledgers", "posting_refusals"),
                ("row_id", "entity_id", "period", "subledger", "code", "detail", "seen", "run_id"),
                (
                    [row, handle.entity_id, self._period, handle.kind.table, each.code, each.detail, seen, handle.task_id]
                    for each in self._refused
                    for row in each.rows
                ),
            )


def _one_rows_fault(error: Exception) -> bool:
    """Whether it may be, so that leaving one out helps."""
    if isinstance(error, RefusedByDatabaseError):
        return error.code not in _GENERAL
    if isinstance(error, psycopg.Error):
        return isinstance(error, psycopg.DataError | psycopg.IntegrityError)
    return not isinstance(error, TransientError | RowsLostError | AccountRoleMissingError)


async def _check_accounts(handle: SubledgerHandle, journals: Sequence[JournalProposal]) -> None:
    # What was booked can be undone, whatever became of the account: the database asks that a reversal mirrors its original.
    named = sorted({line.account_code for journal in journals if journal.reverses is None for line in journal.lines})
    unknown = await handle.database.fetch(
        "SELECT code FROM unnest(%s::text[]) AS named (code) "
        "WHERE code NOT IN (SELECT code FROM ledgers.accounts WHERE active) ORDER BY code",
        [named],
    )
    if unknown:
        raise AccountUnknownError(accounts=", ".join(row["code"] for row in unknown))
