"""Workflows, as the workspace knows them: a runbook bound to an entity, when it runs, and when it was paused.

Slugs, ids, cron and times; no text. The tenant's database has what its code server needs of the same workflows
(`tenant.workflows`); `host.bindings` keeps the two in step.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

from sqlalchemy import ForeignKey, Index, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from ntro_dagster.boundary.schedules import DEFAULT_OFFSET, Schedule
from ntro_dagster.errors import NotFoundError, UsageError
from ntro_dagster.workspace.registry import SCHEMA, Base, Entity, Registry, SlugError, Status, Tenant, check_entity_slug

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


class WorkflowRow(Base):
    __tablename__ = "workflows"
    __table_args__ = (
        Index(
            "workflows_open_idx",
            "tenant_id",
            "runbook",
            "entity_id",
            unique=True,
            postgresql_where=text("closed_at IS NULL"),
        ),
        {"schema": SCHEMA},
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(f"{SCHEMA}.tenants.id"))
    entity_id: Mapped[UUID] = mapped_column(ForeignKey(f"{SCHEMA}.entities.id"))
    runbook: Mapped[str]
    cron: Mapped[str | None]
    timezone: Mapped[str | None]
    period_offset: Mapped[int]
    pinned: Mapped[str | None]
    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=uuid4)
    created_at: Mapped[datetime] = mapped_column(default_factory=lambda: datetime.now(UTC))
    closed_at: Mapped[datetime | None] = mapped_column(default=None)


class PauseRow(Base):
    """An interval in which a workflow's ticks do not count. Open: it is paused now."""

    __tablename__ = "workflow_pauses"
    __table_args__ = (
        Index("workflow_pauses_open_idx", "workflow_id", unique=True, postgresql_where=text("ended_at IS NULL")),
        {"schema": SCHEMA},
    )

    workflow_id: Mapped[UUID] = mapped_column(ForeignKey(f"{SCHEMA}.workflows.id"))
    began_at: Mapped[datetime]
    ended_at: Mapped[datetime | None] = mapped_column(default=None)
    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=uuid4)


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
        row = WorkflowRow(
            tenant_id=entity.tenant_id,
            entity_id=entity.id,
            runbook=binding.runbook,
            cron=when.cron if when else None,
            timezone=when.timezone if when else None,
            period_offset=binding.period_offset,
            pinned=binding.pinned,
            id=new or uuid4(),
        )
        try:
            with self.registry.sessions.begin() as session:
                session.add(row)
        except IntegrityError:
            pass
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
        query = (
            select(WorkflowRow, Tenant.slug, Entity.slug)
            .join(Tenant, Tenant.id == WorkflowRow.tenant_id)
            .join(Entity, Entity.id == WorkflowRow.entity_id)
            .where(
                WorkflowRow.closed_at.is_(None),
                Tenant.status == Status.ACTIVE.value,
                Entity.status == Status.ACTIVE.value,
            )
            .order_by(Tenant.slug, WorkflowRow.runbook, Entity.slug)
        )
        asked = {Tenant.slug: tenant, WorkflowRow.runbook: runbook, Entity.slug: entity}
        for column, value in asked.items():
            query = query if value is None else query.where(column == value)
        if ids is not None:
            query = query.where(WorkflowRow.id.in_(ids))
        with self.registry.sessions.begin() as session:
            found = session.execute(query).all()
            pauses = session.scalars(
                select(PauseRow).where(PauseRow.workflow_id.in_([row.id for row, _, _ in found])).order_by(PauseRow.began_at)
            ).all()
        of: dict[UUID, list[tuple[datetime, datetime | None]]] = {}
        for pause in pauses:
            of.setdefault(pause.workflow_id, []).append((pause.began_at, pause.ended_at))
        return [_workflow(row, tenant_slug, entity_slug, of.get(row.id, [])) for row, tenant_slug, entity_slug in found]

    def pause(self, workflow: UUID, at: datetime) -> None:
        """From `at` on its ticks do not count; again changes nothing."""
        try:
            with self.registry.sessions.begin() as session:
                session.add(PauseRow(workflow_id=workflow, began_at=at))
        except IntegrityError:
            return

    def resume(self, workflow: UUID, at: datetime) -> None:
        """From `at` on they count again; again changes nothing."""
        with self.registry.sessions.begin() as session:
            session.execute(
                update(PauseRow).where(PauseRow.workflow_id == workflow, PauseRow.ended_at.is_(None)).values(ended_at=at)
            )

    def close(self, workflow: UUID, at: datetime) -> None:
        """It is history from `at` on; again changes nothing."""
        with self.registry.sessions.begin() as session:
            session.execute(
                update(WorkflowRow).where(WorkflowRow.id == workflow, WorkflowRow.closed_at.is_(None)).values(closed_at=at)
            )


def _workflow(row: WorkflowRow, tenant: str, entity: str, pauses: list[tuple[datetime, datetime | None]]) -> Workflow:
    when = Schedule(row.cron, row.timezone) if row.cron and row.timezone else None
    binding = Binding(tenant, row.runbook, entity, when, row.period_offset, row.pinned)
    return Workflow(row.id, row.entity_id, binding, row.created_at, tuple(pauses))
