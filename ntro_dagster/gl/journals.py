"""Journals of the books, by the number that an auditor knows them by: `2025/12`, the entity's year and the number in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from ntro_dagster.errors import NotFoundError, UsageError
from ntro_dagster.platforms.postgres.database import TenantDatabase

_NUMBER = re.compile(r"([0-9]{4})/([0-9]{1,18})")


class JournalNumberInvalidError(UsageError):
    """Values: `number`."""

    code = "JOURNAL_NUMBER_INVALID"
    summary = "that is not a journal's number"
    detail = "{number!r} is not a journal's number"
    mend = "write year and number, for instance 2025/12: `ntro journal list` shows them"


class JournalNotFoundError(NotFoundError):
    """Values: `number`, `entity`, `tenant`."""

    code = "JOURNAL_NOT_FOUND"
    summary = "the entity has no such journal"
    detail = "{entity} has no journal {number}"
    mend = "`ntro journal list --tenant {tenant} --entity {entity}` shows those there are"


@dataclass(frozen=True, slots=True)
class JournalLine:
    """`functional_*`: in the entity's currency, where the journal was translated."""

    account_code: str
    account_name: str
    party: str | None
    description: str | None
    debit: Decimal
    credit: Decimal
    functional_debit: Decimal | None
    functional_credit: Decimal | None
    tax_code: str | None
    dimensions: dict[str, str]
    row_id: UUID | None


@dataclass(frozen=True, slots=True)
class Journal:
    """
    Attributes:
        number: `2025/12`.
        reverses, reversed_by: numbers.
        rows: ids of the subledger rows that it was made of, in `subledger`.
    """

    id: UUID
    number: str
    period: str
    posting_date: date
    kind: str
    description: str
    currency: str
    amount: Decimal
    functional_currency: str | None
    rate: Decimal | None
    rate_source: str | None
    reverses: str | None
    reversed_by: str | None
    external_id: str
    run_id: UUID
    posted_at: datetime
    lines: tuple[JournalLine, ...] = ()
    rows: tuple[UUID, ...] = ()


_HEADS = """
    SELECT j.id, n.year || '/' || n.number AS number, j.period, j.posting_date, j.kind, j.description, j.currency,
           (SELECT coalesce(sum(l.debit), 0) FROM ledgers.journal_lines l WHERE l.journal_id = j.id) AS amount,
           j.functional_currency, j.rate, j.rate_source,
           o.year || '/' || o.number AS reverses, r.year || '/' || r.number AS reversed_by,
           j.external_id, j.run_id, j.posted_at
      FROM ledgers.journals j
      JOIN ledgers.journal_numbers n ON n.journal_id = j.id
      LEFT JOIN ledgers.journal_numbers o ON o.journal_id = j.reverses
      LEFT JOIN ledgers.journals by ON by.reverses = j.id
      LEFT JOIN ledgers.journal_numbers r ON r.journal_id = by.id
     WHERE j.entity_id = %(entity)s"""


def parsed(number: str) -> tuple[int, int]:
    """Raises: `JournalNumberInvalidError`."""
    found = _NUMBER.fullmatch(number.strip())
    if found is None:
        raise JournalNumberInvalidError(number=number)
    return int(found[1]), int(found[2])


async def journal(database: TenantDatabase, number: str, *, entity_id: UUID, entity: str, tenant: str) -> Journal:
    """With its lines. Args: `entity`, `tenant`: their slugs, for messages.

    Raises: `JournalNumberInvalidError`, `JournalNotFoundError`.
    """
    year, count = parsed(number)
    head = await database.fetch_one(
        _HEADS + " AND n.year = %(year)s AND n.number = %(number)s", {"entity": entity_id, "year": year, "number": count}
    )
    if head is None:
        raise JournalNotFoundError(number=number, entity=entity, tenant=tenant)
    lines = await lines_of(database, [head["id"]])
    rows = await database.fetch("SELECT row_id FROM ledgers.journal_rows WHERE journal_id = %s ORDER BY 1", [head["id"]])
    return Journal(**head, lines=lines.get(head["id"], ()), rows=tuple(row["row_id"] for row in rows))


async def journals(
    database: TenantDatabase, *, entity_id: UUID, period: str | None = None, account: str | None = None, limit: int | None = None
) -> Sequence[Journal]:
    """Heads, in the order of their numbers; with a limit the last ones."""
    condition = "".join(
        [
            " AND j.period = %(period)s" if period else "",
            " AND EXISTS (SELECT FROM ledgers.journal_lines l WHERE l.journal_id = j.id AND l.account_code = %(account)s)"
            if account
            else "",
            " ORDER BY n.year DESC, n.number DESC LIMIT %(limit)s",
        ]
    )
    rows = await database.fetch(_HEADS + condition, {"entity": entity_id, "period": period, "account": account, "limit": limit})
    return [Journal(**row) for row in reversed(rows)]


async def lines_of(database: TenantDatabase, ids: Sequence[UUID]) -> dict[UUID, tuple[JournalLine, ...]]:
    """By journal, in their order."""
    rows = await database.fetch(
        """SELECT l.journal_id, l.account_code, a.name AS account_name, l.party, l.description, l.debit, l.credit,
                  l.functional_debit, l.functional_credit, l.tax_code, l.dimensions, l.row_id
             FROM ledgers.journal_lines l JOIN ledgers.accounts a ON a.code = l.account_code
            WHERE l.journal_id = ANY(%s) ORDER BY l.journal_id, l.line_no""",
        [list(ids)],
    )
    found: dict[UUID, list[Any]] = {}
    for row in rows:
        found.setdefault(row.pop("journal_id"), []).append(JournalLine(**row))
    return {each: tuple(lines) for each, lines in found.items()}
