"""Balances of accounts, which several reports are made of: in the entity's currency, or as they were transacted."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from psycopg import sql

from ntro_dagster.gl.chart import AccountRole, AccountRoleMissingError
from ntro_dagster.gl.reports.report import About
from ntro_dagster.platforms.postgres.database import TenantDatabase


class Basis(StrEnum):
    """What stands on income and expenses: everything since the books began, or this year; what earlier years left is then with
    retained earnings (ADR 024).
    """

    CUMULATIVE = "cumulative"
    YEAR = "year"


@dataclass(frozen=True, slots=True)
class Balance:
    """Debit less credit. `currency`: of the transactions, or the entity's."""

    account: str
    currency: str
    opening: Decimal
    debit: Decimal
    credit: Decimal

    @property
    def closing(self) -> Decimal:
        return self.opening + self.debit - self.credit


@dataclass(frozen=True, slots=True)
class Account:
    code: str
    name: str
    type: str
    parent: str | None
    role: str | None


async def accounts(database: TenantDatabase) -> dict[str, Account]:
    rows = await database.fetch("SELECT code, name, type, parent, role FROM ledgers.accounts ORDER BY code")
    return {row["code"]: Account(**row) for row in rows}


async def balances(
    database: TenantDatabase,
    about: About,
    *,
    period: str | None = None,
    basis: Basis = Basis.CUMULATIVE,
    translated: bool = True,
) -> list[Balance]:
    """By currency and account: at the beginning of the month, what moved, and so at its end.

    Args:
        period: another month than the report's.
        translated: in the entity's currency; else in that of each journal.

    Raises: `AccountRoleMissingError`.
    """
    retained = None
    if basis is Basis.YEAR:
        found = await database.fetch_one("SELECT code FROM ledgers.accounts WHERE role = %s", [AccountRole.RETAINED_EARNINGS])
        if found is None:
            raise AccountRoleMissingError(role=AccountRole.RETAINED_EARNINGS.value)
        retained = found["code"]
    lines = sql.Identifier("ledgers", "functional_lines" if translated else "journal_lines")
    currency = sql.SQL("%(currency)s::text" if translated else "j.currency")
    rows = await database.fetch(
        sql.SQL(
            """SELECT CASE WHEN %(retained)s::text IS NOT NULL AND a.type IN ('INCOME', 'EXPENSE')
                                AND ledgers.year_of(j.period, %(first_month)s::smallint)
                                  < ledgers.year_of(%(period)s, %(first_month)s::smallint)
                           THEN %(retained)s ELSE l.account_code END AS account, {currency} AS currency,
                      coalesce(sum(l.debit - l.credit) FILTER (WHERE j.period < %(period)s), 0) AS opening,
                      coalesce(sum(l.debit) FILTER (WHERE j.period = %(period)s), 0) AS debit,
                      coalesce(sum(l.credit) FILTER (WHERE j.period = %(period)s), 0) AS credit
                 FROM ledgers.journals j JOIN {lines} l ON l.journal_id = j.id JOIN ledgers.accounts a ON a.code = l.account_code
                WHERE j.entity_id = %(entity)s AND j.period <= %(period)s
                GROUP BY 1, 2 ORDER BY 2, 1"""
        ).format(currency=currency, lines=lines),
        {
            "entity": about.entity_id,
            "period": period or about.period,
            "currency": about.currency,
            "retained": retained,
            "first_month": about.first_month,
        },
    )
    return [Balance(**row) for row in rows]


async def not_translated(database: TenantDatabase, about: About) -> list[str]:
    """A note, where journals are missing from figures in the entity's currency."""
    found = await database.fetch_single(
        "SELECT count(*) AS journals FROM ledgers.journals WHERE entity_id = %s AND period <= %s AND currency <> %s "
        "AND functional_currency IS NULL",
        [about.entity_id, about.period, about.currency],
    )
    if not found["journals"]:
        return []
    return [
        f"{found['journals']:,} journals in other currencies were never translated, and are in no figure in {about.currency}."
    ]
