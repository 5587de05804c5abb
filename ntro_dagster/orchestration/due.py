"""Steps that time takes: which rows have come to the end of their patience, and the run that moves them on.

A rule is one SQL condition. Sensor and run ask the same one, so a run finds what the sensor saw, and one that is repeated finds
nothing left. The day it is asked for is that of the run's creation, as Dagster recorded it: the same however often a step is
tried again, and written down with every change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date
from string import Formatter
from types import ModuleType
from typing import TYPE_CHECKING
from uuid import UUID

from psycopg import sql

from ntro_dagster.bundles import Bundle, RunbookInvalidError
from ntro_dagster.errors import NtroError
from ntro_dagster.platforms.postgres.database import Actor
from ntro_dagster.platforms.postgres.ledger_store import SCHEMA
from ntro_dagster.subledger.handle import SubledgerHandle
from ntro_dagster.subledger.registry import SubledgerNotFoundError, SubledgerType, subledger_type

if TYPE_CHECKING:
    from dagster import DagsterInstance


class RunUnknownError(NtroError):
    code = "RUN_NOT_RECORDED"
    summary = "Dagster does not know the run that is running"
    detail = "there is no record of run {run_id}, so nobody knows which day it is for"
    mend = "start it as a run of Dagster's, not by hand"


@dataclass(frozen=True, slots=True)
class StatusRule:
    """A step that a run takes for every row for which `when` holds. Stands in `assets.py`, as a name of the module.

    Attributes:
        subledger: logical name.
        when: SQL condition on the row `t` and the day `%(as_of)s`; `{name}` is the table of another subledger of the runbook's.
            A percent sign of its own is written twice.
        reason: why, for the history.
    """

    subledger: str
    source: str
    target: str
    when: str
    reason: str


@dataclass(frozen=True, slots=True)
class DueRule:
    """A rule, with the type whose rows it moves."""

    kind: SubledgerType
    rule: StatusRule
    bundle: Bundle

    @property
    def moves(self) -> sql.Composable:
        """Condition on row `t`. Rows that a person has made content of wait for a person, while content may still change."""
        tables = {name: _table(subledger_type(name, self.bundle.slug, self.bundle.version)) for name in _named(self.rule.when)}
        when = sql.SQL(self.rule.when).format(**tables)
        untouched = sql.SQL(_UNTOUCHED if self.rule.source in self.kind.lifecycle.editable else "")
        return sql.SQL("t.status = {} AND ({}){}").format(sql.Literal(self.rule.source), when, untouched)

    @property
    def question(self) -> sql.Composable:
        """Partitions with such rows: those that are not closed, then a probe of each one's index."""
        return sql.SQL(
            "SELECT a.entity_id, a.period, a.subledger FROM system.partition_activity a "
            "JOIN system.entities e ON e.id = a.entity_id AND e.status = 'ACTIVE' "
            "WHERE a.subledger = {} AND a.last_change > a.closed_change AND EXISTS ("
            "SELECT FROM {} t WHERE t.entity_id = a.entity_id AND t.period = a.period AND {})"
        ).format(sql.Literal(self.kind.table), _table(self.kind), self.moves)


_UNTOUCHED = " AND t.made_by IS NULL AND NOT EXISTS (SELECT FROM system.reinstatements x WHERE x.successor_id = t.id)"


def _table(kind: SubledgerType) -> sql.Identifier:
    return sql.Identifier(SCHEMA, kind.table)


def _named(when: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(when) if name}


def rules_of(module: ModuleType, bundle: Bundle) -> list[DueRule]:
    """The `StatusRule`s of a runbook's assets module, in the order they stand there. Raises `RunbookInvalidError`."""
    return [_bound(rule, bundle) for rule in vars(module).values() if isinstance(rule, StatusRule)]


def _bound(rule: StatusRule, bundle: Bundle) -> DueRule:
    slug = bundle.slug
    step = f"{rule.subledger}: {rule.source} to {rule.target}"
    try:
        kind = subledger_type(rule.subledger, slug, bundle.version)
        due = DueRule(kind, rule, bundle)
        due.moves  # noqa: B018 - every table it names is there
    except (SubledgerNotFoundError, ValueError, IndexError, KeyError) as error:
        raise RunbookInvalidError(slug=slug, why=f"the rule for {step} cannot be read ({error})") from None
    lifecycle = kind.lifecycle
    if kind.owner_runbook != slug:
        raise RunbookInvalidError(slug=slug, why=f"{step}: only the runbook that owns a type moves its rows")
    if not lifecycle.allows_a_run(rule.source, rule.target) or rule.target == lifecycle.posted:
        raise RunbookInvalidError(slug=slug, why=f"{step}: its lifecycle has no such step that a run may take")
    if not rule.reason.strip():
        raise RunbookInvalidError(slug=slug, why=f"{step}: a rule says why")
    return due


def as_of(instance: DagsterInstance, run_id: str) -> date:
    """The day (UTC) on which the run was created. Raises `RunUnknownError`."""
    record = instance.get_run_record_by_id(run_id)
    if record is None:
        raise RunUnknownError(run_id=run_id)
    return record.create_timestamp.astimezone(UTC).date()


async def take_due_steps(handle: SubledgerHandle, rules: Sequence[DueRule], *, period: str, day: date) -> int:
    """One guarded statement and one transaction for each rule of the handle's type, in their order. Returns rows moved.

    A rule sees what the ones before it did.
    """
    moved = 0
    for due in (each for each in rules if each.kind.table == handle.kind.table):
        async with handle.database.transaction(_actor(handle.task_id, due.rule, day)):
            moved += await handle.database.execute(
                sql.SQL(
                    "UPDATE {} t SET status = {}, task_id = %(task)s, updated_at = now() "
                    "WHERE t.entity_id = %(entity)s AND t.period = %(period)s AND {}"
                ).format(_table(due.kind), sql.Literal(due.rule.target), due.moves),
                {"task": handle.task_id, "entity": handle.entity_id, "period": period, "as_of": day},
            )
    return moved


def _actor(run_id: UUID, rule: StatusRule, day: date) -> Actor:
    return Actor(f"run:{run_id}", "run", run_id, f"{rule.reason}, as of {day.isoformat()}")
