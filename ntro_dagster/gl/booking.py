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
    await move_rows(handle, journals)


async def move_rows(handle: SubledgerHandle, journals: Sequence[JournalProposal]) -> None:
    """POSTED on the rows of journals that `write` has written."""
    lifecycle = handle.kind.lifecycle
    await handle.database.execute(
        sql.SQL(
            "UPDATE {} t SET status = %s, posted_to_gl = TRUE, posted_journal_ref = p.external_id, task_id = %s, "
            "updated_at = now() FROM unnest(%s::uuid[], %s::text[]) p (row_id, external_id) "
            "WHERE t.id = p.row_id AND t.status = (SELECT %s)"  # text; as a constant, all that is approved would be gone through
        ).format(sql.Identifier("ledgers", handle.kind.table)),
        [lifecycle.posted, handle.task_id, *_rows_of(journals), lifecycle.approved],
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
_LINE_NAMES = ", ".join(_LINE)

# One set for the transaction, however often it writes: a dropped table's locks would be held until its end.
_TABLES = f"""
    CREATE TEMPORARY TABLE IF NOT EXISTS new_journals ({", ".join(map(" ".join, _JOURNAL.items()))}) ON COMMIT DROP;
    CREATE TEMPORARY TABLE IF NOT EXISTS new_lines (LIKE ledgers.journal_lines) ON COMMIT DROP;
    DELETE FROM new_journals; DELETE FROM new_lines"""
_WRITTEN = "(SELECT txid FROM ledgers.journals WHERE id = {} OFFSET 0) = pg_current_xact_id()"
"""Whether a journal of that id is this transaction's."""


async def write(handle: SubledgerHandle, period: str, journals: Sequence[JournalProposal]) -> None:
    """Journals, lines and which rows they are made of. Raises: `PostingConflictError`."""
    database = handle.database
    await database.execute(_TABLES)
    await database.copy_in(sql.Identifier("pg_temp", "new_journals"), tuple(_JOURNAL), map(_journal, journals))
    await database.copy_in(
        sql.Identifier("pg_temp", "new_lines"), _LINE, (line for journal in journals for line in _lines_of(journal))
    )
    written = await database.execute(
        f"INSERT INTO ledgers.journals (entity_id, period, run_id, {_NAMES}) "
        f"SELECT %(entity)s, %(period)s, %(run)s, {_NAMES} FROM new_journals ON CONFLICT (external_id) DO NOTHING",
        {"entity": handle.entity_id, "period": period, "run": handle.task_id},
    )
    all_written = written == len(journals)
    await database.execute(
        f"INSERT INTO ledgers.journal_lines ({_LINE_NAMES}) SELECT {_LINE_NAMES} FROM new_lines "
        + ("" if all_written else f"WHERE {_WRITTEN.format('journal_id')} ")
        + "ORDER BY journal_id, line_no"
    )
    if several := [journal for journal in journals if journal.row_id is None]:  # a journal of one row names it itself
        await database.execute(
            "INSERT INTO ledgers.journal_rows (row_id, journal_id) SELECT n.row_id, j.id "
            "FROM unnest(%s::uuid[], %s::text[]) n (row_id, external_id) JOIN ledgers.journals j USING (external_id) "
            f"WHERE {_WRITTEN.format('j.id')}",
            _rows_of(several),
        )
    if not all_written:
        await _refuse_conflicts(handle, period, journals)


def _rows_of(journals: Iterable[JournalProposal]) -> list[list[Any]]:
    """Rows, and for each the external id of its journal."""
    pairs = [(row, journal.external_id) for journal in journals for row in journal.rows]
    return [[row for row, _ in pairs], [external_id for _, external_id in pairs]]


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
    known_as = _id(journal)
    for number, line in enumerate(journal.lines, start=1):
        yield [
            known_as,
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


async def _refuse_conflicts(handle: SubledgerHandle, period: str, journals: Sequence[JournalProposal]) -> None:
    conflicts = await handle.database.fetch_single(
        "WITH new_rows AS MATERIALIZED (SELECT * FROM unnest(%s::uuid[], %s::text[]) n (row_id, external_id)) "
        "SELECT count(*) AS conflicts FROM new_journals n JOIN ledgers.journals j USING (external_id) "
        "WHERE (j.entity_id, j.period, j.posting_date, j.currency, j.kind, j.reverses) "
        "IS DISTINCT FROM (%s, %s, n.posting_date, n.currency, n.kind, n.reverses) "
        f"OR ({_ROWS} new_rows WHERE external_id = n.external_id) "
        f"IS DISTINCT FROM ({_ROWS} ledgers.journal_rows WHERE journal_id = j.id) "
        f"OR ({_LINES} new_lines WHERE journal_id = n.id) "
        f"IS DISTINCT FROM ({_LINES} ledgers.journal_lines WHERE journal_id = j.id)",
        [*_rows_of(journals), handle.entity_id, period],
    )
    if conflicts["conflicts"]:
        raise PostingConflictError(conflicts=conflicts["conflicts"])


def _id(journal: JournalProposal) -> uuid.UUID:
    return uuid.uuid5(JOURNAL_NAMESPACE, journal.external_id)
