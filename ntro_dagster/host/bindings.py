"""Workflows made, paused and ended across both planes: the registry says what is bound, the tenant's database is told.

The registry comes first, because it gives the id. Whatever is done next starts by bringing the tenant up to what the registry
has, so a command that died is completed by the next one, whichever that is. Only a stop reaches the tenant first: what is
said to be paused or unbound never fires.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import UUID

from ntro_dagster.boundary.schedules import check_offset
from ntro_dagster.host.deployments import NotDeployedError, Runbooks
from ntro_dagster.host.home import Role
from ntro_dagster.host.installation import Installation, credential
from ntro_dagster.host.parameters import Settings, prepare
from ntro_dagster.ingest.submission import EntityClosedError
from ntro_dagster.tenant.workflows import TenantWorkflow, stop_workflow, tell_workflows
from ntro_dagster.workspace.deployments import Deployments, State
from ntro_dagster.workspace.registry import Status
from ntro_dagster.workspace.workflows import Binding, Workflow, WorkflowNotFoundError, Workflows


def bind(
    installation: Installation, binding: Binding, settings: Settings | None = None, *, by: str = "program:bindings"
) -> Workflow:
    """The workflow of a binding, in both planes and in Dagster; again changes nothing and completes what is missing.

    Args: `settings`: the runbook's parameters, as written. `by`: who sets them.

    Raises: `SlugError`, `VersionInvalidError`, `PeriodOffsetInvalidError`, `TenantNotFoundError`, `EntityNotFoundError`,
        `EntityClosedError`, `NotDeployedError`, `VersionNotFoundError`, `WorkflowDiffersError`, `ParameterInvalidError`,
        `ParametersDifferError`, `ActiveVersionMovedError`.
    """
    binding.check()
    check_offset(binding.period_offset, binding.schedule)
    with _workflows(installation) as workflows:
        entity = workflows.registry.entity(binding.tenant, binding.entity)
        if entity.status == Status.CLOSED:
            raise EntityClosedError(names=binding.entity)
        _check_deployed(Deployments(workflows.registry), binding)
        new = prepare(installation, workflows, binding, settings or {}, by=by)
        made = workflows.bind(binding, new=new)
        if made.id != new:  # somebody else was quicker
            prepare(installation, workflows, binding, settings or {}, by=by)
        tell_tenant(installation, workflows, binding.tenant)
    return made


def _check_deployed(known: Deployments, binding: Binding) -> None:
    """Raises `VersionNotFoundError`; `NotDeployedError` also where the pinned version never ran here: tables may not fit it."""
    if binding.pinned:
        known.version(binding.runbook, binding.pinned)
    ran = {each.version for each in known.history(binding.tenant, binding.runbook) if each.state == State.DONE}
    if binding.runbook not in known.active(binding.tenant) or binding.pinned not in {None, *ran}:
        raise NotDeployedError(slug=binding.runbook, tenant=binding.tenant)


def reconcile(installation: Installation, tenant: str) -> None:
    """Complete what a command that died has left: for `ntro up`."""
    with _workflows(installation) as workflows:
        tell_tenant(installation, workflows, tenant)


def unbind(installation: Installation, workflow: UUID) -> Workflow:
    """End a workflow. Its runs and its history stay. Raises `WorkflowNotFoundError`."""
    return _stop(installation, workflow, Workflows.close)


def pause(installation: Installation, workflow: UUID) -> Workflow:
    """From now on its ticks do not count, and are not missed; again changes nothing. Raises `WorkflowNotFoundError`."""
    return _stop(installation, workflow, Workflows.pause)


def resume(installation: Installation, workflow: UUID) -> Workflow:
    """From now on its ticks count again; again changes nothing. Raises `WorkflowNotFoundError`."""
    with _workflows(installation) as workflows:
        found = _open(workflows, workflow)
        workflows.resume(workflow, datetime.now(UTC))
        tell_tenant(installation, workflows, found.binding.tenant)
        return _open(workflows, workflow)


def _stop(installation: Installation, workflow: UUID, act: Callable[[Workflows, UUID, datetime], None]) -> Workflow:
    with _workflows(installation) as workflows:
        found = _open(workflows, workflow)
        tenant = found.binding.tenant
        stop_workflow(credential(installation.home, tenant, Role.OWNER), workflow)
        act(workflows, workflow, datetime.now(UTC))
        tell_tenant(installation, workflows, tenant)
        return next(iter(workflows.open(ids=[workflow])), found)


def _open(workflows: Workflows, workflow: UUID) -> Workflow:
    found = workflows.open(ids=[workflow])
    if not found:
        raise WorkflowNotFoundError(workflow=workflow)
    return found[0]


def tell_tenant(installation: Installation, workflows: Workflows, tenant: str) -> None:
    """The tenant's database, its list of schedules and its code server, as the registry is."""

    def read() -> Sequence[TenantWorkflow]:
        return [_row(each) for each in workflows.open(tenant=tenant)]

    tell_workflows(credential(installation.home, tenant, Role.OWNER), read, at=datetime.now(UTC))
    Runbooks(installation).settle(tenant)


def _row(workflow: Workflow) -> TenantWorkflow:
    binding = workflow.binding
    return TenantWorkflow(
        id=workflow.id,
        runbook=binding.runbook,
        entity_id=workflow.entity_id,
        schedule=binding.schedule,
        period_offset=binding.period_offset,
        pinned=binding.pinned,
        paused=workflow.paused,
        armed_at=workflow.armed_at,
        created_at=workflow.created_at,
    )


@contextmanager
def _workflows(installation: Installation) -> Iterator[Workflows]:
    registry = installation.registry()
    try:
        yield Workflows(registry)
    finally:
        registry.dispose()
