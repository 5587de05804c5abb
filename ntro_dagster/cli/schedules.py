"""`ntro schedule`: what will start by itself, what should have, and holding it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ntro_dagster.cli.bindings import (
    SHORT_ID,
    RunbookFilter,
    TenantFilter,
    WorkflowArgument,
    shape,
    state,
    the_workflow,
    told,
    workflows_of,
)
from ntro_dagster.cli.connections import installation
from ntro_dagster.cli.invocation import command
from ntro_dagster.cli.output import Column, line, note, progress, result, table
from ntro_dagster.cli.selection import EntityFilter

if TYPE_CHECKING:
    from ntro_dagster.host.installation import Installation
    from ntro_dagster.host.upcoming import Missed, Upcoming

app = typer.Typer(no_args_is_help=True, help="What starts by itself: list, pause, resume, catch up.")


@app.callback()
def group() -> None:
    """What starts by itself: the workflows that have a schedule (`ntro workflow bind`)."""


@command(app, "list")
def list_(
    tenant: TenantFilter = None,
    following: Annotated[int, typer.Option("--next", "-n", min=1, max=10_000, help="How many starts.")] = 10,
) -> None:
    """The next starts, over all workflows. Paused ones are shown where they would be."""
    from ntro_dagster.host.upcoming import upcoming  # noqa: PLC0415

    starts = upcoming(workflows_of(installation(), tenant=tenant), datetime.now(UTC), following)

    def human() -> None:
        if not starts:
            line("no schedules")
            return
        table(
            [
                Column("Local"),
                Column("UTC"),
                Column("Tenant"),
                Column("Runbook", flexible=True),
                Column("Entity", flexible=True),
                Column("Period"),
                Column("State"),
                Column("Workflow", spare=True),
            ],
            [
                (
                    f"{start.at:%Y-%m-%d %H:%M} {start.at.tzname()}",
                    f"{start.at.astimezone(UTC):%Y-%m-%d %H:%M}",
                    start.workflow.binding.tenant,
                    start.workflow.binding.runbook,
                    start.workflow.binding.entity,
                    start.period,
                    state(start.workflow),
                    str(start.workflow.id)[:SHORT_ID],
                )
                for start in starts
            ],
        )

    result([_start(start) for start in starts], human)


@command(app, "pause")
def pause(
    workflow: WorkflowArgument = None,
    *,
    tenant: TenantFilter = None,
    runbook: RunbookFilter = None,
    entity: EntityFilter = None,
) -> None:
    """Hold a workflow: what would have started meanwhile does not count as missed."""
    from ntro_dagster.host import bindings as host  # noqa: PLC0415

    found = installation()
    told(host.pause(found, the_workflow(found, workflow, tenant=tenant, runbook=runbook, entity=entity)))


@command(app, "resume")
def resume(
    workflow: WorkflowArgument = None,
    *,
    tenant: TenantFilter = None,
    runbook: RunbookFilter = None,
    entity: EntityFilter = None,
) -> None:
    """Let a workflow go on, from now."""
    from ntro_dagster.host import bindings as host  # noqa: PLC0415

    found = installation()
    told(host.resume(found, the_workflow(found, workflow, tenant=tenant, runbook=runbook, entity=entity)))


@command(app, "catch-up")
def catch_up(
    *,
    tenant: TenantFilter = None,
    runbook: RunbookFilter = None,
    entity: EntityFilter = None,
    run: Annotated[bool, typer.Option("--run", help="Start them [default: only list them]")] = False,
) -> None:
    """What should have started and did not: nothing was up, or it was too late. Starts it only with --run."""
    from ntro_dagster.host.upcoming import missed  # noqa: PLC0415
    from ntro_dagster.workspace.started import last_started  # noqa: PLC0415

    found = installation()
    known = workflows_of(found, tenant=tenant, runbook=runbook, entity=entity)
    gaps = missed(known, datetime.now(UTC), lambda jobs, since: last_started(found.workspace_url(), jobs, since))
    runs = _run(found, gaps) if run else [None] * len(gaps)

    def human() -> None:
        if not gaps:
            line("nothing was missed")
            return
        table(
            [
                Column("Missed"),
                Column("Tenant"),
                Column("Runbook", flexible=True),
                Column("Entity", flexible=True),
                Column("Period"),
                Column("Ticks", right=True),
                *([Column("Run")] if run else []),
            ],
            [
                (
                    f"{gap.ticks[-1]:%Y-%m-%d %H:%M} {gap.ticks[-1].tzname()}",
                    gap.workflow.binding.tenant,
                    gap.workflow.binding.runbook,
                    gap.workflow.binding.entity,
                    gap.period,
                    str(len(gap.ticks)),
                    *([run_id[:SHORT_ID]] if run_id else []),
                )
                for gap, run_id in zip(gaps, runs, strict=True)
            ],
        )
        if not run:
            note("→ the same with --run starts them")

    result([_gap(gap, run_id) for gap, run_id in zip(gaps, runs, strict=True)], human)


def _run(found: Installation, gaps: list[Missed]) -> list[str]:
    """One run each, oldest first; asked for again, the same runs."""
    from ntro_dagster.cli.webserver import Webserver  # noqa: PLC0415
    from ntro_dagster.host.upcoming import Starter  # noqa: PLC0415

    starter = Starter(found.home, Webserver(found.addresses.dagster))
    started = []
    with progress(len(gaps), "runs") as update:
        for gap in gaps:
            started.append(starter.start(gap))
            update(len(started), gap.partition)
    return started


def _start(start: Upcoming) -> dict[str, Any]:
    return {**shape(start.workflow), "at": start.at, "at_utc": start.at.astimezone(UTC), "period": start.period}


def _gap(gap: Missed, run_id: str | None) -> dict[str, Any]:
    return {**shape(gap.workflow), "period": gap.period, "ticks": list(gap.ticks), "run_id": run_id}
