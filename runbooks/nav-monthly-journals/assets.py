"""From the agent's exports to reviewed rows, and from those to the month's journals."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ntro_dagster.orchestration.context import RunbookContext
from ntro_dagster.orchestration.subledger_asset import subledger_asset
from ntro_dagster.subledger.staging import Payload

from .figures import Rent, Repair, Statement
from .journals import Books
from .reading import Cells, rent_of, repair_of, statement_of


@subledger_asset("rental_statement")
async def rental_statement(run: RunbookContext) -> AsyncIterator[Payload]:
    async for record in run.records():
        cells = Cells(record.raw, run.entity.currency)
        yield Payload(rent_of(cells), record.ref, cells.findings, record.raw)


@subledger_asset("repairs")
async def repairs(run: RunbookContext) -> AsyncIterator[Payload]:
    async for record in run.records():
        cells = Cells(record.raw, run.entity.currency)
        yield Payload(repair_of(cells), record.ref, cells.findings, record.raw)


@subledger_asset("landlord_statement")
async def landlord_statement(run: RunbookContext) -> AsyncIterator[Payload]:
    async for record in run.records():
        cells = Cells(record.raw, run.entity.currency)
        yield Payload(statement_of(cells, run.period), record.ref, cells.findings, record.raw)


@subledger_asset("journal_proposals", rows=("rental_statement", "repairs", "landlord_statement"), earlier=True)
async def journal_proposals(run: RunbookContext) -> AsyncIterator[Payload]:
    books = Books(
        run.period,
        rents=[
            Rent(row.period, row.property_ref, row.monthly_rent, row.fees_charged, row.rent_received)
            async for row in run.rows("rental_statement")
        ],
        repairs=[Repair(row.period, row.property_ref, row.amount) async for row in run.rows("repairs")],
        statements=[
            Statement(row.period, str(row.id), row.paid_on, row.gross, row.fee_rate, row.fee, row.maintenance, row.net)
            async for row in run.rows("landlord_statement")
        ],
    )
    for journal in books.journals():
        yield Payload(
            values={
                "description": journal.description,
                "posting_date": journal.posting_date,
                "currency": run.entity.currency,
                "lines": journal.lines(),
            },
            source_ref=journal.ref,
            findings=journal.findings,
        )
