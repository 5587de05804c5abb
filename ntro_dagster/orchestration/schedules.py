"""The monthly schedule of a runbook: every open entity's run for the month that just ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import timedelta

from dagster import AssetKey, DefaultScheduleStatus, RunRequest, ScheduleDefinition, ScheduleEvaluationContext

from ntro_dagster.boundary.names import unit
from ntro_dagster.orchestration.failures import Place, at_the_wall
from ntro_dagster.orchestration.partitions import partition_key
from ntro_dagster.orchestration.sensors import Job
from ntro_dagster.platforms.environment import bound_tenant, database_from_environment


def monthly_schedule(job: Job, *, cron: str, timezone: str, selection: Sequence[AssetKey]) -> ScheduleDefinition:
    """Args: `cron`: five fields; `timezone`: IANA name, in which the tick's date decides which month has ended."""

    name = f"{job.name}_monthly"

    def evaluate(context: ScheduleEvaluationContext) -> Iterator[RunRequest]:
        with at_the_wall(Place(step=name)):
            ended = (context.scheduled_execution_time.replace(day=1) - timedelta(days=1)).strftime("%Y-%m")
            keys = [partition_key(entity, ended) for entity in asyncio.run(_open_entities())]
            requests = [
                RunRequest(
                    run_key=f"monthly:{key}",
                    partition_key=key,
                    asset_selection=list(selection),
                    tags=unit(bound_tenant(), str(key)),
                )
                for key in keys
            ]
        yield from requests

    return ScheduleDefinition(
        name=name,
        job=job,
        cron_schedule=cron,
        execution_timezone=timezone,
        execution_fn=evaluate,
        default_status=DefaultScheduleStatus.RUNNING,
        description="Every open entity, for the month that just ended.",
    )


async def _open_entities() -> list[str]:
    async with database_from_environment() as database:
        rows = await database.fetch("SELECT slug FROM system.entities WHERE status = 'ACTIVE' ORDER BY slug")
    return [row["slug"] for row in rows]
