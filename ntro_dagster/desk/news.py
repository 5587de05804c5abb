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

DAYS = 45
"""A look counts so long: who looks at single months would have years of all the others to catch up with."""

_MINE: LiteralString = (
    "FROM system.looks l WHERE l.login = {login} AND l.subledger = {ledger} AND l.at > now() - make_interval(days => {days})"
)

# What others did to a row. To refuse or to take back a decision changes no row.
_BY_OTHERS: LiteralString = "c.subledger = {ledger} AND c.actor <> {login}"
_DONE: LiteralString = "h.action NOT IN ('REFUSED', 'SUPERSEDED')"

# Asked of each row that is looked at; OFFSET 0 keeps the planner from asking it of all that ever happened instead.
_SINCE_ITS_LOOK: LiteralString = f"""EXISTS (
    SELECT FROM system.history h JOIN system.changes c ON c.id = h.change_id
     WHERE h.row_id = t.id AND {_DONE} AND {_BY_OTHERS} AND c.txid >= greatest(
        (SELECT l.change {_MINE} AND l.entity_id = t.entity_id AND l.period = t.period),
        (SELECT l.change {_MINE} AND l.entity_id = t.entity_id AND l.period IS NULL),
        (SELECT l.change {_MINE} AND l.entity_id IS NULL AND l.period = t.period),
        (SELECT l.change {_MINE} AND l.entity_id IS NULL AND l.period IS NULL))
    OFFSET 0)"""

# Which rows may be news, so that it costs what has changed, or was looked at, and not what there is: since the look that covers
# the whole view, or else since the oldest at all entities; and what was looked at entity by entity. History is kept in the order
# of its changes, and is read from the first of them on.
_CANDIDATES: LiteralString = f"""t.id = ANY(ARRAY(
    WITH looks AS MATERIALIZED (
        SELECT l.entity_id, l.period, l.change, (l.entity_id IS NULL OR l.entity_id = {{entity}})
                                            AND (l.period IS NULL OR l.period = {{period}}) AS covering
          {_MINE} AND (l.entity_id IS NULL OR {{entity}} IS NULL OR l.entity_id = {{entity}})),
    later AS MATERIALIZED (
        SELECT c.id FROM system.changes c WHERE {_BY_OTHERS} AND c.txid >= (
            SELECT coalesce(max(change) FILTER (WHERE covering), min(change) FILTER (WHERE entity_id IS NULL)) FROM looks))
    SELECT h.row_id FROM system.history h JOIN later c ON c.id = h.change_id
     WHERE h.change_id >= (SELECT min(id) FROM later) AND {_DONE}
     UNION
    SELECT r.id FROM (SELECT * FROM looks WHERE entity_id IS NOT NULL
                         AND NOT (SELECT coalesce(bool_or(covering), FALSE) FROM looks) OFFSET 0) l
     CROSS JOIN LATERAL (SELECT r.id FROM {{table}} r
                          WHERE r.entity_id = l.entity_id AND (l.period IS NULL OR r.period = l.period)
                            AND ({{period}} IS NULL OR r.period = {{period}}) OFFSET 0) r))"""


def news(kind: TypeDescription, where: Filter, member: Sitting) -> sql.Composable:
    """Rows that have changed. Args: `where`: the view."""
    entity = where.entity
    found = (
        sql.SQL("{}::uuid").format(sql.Literal(entity))
        if entity is None or isinstance(entity, UUID)
        else sql.SQL("(SELECT e.id FROM system.entities e WHERE e.slug = {})").format(_inlined(entity))
    )
    candidates = sql.SQL(_CANDIDATES).format(
        **_names(kind, member),
        table=sql.Identifier("ledgers", kind.table),
        entity=found,
        period=sql.SQL("{}::text").format(sql.Literal(where.period)),
    )
    return sql.SQL("({} AND {})").format(candidates, sql.SQL(_SINCE_ITS_LOOK).format(**_names(kind, member)))


def _names(kind: TypeDescription, member: Sitting) -> dict[str, sql.Composable]:
    return {"ledger": sql.Literal(kind.table), "login": _inlined(member.login), "days": sql.Literal(DAYS)}


def _inlined(text: str) -> sql.Composable:
    """Where the statement takes parameters as well, a percent sign would be taken for one."""
    return sql.SQL(sql.Literal(text).as_string(None).replace("%", "%%"))


async def news_among(database: TenantDatabase, kind: TypeDescription, ids: Sequence[UUID], member: Sitting) -> set[UUID]:
    """Those of these rows that have changed."""
    condition = sql.SQL(_SINCE_ITS_LOOK).format(**_names(kind, member))
    found: list[dict[str, Any]] = await database.fetch(
        sql.SQL("SELECT t.id FROM {} t WHERE t.id = ANY(%s) AND {}").format(sql.Identifier("ledgers", kind.table), condition),
        [list(ids)],
    )
    return {row["id"] for row in found}
