"""`ntro schedule`: what will start by itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from ntro_dagster.cli.connections import installation, registry
from ntro_dagster.cli.invocation import command
from ntro_dagster.cli.output import Column, line, result, table, when

app = typer.Typer(no_args_is_help=True, help="What starts by itself.")


@app.callback()
def group() -> None:
    """What starts by itself: one monthly schedule per runbook and tenant."""


@command(app, "list")
def list_(tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="Only this tenant.")] = None) -> None:
    """The schedules, and when each fires next."""
    from ntro_dagster.cli.webserver import Webserver  # noqa: PLC0415

    found = installation()
    with registry(found) as known:
        tenants = [known.tenant(tenant).slug] if tenant else [each.slug for each in known.tenants()]
    webserver = Webserver(found.addresses.dagster)
    value = [
        {
            "tenant": slug,
            "schedule": schedule["name"],
            "cron": schedule["cronSchedule"],
            "timezone": schedule["executionTimezone"],
            "status": schedule["scheduleState"]["status"],
            "next": next((datetime.fromtimestamp(tick["timestamp"], UTC) for tick in schedule["futureTicks"]["results"]), None),
        }
        for slug in tenants
        for schedule in webserver.schedules(slug)
    ]

    def human() -> None:
        if not value:
            line("no schedules")
            return
        table(
            [
                Column("Tenant"),
                Column("Schedule", flexible=True),
                Column("Cron"),
                Column("Time zone"),
                Column("State"),
                Column("Next"),
            ],
            [(v["tenant"], v["schedule"], v["cron"], v["timezone"], v["status"], when(v["next"])) for v in value],
        )

    result(value, human)
