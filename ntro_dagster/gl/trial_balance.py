"""The trial balance of an entity and period, and the record that it was drawn up."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from psycopg import sql

from ntro_dagster.platforms.postgres.database import Actor, TenantDatabase
from ntro_dagster.subledger.row import EXACT


@dataclass(frozen=True, slots=True)
class TrialBalanceLine:
    """Movements of one account in the period, in one currency, and the balance carried forward up to its end
    (debit minus credit)."""

    account_code: str
    account_name: str
    account_type: str
    currency: str
    debit: Decimal
    credit: Decimal
    balance: Decimal


@dataclass(frozen=True, slots=True)
class TrialBalance:
    entity_id: UUID
    period: str
    lines: tuple[TrialBalanceLine, ...]

    def totals(self) -> dict[str, tuple[Decimal, Decimal]]:
        """Per currency: sum of debits, sum of credits."""
        totals: dict[str, tuple[Decimal, Decimal]] = {}
        for line in self.lines:
            debit, credit = totals.get(line.currency, (Decimal(0), Decimal(0)))
            totals[line.currency] = (EXACT.add(debit, line.debit), EXACT.add(credit, line.credit))
        return totals

    @property
    def balanced(self) -> bool:
        return all(debit == credit for debit, credit in self.totals().values())

    def digest(self, salt: bytes) -> str:
        """Fingerprint keyed with a secret of the tenant: 32 hex digits. Of entity and period too, because else it would show
        which of them have the same books.
        """
        lines = (f"{x.account_code}|{x.currency}|{x.debit}|{x.credit}|{x.balance}" for x in self.lines)
        text = "\n".join([f"{self.entity_id}|{self.period}", *lines])
        return hmac.new(salt, text.encode(), hashlib.sha256).hexdigest()[:32]


async def trial_balance(database: TenantDatabase, *, entity_id: UUID, period: str) -> TrialBalance:
    """From the general ledger as it stands now; accounts that never moved are left out."""
    rows = await database.fetch(
        """SELECT account_code, account_name, account_type, currency,
                  coalesce(sum(debit) FILTER (WHERE period = %(period)s), 0) AS debit,
                  coalesce(sum(credit) FILTER (WHERE period = %(period)s), 0) AS credit,
                  sum(debit) - sum(credit) AS balance
             FROM ledgers.trial_balance WHERE entity_id = %(entity)s AND period <= %(period)s
            GROUP BY 1, 2, 3, 4 ORDER BY 4, 1""",
        {"entity": entity_id, "period": period},
    )
    return TrialBalance(entity_id, period, tuple(TrialBalanceLine(**row) for row in rows))


async def draw_up(database: TenantDatabase, *, entity_id: UUID, period: str, run_id: UUID, salt: bytes) -> TrialBalance:
    """The trial balance, with a record that it was drawn up and of how far the subledgers had come.

    While rows are still open it is a look at the books, not a close: nothing is recorded.
    """
    async with database.transaction(Actor.run(run_id)):
        # Locked first: a change that comes after the balance was read is not covered by it. In the order of a close.
        reached = await database.fetch(
            "SELECT subledger, last_change FROM system.partition_activity WHERE entity_id = %s AND period = %s "
            "ORDER BY subledger FOR UPDATE",
            [entity_id, period],
        )
        balance = await trial_balance(database, entity_id=entity_id, period=period)
        if await _open_rows(database, [row["subledger"] for row in reached], entity_id=entity_id, period=period):
            return balance
        await database.execute(
            """INSERT INTO ledgers.closes (entity_id, period, last_change, journals, digest, run_id)
               SELECT %(entity)s, %(period)s, %(reached)s, count(*), %(digest)s, %(run)s
                 FROM ledgers.journals WHERE entity_id = %(entity)s AND period = %(period)s""",
            {
                "entity": entity_id,
                "period": period,
                "reached": max((row["last_change"] for row in reached), default=0),
                "digest": bytes.fromhex(balance.digest(salt)),
                "run": run_id,
            },
        )
        await database.execute(
            "UPDATE system.partition_activity SET closed_change = last_change WHERE entity_id = %s AND period = %s",
            [entity_id, period],
        )
    return balance


async def _open_rows(database: TenantDatabase, subledgers: Sequence[str], *, entity_id: UUID, period: str) -> bool:
    """Whether a row of the partition leads on: it waits for a person, its posting, the bank; or is still to be made."""
    for name in subledgers:
        found = await database.fetch(
            sql.SQL(
                "SELECT 1 FROM {} WHERE entity_id = %s AND period = %s "
                "AND status IN (SELECT e ->> 'from' FROM system.subledger_types s, "
                "jsonb_array_elements(s.description -> 'lifecycle' -> 'edges') e WHERE s.table_name = %s) LIMIT 1"
            ).format(sql.Identifier("ledgers", name)),
            [entity_id, period, name],
        )
        if found:
            return True
    found = await database.fetch("SELECT system.derivation_outstanding(%s, %s) AS outstanding", [entity_id, period])
    return bool(found[0]["outstanding"])
