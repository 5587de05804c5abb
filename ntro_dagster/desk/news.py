"""Which rows have changed since a member looked at them (`looking`), as conditions on row `t`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString
from uuid import UUID

from psycopg import sql

from ntro_dagster.desk.sittings import Sitting
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.selection import Filter

# What others did to a row after a transaction. To refuse or to take back a decision changes no row.
_DONE: LiteralString = """FROM system.changes c JOIN system.history h ON h.change_id = c.id
            WHERE c.subledger = {ledger} AND c.actor <> {login} AND h.action NOT IN ('REFUSED', 'SUPERSEDED')"""

_SINCE_ITS_LOOK: LiteralString = (
    "EXISTS (SELECT "
    + _DONE
    + """ AND h.row_id = t.id AND c.txid >= (
        SELECT max(l.change) FROM system.looks l
         WHERE l.login = {login} AND l.subledger = {ledger}
           AND (l.entity_id IS NULL OR l.entity_id = t.entity_id) AND (l.period IS NULL OR l.period = t.period)))"""
)

# Asked by transaction first, so that it costs what has changed and not what there is: since the look that covers the whole
# view, or else the oldest that there is.
_NEWS: LiteralString = (
    "t.id IN (SELECT h.row_id "
    + _DONE
    + """ AND c.txid >= (
        SELECT coalesce(max(l.change) FILTER (WHERE (l.entity_id IS NULL OR l.entity_id = {entity})
                                                AND (l.period IS NULL OR l.period = {period}::text)), min(l.change))
          FROM system.looks l WHERE l.login = {login} AND l.subledger = {ledger}))
  AND """
    + _SINCE_ITS_LOOK
)


def news(kind: TypeDescription, where: Filter, member: Sitting) -> sql.Composable:
    """Rows that have changed. Args: `where`: the view."""
    entity = where.entity
    found = (
        sql.SQL("{}::uuid").format(sql.Literal(entity))
        if entity is None or isinstance(entity, UUID)
        else sql.SQL("(SELECT e.id FROM system.entities e WHERE e.slug = {})").format(_inlined(entity))
    )
    names = {"ledger": sql.Literal(kind.table), "login": _inlined(member.login)}
    return sql.SQL(_NEWS).format(**names, entity=found, period=sql.Literal(where.period))


def _inlined(text: str) -> sql.Composable:
    """Where the statement takes parameters as well, a percent sign would be taken for one."""
    return sql.SQL(sql.Literal(text).as_string(None).replace("%", "%%"))


async def news_among(database: TenantDatabase, kind: TypeDescription, ids: Sequence[UUID], member: Sitting) -> set[UUID]:
    """Those of these rows that have changed."""
    condition = sql.SQL(_SINCE_ITS_LOOK).format(ledger=sql.Literal(kind.table), login=_inlined(member.login))
    found: list[dict[str, Any]] = await database.fetch(
        sql.SQL("SELECT t.id FROM {} t WHERE t.id = ANY(%s) AND {}").format(sql.Identifier("ledgers", kind.table), condition),
        [list(ids)],
    )
    return {row["id"] for row in found}
