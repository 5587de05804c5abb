"""Approved rows become journals, exactly once.

One transaction writes the journals, their lines, and POSTED with the journal's reference on the rows: whatever dies,
either all of a batch is there or none of it. The external id is the rows' own, and unique, so a second run finds
nothing left to do and could not post twice if it tried.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from psycopg import sql
from psycopg.types.json import Jsonb

from ntro_dagster.errors import NtroError
from ntro_dagster.gl.bills import as_journal
from ntro_dagster.gl.chart import NamedAccounts, named_accounts
from ntro_dagster.gl.reversals import as_translated
from ntro_dagster.gl.translation import RateMissingError, Wanted, rates, translated
from ntro_dagster.platforms.postgres.database import Actor
from ntro_dagster.subledger.handle import SubledgerHandle
from ntro_dagster.subledger.proposals import BillProposal, JournalProposal
from ntro_dagster.subledger.registry import SubledgerType

BATCH = 5_000
"""Rows posted per transaction."""

JOURNAL_NAMESPACE = uuid.UUID("2b1d9a5e-63c0-5d0e-9b3e-0d6d2f3f7a11")

_FIRST = uuid.UUID(int=0)
_ALL = sql.SQL("TRUE")


class PostingConflictError(NtroError):
    """A journal with a row's external id exists, but says something else."""

    code = "POSTING_CONFLICT"
    summary = "a journal with this external id exists with other content"
    detail = "{conflicts} journal(s) exist under the external id of a row but with other content"
    mend = "compare row and journal; nothing of this batch was posted"


class AccountUnknownError(NtroError):
    code = "ACCOUNT_UNKNOWN"
    summary = "a row names an account that is not in the chart of accounts"
    detail = "not in the chart of accounts, or not active: {accounts}"
    mend = "reject the rows or add the accounts; nothing of this batch was posted"


class RowsLostError(NtroError):
    """Values: `rows`."""

    code = "ROWS_NOT_IN_A_JOURNAL"
    summary = "a type made journals of many rows, and not of each row once"
    detail = "{rows} row(s) are in none of the journals that aggregate_for_gl made, or in several, or were not handed to it"
    mend = "correct the type's aggregate_for_gl; nothing of this batch was posted"


@dataclass(frozen=True, slots=True)
class Posted:
    """Attributes:
    waiting: journals that are on their way to another ledger still.
    troubles: what somebody may want to know of, and nobody has to do anything about.
    """

    rows: int = 0
    batches: int = 0
    waiting: int = 0
    troubles: tuple[NtroError, ...] = ()


Propose = Callable[[Sequence[Any]], list[JournalProposal]]


async def post_approved(handle: SubledgerHandle, *, period: str, currency: str) -> Posted:
    """Post every approved row of the partition: those in the status before the posted one. Nothing, where the type has none.

    Args:
        currency: the entity's: for proposals that name none, and what journals in another are translated into.

    Raises: `PostingConflictError`, `AccountUnknownError`, `AccountRoleMissingError`, `RowsLostError`; batches before the failing
        one stay posted. `RateMissingError` when all that has a rate is posted.
    """
    posted = Posted()
    if handle.kind.lifecycle.posted is None:
        return posted
    batch = await Batches.of(handle, period=period, currency=currency)
    while await batch.post():
        posted = Posted(posted.rows + batch.posted, posted.batches + 1)
    batch.refuse_missing_rates()
    return posted


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


async def book(handle: SubledgerHandle, period: str, journals: Sequence[JournalProposal]) -> None:
    """Write journals, and POSTED with their reference on their rows, in the transaction that is open.

    Raises: `PostingConflictError`.
    """
    await write(handle, period, journals)
    await move_rows(handle)


async def move_rows(handle: SubledgerHandle) -> None:
    """POSTED on the rows of the journals that `write` has just written."""
    lifecycle = handle.kind.lifecycle
    await handle.database.execute(
        sql.SQL(
            "UPDATE {} t SET status = %s, posted_to_gl = TRUE, posted_journal_ref = p.external_id, "
            "task_id = %s, updated_at = now() FROM new_rows p WHERE t.id = p.row_id AND t.status = %s"
        ).format(sql.Identifier("ledgers", handle.kind.table)),
        [lifecycle.posted, handle.task_id, lifecycle.approved],
    )
    await handle.database.execute("DROP TABLE new_journals, new_lines, new_rows")


Put = Callable[[SubledgerHandle, str, Sequence[JournalProposal]], Awaitable[None]]


class Batches:
    """One transaction after the other, in the order of the rows' ids: those that wait for a rate are passed over.

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
        free: sql.Composable = _ALL,
    ) -> None:
        self._handle, self._period, self._currency, self._accounts = handle, period, currency, accounts
        self._propose = proposer(handle.kind, currency, accounts)
        self._put, self._free = put, free
        self._reached = _FIRST
        self.posted = 0
        self.held = 0
        self.waiting: set[Wanted] = set()

    @classmethod
    async def of(cls, handle: SubledgerHandle, *, period: str, currency: str, **how: Any) -> Self:
        return cls(handle, period, currency, accounts=await named_accounts(handle.database), **how)

    def refuse_missing_rates(self) -> None:
        """When all else is done. Raises: `RateMissingError`."""
        if self.waiting:
            named = ", ".join(f"{each.currency} on {each.day.isoformat()}" for each in sorted(self.waiting, key=str))
            raise RateMissingError(rates=named, rows=self.held)

    async def post(self) -> bool:
        """Whether there were rows to look at."""
        handle, database = self._handle, self._handle.database
        table = sql.Identifier("ledgers", handle.kind.table)
        lifecycle = handle.kind.lifecycle
        async with database.transaction(Actor.run(handle.task_id)):
            rows = await database.fetch(
                sql.SQL(
                    "SELECT * FROM {} t WHERE entity_id = %s AND period = %s AND status = %s AND id > %s AND {} "
                    "ORDER BY id LIMIT %s FOR NO KEY UPDATE SKIP LOCKED"
                ).format(table, self._free),
                [handle.entity_id, self._period, lifecycle.approved, self._reached, BATCH],
            )
            if not rows:
                return False
            self._reached = rows[-1]["id"]
            if self._free is not _ALL:
                # Now that they are locked: another run may have taken them between the look and the lock.
                question = sql.SQL("SELECT t.id FROM {} t WHERE t.id = ANY(%s) AND {}").format(table, self._free)
                still = {row["id"] for row in await database.fetch(question, [[row["id"] for row in rows]])}
                rows = [row for row in rows if row["id"] in still]
            journals = await self._translated(self._propose([handle.model(row) for row in rows]) if rows else [])
            self.posted = sum(len(journal.rows) for journal in journals)
            if not journals:
                return True
            await _check_accounts(handle, journals)
            await self._put(handle, self._period, journals)
        return True

    async def _translated(self, journals: Iterable[JournalProposal]) -> list[JournalProposal]:
        """With amounts in the entity's currency; those for which no rate is known are left out, and noted."""
        journals = await as_translated(self._handle.database, list(journals))
        foreign = [x for x in journals if x.currency != self._currency and x.translation is None]
        wanted = {journal.external_id: Wanted(journal.currency, journal.posting_date) for journal in foreign}
        known = await rates(self._handle.database, wanted.values(), to=self._currency)
        ready: list[JournalProposal] = []
        for journal in journals:
            if (want := wanted.get(journal.external_id)) is None:
                ready.append(journal)
            elif (rate := known.get((want.currency, want.day))) is not None:
                ready.append(translated(journal, rate, self._accounts))
            else:
                self.waiting.add(want)
                self.held += len(journal.rows)
        return ready


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


_JOURNAL: Mapping[str, str] = {
    "id": "uuid",
    "row_id": "uuid",
    "external_id": "text",
    "posting_date": "date",
    "description": "text",
    "currency": "text",
    "kind": "text",
    "reverses": "uuid",
    "functional_currency": "text",
    "rate": "numeric",
    "rate_source": "text",
}
_LINE = (
    "journal_id",
    "line_no",
    "account_code",
    "party",
    "description",
    "debit",
    "credit",
    "row_id",
    "functional_debit",
    "functional_credit",
    "tax_code",
    "dimensions",
)
_NAMES = ", ".join(_JOURNAL)


async def write(handle: SubledgerHandle, period: str, journals: Sequence[JournalProposal]) -> None:
    """Journals, lines and which rows they are made of. Raises: `PostingConflictError`."""
    database = handle.database
    columns = ", ".join(f"{name} {kind}" for name, kind in _JOURNAL.items())
    await database.execute(f"CREATE TEMPORARY TABLE new_journals ({columns}) ON COMMIT DROP")
    await database.execute("CREATE TEMPORARY TABLE new_lines (LIKE ledgers.journal_lines) ON COMMIT DROP")
    await database.execute("CREATE TEMPORARY TABLE new_rows (row_id uuid, journal_id uuid, external_id text) ON COMMIT DROP")
    await database.copy_in(sql.Identifier("pg_temp", "new_journals"), tuple(_JOURNAL), map(_journal, journals))
    await database.copy_in(
        sql.Identifier("pg_temp", "new_lines"), _LINE, (line for journal in journals for line in _lines_of(journal))
    )
    await database.copy_in(
        sql.Identifier("pg_temp", "new_rows"),
        ("row_id", "journal_id", "external_id"),
        ([row, _id(journal), journal.external_id] for journal in journals for row in journal.rows),
    )
    await database.execute("ANALYZE new_journals, new_lines, new_rows")
    written = await database.fetch(
        f"WITH written AS (INSERT INTO ledgers.journals (entity_id, period, run_id, {_NAMES}) "
        f"SELECT %(entity)s, %(period)s, %(run)s, {_NAMES} FROM new_journals "
        "ON CONFLICT (external_id) DO NOTHING RETURNING id) SELECT count(*) AS journals FROM written",
        {"entity": handle.entity_id, "period": period, "run": handle.task_id},
    )
    await database.execute(
        f"INSERT INTO ledgers.journal_lines ({', '.join(_LINE)}) "
        f"SELECT {', '.join('l.' + name for name in _LINE)} FROM new_lines l JOIN ledgers.journals j ON j.id = l.journal_id "
        "WHERE j.txid = pg_current_xact_id() ORDER BY l.journal_id, l.line_no"
    )
    # A journal of one row names it itself.
    await database.execute(
        "INSERT INTO ledgers.journal_rows (row_id, journal_id) SELECT n.row_id, n.journal_id FROM new_rows n "
        "JOIN ledgers.journals j ON j.id = n.journal_id WHERE j.txid = pg_current_xact_id() AND j.row_id IS NULL"
    )
    if written[0]["journals"] < len(journals):
        await _refuse_conflicts(handle, period)


def _journal(journal: JournalProposal) -> list[Any]:
    rate = journal.translation
    return [
        _id(journal),
        journal.row_id,
        journal.external_id,
        journal.posting_date,
        journal.description,
        journal.currency,
        journal.kind,
        journal.reverses,
        rate and rate.currency,
        rate and rate.rate,
        rate and rate.source,
    ]


def _lines_of(journal: JournalProposal) -> Iterable[list[Any]]:
    for number, line in enumerate(journal.lines, start=1):
        yield [
            _id(journal),
            number,
            line.account_code,
            line.party,
            line.description,
            line.debit,
            line.credit,
            journal.row_id,
            line.functional_debit,
            line.functional_credit,
            line.tax_code,
            Jsonb(dict(line.dimensions)),
        ]


_LINES = "SELECT array_agg((account_code, party, debit, credit, dimensions)::text ORDER BY line_no) FROM"
_ROWS = "SELECT array_agg(row_id ORDER BY row_id) FROM"


async def _refuse_conflicts(handle: SubledgerHandle, period: str) -> None:
    conflicts = await handle.database.fetch_one(
        "SELECT count(*) AS conflicts FROM new_journals n JOIN ledgers.journals j USING (external_id) "
        "WHERE (j.entity_id, j.period, j.posting_date, j.currency, j.kind, j.reverses) "
        "IS DISTINCT FROM (%s, %s, n.posting_date, n.currency, n.kind, n.reverses) "
        f"OR ({_ROWS} new_rows WHERE journal_id = n.id) IS DISTINCT FROM ({_ROWS} ledgers.journal_rows WHERE journal_id = j.id) "
        f"OR ({_LINES} new_lines WHERE journal_id = n.id) "
        f"IS DISTINCT FROM ({_LINES} ledgers.journal_lines WHERE journal_id = j.id)",
        [handle.entity_id, period],
    )
    if conflicts and conflicts["conflicts"]:
        raise PostingConflictError(conflicts=conflicts["conflicts"])


def _id(journal: JournalProposal) -> uuid.UUID:
    return uuid.uuid5(JOURNAL_NAMESPACE, journal.external_id)
