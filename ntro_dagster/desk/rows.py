"""Rows as a reviewer sees them: the order of all that match, the contents of those in sight, everything about one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import sql

from ntro_dagster.desk.groups import CHANGED, group_condition
from ntro_dagster.desk.news import news, news_among
from ntro_dagster.desk.sittings import Sitting
from ntro_dagster.errors import NotFoundError, UsageError
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.selection import Filter

MOST_ROWS = 500
MOST_CHANGES = 5_000


class RowUnknownError(NotFoundError):
    """Values: `row`."""

    code = "ROW_NOT_FOUND"
    summary = "no such row in this subledger"
    detail = "there is no row {row} here"
    mend = "it may be in another subledger: follow the link from the inbox"


class SortUnknownError(UsageError):
    """Values: `sort`, `known`."""

    code = "SORT_UNKNOWN"
    summary = "rows cannot be sorted by that"
    detail = "no column {sort!r} to sort by; one of: {known}"
    mend = "name a column, with - before it for the other way round"


@dataclass(frozen=True, slots=True)
class Index:
    """Attributes:
    packed: 17 bytes a row: its id, and the number of its status in `statuses`.
    change: what `changed_since` is to be asked from.
    """

    packed: bytes
    count: int
    statuses: tuple[str, ...]
    change: int


def plain(value: Any) -> Any:
    """As JSON has it: money as a decimal string, dates as ISO 8601."""
    match value:
        case Decimal():
            return money(value)
        case datetime() | date():
            return value.isoformat()
        case UUID():
            return str(value)
        case bytes():
            return value.hex()
    return value


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: plain(value) for name, value in row.items()}


def money(value: Decimal) -> str:
    """Every digit that was stored, but for zeros that the column's scale put behind the cents."""
    whole, _, rest = format(value, "f").partition(".")
    return f"{whole}.{rest.rstrip('0').ljust(2, '0')}"


def chosen(kind: TypeDescription, where: Filter, group: str | None, member: Sitting) -> tuple[sql.Composable, list[Any]]:
    """Condition on `t` and its values."""
    condition, values = where.to_sql(kind)
    if group:
        more, more_values = (news(kind, where, member), []) if group == CHANGED else group_condition(kind, group, member)
        return sql.SQL("{} AND {}").format(condition, more), [*values, *more_values]
    return condition, list(values)


async def index(
    database: TenantDatabase, kind: TypeDescription, where: Filter, *, group: str | None, sort: str | None, member: Sitting
) -> Index:
    """Everything that matches, in one value made by the database. Raises: `SortUnknownError`, what the filter raises."""
    condition, values = chosen(kind, where, group, member)
    statuses = kind.lifecycle.statuses
    numbered = sql.SQL(" ").join(
        sql.SQL("WHEN {} THEN {}").format(sql.Literal(status), sql.Literal(bytes([number])))
        for number, status in enumerate(statuses)
    )
    async with database.transaction():
        change = await _all_before(database)
        found = await database.fetch_single(
            sql.SQL(
                "SELECT count(*) AS rows, "
                "coalesce(string_agg(uuid_send(t.id) || CASE t.status {} END, ''::bytea ORDER BY {}), '') AS packed "
                "FROM {} t WHERE {}"
            ).format(numbered, order(kind, sort), sql.Identifier("ledgers", kind.table), condition),
            values,
        )
    return Index(bytes(found["packed"]), found["rows"], statuses, change)


async def _all_before(database: TenantDatabase) -> int:
    """Number of a transaction: all before it have ended, so nothing of theirs is still to come."""
    found: int = (await database.fetch_single("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS number"))["number"]
    return found


def order(kind: TypeDescription, sort: str | None) -> sql.Composable:
    settled = sql.SQL("t.period, t.entity_id, t.created_at, t.source_ref, t.id")
    if not sort:
        return settled
    name, direction = sort.removeprefix("-"), sql.SQL("DESC" if sort.startswith("-") else "ASC")
    known = ("status", "period", "updated_at", *(column for column in kind.content if kind.columns[column] != "json"))
    if name not in known:
        raise SortUnknownError(sort=name, known=", ".join(known))
    return sql.SQL("t.{} {} NULLS LAST, {}").format(sql.Identifier(name), direction, settled)


async def window(
    database: TenantDatabase, kind: TypeDescription, ids: Sequence[UUID], member: Sitting | None = None
) -> list[dict[str, Any]]:
    """These rows, in this order; those that are not there are left out. Args: `member`: whose news is marked."""
    rows = await database.fetch(
        sql.SQL(
            """SELECT t.*, e.slug AS entity, {digest}(t) AS digest, w.signal_id, w.kind AS waiting_kind, w.filed_by, w.filed_at,
                      a.assignee AS assigned_to, x.successor_id, h.code AS held_code, h.detail AS held_detail, h.at AS held_at
                 FROM (SELECT * FROM {table} WHERE id = ANY(%(ids)s)) t
                 JOIN system.entities e ON e.id = t.entity_id
                 LEFT JOIN system.assigned a ON a.subledger = %(ledger)s AND a.row_id = t.id
                 LEFT JOIN system.reinstatements x ON x.row_id = t.id
                 LEFT JOIN ledgers.held h ON h.row_id = t.id
                 LEFT JOIN LATERAL (
                      SELECT s.id AS signal_id, s.kind, s.filed_by, s.filed_at
                        FROM system.signals s JOIN system.signal_rows r ON r.signal_id = s.id
                       WHERE s.subledger = %(ledger)s AND s.entity_id = t.entity_id AND s.period = t.period
                         AND s.applied_at IS NULL AND s.withdrawn_at IS NULL AND r.row_id = t.id AND r.outcome IS NULL
                       ORDER BY s.seq LIMIT 1) w ON TRUE
                ORDER BY array_position(%(ids)s, t.id)"""
        ).format(table=sql.Identifier("ledgers", kind.table), digest=sql.Identifier("ledgers", f"{kind.table}_digest")),
        {"ids": list(ids), "ledger": kind.table},
    )
    twins = await _twins(database, kind, [row["id"] for row in rows])
    signed = await _signed(database, kind, [row["id"] for row in rows])
    new = await news_among(database, kind, ids, member) if member else set()
    return [
        _shown(kind, row)
        | {"changed": row["id"] in new}
        | {"duplicate_of": twins.get(row["id"], 0), "signed_by": signed.get((row["id"], bytes(row["digest"])), [])}
        for row in rows
    ]


async def row_of(database: TenantDatabase, kind: TypeDescription, row_id: UUID) -> dict[str, Any]:
    """As `window` has it. Raises: `RowUnknownError`."""
    for row in await window(database, kind, [row_id]):
        return row
    raise RowUnknownError(row=row_id)


async def _signed(database: TenantDatabase, kind: TypeDescription, ids: Sequence[UUID]) -> dict[tuple[UUID, bytes], list[str]]:
    """Who has approved which content first, where it takes two."""
    found = await database.fetch(
        """SELECT row_id, digest, array_agg(DISTINCT filed_by ORDER BY filed_by) AS by FROM system.signatures
            WHERE subledger = %s AND row_id = ANY(%s) GROUP BY 1, 2""",
        [kind.table, list(ids)],
    )
    return {(row["row_id"], bytes(row["digest"])): row["by"] for row in found}


def _shown(kind: TypeDescription, row: Mapping[str, Any]) -> dict[str, Any]:
    waiting = None
    if row["signal_id"]:
        waiting = {
            "signal_id": plain(row["signal_id"]),
            "kind": row["waiting_kind"],
            "filed_by": row["filed_by"],
            "filed_at": plain(row["filed_at"]),
        }
    return {
        "id": plain(row["id"]),
        "entity": row["entity"],
        "period": row["period"],
        "status": row["status"],
        "digest": plain(row["digest"]),
        "values": {name: plain(row[name]) for name in kind.content},
        "findings": row["validation_errors"] or [],
        "source_ref": row["source_ref"],
        "made_by": row["made_by"],
        "approved_by": row["approved_by"],
        "approved_at": plain(row["approved_at"]),
        "posted_journal_ref": row.get("posted_journal_ref"),
        "waiting": waiting,
        "assigned_to": row["assigned_to"],
        "successor": plain(row["successor_id"]),
        "held": {name: plain(row[f"held_{name}"]) for name in ("code", "detail", "at")} if row["held_code"] else None,
        "updated_at": plain(row["updated_at"]),
    }


def alike(kind: TypeDescription) -> sql.Composable | None:
    """`FROM` for a row `t` and each other row `o` of its entity that is probably the same thing entered twice, and was neither
    turned down nor left out: who, when and how much are the same. Not where `o` stands in the place of `t`, which was. None
    where a type has not all three.

    `system.attach_likeness` has made the index that finds them.
    """
    if kind.alike_by is None:
        return None
    same = sql.SQL(" AND ").join(sql.SQL("o.{0} = t.{0}").format(sql.Identifier(name)) for name in kind.alike_by)
    return sql.SQL(
        "FROM {table} t JOIN {table} o ON o.entity_id = t.entity_id AND {same} AND o.id <> t.id AND o.status = ANY({counting}) "
        "AND NOT EXISTS (SELECT FROM system.reinstatements x WHERE x.successor_id = o.id AND t.id = ANY(x.forebears))"
    ).format(
        table=sql.Identifier("ledgers", kind.table),
        same=same,
        counting=sql.Literal([*kind.lifecycle.let_through, kind.lifecycle.clean]),
    )


async def _twins(database: TenantDatabase, kind: TypeDescription, ids: Sequence[UUID]) -> dict[UUID, int]:
    """How many other rows of the entity, not turned down, say the same of who, when and how much."""
    source = alike(kind)
    if source is None or not ids:
        return {}
    found = await database.fetch(
        sql.SQL("SELECT t.id, count(*) AS others {} WHERE t.id = ANY(%s) GROUP BY t.id").format(source), [list(ids)]
    )
    return {row["id"]: row["others"] for row in found}


async def changed_since(database: TenantDatabase, kind: TypeDescription, change: int) -> dict[str, Any]:
    """Rows that changed since an index or an answer of this gave the number, each once, with the status it has now."""
    change_now = await _all_before(database)  # before the rows: what comes in between is told twice rather than never
    rows = await database.fetch(
        sql.SQL(
            """WITH later AS (
                        SELECT id FROM system.changes WHERE txid >= %(change)s::text::xid8 AND subledger = %(ledger)s),
                    touched AS (
                       SELECT DISTINCT row_id FROM system.history WHERE change_id IN (SELECT id FROM later) LIMIT %(most)s)
               SELECT t.id, t.status FROM {} t JOIN touched ON touched.row_id = t.id"""
        ).format(sql.Identifier("ledgers", kind.table)),
        {"change": change, "ledger": kind.table, "most": MOST_CHANGES + 1},
    )
    return {
        "change": change_now,
        "more": len(rows) > MOST_CHANGES,
        "rows": [{"id": plain(row["id"]), "status": row["status"]} for row in rows[:MOST_CHANGES]],
    }
