"""Decisions that bind to what their author saw: filed over exactly that, or not at all.

Rows are bound one by one, by the digests that a page showed; a filter by one digest over everything that it matched in a dry run.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb

from ntro_dagster.errors import UsageError
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.raw import jsonable
from ntro_dagster.subledger.registry import SubledgerType
from ntro_dagster.subledger.review import Filed, check_decision, check_signal, names_of
from ntro_dagster.subledger.selection import Filter


class Seen(NamedTuple):
    """A row, and the digest of its content when somebody saw it."""

    id: UUID
    digest: bytes


class Moved(NamedTuple):
    """A row that is not any more what was seen, or cannot take the decision.

    Attributes:
        code: ROW_NOT_FOUND, CONTENT_CHANGED, DECISION_WAITING, ILLEGAL_TRANSITION, MAKER_IS_NOT_CHECKER, ALREADY_REINSTATED, or
            ALREADY_SIGNED: the author has approved it, and a second approver is to come.
        by: who filed the decision that waits.
    """

    id: UUID
    code: str
    by: str | None


@dataclass(frozen=True, slots=True)
class Summary:
    """What a decision over a filter would take.

    Attributes:
        totals: sum of the rows' amounts by currency, as far as amounts are known.
        skipped: rows that match but cannot take the decision, by code.
        findings: how many of the rows have findings.
        seen: SHA-256 over id and digest of every row that can take it, in the order of ids.
    """

    count: int
    totals: Mapping[str, Decimal]
    skipped: Mapping[str, int]
    findings: int
    seen: bytes


class ContentMovedError(UsageError):
    """A decision was made on what is not there any more.

    Attributes:
        rows: those that moved; none for a filter, whose one digest does not say which.
        now: for a filter, what it would take now.
    """

    code = "CONTENT_MOVED"
    summary = "rows are not any more what was seen; nothing was filed"
    mend = "look at the rows again, and decide upon what is there now"

    def __init__(self, *, rows: Sequence[Moved] = (), now: Summary | None = None) -> None:
        self.rows, self.now = rows, now
        super().__init__(rows=rows, now=now)


class RowSeenTwiceError(UsageError):
    """Values: `row`."""

    code = "ROW_SEEN_TWICE"
    summary = "a row is listed with two digests; nothing was filed"
    detail = "row {row} is listed with two digests"
    mend = "list each row once, with the digest that was seen"


async def file_seen(
    desk: TenantDatabase,
    kind: SubledgerType | TypeDescription,
    signal: str,
    *,
    filed_by: str,
    reason: str | None,
    values: Mapping[str, Any] | None,
    rows: Sequence[Seen],
) -> list[Filed]:
    """File one decision over rows as they were seen: one signal per entity and period.

    Raises: `ContentMovedError`, `RowSeenTwiceError`, and what `file_signal` raises.
    """
    check_decision(kind, signal, reason, values)
    seen: dict[UUID, bytes] = {}
    for row in rows:
        if seen.setdefault(row.id, row.digest) != row.digest:
            raise RowSeenTwiceError(row=row.id)
    chosen = sql.SQL(
        "SELECT s.id, t.entity_id, t.period, t.status, t.made_by, {digest}(t) AS digest, s.digest AS seen, "
        "{amount}(t) AS amount, {currency}(t) AS currency "
        "FROM unnest(%(ids)s::uuid[], %(digests)s::bytea[]) AS s (id, digest) LEFT JOIN {table} t ON t.id = s.id"
    ).format(**names_of(kind))
    found = await _file(
        desk,
        _FILE_SEEN.format(judged=_JUDGED.format(chosen=chosen)),
        _judging(kind, signal, filed_by) | _filing(reason, values) | {"ids": list(seen), "digests": list(seen.values())},
    )
    moved = [Moved(row["row_id"], row["code"], row["by"]) for row in found if row["code"]]
    if moved:
        raise ContentMovedError(rows=moved)
    return _filed(found)


async def summarise(
    desk: TenantDatabase, kind: SubledgerType | TypeDescription, signal: str, where: Filter, *, by: str
) -> Summary:
    """A dry run of `file_matching`. Args: `by`: who would file it.

    Raises: `SignalUnknownError`.
    """
    check_signal(kind, signal)
    chosen, parameters = _matching(kind, where)
    found = await desk.fetch(
        _SUMMARISE.format(judged=_JUDGED.format(chosen=chosen), seen=_SEEN), parameters | _judging(kind, signal, by)
    )
    taken = [row for row in found if row["code"] is None]
    skipped: Counter[str] = Counter()
    for row in found:
        if row["code"]:
            skipped[row["code"]] += row["rows"]
    return Summary(
        count=sum(row["rows"] for row in taken),
        totals={row["currency"]: row["total"] for row in taken if row["total"] is not None},
        skipped=skipped,
        findings=sum(row["findings"] for row in taken),
        seen=found[0]["seen"] if found else hashlib.sha256().digest(),
    )


async def file_matching(
    desk: TenantDatabase,
    kind: SubledgerType | TypeDescription,
    signal: str,
    *,
    filed_by: str,
    reason: str | None,
    values: Mapping[str, Any] | None,
    where: Filter,
    seen: bytes,
) -> list[Filed]:
    """File one decision over everything a filter matches that can take it, if that is still what `summarise` found.

    Args: `seen`: the summary's.

    Raises: `ContentMovedError`, and what `file_signal` raises.
    """
    check_decision(kind, signal, reason, values)
    chosen, parameters = _matching(kind, where)
    found = await _file(
        desk,
        _FILE_MATCHING.format(judged=_JUDGED.format(chosen=chosen), seen=_SEEN),
        parameters | _judging(kind, signal, filed_by) | _filing(reason, values) | {"seen": seen},
    )
    if not found[0]["bound"]:
        raise ContentMovedError(now=await summarise(desk, kind, signal, where, by=filed_by))
    return _filed(found)


async def withdraw(desk: TenantDatabase, signal_id: UUID, *, by: str) -> None:
    """Take back a decision that no run has applied yet: each of its rows gets the outcome SUPERSEDED, code WITHDRAWN.

    Raises: `RefusedByDatabaseError` with SIGNAL_NOT_FOUND, NOT_YOUR_DECISION, SIGNAL_ALREADY_APPLIED or SIGNAL_WITHDRAWN.
    """
    await desk.execute("INSERT INTO system.withdrawals (signal_id, login) VALUES (%s, %s)", [signal_id, by])


async def _file(desk: TenantDatabase, statement: sql.Composable, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    async with desk.transaction():
        # Of two who decide upon one row at one time, the second is told: it sees what the first has filed.
        await desk.execute("SELECT pg_advisory_xact_lock(hashtextextended('ntro filing ' || %(subledger)s, 0))", parameters)
        return await desk.fetch(statement, parameters)


def _filed(found: Sequence[Mapping[str, Any]]) -> list[Filed]:
    return [Filed(row["signal_id"], row["entity_id"], row["period"], row["rows"]) for row in found if row["signal_id"]]


def _judging(kind: SubledgerType | TypeDescription, signal: str, filed_by: str) -> dict[str, Any]:
    sources = kind.lifecycle.sources(signal)
    return {"subledger": kind.table, "kind": signal, "sources": sources, "by": filed_by}


def _filing(reason: str | None, values: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"reason": reason, "values": Jsonb(jsonable(values or {}))}


def _matching(kind: SubledgerType | TypeDescription, where: Filter) -> tuple[sql.Composable, dict[str, Any]]:
    condition, parameters = where.to_named_sql(kind)
    chosen = sql.SQL(
        "SELECT t.id, t.entity_id, t.period, t.status, t.made_by, {digest}(t) AS digest, NULL::bytea AS seen, "
        "{amount}(t) AS amount, coalesce({currency}(t), e.currency) AS currency, t.validation_errors @> '[{{}}]' AS findings "
        "FROM {table} t JOIN system.entities e ON e.id = t.entity_id WHERE {where}"
    ).format(where=condition, **names_of(kind))
    return chosen, parameters


# Each row that was chosen, and why it cannot take the decision.
_JUDGED = sql.SQL(
    """WITH author AS MATERIALIZED (
           SELECT %(by)s::text AS login, system.delegator_of(%(by)s, %(kind)s, NULL) AS behalf
       ), chosen AS MATERIALIZED ({chosen}), waiting AS (
           SELECT DISTINCT ON (r.row_id) r.row_id, s.filed_by
             FROM system.signals s JOIN system.signal_rows r ON r.signal_id = s.id
            WHERE s.subledger = %(subledger)s AND s.applied_at IS NULL AND s.withdrawn_at IS NULL AND r.outcome IS NULL
            ORDER BY r.row_id, s.seq
       ), makers AS (
           SELECT DISTINCT c.id AS row_id
             FROM (SELECT id, made_by, id AS made FROM chosen UNION ALL
                   SELECT id, made_by, unnest(f.forebears) FROM chosen JOIN system.reinstatements f ON f.successor_id = id) c
             JOIN system.history h ON h.row_id = c.made JOIN system.changes g ON g.id = h.change_id
             JOIN system.signals s ON s.id = g.signal_id JOIN author a ON g.actor IN (a.login, a.behalf)
            WHERE %(kind)s = 'approve' AND c.made_by IS NOT NULL AND h.action IN ('EDIT', 'TRANSITION')
              AND s.kind IN ('edit', 'accept')
       ), judged AS MATERIALIZED (
           SELECT c.*, w.filed_by AS by,
                  CASE WHEN c.entity_id IS NULL THEN 'ROW_NOT_FOUND'
                       WHEN c.digest <> c.seen THEN 'CONTENT_CHANGED'
                       WHEN w.row_id IS NOT NULL THEN 'DECISION_WAITING'
                       WHEN c.status <> ALL (%(sources)s) THEN 'ILLEGAL_TRANSITION'
                       WHEN m.row_id IS NOT NULL THEN 'MAKER_IS_NOT_CHECKER'
                       WHEN %(kind)s = 'reinstate' AND EXISTS (SELECT FROM system.reinstatements x WHERE x.row_id = c.id)
                       THEN 'ALREADY_REINSTATED'
                       WHEN %(kind)s = 'approve' AND (SELECT EXISTS (SELECT FROM system.approval_limits))
                            AND system.has_signed(c.id, c.digest, a.login, a.behalf)
                            AND system.needs_two(c.amount, c.currency, c.entity_id)
                            AND NOT system.is_cosigned(c.id, c.digest, a.login, a.behalf) THEN 'ALREADY_SIGNED' END AS code
             FROM author a CROSS JOIN chosen c LEFT JOIN waiting w ON w.row_id = c.id LEFT JOIN makers m ON m.row_id = c.id
       )"""
)

_SEEN = sql.SQL("sha256(coalesce(string_agg(uuid_send(j.id) || j.digest, '' ORDER BY j.id) FILTER (WHERE j.code IS NULL), ''))")

_SUMMARISE = sql.SQL(
    """{judged}
       SELECT code, currency, count(*) AS rows, sum(amount) AS total, count(*) FILTER (WHERE findings) AS findings,
              (SELECT {seen} FROM judged j) AS seen
         FROM judged GROUP BY code, currency ORDER BY currency"""
)

_SIGNED = """signals AS (
           INSERT INTO system.signals (id, subledger, entity_id, period, kind, payload, reason, filed_by)
           SELECT gen_random_uuid(), %(subledger)s, entity_id, period, %(kind)s, %(values)s, %(reason)s, %(by)s
             FROM (SELECT DISTINCT entity_id, period FROM judged WHERE code IS NULL ORDER BY 2, 1) p, bound WHERE bound
           RETURNING id, entity_id, period
       ), signed AS (
           INSERT INTO system.signal_rows (signal_id, row_id, content_digest)
           SELECT s.id, j.id, j.digest FROM judged j JOIN signals s USING (entity_id, period) WHERE j.code IS NULL
       ), filed AS (
           SELECT s.id AS signal_id, entity_id, period, count(*) AS rows FROM judged JOIN signals s USING (entity_id, period)
            WHERE code IS NULL GROUP BY 1, 2, 3
       )"""

_FILE_SEEN = sql.SQL(
    "{judged}, bound AS MATERIALIZED (SELECT NOT EXISTS (SELECT FROM judged WHERE code IS NOT NULL) AS bound), "
    + _SIGNED
    + """
       SELECT signal_id, entity_id, period, rows, NULL AS row_id, NULL AS code, NULL AS by FROM filed
       UNION ALL SELECT NULL, NULL, NULL, NULL, id, code, by FROM judged WHERE code IS NOT NULL
       ORDER BY period, entity_id, row_id"""
)

_FILE_MATCHING = sql.SQL(
    "{judged}, bound AS MATERIALIZED (SELECT {seen} = %(seen)s AS bound FROM judged j), "
    + _SIGNED
    + " SELECT bound, filed.* FROM bound LEFT JOIN filed ON TRUE ORDER BY period, entity_id"
)
