"""`ntro workflow bind`, `unbind`, `bindings`, `set`: which runbook runs for which entity, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ntro_dagster.cli.connections import installation, registry
from ntro_dagster.cli.invocation import command
from ntro_dagster.cli.output import Column, line, note, pairs, result, table
from ntro_dagster.cli.parameters import SetOption, set_, shown, written
from ntro_dagster.cli.selection import TenantOption, checked_user
from ntro_dagster.errors import UsageError

if TYPE_CHECKING:
    from uuid import UUID

    from ntro_dagster.host.installation import Installation
    from ntro_dagster.workspace.workflows import Workflow

SHORT_ID = 8

TenantFilter = Annotated[str | None, typer.Option("--tenant", "-t", help="Only this tenant [default: all]")]
RunbookFilter = Annotated[str | None, typer.Option("--runbook", "-r", help="The runbook's slug.")]
WorkflowArgument = Annotated[
    str | None, typer.Argument(metavar="[WORKFLOW]", help="The workflow's id, or the first characters of it.")
]


class WorkflowAmbiguousError(UsageError):
    """Values: `count`."""

    code = "WORKFLOW_AMBIGUOUS"
    summary = "several workflows are meant"
    detail = "{count} workflows are meant"
    mend = "say which: the workflow's id, or --tenant, --runbook and --entity"


def register(app: typer.Typer) -> None:
    """Args: `app`: the group `ntro workflow`."""
    command(app, "bind")(bind)
    command(app, "unbind")(unbind)
    command(app, "set")(set_)
    command(app, "bindings")(bindings)


def bind(
    runbook: Annotated[str, typer.Argument(help="The runbook's slug.")],
    *,
    tenant: TenantOption,
    entity: Annotated[str, typer.Option("--entity", "-e", help="The entity's slug.")],
    schedule: Annotated[
        str | None, typer.Option("--schedule", metavar="CRON", help="Five fields; without, it starts only when it is told to.")
    ] = None,
    timezone: Annotated[str, typer.Option("--timezone", metavar="TZ", help="IANA name of where CRON is the time.")] = "UTC",
    pin: Annotated[
        str | None, typer.Option("--pin", metavar="VERSION", help="Always this version [default: whichever is active]")
    ] = None,
    period_offset: Annotated[
        int, typer.Option("--period-offset", metavar="N", help="Months from a tick's month to the month of its run.")
    ] = -1,
    parameters: SetOption = None,
) -> None:
    """Bind a runbook to an entity: a workflow. Again changes nothing."""
    from ntro_dagster.boundary.schedules import schedule as cron_of  # noqa: PLC0415
    from ntro_dagster.host import bindings as host  # noqa: PLC0415
    from ntro_dagster.workspace.workflows import Binding  # noqa: PLC0415

    when = cron_of(schedule, timezone) if schedule else None
    binding = Binding(tenant, runbook, entity, when, period_offset, pin)
    told(host.bind(installation(), binding, written(parameters), by=checked_user(None)))


def unbind(
    workflow: WorkflowArgument = None,
    *,
    tenant: TenantFilter = None,
    runbook: RunbookFilter = None,
    entity: Annotated[str | None, typer.Option("--entity", "-e", help="The entity's slug.")] = None,
) -> None:
    """End a workflow. Its runs and rows stay."""
    from ntro_dagster.host import bindings as host  # noqa: PLC0415

    found = installation()
    ended = host.unbind(found, the_workflow(found, workflow, tenant=tenant, runbook=runbook, entity=entity))
    result({**shape(ended), "closed": True}, lambda: line(f"{ended.binding.runbook} no longer runs for {ended.binding.entity}"))


def bindings(tenant: TenantFilter = None) -> None:
    """The workflows there are, also those without a schedule, and what is set of their parameters."""
    from ntro_dagster.host.parameters import what_is_set  # noqa: PLC0415

    home = installation()
    found = workflows_of(home, tenant=tenant)
    values = what_is_set(home, found)

    def human() -> None:
        if not found:
            line("no workflows")
            return
        table(
            [
                Column("Workflow"),
                Column("Tenant"),
                Column("Runbook", flexible=True),
                Column("Entity", flexible=True),
                Column("Cron"),
                Column("Time zone"),
                Column("Pinned"),
                Column("State"),
                Column("Parameters", flexible=True),
            ],
            [
                (
                    str(each.id)[:SHORT_ID],
                    each.binding.tenant,
                    each.binding.runbook,
                    each.binding.entity,
                    each.binding.schedule.cron if each.binding.schedule else "–",
                    each.binding.schedule.timezone if each.binding.schedule else "–",
                    each.binding.pinned or "–",
                    state(each),
                    shown(values[each.id]),
                )
                for each in found
            ],
        )

    result([{**shape(each), "parameters": values[each.id]} for each in found], human)


def workflows_of(
    of: Installation, *, tenant: str | None = None, runbook: str | None = None, entity: str | None = None
) -> list[Workflow]:
    """Open workflows. Raises `TenantNotFoundError`."""
    from ntro_dagster.workspace.workflows import Workflows  # noqa: PLC0415

    with registry(of) as known:
        if tenant is not None:
            known.tenant(tenant)
        return Workflows(known).open(tenant=tenant, runbook=runbook, entity=entity)


def the_workflow(of: Installation, prefix: str | None, *, tenant: str | None, runbook: str | None, entity: str | None) -> UUID:
    """The one that is meant. Raises `WorkflowNotFoundError`, `WorkflowAmbiguousError`, `TenantNotFoundError`."""
    from ntro_dagster.workspace.workflows import WorkflowNotFoundError  # noqa: PLC0415

    if not (prefix or (runbook and entity)):
        raise typer.BadParameter("say which workflow: its id, or --runbook and --entity")
    found = workflows_of(of, tenant=tenant, runbook=runbook, entity=entity)
    found = [each for each in found if str(each.id).startswith((prefix or "").lower())]
    if not found:
        raise WorkflowNotFoundError(workflow=prefix or f"of {runbook} for {entity}")
    if len(found) > 1:
        raise WorkflowAmbiguousError(count=len(found))
    return found[0].id


def state(workflow: Workflow) -> str:
    return "PAUSED" if workflow.paused else "RUNNING"


def shape(workflow: Workflow) -> dict[str, Any]:
    """A workflow as JSON has it."""
    binding = workflow.binding
    return {
        "workflow_id": workflow.id,
        "tenant": binding.tenant,
        "runbook": binding.runbook,
        "entity": binding.entity,
        "cron": binding.schedule.cron if binding.schedule else None,
        "timezone": binding.schedule.timezone if binding.schedule else None,
        "period_offset": binding.period_offset,
        "pinned": binding.pinned,
        "paused": workflow.paused,
        "created_at": workflow.created_at,
    }


def told(workflow: Workflow) -> None:
    """Print one workflow, and when it starts next."""
    from datetime import UTC, datetime  # noqa: PLC0415

    from ntro_dagster.host.upcoming import upcoming  # noqa: PLC0415

    starts = upcoming([workflow], datetime.now(UTC), 1)

    def human() -> None:
        binding = workflow.binding
        pairs(
            [
                ("workflow", str(workflow.id)),
                ("runbook", binding.runbook),
                ("entity", f"{binding.tenant}/{binding.entity}"),
                ("schedule", f"{binding.schedule.cron} {binding.schedule.timezone}" if binding.schedule else "–"),
                ("version", binding.pinned or "whichever is active"),
                ("state", state(workflow)),
            ]
        )
        for start in starts:
            note(f"next: {start.at.isoformat()} for {start.period}" + (", if it is resumed" if workflow.paused else ""))

    result({**shape(workflow), "next": starts[0].at if starts else None}, human)
