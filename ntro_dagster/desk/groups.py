"""Three heaps that a reviewer's work falls into: what only waits for a yes, what needs thought, what others have to do; and
across them what was assigned to the reviewer, and what has changed since.
"""

from __future__ import annotations

from typing import Any

from psycopg import sql

from ntro_dagster.desk.news import news
from ntro_dagster.desk.sittings import Sitting
from ntro_dagster.errors import UsageError
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.lifecycle import APPROVE
from ntro_dagster.subledger.selection import Filter

READY, MINE, WAITING, ASSIGNED, CHANGED = "ready", "mine", "waiting", "assigned", "changed"
GROUPS = (READY, MINE, WAITING, ASSIGNED)
"""Of open rows; `CHANGED` is of all, and depends on what else is asked."""

_FILED = sql.SQL(
    "EXISTS (SELECT FROM system.signals s JOIN system.signal_rows r ON r.signal_id = s.id "
    "WHERE s.subledger = {} AND s.entity_id = t.entity_id AND s.period = t.period "
    "AND s.applied_at IS NULL AND s.withdrawn_at IS NULL AND r.row_id = t.id AND r.outcome IS NULL)"
)


class GroupUnknownError(UsageError):
    """Values: `group`."""

    code = "GROUP_UNKNOWN"
    summary = "no such group of rows"
    detail = "there is no group {group!r}: ready, mine, waiting, assigned or changed"
    mend = "name one of them, or none"


# Rows that this member made, or has signed already: others have to approve them.
_NOT_FOR_ME = sql.SQL(
    "((t.made_by IS NOT NULL AND system.has_made(t.id, %s)) "
    "OR EXISTS (SELECT FROM system.signatures g WHERE g.row_id = t.id AND g.filed_by = %s))"
)


_OPEN_MONTH = sql.SQL(
    "(t.entity_id, t.period) IN (SELECT a.entity_id, a.period FROM system.partition_activity a "
    "WHERE a.subledger = {} AND a.last_change > a.closed_change)"
)
"""Rows that are open lie in months whose books are not drawn up since: few, whatever lies behind."""

_ASSIGNED = sql.SQL(
    "(t.status = ANY(%s) AND t.id IN (SELECT a.row_id FROM system.assigned a WHERE a.subledger = {} AND a.assignee = %s))"
)


def group_condition(kind: TypeDescription, group: str, member: Sitting) -> tuple[sql.Composable, list[Any]]:
    """Condition on row `t`. Raises: `GroupUnknownError`."""
    condition, values = _condition(kind, group, member)
    if group == WAITING:  # a decision may wait on a row that is not open
        return condition, values
    return sql.SQL("({} AND {})").format(_OPEN_MONTH.format(sql.Literal(kind.table)), condition), values


def _condition(kind: TypeDescription, group: str, member: Sitting) -> tuple[sql.Composable, list[Any]]:
    filed = _FILED.format(sql.Literal(kind.table))
    to_approve, me = kind.lifecycle.sources(APPROVE), [member.login, member.login]
    if group == READY:
        if not member.may_approve:
            return sql.SQL("FALSE"), []
        return sql.SQL("(t.status = ANY(%s) AND NOT {} AND NOT {})").format(_NOT_FOR_ME, filed), [to_approve, *me]
    if group == MINE:
        return sql.SQL("(t.status = %s AND NOT {})").format(filed), [kind.lifecycle.in_doubt]
    if group == WAITING:
        others = [status for status in kind.lifecycle.open if status != kind.lifecycle.in_doubt]
        if not member.may_approve:
            return sql.SQL("(t.status = ANY(%s) OR {})").format(filed), [others]
        return sql.SQL("({} OR (t.status = ANY(%s) AND {}))").format(filed, _NOT_FOR_ME), [to_approve, *me]
    if group == ASSIGNED:
        return _ASSIGNED.format(sql.Literal(kind.table)), [list(kind.lifecycle.open), member.login]
    raise GroupUnknownError(group=group)


async def count_groups(database: TenantDatabase, kind: TypeDescription, where: Filter, member: Sitting) -> dict[str, Any]:
    """For each group how many rows there are and since when the oldest waits, in one pass over the open rows."""
    condition, values = where.to_sql(kind)
    belongs = {group: _condition(kind, group, member) for group in GROUPS}
    counted = sql.SQL("count(*) FILTER (WHERE {0}) AS {0}, min(updated_at) FILTER (WHERE {0}) AS {1}")
    found = await database.fetch_single(
        # OFFSET 0 keeps PostgreSQL from working each condition out once for the count and once for the age.
        sql.SQL("SELECT {} FROM (SELECT t.updated_at, {} FROM {} t WHERE {} AND t.status = ANY(%s) AND {} OFFSET 0) t").format(
            sql.SQL(", ").join(counted.format(sql.Identifier(group), sql.Identifier(f"{group}_since")) for group in GROUPS),
            sql.SQL(", ").join(
                sql.SQL("{} AS {}").format(chosen, sql.Identifier(group)) for group, (chosen, _) in belongs.items()
            ),
            sql.Identifier("ledgers", kind.table),
            _OPEN_MONTH.format(sql.Literal(kind.table)),
            condition,
        ),
        [*(value for _, more in belongs.values() for value in more), list(kind.lifecycle.open), *values],
    )
    changed = await database.fetch_single(
        sql.SQL("SELECT count(*) AS rows FROM {} t WHERE {} AND {}").format(
            sql.Identifier("ledgers", kind.table), condition, news(kind, where, member)
        ),
        values,
    )
    counts = {
        group: {"count": found[group], "oldest": found[f"{group}_since"].isoformat() if found[f"{group}_since"] else None}
        for group in GROUPS
    }
    return counts | {CHANGED: {"count": changed["rows"], "oldest": None}}
