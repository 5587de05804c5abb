"""The month-end at a glance, and one entity's month: what stands where, its trial balance, who signed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import sql

from ntro_dagster.errors import NotFoundError
from ntro_dagster.gl.trial_balance import TrialBalance, trial_balance
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.description import TypeDescription

MONTHS = 12
ENTITIES = 100
"""On a page of the board."""
MOST_LINES = 2_000
CLOSED, READY, DOUBT, OPEN = "CLOSED", "READY", "NEEDS_ATTENTION", "OPEN"


class EntityMonthUnknownError(NotFoundError):
    """Values: `entity`."""

    code = "ENTITY_UNKNOWN"
    summary = "an entity is not known to this tenant"
    detail = "there is no entity {entity!r} here"
    mend = "the board lists those there are"


async def entity(database: TenantDatabase, slug: str) -> dict[str, Any]:
    """Raises: `EntityMonthUnknownError`."""
    found = await database.fetch_one(
        "SELECT id, slug, name, currency, status, first_month FROM system.entities WHERE slug = %s", [slug]
    )
    if found is None:
        raise EntityMonthUnknownError(entity=slug)
    return found


async def months_with_work(
    database: TenantDatabase, *, until: str | None = None, subledger: str | None = None, limit: int = MONTHS
) -> list[str]:
    """The last ones, newest first. Each is looked up by the one after it: what is read does not grow with the entities."""
    found = await database.fetch(
        """WITH RECURSIVE month (period) AS (
               (SELECT a.period FROM system.partition_activity a
                 WHERE (%(until)s::text IS NULL OR a.period <= %(until)s)
                   AND (%(subledger)s::text IS NULL OR a.subledger = %(subledger)s)
                 ORDER BY a.period DESC LIMIT 1)
                UNION ALL
               SELECT (SELECT a.period FROM system.partition_activity a
                        WHERE a.period < m.period AND (%(subledger)s::text IS NULL OR a.subledger = %(subledger)s)
                        ORDER BY a.period DESC LIMIT 1)
                 FROM month m WHERE m.period IS NOT NULL)
           SELECT period FROM month WHERE period IS NOT NULL LIMIT %(limit)s""",
        {"until": until, "subledger": subledger, "limit": limit},
    )
    return [row["period"] for row in found]


async def board(
    database: TenantDatabase,
    ledgers: Mapping[str, TypeDescription],
    until: str | None,
    *,
    find: str = "",
    unfinished: bool = False,
    page: int = 1,
) -> dict[str, Any]:
    """Entities by months, a page of entities at a time. A month whose books are drawn up costs one record; rows are counted only
    where something is left to do.

    Args:
        until: the last month shown, `YYYY-MM`; the last with work in it for None.
        find: part of an entity's slug or name.
        unfinished: only entities with something left to do in a month that is shown.
        page: from 1.
    """
    periods = sorted(await months_with_work(database, until=until))
    entities = await database.fetch(
        """WITH shown AS (
               SELECT e.id, e.slug, e.name FROM system.entities e
                WHERE (e.status = 'ACTIVE' OR EXISTS (
                           SELECT FROM system.partition_activity a WHERE a.period = ANY(%(periods)s) AND a.entity_id = e.id))
                  AND (%(find)s = '' OR position(lower(%(find)s) IN lower(e.slug || ' ' || e.name)) > 0)
                  AND (NOT %(unfinished)s OR e.id IN (
                           SELECT a.entity_id FROM system.partition_activity a
                            WHERE a.last_change > a.closed_change AND a.period = ANY(%(periods)s))))
           SELECT *, (SELECT count(*) FROM shown) AS entities FROM shown ORDER BY slug LIMIT %(most)s OFFSET %(before)s""",
        {"periods": periods, "find": find.strip(), "unfinished": unfinished, "most": ENTITIES, "before": (page - 1) * ENTITIES},
    )
    ids = [row["id"] for row in entities]
    activity = await database.fetch(
        """SELECT a.entity_id, a.period, bool_and(a.last_change <= a.closed_change) AS ready,
                  coalesce(min(p.status), 'OPEN') <> 'OPEN' AS closed
             FROM system.partition_activity a LEFT JOIN ledgers.periods p ON p.entity_id = a.entity_id AND p.period = a.period
            WHERE a.period = ANY(%s) AND a.entity_id = ANY(%s) GROUP BY 1, 2""",
        [periods, ids],
    )
    cells: dict[tuple[Any, str], dict[str, Any]] = {
        (row["entity_id"], row["period"]): {
            "state": CLOSED if row["closed"] else READY if row["ready"] else OPEN,
            "open": 0,
            "doubt": 0,
            "ledgers": {},
        }
        for row in activity
    }
    for kind in ledgers.values():
        for row in await _open_rows(database, kind, periods, ids):
            cell = cells.setdefault((row["entity_id"], row["period"]), {"state": OPEN, "open": 0, "doubt": 0, "ledgers": {}})
            cell["open"] += row["open"]
            cell["doubt"] += row["doubt"]
            cell["ledgers"][kind.table] = row["open"]
            cell["state"] = DOUBT if cell["doubt"] else OPEN
    found = entities[0]["entities"] if entities else 0
    return {
        "periods": periods,
        "entities": [{**row, "cells": [cells.get((row["id"], period)) for period in periods]} for row in entities],
        "found": found,
        "first": (page - 1) * ENTITIES + 1,
        "more": page * ENTITIES < found,
    }


async def _open_rows(
    database: TenantDatabase, kind: TypeDescription, periods: Sequence[str], entities: Sequence[Any]
) -> list[dict[str, Any]]:
    """Of months that are not closed, by entity and month."""
    return await database.fetch(
        sql.SQL(
            """SELECT t.entity_id, t.period, count(*) AS open, count(*) FILTER (WHERE t.status = %(doubt)s) AS doubt
                 FROM system.partition_activity a
                 JOIN {} t ON t.entity_id = a.entity_id AND t.period = a.period AND t.status = ANY(%(open)s)
                WHERE a.subledger = %(ledger)s AND a.period = ANY(%(periods)s) AND a.last_change > a.closed_change
                  AND a.entity_id = ANY(%(entities)s)
                GROUP BY 1, 2"""
        ).format(sql.Identifier("ledgers", kind.table)),
        {"doubt": kind.lifecycle.in_doubt, "open": list(kind.lifecycle.open), "ledger": kind.table}
        | {"periods": periods, "entities": entities},
    )


async def standing(
    database: TenantDatabase, ledgers: Mapping[str, TypeDescription], entity_id: Any, period: str
) -> list[dict[str, Any]]:
    """Rows of the month by subledger, status and currency, with the totals that approvals go by."""
    found = []
    for kind in ledgers.values():
        rows = await database.fetch(
            sql.SQL(
                """SELECT t.status, coalesce({currency}(t), e.currency) AS currency, count(*) AS rows, sum({amount}(t)) AS total,
                          array_agg(DISTINCT t.approved_by) FILTER (WHERE t.approved_by IS NOT NULL) AS approvers
                     FROM {table} t JOIN system.entities e ON e.id = t.entity_id
                    WHERE t.entity_id = %s AND t.period = %s GROUP BY 1, 2 ORDER BY 1, 2"""
            ).format(
                table=sql.Identifier("ledgers", kind.table),
                amount=sql.Identifier("ledgers", f"{kind.table}_amount"),
                currency=sql.Identifier("ledgers", f"{kind.table}_currency"),
            ),
            [entity_id, period],
        )
        if rows:
            found.append({"ledger": kind.table, "title": kind.name.replace("_", " "), "rows": rows})
    return found


async def books(database: TenantDatabase, entity_id: Any, period: str, earlier: str) -> dict[str, Any]:
    """The trial balance, and by account and currency what the balance was the month before."""
    now: TrialBalance = await trial_balance(database, entity_id=entity_id, period=period)
    before = await trial_balance(database, entity_id=entity_id, period=earlier)
    was = {(line.account_code, line.currency): line.balance for line in before.lines}
    return {
        "lines": [{"line": line, "before": was.get((line.account_code, line.currency))} for line in now.lines],
        "totals": now.totals(),
        "balanced": now.balanced,
    }


async def closes(database: TenantDatabase, entity_id: Any, period: str) -> list[dict[str, Any]]:
    """When the month's books were drawn up."""
    return await database.fetch(
        """SELECT at, journals, encode(digest, 'hex') AS digest, run_id FROM ledgers.closes
            WHERE entity_id = %s AND period = %s ORDER BY id""",
        [entity_id, period],
    )


async def account_lines(database: TenantDatabase, entity_id: Any, period: str, account: str) -> list[dict[str, Any]]:
    """What moved an account in the month, each with the row it was posted for; one line more than a page shows."""
    return await database.fetch(
        """SELECT j.posting_date, j.description, j.currency, l.description AS line, l.party, l.debit, l.credit,
                  coalesce(l.row_id, j.row_id) AS row_id, c.subledger, j.external_id
             FROM ledgers.journals j JOIN ledgers.journal_lines l ON l.journal_id = j.id
             LEFT JOIN LATERAL (
                  SELECT c.subledger FROM system.history h JOIN system.changes c ON c.id = h.change_id
                   WHERE h.row_id = coalesce(l.row_id, j.row_id) LIMIT 1) c ON TRUE
            WHERE j.entity_id = %s AND j.period = %s AND l.account_code = %s
            ORDER BY j.posting_date, j.external_id, l.line_no LIMIT %s""",
        [entity_id, period, account, MOST_LINES + 1],
    )
