"""An import from file to proposals, in steps each of which may be repeated: document, accounts, journals, their acceptance."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from ntro_dagster.gl.imports.accounts import KnownAccount, NewAccount, missing
from ntro_dagster.gl.imports.filing import Filed, file_document
from ntro_dagster.gl.imports.journals import Books, JournalReader
from ntro_dagster.gl.imports.lines import journals_of, lay_out, leave_what_stands, periods_of, source_of
from ntro_dagster.gl.imports.mapping import Mapping
from ntro_dagster.gl.proposing import HANDED_IN, check_maker, propose
from ntro_dagster.ingest.store import DocumentStore
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.handle import SubledgerHandle
from ntro_dagster.subledger.row import EXACT
from ntro_dagster.subledger.staging import Payload
from ntro_dagster.subledger.status import SubledgerStatus

IN_DOUBT, CLEAN = SubledgerStatus.NEEDS_ATTENTION.value, SubledgerStatus.PENDING.value


@dataclass(slots=True)
class Month:
    """Journals of a month, by status; and by currency the debits of those with which nothing is wrong."""

    period: str
    statuses: Counter[str] = field(default_factory=Counter)
    debits: dict[str, Decimal] = field(default_factory=dict)

    @property
    def journals(self) -> int:
        return self.statuses.total()


@dataclass(slots=True)
class Imported:
    """What an import found and did.

    Attributes:
        new: whether the document was not filed before.
        accepted: journals that became PENDING by this import.
        changed: rows that were made, or read anew.
        months: as the rows stand afterwards; after a mere look, as they would.
        codes: what is wrong, by code, in journals that need attention.
        accounts: those of the file that the chart does not have.
        elsewhere: journals that stand in another month already than the mapping gives them; they were left there.
    """

    document_id: UUID
    new: bool
    lines: int = 0
    accepted: int = 0
    changed: int = 0
    months: list[Month] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    accounts: list[NewAccount] = field(default_factory=list)
    elsewhere: int = 0

    @property
    def journals(self) -> int:
        return sum(month.journals for month in self.months)

    @property
    def needs_attention(self) -> int:
        return sum(month.statuses[IN_DOUBT] for month in self.months)


@dataclass(frozen=True)
class Order:
    """Args: `period`: where journals stand that name no month; None: in the first of the file, so that no month is closed
    before somebody has looked at them."""

    path: Path
    mapping: Mapping
    by: str
    period: str | None = None

    @property
    def reason(self) -> str:
        return f"import of {self.path.name}, mapping {self.mapping.digest[:12]}"


async def look(handle: SubledgerHandle, store: DocumentStore, order: Order, *, currency: str, make_accounts: bool) -> Imported:
    """What `import_journals` would do. Everything is done and undone: nothing stays, not the file either.

    Args: `make_accounts`: as if the accounts that the mapping can make were there.
    """
    database = handle.database
    found: Imported | None = None
    async with database.transaction():
        filed = await file_document(
            database, store, order.path, mapping=order.mapping, entity_id=handle.entity_id, by=order.by, keep=False
        )
        found = await _laid_out(database, handle, filed, order)
        reader = await _reader(handle, filed, order, found, currency=currency, as_if=make_accounts)
        for period in await periods_of(database):
            month = Month(period)
            async for payload in _journals(database, reader, period):
                month.statuses[CLEAN if _stands(month, payload) else IN_DOUBT] += 1
                found.codes.update({finding["code"] for finding in payload.findings if finding != HANDED_IN})
            found.months.append(month)
        raise psycopg.Rollback
    return found


async def import_journals(
    handle: SubledgerHandle, other: TenantDatabase, desk: TenantDatabase, store: DocumentStore, order: Order, *, currency: str
) -> Imported:
    """Journals of a file as proposals, handed in by `order.by`.

    Args:
        handle: on `journal_proposals`, as the app's role.
        other: a second connection of that role, to read from while the first writes.
        desk: as the desk's role.
        currency: the entity's.

    Raises: what `file_document` and `propose` raise, and `PeriodMissingError`.
    """
    await check_maker(desk, order.by)
    filed = await file_document(
        handle.database, store, order.path, mapping=order.mapping, entity_id=handle.entity_id, by=order.by
    )
    # Two imports of one file at one time, by two mappings, would not see what the other one makes.
    await other.execute("SELECT pg_advisory_lock(hashtextextended('ntro import ' || %s, 0))", [str(filed.id)])
    found = await _laid_out(other, handle, filed, order)
    reader = await _reader(handle, filed, order, found, currency=currency)
    for period in await periods_of(other):
        month = Month(period)

        async def counted(month: Month = month, period: str = period) -> AsyncIterator[Payload]:
            async for payload in _journals(other, reader, period):
                _stands(month, payload)
                yield payload

        done = await propose(handle, desk, counted(), period=period, source=source_of(filed.id), by=order.by, reason=order.reason)
        found.accepted += done.accepted
        found.changed += done.staged.inserted + done.staged.updated
        found.months.append(month)
    await _standing(other, handle, found)
    return found


async def _standing(database: TenantDatabase, handle: SubledgerHandle, found: Imported) -> None:
    """How the rows of the document stand now, whatever became of them since they were first imported."""
    rows = await database.fetch(
        "SELECT period, status, count(*) AS journals FROM ledgers.journal_proposals "
        "WHERE entity_id = %s AND starts_with(source_ref, %s) GROUP BY 1, 2",
        [handle.entity_id, source_of(found.document_id)],
    )
    months = {month.period: month for month in found.months}
    for row in rows:
        months.setdefault(row["period"], Month(row["period"])).statuses[row["status"]] = row["journals"]
    found.months = [months[period] for period in sorted(months)]
    codes = await database.fetch(
        "SELECT f ->> 'code' AS code, count(DISTINCT p.id) AS journals FROM ledgers.journal_proposals p "
        "CROSS JOIN jsonb_array_elements(p.validation_errors) f "
        "WHERE p.entity_id = %s AND p.status = %s AND starts_with(p.source_ref, %s) GROUP BY 1",
        [handle.entity_id, IN_DOUBT, source_of(found.document_id)],
    )
    found.codes = Counter({row["code"]: row["journals"] for row in codes})


async def accounts_missing(handle: SubledgerHandle, store: DocumentStore, order: Order, *, currency: str) -> list[NewAccount]:
    """Accounts that the file names and the chart does not have, parents first."""
    return (await look(handle, store, order, currency=currency, make_accounts=False)).accounts


async def _laid_out(database: TenantDatabase, handle: SubledgerHandle, filed: Filed, order: Order) -> Imported:
    lines = await lay_out(database, filed.id, order.mapping, name=order.path.name, fallback=order.period)
    elsewhere = await leave_what_stands(database, filed.id, entity_id=handle.entity_id, name=order.path.name)
    return Imported(filed.id, filed.new, lines=lines, elsewhere=elsewhere)


async def _reader(
    handle: SubledgerHandle, filed: Filed, order: Order, found: Imported, *, currency: str, as_if: bool = False
) -> JournalReader:
    """Fills in `found.accounts`."""
    database = handle.database
    rows = await database.fetch("SELECT code, type, active FROM ledgers.accounts")
    known = {row["code"]: KnownAccount(**row) for row in rows}
    how = order.mapping.account
    cells = await database.fetch(
        sql.SQL(
            "SELECT raw ->> {cell} AS cell, min(nullif(trim(raw ->> {name}), '')) AS name FROM ingest.submitted_records "
            "WHERE document_id = {document} AND raw ->> {cell} IS NOT NULL GROUP BY 1 ORDER BY 1"
        ).format(cell=sql.Literal(how.column), name=sql.Literal(how.names or ""), document=sql.Literal(str(filed.id)))
    )
    found.accounts = missing(how, ((row["cell"], row["name"]) for row in cells), known)
    if as_if:
        known |= {each.code: KnownAccount(each.code, each.type, True) for each in found.accounts if each.type}
    dimensions = await database.fetch("SELECT name FROM ledgers.dimensions")
    closed = await database.fetch(
        "SELECT period FROM ledgers.periods WHERE entity_id = %s AND status <> 'OPEN'", [handle.entity_id]
    )
    books = Books(
        handle.entity_id,
        currency,
        known,
        frozenset(row["name"] for row in dimensions),
        frozenset(row["period"] for row in closed),
    )
    return JournalReader(order.mapping, books, document=filed.id, columns=filed.columns, kind=handle.kind, run_id=handle.task_id)


async def _journals(database: TenantDatabase, reader: JournalReader, period: str) -> AsyncIterator[Payload]:
    async for lines in journals_of(database, period):
        yield reader.journal(lines, period)


def _stands(month: Month, payload: Payload) -> bool:
    """Whether nothing is wrong with the journal, which is then added up."""
    if list(payload.findings) != [HANDED_IN]:
        return False
    currency = payload.values["currency"]
    items: Sequence[dict[str, Any]] = payload.values["lines"]
    for item in items:
        month.debits[currency] = EXACT.add(month.debits.get(currency, Decimal(0)), Decimal(item["debit"]))
    return True
