"""Corrections: the mirror of a journal as a proposal, reviewed and posted like any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from ntro_dagster.boundary.periods import open_period, shifted
from ntro_dagster.errors import UsageError
from ntro_dagster.gl.journals import Journal, lines_of
from ntro_dagster.gl.proposing import HANDED_IN, propose
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.handle import SubledgerHandle
from ntro_dagster.subledger.proposals import JournalEntryLineItem, JournalKind, JournalProposal, Translation
from ntro_dagster.subledger.staging import Payload


class ReversedAlreadyError(UsageError):
    """Values: `number`, `by`."""

    code = "JOURNAL_REVERSED"
    summary = "the journal is reversed already, or about to be"
    detail = "journal {number} is reversed by {by}"
    mend = "a journal is reversed once; what was wrong about the reversal is a new journal. Nothing was filed"


class ReversalOfReversalError(UsageError):
    """Values: `number`."""

    code = "REVERSAL_NOT_REVERSED"
    summary = "a reversal is not reversed"
    detail = "journal {number} is a reversal itself"
    mend = "hand the journal in again instead; nothing was filed"


class NoOpenMonthError(UsageError):
    """Values: `number`, `period`."""

    code = "REVERSAL_PERIOD_CLOSED"
    summary = "the month does not take journals, or lies before the journal that is to be reversed"
    detail = "journal {number} cannot be reversed in {period}"
    mend = "name an open month from the journal's own on with --period; nothing was filed"


@dataclass(frozen=True, slots=True)
class Reversal:
    """A proposal, PENDING."""

    row_id: UUID
    period: str
    posting_date: date


async def reverse(
    handle: SubledgerHandle, desk: TenantDatabase, journal: Journal, *, by: str, reason: str, period: str | None = None
) -> Reversal:
    """Propose the mirror of a journal, handed in by `by`; again after a crash it completes what is missing.

    Args:
        handle: on `journal_proposals`, as the app's role; its connection holds a lock until it is closed, so that of two who
            reverse one journal at one time the second is told.
        period: None: the earliest open month that is not before the journal's.

    Raises: `ReversedAlreadyError`, `ReversalOfReversalError`, `NoOpenMonthError`, and what `propose` raises.
    """
    database = handle.database
    if journal.kind == JournalKind.REVERSAL:
        raise ReversalOfReversalError(number=journal.number)
    await database.execute("SELECT pg_advisory_lock(hashtextextended('ntro reversal ' || %s, 0))", [str(journal.id)])
    earlier = await _proposed(database, journal, by)
    unfinished = next((row for row in earlier if row["waits"]), None)
    if unfinished:
        month, reference = unfinished["period"], unfinished["source_ref"]
    else:
        month, reference = await _month(handle, journal, period), f"journal:{journal.id}#reversal-{len(earlier) + 1}"
    day = journal.posting_date if month == journal.period else date.fromisoformat(f"{month}-01")
    values = {
        "kind": JournalKind.REVERSAL.value,
        "reverses": journal.id,
        "description": f"Reversal of {journal.number}: {reason}",
        "posting_date": day,
        "currency": journal.currency,
        "lines": [_mirror(line) for line in journal.lines if line.debit or line.credit],
    }
    raw = {"reverses": journal.number, "reason": reason}
    payload = Payload(values, reference, [HANDED_IN], raw)
    await propose(handle, desk, [payload], period=month, source=reference, by=by, reason=reason)
    row = await database.fetch_single(
        "SELECT id FROM ledgers.journal_proposals WHERE entity_id = %s AND period = %s AND source_ref = %s",
        [handle.entity_id, month, reference],
    )
    return Reversal(row["id"], month, day)


async def _proposed(database: TenantDatabase, journal: Journal, by: str) -> Sequence[dict[str, Any]]:
    """Proposals to reverse it that came to nothing, or wait to be completed. Raises: `ReversedAlreadyError` for any other."""
    if journal.reversed_by:
        raise ReversedAlreadyError(number=journal.number, by=f"journal {journal.reversed_by}")
    rows = await database.fetch(
        "SELECT id, period, status, source_ref, "
        "status = 'NEEDS_ATTENTION' AND made_by IS NULL AND validation_errors = %s AS waits "
        "FROM ledgers.journal_proposals WHERE reverses = %s ORDER BY created_at",
        [Jsonb([HANDED_IN]), journal.id],
    )
    for row in rows:
        if not row["waits"] and row["status"] not in {"REJECTED", "EXCLUDED"}:
            raise ReversedAlreadyError(number=journal.number, by=f"row {row['id']}, {row['status']} in {row['period']}")
    return rows


async def _month(handle: SubledgerHandle, journal: Journal, wanted: str | None) -> str:
    """The first month after those that are closed, and not before the journal's. Raises: `NoOpenMonthError`."""
    closed = await handle.database.fetch_single(
        "SELECT max(period) AS latest FROM ledgers.periods WHERE entity_id = %s AND status <> 'OPEN'", [handle.entity_id]
    )
    first = max(journal.period, shifted(closed["latest"], 1)) if closed["latest"] else journal.period
    if wanted is not None:
        if open_period(wanted) < first:
            raise NoOpenMonthError(number=journal.number, period=wanted)
        return wanted
    month, last = first, f"{datetime.now(UTC):%Y-%m}"
    if month > max(last, journal.period):
        raise NoOpenMonthError(number=journal.number, period="any month up to now: all are closed")
    return month


def _mirror(line: Any) -> dict[str, Any]:
    item: dict[str, Any] = {
        "account_code": line.account_code,
        "debit": format(line.credit, "f"),
        "credit": format(line.debit, "f"),
    }
    said = {"description": line.description, "party": line.party, "tax_code": line.tax_code, "dimensions": line.dimensions}
    return item | {name: value for name, value in said.items() if value}


async def as_translated(database: TenantDatabase, journals: Sequence[JournalProposal]) -> list[JournalProposal]:
    """Reversals take the rate of their originals and the amounts it made, what rounding left among them: they undo the journal as
    it is in the books, whatever the rate is on their own day. Others stay as they are.
    """
    named = [journal.reverses for journal in journals if journal.reverses is not None]
    if not named:
        return list(journals)
    rows = await database.fetch(
        "SELECT id, functional_currency, rate, rate_source FROM ledgers.journals WHERE id = ANY(%s) AND rate IS NOT NULL", [named]
    )
    originals = {row["id"]: row for row in rows}
    lines = await lines_of(database, list(originals))
    return [
        _translated(journal, originals[journal.reverses], lines[journal.reverses])
        if journal.reverses is not None and journal.reverses in originals
        else journal
        for journal in journals
    ]


def _translated(journal: JournalProposal, original: dict[str, Any], lines: Sequence[Any]) -> JournalProposal:
    rate = Translation(currency=original["functional_currency"], rate=original["rate"], source=original["rate_source"])
    mirrored = tuple(
        JournalEntryLineItem(
            account_code=line.account_code,
            description=line.description,
            debit=line.credit,
            credit=line.debit,
            party=line.party,
            tax_code=line.tax_code,
            dimensions=line.dimensions,
            functional_debit=line.functional_credit,
            functional_credit=line.functional_debit,
        )
        for line in lines
    )
    proposed = sorted((line.account_code, line.debit, line.credit) for line in journal.lines)
    if proposed != sorted((line.account_code, line.debit, line.credit) for line in mirrored if line.debit or line.credit):
        return journal  # somebody edited it: it is no mirror, and the database says so
    return journal.model_copy(update={"lines": mirrored, "translation": rate})
