"""What is waiting to be done, read from the tenant's database: the partitions that the sensors start runs for.

Each query reads an index of open work, not the rows that exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from uuid import UUID

from psycopg import sql

from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.lifecycle import Lifecycle

LIMIT = 2_000
"""Partitions per question. Well above what a tick starts, so that partitions whose runs keep failing do not crowd out others."""


class Work(StrEnum):
    """Kinds of work, in the order of the month."""

    INTAKE = "intake"
    REVIEW = "review"
    PROPOSALS = "proposals"
    POSTING = "posting"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A partition with work to do, and the subledgers in which it waits."""

    entity: str
    period: str
    subledgers: tuple[str, ...]


Only = Callable[[str], sql.Composable]
"""Condition on the columns `entity_id` and `period` of a table's alias."""


def _any(alias: str) -> sql.Composable:
    return sql.SQL("TRUE")


def _one(alias: str) -> sql.Composable:
    return sql.SQL("{0}.entity_id = %(entity)s AND {0}.period = %(period)s").format(sql.Identifier(alias))


async def waiting(
    database: TenantDatabase,
    work: Work,
    subledgers: Mapping[str, Lifecycle],
    *,
    due: Sequence[sql.Composable] = (),
    day: date | None = None,
) -> list[Waiting]:
    """Partitions in which `work` waits, oldest month first.

    Args:
        subledgers: tables, and the lifecycle of their rows.
        due: questions for partitions that wait for review because of the `day`.
    """
    question = _REVIEW.format(sql.SQL(" UNION ALL ").join([_SIGNALS, *due])) if work is Work.REVIEW else None
    rows = await database.fetch(
        question or _QUESTIONS[work](subledgers, _any), {"subledgers": list(subledgers), "limit": LIMIT, "as_of": day}
    )
    return [Waiting(row["slug"], row["period"], tuple(row["subledgers"])) for row in rows]


async def waits(
    database: TenantDatabase, work: Work, subledgers: Mapping[str, Lifecycle], *, entity_id: UUID, period: str
) -> bool:
    """Whether a sensor would start a run for `work`, which is not review, in this partition."""
    asked = {"subledgers": list(subledgers), "limit": 1, "entity": entity_id, "period": period}
    return bool(await database.fetch(_QUESTIONS[work](subledgers, _one), asked))


_INTAKE = sql.SQL("""
    SELECT e.slug, i.period, array_agg(DISTINCT i.subledger) AS subledgers
      FROM ingest.intake i JOIN system.entities e ON e.id = i.entity_id
     WHERE i.staged_at IS NULL AND i.subledger = ANY(%(subledgers)s) AND e.status = 'ACTIVE' AND {}
     GROUP BY 1, 2 ORDER BY i.period, e.slug LIMIT %(limit)s""")

_SIGNALS = sql.SQL(
    "SELECT entity_id, period, subledger FROM system.signals WHERE applied_at IS NULL AND withdrawn_at IS NULL "
    "AND subledger = ANY(%(subledgers)s)"
)

_REVIEW = sql.SQL("""
    SELECT e.slug, s.period, array_agg(DISTINCT s.subledger) AS subledgers
      FROM ({}) s JOIN system.entities e ON e.id = s.entity_id GROUP BY 1, 2 ORDER BY s.period, e.slug LIMIT %(limit)s""")

# Activity since the last trial balance, then a probe of the partition's index: never a scan of the rows. The months with
# activity come first, from their own index (OFFSET 0): the planner takes them for a third of all, and would walk through all.
_ACTIVE = """
    SELECT e.slug, a.period, array_agg(a.subledger ORDER BY a.subledger) AS subledgers
      FROM (SELECT a.* FROM system.partition_activity a
             WHERE a.subledger = ANY(%(subledgers)s) AND a.last_change > a.closed_change AND {} OFFSET 0) a
     CROSS JOIN LATERAL (SELECT e.slug FROM system.entities e WHERE e.id = a.entity_id AND e.status = 'ACTIVE' OFFSET 0) e
     WHERE {}
     GROUP BY 1, 2 ORDER BY a.period, e.slug LIMIT %(limit)s"""

# Approved rows are on their way: an index of their own keeps this as small as what is on its way.
_APPROVED = sql.SQL(
    "SELECT DISTINCT t.entity_id, t.period, {} AS subledger FROM {} t WHERE t.status = {} AND {} "
    "AND NOT EXISTS (SELECT FROM ledgers.waiting_rows w WHERE w.row_id = t.id) "
    "AND NOT EXISTS (SELECT FROM ledgers.periods p "
    "WHERE p.entity_id = t.entity_id AND p.period >= t.period AND p.status <> 'OPEN')"
)

_RECHECKS = sql.SQL(
    "SELECT DISTINCT d.entity_id, d.period, d.subledger FROM ledgers.deliveries d "
    "WHERE d.recheck_at <= now() AND d.subledger = ANY(%(subledgers)s) AND {}"
)

# Months that a person has closed wait for their seal.
_TO_SEAL = sql.SQL(
    "SELECT e.slug, p.period, ARRAY[]::text[] AS subledgers FROM ledgers.periods p JOIN system.entities e ON e.id = p.entity_id "
    "WHERE p.status = 'CLOSING' AND {} ORDER BY p.period, e.slug LIMIT %(limit)s"
)

_HAS = "EXISTS (SELECT FROM {} t WHERE t.entity_id = a.entity_id AND t.period = a.period AND t.status IN ({}))"


def _posting(subledgers: Mapping[str, Lifecycle], only: Only) -> sql.Composed:
    approved = [
        _APPROVED.format(sql.Literal(name), sql.Identifier("ledgers", name), sql.Literal(lifecycle.approved), only("t"))
        for name, lifecycle in subledgers.items()
        if lifecycle.approved
    ]
    if not approved:
        return sql.SQL("SELECT NULL WHERE FALSE").format()
    return sql.SQL(
        "SELECT e.slug, t.period, array_agg(t.subledger ORDER BY t.subledger) AS subledgers "
        "FROM ({}) t JOIN system.entities e ON e.id = t.entity_id "
        "WHERE e.status = 'ACTIVE' "
        "AND NOT EXISTS (SELECT FROM ledgers.gl_pauses g WHERE g.entity_id = t.entity_id AND g.until > now()) "
        "GROUP BY 1, 2 ORDER BY t.period, e.slug LIMIT %(limit)s"
    ).format(sql.SQL(" UNION ALL ").join([*approved, _RECHECKS.format(only("d"))]))


def _close(subledgers: Mapping[str, Lifecycle], only: Only) -> sql.Composed:
    none_open = [sql.SQL("NOT ") + _has(name, lifecycle.open) for name, lifecycle in subledgers.items()]
    nothing_to_stage = sql.SQL(
        "NOT EXISTS (SELECT FROM ingest.intake i WHERE i.entity_id = a.entity_id AND i.period = a.period AND i.staged_at IS NULL)"
    )
    nothing_to_derive = sql.SQL("NOT system.derivation_outstanding(a.entity_id, a.period)")
    drawn_up = sql.SQL(_ACTIVE).format(only("a"), sql.SQL(" AND ").join([*none_open, nothing_to_stage, nothing_to_derive]))
    return sql.SQL(
        "SELECT DISTINCT ON (period, slug) slug, period, subledgers FROM (({}) UNION ALL ({})) w "
        "ORDER BY period, slug LIMIT %(limit)s"
    ).format(drawn_up, _TO_SEAL.format(only("p")))


def _has(subledger: str, statuses: Sequence[str]) -> sql.Composed:
    one_of = sql.SQL(", ").join(map(sql.Literal, statuses))
    return sql.SQL(_HAS).format(sql.Identifier("ledgers", subledger), one_of)


_QUESTIONS: dict[Work, Callable[[Mapping[str, Lifecycle], Only], sql.Composable]] = {
    Work.INTAKE: lambda _, only: _INTAKE.format(only("i")),
    Work.POSTING: _posting,
    Work.CLOSE: _close,
}
