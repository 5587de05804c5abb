"""Approved rows become journals, exactly once.

One transaction writes the journals, their lines, and POSTED with the journal's reference on the rows: whatever dies,
either all of a batch is there or none of it. The external id is the row's own, and unique, so a second run finds
nothing left to do and could not post twice if it tried.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from ntro_dagster.errors import NtroError
from ntro_dagster.platforms.postgres.database import Actor
from ntro_dagster.subledger.handle import SubledgerHandle
from ntro_dagster.subledger.proposals import BillProposal, JournalEntryLineItem, JournalProposal
from ntro_dagster.subledger.registry import SubledgerType
from ntro_dagster.subledger.row import EXACT

VAT_ACCOUNT = "1400"
CREDITORS_ACCOUNT = "2000"
SUSPENSE_ACCOUNT = "5999"

BATCH = 5_000
"""Rows posted per transaction."""

JOURNAL_NAMESPACE = uuid.UUID("2b1d9a5e-63c0-5d0e-9b3e-0d6d2f3f7a11")


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


@dataclass(frozen=True, slots=True)
class Posted:
    rows: int = 0
    batches: int = 0


def as_journal(bill: BillProposal) -> JournalProposal:
    """Net to the category (or suspense), VAT to its account, gross to creditors by vendor."""
    net = EXACT.subtract(bill.gross, bill.vat)
    lines = [
        JournalEntryLineItem(account_code=account, debit=amount, description=bill.description)
        for account, amount in ((bill.category or SUSPENSE_ACCOUNT, net), (VAT_ACCOUNT, bill.vat))
        if amount > 0
    ]
    lines.append(JournalEntryLineItem(account_code=CREDITORS_ACCOUNT, credit=bill.gross, party=bill.vendor))
    return JournalProposal(
        external_id=bill.external_id,
        row_id=bill.row_id,
        posting_date=bill.posting_date,
        description=bill.description,
        currency=bill.currency,
        lines=tuple(lines),
    )


async def post_approved(handle: SubledgerHandle, *, period: str, currency: str) -> Posted:
    """Post every approved row of the partition: those in the status before the posted one. Nothing, where the type has none.

    Args:
        currency: the entity's, for proposals that name none.

    Raises: `PostingConflictError`, `AccountUnknownError`; batches before the failing one stay posted.
    """
    posted = Posted()
    if handle.kind.lifecycle.posted is None:
        return posted
    propose = proposer(handle.kind, currency)
    while rows := await _post_batch(handle, period, propose):
        posted = Posted(posted.rows + rows, posted.batches + 1)
    return posted


def proposer(kind: SubledgerType, currency: str) -> Callable[[Any], JournalProposal]:
    """What makes a journal of a row of that type. Args: `currency`: for proposals that name none."""
    model: Any = kind.model

    def propose(row: Any) -> JournalProposal:
        if kind.table == "journal_proposals":
            return model.propose_for_gl(row, currency=currency)  # type: ignore[no-any-return]
        proposal = model.propose_for_gl(row)
        return as_journal(proposal) if isinstance(proposal, BillProposal) else proposal

    return propose


async def _post_batch(handle: SubledgerHandle, period: str, propose: Callable[[Any], JournalProposal]) -> int:
    database = handle.database
    table = sql.Identifier("ledgers", handle.kind.table)
    lifecycle = handle.kind.lifecycle
    async with database.transaction(Actor.run(handle.task_id)):
        rows = await database.fetch(
            sql.SQL(
                "SELECT * FROM {} WHERE entity_id = %s AND period = %s AND status = %s "
                "ORDER BY id LIMIT %s FOR NO KEY UPDATE SKIP LOCKED"
            ).format(table),
            [handle.entity_id, period, lifecycle.approved, BATCH],
        )
        if not rows:
            return 0
        journals = [propose(handle.model(row)) for row in rows]
        await _check_accounts(handle, journals)
        await _write(handle, period, journals)
        await database.execute(
            sql.SQL(
                "UPDATE {} t SET status = %s, posted_to_gl = TRUE, posted_journal_ref = p.external_id, "
                "task_id = %s, updated_at = now() FROM new_journals p WHERE t.id = p.row_id AND t.status = %s"
            ).format(table),
            [lifecycle.posted, handle.task_id, lifecycle.approved],
        )
        await database.execute("DROP TABLE new_journals, new_lines")
    return len(rows)


async def _check_accounts(handle: SubledgerHandle, journals: Sequence[JournalProposal]) -> None:
    named = sorted({line.account_code for journal in journals for line in journal.lines})
    unknown = await handle.database.fetch(
        "SELECT code FROM unnest(%s::text[]) AS named (code) "
        "WHERE code NOT IN (SELECT code FROM ledgers.accounts WHERE active) ORDER BY code",
        [named],
    )
    if unknown:
        raise AccountUnknownError(accounts=", ".join(row["code"] for row in unknown))


async def _write(handle: SubledgerHandle, period: str, journals: Sequence[JournalProposal]) -> None:
    database = handle.database
    await database.execute(
        "CREATE TEMPORARY TABLE new_journals (id uuid, row_id uuid, external_id text, posting_date date, "
        "description text, currency text) ON COMMIT DROP"
    )
    await database.execute("CREATE TEMPORARY TABLE new_lines (LIKE ledgers.journal_lines) ON COMMIT DROP")
    await database.copy_in(
        sql.Identifier("pg_temp", "new_journals"),
        ("id", "row_id", "external_id", "posting_date", "description", "currency"),
        ([_id(j), j.row_id, j.external_id, j.posting_date, j.description, j.currency] for j in journals),
    )
    await database.copy_in(
        sql.Identifier("pg_temp", "new_lines"),
        ("journal_id", "line_no", "account_code", "party", "description", "debit", "credit", "row_id"),
        (
            [_id(j), number, line.account_code, line.party, line.description, line.debit, line.credit, j.row_id]
            for j in journals
            for number, line in enumerate(j.lines, start=1)
        ),
    )
    await database.execute("ANALYZE new_journals, new_lines")
    written = await database.fetch(
        "WITH written AS (INSERT INTO ledgers.journals "
        "(id, entity_id, period, external_id, posting_date, description, currency, run_id, row_id) "
        "SELECT id, %(entity)s, %(period)s, external_id, posting_date, description, currency, %(run)s, row_id FROM new_journals "
        "ON CONFLICT (external_id) DO NOTHING RETURNING id) SELECT count(*) AS journals FROM written",
        {"entity": handle.entity_id, "period": period, "run": handle.task_id},
    )
    await database.execute(
        "INSERT INTO ledgers.journal_lines SELECT l.* FROM new_lines l JOIN ledgers.journals j ON j.id = l.journal_id "
        "WHERE j.txid = pg_current_xact_id() ORDER BY l.journal_id, l.line_no"
    )
    if written[0]["journals"] < len(journals):
        await _refuse_conflicts(handle, period)


_LINES = "SELECT array_agg((account_code, party, debit, credit)::text ORDER BY line_no) FROM"


async def _refuse_conflicts(handle: SubledgerHandle, period: str) -> None:
    conflicts = await handle.database.fetch_one(
        "SELECT count(*) AS conflicts FROM new_journals n JOIN ledgers.journals j USING (external_id) "
        "WHERE (j.row_id, j.entity_id, j.period, j.posting_date, j.currency) "
        "IS DISTINCT FROM (n.row_id, %s, %s, n.posting_date, n.currency) "
        f"OR ({_LINES} new_lines WHERE journal_id = n.id) "
        f"IS DISTINCT FROM ({_LINES} ledgers.journal_lines WHERE journal_id = j.id)",
        [handle.entity_id, period],
    )
    if conflicts and conflicts["conflicts"]:
        raise PostingConflictError(conflicts=conflicts["conflicts"])


def _id(journal: JournalProposal) -> uuid.UUID:
    return uuid.uuid5(JOURNAL_NAMESPACE, journal.external_id)
