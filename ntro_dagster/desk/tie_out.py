"""Before anything is posted: what the books of a month would say if every open row not in doubt were approved as it stands."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from psycopg import sql

from ntro_dagster.desk.desk import Desk
from ntro_dagster.desk.rows import plain
from ntro_dagster.gl.chart import named_accounts
from ntro_dagster.gl.trial_balance import trial_balance
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.row import EXACT

MOST_ROWS = 5_000
"""Of one subledger, whose journals are worked out."""
NOTHING = (Decimal(0), Decimal(0))

Sums = dict[Any, tuple[Decimal, Decimal]]


def _add(sums: Sums, key: Any, debit: Decimal, credit: Decimal) -> None:
    before = sums.get(key, NOTHING)
    sums[key] = (EXACT.add(before[0], debit), EXACT.add(before[1], credit))


async def tie_out(
    desk: Desk, database: TenantDatabase, ledgers: Mapping[str, TypeDescription], entity: Mapping[str, Any], period: str
) -> dict[str, Any]:
    """By account: what stands, what the open rows would move, what would stand then. Rows in doubt move nothing yet."""
    moved: Sums = {}
    rows = doubtful = unable = 0
    left_out = False
    accounts = (await named_accounts(database)).codes
    for kind in ledgers.values():
        if not kind.proposes or kind.lifecycle.posted is None:
            continue
        found = await _open_rows(database, kind, entity["id"], period)
        left_out = left_out or len(found) > MOST_ROWS
        certain = [row for row in found[:MOST_ROWS] if row["status"] != kind.lifecycle.in_doubt]
        lines, failed = await desk.models.movements(kind.table, certain, entity["currency"], accounts)
        rows, doubtful, unable = rows + len(certain), doubtful + len(found[:MOST_ROWS]) - len(certain), unable + failed
        for line in lines:
            _add(moved, (line.account, line.currency), line.debit, line.credit)
    totals: Sums = {}
    for (_, currency), (debit, credit) in moved.items():
        _add(totals, currency, debit, credit)
    return {
        "lines": await _lines(database, moved, entity["id"], period),
        "totals": totals,
        "rows": rows,
        "doubtful": doubtful,
        "unable": unable,
        "left_out": left_out,
    }


async def _lines(database: TenantDatabase, moved: Sums, entity_id: Any, period: str) -> list[dict[str, Any]]:
    stands = {
        (line.account_code, line.currency): line.balance
        for line in (await trial_balance(database, entity_id=entity_id, period=period)).lines
    }
    accounts = {row["code"]: row for row in await database.fetch("SELECT code, name, active FROM ledgers.accounts")}
    found = []
    for code, currency in sorted({*stands, *moved}):
        (debit, credit), before = moved.get((code, currency), NOTHING), stands.get((code, currency), Decimal(0))
        account = accounts.get(code, {"name": "", "active": False})
        found.append(
            {
                "account": code,
                "name": account["name"],
                "postable": account["active"],
                "currency": currency,
                "stands": before,
                "debit": debit,
                "credit": credit,
                "then": EXACT.add(before, EXACT.subtract(debit, credit)),
            }
        )
    return found


async def _open_rows(database: TenantDatabase, kind: TypeDescription, entity_id: Any, period: str) -> list[dict[str, Any]]:
    """As a model takes them; one more than are looked at."""
    columns = ("id", "entity_id", "period", "task_id", "status", *kind.content)
    found = await database.fetch(
        sql.SQL(
            "SELECT * FROM {} WHERE entity_id = %s AND period = %s AND status = ANY(%s) AND NOT posted_to_gl ORDER BY id LIMIT %s"
        ).format(sql.Identifier("ledgers", kind.table)),
        [entity_id, period, list(kind.lifecycle.open), MOST_ROWS + 1],
    )
    return [{name: plain(row[name]) for name in columns} for row in found]
