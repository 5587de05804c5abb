"""Journal listing: every journal of the month in the order of its number, with its lines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

from ntro_dagster.gl.reports.report import About, Check, Column, Kind, Report, Row, Style
from ntro_dagster.platforms.postgres.database import TenantDatabase

COLUMNS = (
    Column("number", "Number", once=True),
    Column("date", "Date", Kind.DATE, once=True),
    Column("kind", "Kind", once=True),
    Column("reverses", "Reverses", once=True),
    Column("description", "Description", flexible=True, once=True),
    Column("account", "Account"),
    Column("name", "Name", flexible=True),
    Column("party", "Party", flexible=True),
    Column("text", "Text", flexible=True),
    Column("currency", "Currency", once=True),
    Column("debit", "Debit", Kind.MONEY),
    Column("credit", "Credit", Kind.MONEY),
    Column("source", "Source", flexible=True, once=True),
)


async def journals(database: TenantDatabase, about: About) -> Report:
    """In the currency of each journal. Its rows are read while they are written."""
    sums = await database.fetch(
        """SELECT j.currency, sum(l.debit) AS debit, sum(l.credit) AS credit, count(DISTINCT j.id) AS journals
             FROM ledgers.journals j JOIN ledgers.journal_lines l ON l.journal_id = j.id
            WHERE j.entity_id = %s AND j.period = %s GROUP BY 1 ORDER BY 1""",
        [about.entity_id, about.period],
    )
    apart = await database.fetch_single(
        """SELECT count(*) AS journals FROM (
             SELECT FROM ledgers.journals j JOIN ledgers.journal_lines l ON l.journal_id = j.id
              WHERE j.entity_id = %s AND j.period = %s GROUP BY j.id HAVING sum(l.debit) <> sum(l.credit)) u""",
        [about.entity_id, about.period],
    )
    gaps = await database.fetch_single(
        """SELECT count(*) AS years FROM (
             SELECT FROM ledgers.journal_numbers WHERE entity_id = %s
              GROUP BY year HAVING count(*) <> max(number) OR min(number) <> 1) g""",
        [about.entity_id],
    )
    totals = [
        Row(("", None, *[""] * 2, f"Total, {x['journals']:,} journals", *[""] * 4, x["currency"], x["debit"], x["credit"], ""))
        for x in sums
    ]
    totals = [row._replace(style=Style.TOTAL) for row in totals]
    checks = [
        Check("Debits equal credits in every journal.", apart["journals"] == 0),
        Check("Journals are numbered without a gap.", gaps["years"] == 0),
    ]
    return Report("Journals", f"{about.name}, {about.period}", COLUMNS, _rows(database, about), totals, checks=checks)


async def _rows(database: TenantDatabase, about: About) -> AsyncIterator[Row]:
    batches = database.stream(
        """SELECT n.year || '/' || n.number AS number, j.posting_date, j.kind, o.year || '/' || o.number AS reverses,
                  j.description, l.account_code, a.name, l.party, nullif(l.description, j.description) AS text, j.currency,
                  l.debit, l.credit, j.external_id, coalesce(l.row_id, j.row_id) AS row_id
             FROM ledgers.journals j
             JOIN ledgers.journal_numbers n ON n.journal_id = j.id
             LEFT JOIN ledgers.journal_numbers o ON o.journal_id = j.reverses
             JOIN ledgers.journal_lines l ON l.journal_id = j.id
             JOIN ledgers.accounts a ON a.code = l.account_code
            WHERE j.entity_id = %s AND j.period = %s ORDER BY n.year, n.number, l.line_no""",
        [about.entity_id, about.period],
    )
    async for batch in batches:
        for line in batch:
            *said, debit, credit, source, row_id = line.values()
            cells = (*said, _side(debit), _side(credit), source)
            yield Row(cells, group=line["number"], account=line["account_code"], source=row_id)


def _side(amount: Decimal) -> Decimal | None:
    return amount or None
