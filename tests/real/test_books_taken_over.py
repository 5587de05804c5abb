"""Other people's ledgers, imported, reviewed, posted and closed month by month, agree with what other programs computed."""

from __future__ import annotations

import asyncio
import csv
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from imported_books import IMPORTER, TakenOver
from published import folder

from ntro_dagster.gl.reports import ReportName, report
from ntro_dagster.gl.reports.report import About, one_instant
from ntro_dagster.gl.trial_balance import trial_balance
from ntro_dagster.ingest.store import DocumentStore
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials

MAPPINGS = Path(__file__).parent / "mappings"

SETS = {
    "gl-hackclub": ("postings.csv", "hackclub.yaml", 24, 677, 1_401),
    "gl-synthetic-fy2025": ("journal_entries.csv", "synthetic.yaml", 8, 594, 1_188),
}
"""File, mapping, months, journals, lines. One of the 678 transactions of that ledger moves nothing: postings.csv has 677."""

Balances = dict[str, dict[str, Decimal]]


def expected(name: str) -> Balances:
    """By month and account: debit less credit."""
    found: Balances = defaultdict(dict)
    with (folder(name) / "expected-trial-balance.csv").open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            amount = Decimal(row["debit"] or 0) - Decimal(row["credit"] or 0)
            found[row["month_end"][:7]][row["account"]] = amount
    return found


@pytest.mark.parametrize("name", SETS)
def test_every_balance_of_every_month_agrees_to_the_cent(
    name: str, make_database: Callable[[], DatabaseCredentials], tmp_path: Path
) -> None:
    file, mapping, months, journals, lines = SETS[name]
    source = folder(name) / file
    wanted = expected(name)
    assert len(wanted) == months
    books = TakenOver(make_database(), DocumentStore(tmp_path))

    async def balances(period: str) -> dict[str, Decimal]:
        """By two ways through the books: the trial balance of a close, and the report. All reports tie out."""
        about = About(books.entity.id, books.entity.slug, books.entity.name, books.currency, period)
        async with TenantDatabase(books.credentials.auditor) as database:
            balance = await trial_balance(database, entity_id=books.entity.id, period=period)
            assert balance.balanced
            closing: dict[str, Decimal] = {}
            for each in ReportName:
                async with one_instant(database):
                    made = await report(each, database, about)
                    rows = [row async for row in made.rows]
                assert made.ties_out, (each, made.checks)
                if each is ReportName.TRIAL_BALANCE:
                    closing = {str(row.account): Decimal(str(row.cells[7])) for row in rows if row.cells[7]}
        assert closing == {line.account_code: line.balance for line in balance.lines if line.balance}
        return closing

    async def all_months() -> None:
        found = await books.bring_in(source, MAPPINGS / mapping)
        assert (found.journals, found.lines, found.needs_attention, dict(found.codes)) == (journals, lines, 0, {})
        assert found.accepted == journals
        assert {month.period for month in found.months} == wanted.keys()
        assert not [account for account in found.accounts if account.type is None]
        posted = 0
        for period in sorted(wanted):
            await books.approve(period)
            posted += await books.post(period)
            books.close(period)
            assert await balances(period) == wanted[period], period
        assert posted == journals

    asyncio.run(all_months())
    assert books.fetch("SELECT count(*), sum(journals) FROM ledgers.seals") == [(months, journals)]
    assert books.fetch("SELECT count(*) FROM ledgers.journal_lines") == [(lines,)]
    assert books.fetch("SELECT DISTINCT status, made_by FROM ledgers.journal_proposals") == [("POSTED", IMPORTER)]
    again = asyncio.run(books.bring_in(source, MAPPINGS / mapping))
    assert (again.new, again.accepted, again.changed, again.needs_attention) == (False, 0, 0, 0)
    with psycopg.connect(books.credentials.auditor) as auditor:
        gaps = auditor.execute(
            "SELECT entity_id, year FROM ledgers.journal_numbers GROUP BY 1, 2 HAVING count(*) <> max(number) OR min(number) <> 1"
        ).fetchall()
    assert gaps == []
