"""Journals and their rows, written: the journals, their lines, and POSTED with the journal's reference on the rows, together.

The external id is the rows' own, and unique, so who comes second finds nothing left to do and could not post twice if it tried.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from ntro_dagster.errors import NtroError
from ntro_dagster.subledger.handle import SubledgerHandle
from ntro_dagster.subledger.proposals import JournalProposal

JOURNAL_NAMESPACE = uuid.UUID("2b1d9a5e-63c0-5d0e-9b3e-0d6d2f3f7a11")


class PostingConflictError(NtroError):
    """A journal with a row's external id exists, but says something else."""

    code = "POSTING_CONFLICT"
    summary = "a journal with this external id exists with other content"
    detail = "{conflicts} journal(s) exist under the external id of a row but with other content"
    mend = "compare row and journal"


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
    # One set for the transaction, however often it writes: a dropped table's locks would be held until its end.
    await database.execute(f"CREATE TEMPORARY TABLE IF NOT EXISTS new_journals ({columns}) ON COMMIT DROP")
    await database.execute("CREATE TEMPORARY TABLE IF NOT EXISTS new_lines (LIKE ledgers.journal_lines) ON COMMIT DROP")
    await database.execute(
        "CREATE TEMPORARY TABLE IF NOT EXISTS new_rows (row_id uuid, journal_id uuid, external_id text) ON COMMIT DROP"
    )
    await database.execute("TRUNCATE new_journals, new_lines, new_rows")
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
