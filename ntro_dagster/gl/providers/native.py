"""The tenant's own books as a provider: to read. What goes into them goes through review, and is posted in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import ClassVar
from uuid import UUID

from ntro_dagster.gl.providers.errors import ValidationFailedError
from ntro_dagster.gl.providers.provider import Balance, Found, GLProvider, JournalEntries, LedgerAccount, Lines, Made, in_order
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.proposals import JournalProposal
from ntro_dagster.subledger.row import EXACT

NATIVE = "native"


class Native(GLProvider):
    """One entity's part of the tenant's own books."""

    name = NATIVE
    unique = True
    batch: ClassVar[int] = 1

    def __init__(self, database: TenantDatabase, entity_id: UUID) -> None:
        self.place = ""
        self.database, self.entity_id = database, entity_id

    @property
    def journal_entries(self) -> JournalEntries:
        return _Journals(self)

    async def accounts(self) -> list[LedgerAccount]:
        rows = await self.database.fetch("SELECT code, name, type, active FROM ledgers.accounts ORDER BY code")
        return [LedgerAccount(**row) for row in rows]

    async def trial_balance(self, on: date) -> list[Balance]:
        rows = await self.database.fetch(
            "SELECT l.account_code AS account, j.currency, sum(l.debit - l.credit) AS balance FROM ledgers.journals j "
            "JOIN ledgers.journal_lines l ON l.journal_id = j.id WHERE j.entity_id = %s AND j.posting_date <= %s "
            "GROUP BY 1, 2 HAVING sum(l.debit - l.credit) <> 0 ORDER BY 1, 2",
            [self.entity_id, on],
        )
        return [Balance(**row) for row in rows]


class _Journals(JournalEntries):
    def __init__(self, native: Native) -> None:
        self._native = native

    def lines_of(self, proposal: JournalProposal) -> Lines:
        return in_order((line.account_code, EXACT.subtract(line.debit, line.credit)) for line in proposal.lines)

    async def create_many(self, proposals: Sequence[JournalProposal], *, key: str) -> list[Made]:
        why = "our own books take reviewed rows alone: stage it as a journal proposal"
        return [
            Made(x.external_id, refused=ValidationFailedError(provider=NATIVE, external_id=x.external_id, why=why))
            for x in proposals
        ]

    async def find_many(self, proposals: Sequence[JournalProposal]) -> Mapping[str, Sequence[Found]]:
        rows = await self._native.database.fetch(
            "SELECT j.external_id, j.id::text AS reference, j.posting_date, l.account_code, l.debit - l.credit AS amount "
            "FROM ledgers.journals j JOIN ledgers.journal_lines l ON l.journal_id = j.id "
            "WHERE j.entity_id = %s AND j.external_id = ANY(%s)",
            [self._native.entity_id, [each.external_id for each in proposals]],
        )
        lines: dict[tuple[str, str, date], list[tuple[str, Decimal]]] = {}
        for row in rows:
            journal = (row["external_id"], row["reference"], row["posting_date"])
            lines.setdefault(journal, []).append((row["account_code"], row["amount"]))
        return {name: [Found(reference, day, in_order(each))] for (name, reference, day), each in lines.items()}

    async def void(self, reference: str) -> bool:
        return False
