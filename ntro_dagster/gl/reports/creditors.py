"""Aged creditors: what is owed to each party at the end of the month, by the age of the bills.

Payments settle the oldest bills first. A bill that was reversed, and its reversal, are neither bill nor payment.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from ntro_dagster.boundary.periods import last_day
from ntro_dagster.gl.chart import AccountRole, AccountRoleMissingError
from ntro_dagster.gl.reports.balances import not_translated
from ntro_dagster.gl.reports.report import About, Check, Column, Kind, Report, Row, Style, each
from ntro_dagster.platforms.postgres.database import TenantDatabase

BUCKETS = ("to_30", "to_60", "to_90", "older")
COLUMNS = (
    Column("party", "Party", flexible=True),
    Column("to_30", "0-30 days", Kind.MONEY),
    Column("to_60", "31-60", Kind.MONEY),
    Column("to_90", "61-90", Kind.MONEY),
    Column("older", "Over 90", Kind.MONEY),
    Column("ahead", "Paid ahead", Kind.MONEY),
    Column("owed", "Owed", Kind.MONEY),
)
NOBODY = "(no party)"


async def creditors(database: TenantDatabase, about: About) -> Report:
    """In the entity's currency. Raises: `AccountRoleMissingError`."""
    account = await database.fetch_one("SELECT code, name FROM ledgers.accounts WHERE role = %s", [AccountRole.CREDITORS])
    if account is None:
        raise AccountRoleMissingError(role=AccountRole.CREDITORS.value)
    values = {"entity": about.entity_id, "period": about.period, "account": account["code"], "day": last_day(about.period)}
    found = await database.fetch(_AGED, values)
    stands = await database.fetch_single(
        "SELECT coalesce(sum(l.credit - l.debit), 0) AS owed FROM ledgers.journals j "
        "JOIN ledgers.functional_lines l ON l.journal_id = j.id "
        "WHERE j.entity_id = %(entity)s AND j.period <= %(period)s AND l.account_code = %(account)s",
        values,
    )
    rows = [Row((x["party"] or NOBODY, *_figures(x)), account=account["code"]) for x in found]
    sums = [sum((_figures(x)[at] for x in found), Decimal(0)) for at in range(len(COLUMNS) - 1)]
    checks = [
        Check(f"What is owed is what account {account['code']} says.", sums[-1] == stands["owed"]),
        Check("What is owed to each party is the sum of its bills by age.", not any(map(_unexplained, found))),
    ]
    return Report(
        "Aged creditors",
        f"{about.name}, {last_day(about.period).isoformat()}, in {about.currency}; account {account['code']} {account['name']}",
        COLUMNS,
        each(rows),
        [Row(("Total", *sums), Style.TOTAL)],
        ["Age is counted from the posting date. Payments settle the oldest bills first.", *await not_translated(database, about)],
        checks,
    )


def _unexplained(found: dict[str, Any]) -> Decimal:
    *parts, owed = _figures(found)
    return owed - sum(parts, Decimal(0))


def _figures(found: dict[str, Any]) -> Sequence[Decimal]:
    return [found[name] for name in (*BUCKETS, "ahead", "owed")]


# Bills in their order with how much was billed up to each; what payments do not reach of it is open.
_AGED = """
    WITH moved AS (
        SELECT l.party, j.posting_date, n.year, n.number, l.line_no, l.credit - l.debit AS amount
          FROM ledgers.journals j
          JOIN ledgers.journal_numbers n ON n.journal_id = j.id
          JOIN ledgers.functional_lines l ON l.journal_id = j.id
         WHERE j.entity_id = %(entity)s AND j.period <= %(period)s AND l.account_code = %(account)s AND l.debit IS NOT NULL
           AND j.reverses IS NULL
           AND NOT EXISTS (SELECT FROM ledgers.journals r WHERE r.reverses = j.id AND r.period <= %(period)s)
    ), paid AS (
        SELECT party, coalesce(-sum(amount) FILTER (WHERE amount < 0), 0) AS paid, sum(amount) AS owed FROM moved GROUP BY party
    ), billed AS (
        SELECT party, posting_date, amount,
               sum(amount) OVER (PARTITION BY party ORDER BY posting_date, year, number, line_no) AS so_far
          FROM moved WHERE amount > 0
    ), open AS (
        SELECT b.party, %(day)s::date - b.posting_date AS age, greatest(0, least(b.amount, b.so_far - p.paid)) AS amount
          FROM billed b JOIN paid p ON p.party IS NOT DISTINCT FROM b.party
    )
    SELECT p.party, p.owed,
           coalesce(sum(o.amount) FILTER (WHERE o.age <= 30), 0) AS to_30,
           coalesce(sum(o.amount) FILTER (WHERE o.age BETWEEN 31 AND 60), 0) AS to_60,
           coalesce(sum(o.amount) FILTER (WHERE o.age BETWEEN 61 AND 90), 0) AS to_90,
           coalesce(sum(o.amount) FILTER (WHERE o.age > 90), 0) AS older,
           least(0, p.owed) AS ahead
      FROM paid p LEFT JOIN open o ON o.party IS NOT DISTINCT FROM p.party
     GROUP BY p.party, p.owed HAVING p.owed <> 0 ORDER BY p.party NULLS LAST"""
