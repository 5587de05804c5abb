"""Approved rows, thousands to a transaction; what cannot be posted is held back, and holds nothing else up (decision 030)."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Self

import psycopg
from psycopg import sql

from ntro_dagster.errors import NtroError, TransientError
from ntro_dagster.gl.bills import as_journal
from ntro_dagster.gl.booking import book
from ntro_dagster.gl.chart import AccountRoleMissingError, NamedAccounts, named_accounts
from ntro_dagster.gl.held_back import Refused, RowsNotPostedError
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


MOST_REFUSED = 100
"""Journals of one batch, beside those that wait for a rate. More than that is no row's own fault: nothing of the batch is
posted, and the last reason is the run's.
"""

_GENERAL = frozenset(
    {"PERIOD_CLOSED", "ENTITY_CLOSED", "ISOLATION_TOO_HIGH", "LEDGER_CHANGED", "NOT_DELIVERED", "DELIVERY_UNDER_WAY"}
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
        if isinstance(proposal, BillProposal):
            return as_journal(proposal, accounts)
        if not isinstance(proposal, JournalProposal):
            raise TypeError(f"propose_for_gl returned {type(proposal).__name__}, not a BillProposal or a JournalProposal")
        return proposal

    def many(rows: Sequence[Any]) -> list[JournalProposal]:
        journals = list(model.aggregate_for_gl(rows))
        named = sorted(row for journal in journals for row in journal.rows)
        if named != sorted(row.id for row in rows):
            raise RowsLostError(rows=len({row.id for row in rows} ^ set(named)) or len(named) - len(set(named)))
        return journals

    return many if hasattr(model, "aggregate_for_gl") else lambda rows: [one(row) for row in rows]


class Batches:
    """One transaction after the other, in the order of the rows' ids.

    A batch is posted as a whole. Where that is refused it is posted around the rows that do it, each of which is held back with
    its reason, in the same transaction; so are those for which no rate is known.

    Args:
        seen: `ledgers.releases.number` before anything was judged: what has changed since is judged anew by the next run.
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
        seen: int,
        put: Put = book,
        free: sql.Composable = NOT_HELD,
    ) -> None:
        self._handle, self._period, self._currency, self._accounts = handle, period, currency, accounts
        self._propose = proposer(handle.kind, currency, accounts)
        self._put, self._free, self._seen = put, free, seen
        self._reached = _FIRST
        self._refused: list[Refused] = []
        self.posted = 0
        self.refused: list[Refused] = []

    @classmethod
    async def of(cls, handle: SubledgerHandle, *, period: str, currency: str, **how: Any) -> Self:
        seen = (await handle.database.fetch_single("SELECT number FROM ledgers.releases"))["number"]
        return cls(handle, period, currency, accounts=await named_accounts(handle.database), seen=seen, **how)

    def refuse_the_rest(self) -> None:
        """When all else is done. Raises: `RowsNotPostedError`, `RateMissingError`."""
        if faults := [each for each in self.refused if each.wanted is None]:
            named = [f"{row} {each.code} ({each.detail})" for each in faults for row in each.rows]
            more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
            raise RowsNotPostedError(rows=len(named), which="; ".join(named[:_NAMED]) + more)
        if self.refused:
            wanted = sorted({each.wanted for each in self.refused if each.wanted})
            raise RateMissingError(rates=", ".join(wanted), rows=sum(len(each.rows) for each in self.refused))

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
            rows = await self._taken()
            if not rows:
                return False
            self._reached = rows[-1]["id"]
            # Now that they are locked: another run may have taken them between the look and the lock.
            question = sql.SQL("SELECT t.id FROM {} t WHERE t.id = ANY(%s) AND {}").format(self._table, self._free)
            still = {row["id"] for row in await database.fetch(question, [[row["id"] for row in rows]])}
            if models := [handle.model(row) for row in rows if row["id"] in still]:
                await put(models)
            await self._hold()
        return True

    @property
    def _table(self) -> sql.Identifier:
        return sql.Identifier("ledgers", self._handle.kind.table)

    async def _taken(self) -> list[dict[str, Any]]:
        """Status and limit stand in the statement: the planner must see both when it plans for whatever month comes, or it does
        without the index of approved rows."""
        return await self._handle.database.fetch(
            sql.SQL(
                "SELECT * FROM {} t WHERE entity_id = %s AND period = %s AND status = {} AND id > %s AND {} "
                "ORDER BY id LIMIT {} FOR NO KEY UPDATE SKIP LOCKED"
            ).format(self._table, sql.Literal(self._handle.kind.lifecycle.approved), self._free, sql.Literal(BATCH)),
            [self._handle.entity_id, self._period, self._reached],
        )

    async def _all(self, rows: list[Any]) -> None:
        self.posted, self._refused = await self._written(self._propose(rows))

    async def _around(self, rows: list[Any]) -> None:
        """What can be posted. Raises: the last refusal, where there are more than `MOST_REFUSED`."""
        if hasattr(self._handle.kind.model, "aggregate_for_gl"):
            journals = self._propose(rows)  # where that fails, the type has to be corrected
        else:
            journals = [journal for row in rows for journal in self._proposed(row)]
        await self._halves(journals)

    def _proposed(self, row: Any) -> list[JournalProposal]:
        try:
            return self._propose([row])
        except Exception as error:
            if not _one_rows_fault(error):
                raise
            self._refuse([row.id], f"{self._handle.kind.table}:{row.id}", error)
            return []

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
                self._refuse(journals[0].rows, journals[0].external_id, error)
                return
            middle = len(journals) // 2
            await self._halves(journals[:middle])
            await self._halves(journals[middle:])
        else:
            self.posted += posted
            self._refused += waiting

    def _refuse(self, rows: Sequence[uuid.UUID], external_id: str, error: Exception) -> None:
        self._refused.append(Refused.because(rows, external_id, error))
        if sum(each.wanted is None for each in self._refused) > MOST_REFUSED:
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
                day = f"{want.currency} on {want.day.isoformat()}"
                why = f"no rate into {self._currency} is known for {day} or the days before"
                waiting.append(Refused(tuple(journal.rows), journal.external_id, RateMissingError.code, why, wanted=day))
        return ready, waiting

    async def _hold(self) -> None:
        handle = self._handle
        where = (handle.entity_id, self._period, handle.kind.table)
        if self._refused:
            await handle.database.copy_in(
                sql.Identifier("ledgers", "posting_refusals"),
                ("row_id", "entity_id", "period", "subledger", "external_id", "code", "detail", "seen", "run_id"),
                (
                    [row, *where, each.external_id, each.code, each.detail, self._seen, handle.task_id]
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
