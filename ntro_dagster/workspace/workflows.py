"""Workflows, as the workspace knows them: a runbook bound to an entity, when it runs, and when it was paused.

Slugs, ids, cron and times; no text. The tenant's database has what its code server needs of the same workflows
(`tenant.workflows`); `host.bindings` keeps the two in step.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid4

from ntro_dagster.boundary.schedules import DEFAULT_OFFSET, Schedule
from ntro_dagster.errors import NotFoundError, UsageError
from ntro_dagster.workspace.registry import Registry, SlugError, check_entity_slug, insert, now

RUNBOOK_SLUG = re.compile(r"[a-z][a-z0-9-]{0,40}")
VERSION = re.compile(r"v_[0-9a-f]{12}")


class WorkflowNotFoundError(NotFoundError):
    """Values: `workflow`."""

    code = "WORKFLOW_NOT_FOUND"
    summary = "no such workflow"
    detail = "there is no open workflow {workflow}"
    mend = "`ntro schedule list` and `ntro workflow bindings` show those there are"


class WorkflowDiffersError(UsageError):
    """Values: `runbook`, `entity`, `workflow`."""

    code = "WORKFLOW_DIFFERS"
    summary = "the runbook is bound to the entity already, in another way"
    detail = "{runbook} is bound to {entity} already (workflow {workflow}), with another schedule, version or period"
    mend = "`ntro workflow unbind` it first: what a workflow was bound to stands as it was"


class VersionInvalidError(UsageError):
    """Values: `version`."""

    code = "VERSION_INVALID"
    summary = "that is no version"
    detail = "{version!r} is no version of a runbook"
    mend = "`v_` and 12 hexadecimal digits, as `ntro workflow push` prints it"


@dataclass(frozen=True, slots=True)
class Binding:
    """What a workflow binds, before it is one. `pinned`: a version; None follows whichever is active."""

    tenant: str
    runbook: str
    entity: str
    schedule: Schedule | None = None
    period_offset: int = DEFAULT_OFFSET
    pinned: str | None = None

    def check(self) -> None:
        """Raises `SlugError`, `VersionInvalidError`. The schedule was checked when it was made."""
        if not RUNBOOK_SLUG.fullmatch(self.runbook):
            raise SlugError(slug=self.runbook, pattern=RUNBOOK_SLUG.pattern)
        check_entity_slug(self.entity)
        if self.pinned is not None and not VERSION.fullmatch(self.pinned):
            raise VersionInvalidError(version=self.pinned)


@dataclass(frozen=True, slots=True)
class Workflow:
    """A binding with an id and a history. `pauses`: begin and end, oldest first; an end of None: paused now."""

    id: UUID
    entity_id: UUID
    binding: Binding
    created_at: datetime
    pauses: tuple[tuple[datetime, datetime | None], ...] = ()

    @property
    def paused(self) -> bool:
        return any(end is None for _, end in self.pauses)

    @property
    def armed_at(self) -> datetime:
        """Since when its ticks count: made, or resumed last."""
        return max([self.created_at, *(end for _, end in self.pauses if end is not None)])

    def counts(self, tick: datetime) -> bool:
        """Whether it should have fired then: there already, and not paused."""
        return self.created_at <= tick and not any(begin <= tick and (end is None or tick < end) for begin, end in self.pauses)


class Workflows:
    """The open workflows of a workspace."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def bind(self, binding: Binding, *, new: UUID | None = None) -> Workflow:
        """The workflow of a binding: a new one, or the one that there is.

        Args: `new`: the id of a new one, where it was drawn before.

        Raises: `SlugError`, `VersionInvalidError`, `TenantNotFoundError`, `EntityNotFoundError`, `WorkflowDiffersError`.
        """
        binding.check()
        entity = self.registry.entity(binding.tenant, binding.entity)
        when = binding.schedule
        row = _WorkflowRow(
            tenant_id=entity.tenant_id,
            entity_id=entity.id,
            runbook=binding.runbook,
            cron=when.cron if when else None,
            timezone=when.timezone if when else None,
            period_offset=binding.period_offset,
            pinned=binding.pinned,
            id=new or uuid4(),
        )
        with self.registry.transaction() as connection:
            insert(connection, "workflows", row, unless_known=True)
        (found,) = self.open(tenant=binding.tenant, runbook=binding.runbook, entity=binding.entity)
        if found.binding != binding:
            raise WorkflowDiffersError(runbook=binding.runbook, entity=binding.entity, workflow=found.id)
        return found

    def open(
        self,
        *,
        tenant: str | None = None,
        runbook: str | None = None,
        entity: str | None = None,
        ids: Sequence[UUID] | None = None,
    ) -> list[Workflow]:
        """Those that are not closed, nor their entity or tenant, by tenant, runbook and entity."""
        asked = {"tenant": tenant, "runbook": runbook, "entity": entity, "ids": None if ids is None else [*ids]}
        found = self.registry.rows(_OpenWorkflow, _OPEN, asked)
        pauses = self.registry.rows(_PauseRow, _PAUSES, {"workflows": [row.id for row in found]})
        of: dict[UUID, list[tuple[datetime, datetime | None]]] = {}
        for pause in pauses:
            of.setdefault(pause.workflow_id, []).append((pause.began_at, pause.ended_at))
        return [_workflow(row, of.get(row.id, [])) for row in found]

    def pause(self, workflow: UUID, at: datetime) -> None:
        """From `at` on its ticks do not count; again changes nothing."""
        with self.registry.transaction() as connection:
            insert(connection, "workflow_pauses", _PauseRow(workflow, at), unless_known=True)

    def resume(self, workflow: UUID, at: datetime) -> None:
        """From `at` on they count again; again changes nothing."""
        with self.registry.transaction() as connection:
            connection.execute(
                "UPDATE registry.workflow_pauses SET ended_at = %s WHERE workflow_id = %s AND ended_at IS NULL", [at, workflow]
            )

    def close(self, workflow: UUID, at: datetime) -> None:
        """It is history from `at` on; again changes nothing."""
        with self.registry.transaction() as connection:
            connection.execute("UPDATE registry.workflows SET closed_at = %s WHERE id = %s AND closed_at IS NULL", [at, workflow])


@dataclass(kw_only=True)
class _WorkflowRow:
    tenant_id: UUID
    entity_id: UUID
    runbook: str
    cron: str | None
    timezone: str | None
    period_offset: int
    pinned: str | None
    id: UUID
    created_at: datetime = field(default_factory=now)


@dataclass(kw_only=True)
class _OpenWorkflow(_WorkflowRow):
    tenant: str
    entity: str


@dataclass
class _PauseRow:
    workflow_id: UUID
    began_at: datetime
    ended_at: datetime | None = None
    id: UUID = field(default_factory=uuid4)


_OPEN = """
    SELECT w.tenant_id, w.entity_id, w.runbook, w.cron, w.timezone, w.period_offset, w.pinned, w.id, w.created_at,
        t.slug AS tenant, e.slug AS entity
    FROM registry.workflows w JOIN registry.tenants t ON t.id = w.tenant_id JOIN registry.entities e ON e.id = w.entity_id
    WHERE w.closed_at IS NULL AND t.status = 'ACTIVE' AND e.status = 'ACTIVE'
        AND t.slug = coalesce(%(tenant)s, t.slug) AND w.runbook = coalesce(%(runbook)s, w.runbook)
        AND e.slug = coalesce(%(entity)s, e.slug) AND (%(ids)s::uuid[] IS NULL OR w.id = ANY (%(ids)s))
    ORDER BY t.slug, w.runbook, e.slug"""

_PAUSES = """
    SELECT workflow_id, began_at, ended_at, id FROM registry.workflow_pauses
    WHERE workflow_id = ANY (%(workflows)s) ORDER BY began_at"""


def _workflow(row: _OpenWorkflow, pauses: list[tuple[datetime, datetime | None]]) -> Workflow:
    when = Schedule(row.cron, row.timezone) if row.cron and row.timezone else None
    binding = Binding(row.tenant, row.runbook, row.entity, when, row.period_offset, row.pinned)
    return Workflow(row.id, row.entity_id, binding, row.created_at, tuple(pauses))
