"""The schedules of a tenant: one for each time at which bindings of a runbook fire, however many entities they are of.

Which times there are is known where the definitions are made, which may be a process without data; who fires at a tick is
asked of the tenant's database when it comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from dagster import (
    AssetKey,
    DefaultScheduleStatus,
    MultiPartitionKey,
    RunRequest,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SkipReason,
)
from dagster._time import get_current_datetime

from ntro_dagster.boundary.names import VERSION_TAG, monthly_key, unit
from ntro_dagster.boundary.schedules import GRACE, Schedule
from ntro_dagster.orchestration.failures import Place, at_the_wall
from ntro_dagster.orchestration.partitions import partition_key
from ntro_dagster.orchestration.sensors import Job
from ntro_dagster.platforms.environment import bound_tenant, kept_database
from ntro_dagster.platforms.postgres.database import TenantDatabase


@dataclass(frozen=True, slots=True)
class Due:
    """A binding that fires. `version`: of the runbook, None where it was not deployed as one."""

    entity: str
    period_offset: int
    version: str | None


def times_of(scheduled: Sequence[Mapping[str, str]], runbook: str) -> list[Schedule]:
    """Of the list of an active set (`ActiveSet.schedules`), what is of one runbook. As `host.bindings` wrote it."""
    return sorted({Schedule(each["cron"], each["timezone"]) for each in scheduled if each["runbook"] == runbook})


def runbook_schedules(
    job: Job, *, runbook: str, times: Sequence[Schedule], selection: Sequence[AssetKey]
) -> list[ScheduleDefinition]:
    """One for each of `times`; none where nothing is bound."""
    return [_schedule(job, runbook, time, selection) for time in sorted(set(times))]


def _schedule(job: Job, runbook: str, time: Schedule, selection: Sequence[AssetKey]) -> ScheduleDefinition:
    name = time.name(runbook)

    def evaluate(context: ScheduleEvaluationContext) -> Iterator[RunRequest | SkipReason]:
        with at_the_wall(Place(step=name)):
            tick = context.scheduled_execution_time
            # Dagster's daemon evaluates the last tick that it missed, however long ago that was.
            late = get_current_datetime() - tick > GRACE
            requests = [] if late else [_request(time, tick, each, selection) for each in asyncio.run(_due(runbook, time, tick))]
        if requests:
            yield from requests
        else:
            yield SkipReason("LATE" if late else "IDLE")

    return ScheduleDefinition(
        name=name,
        job=job,
        cron_schedule=time.cron,
        execution_timezone=time.timezone,
        execution_fn=evaluate,
        default_status=DefaultScheduleStatus.RUNNING,
        description="A run for each entity that is bound to this runbook at this time.",
    )


def _request(time: Schedule, tick: datetime, due: Due, selection: Sequence[AssetKey]) -> RunRequest:
    key = partition_key(due.entity, time.period(tick, due.period_offset))
    return monthly_run(key, due.version, selection, run_key=monthly_key(str(key), due.version))


def monthly_run(key: MultiPartitionKey, version: str | None, selection: Sequence[AssetKey], *, run_key: str) -> RunRequest:
    """What is started of a runbook for an entity and a month, by whatever it is asked for."""
    return RunRequest(
        run_key=run_key,
        partition_key=key,
        asset_selection=list(selection),
        tags=unit(bound_tenant(), str(key)) | ({VERSION_TAG: version} if version else {}),
    )


async def _due(runbook: str, time: Schedule, tick: datetime) -> list[Due]:
    async with kept_database() as database:
        return await due(database, runbook, time, tick)


_DUE = """
SELECT e.slug, w.period_offset, coalesce(w.pinned, a.version) AS version
  FROM system.workflows w JOIN system.entities e ON e.id = w.entity_id
  LEFT JOIN system.active_runbooks a ON a.slug = w.runbook
 WHERE w.runbook = %(runbook)s AND w.cron = %(cron)s AND w.timezone = %(timezone)s
   AND w.closed_at IS NULL AND NOT w.paused AND w.armed_at <= %(tick)s AND e.status = 'ACTIVE'
 ORDER BY e.slug"""


async def due(database: TenantDatabase, runbook: str, time: Schedule, tick: datetime) -> list[Due]:
    """Who fires at this tick: bound, not paused, and both since before it."""
    asked = {"runbook": runbook, "cron": time.cron, "timezone": time.timezone, "tick": tick}
    return [Due(row["slug"], row["period_offset"], row["version"]) for row in await database.fetch(_DUE, asked)]
