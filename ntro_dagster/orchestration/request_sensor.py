"""The sensor that turns what members ask for at the desk into runs: the very one that the schedule would start.

Dagster honours a run key once, and a request is taken up by one run (`task_requests.take_up`), so a tick that is repeated, or a
daemon that died over one, starts no second. What waits is asked of the tenant's database; no cursor is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from uuid import UUID

from dagster import (
    AssetKey,
    DagsterInstance,
    DagsterRun,
    RunRequest,
    RunsFilter,
    SensorDefinition,
)

from ntro_dagster.boundary.names import RUN_KEY_TAG
from ntro_dagster.orchestration.partitions import partition_key
from ntro_dagster.orchestration.schedules import monthly_run
from ntro_dagster.orchestration.sensors import RUNS_PER_TICK, Job, asking_sensor
from ntro_dagster.orchestration.task_requests import NOT_BEGUN, TaskRequest, refuse, requests_waiting
from ntro_dagster.platforms.environment import kept_database


def requests_sensor(job: Job, *, runbook: str, selection: Sequence[AssetKey]) -> SensorDefinition:
    """Args: `selection`: the assets that a schedule of the runbook makes."""

    def find(instance: DagsterInstance) -> list[RunRequest]:
        return [
            monthly_run(partition_key(each.entity, each.period), each.version, selection, run_key=each.run_key)
            for each in asyncio.run(_to_start(instance, runbook))
        ]

    return asking_sensor(f"{job.name}_requested", job, find, why="Runs that members asked for at the desk.")


async def _to_start(instance: DagsterInstance, runbook: str) -> list[TaskRequest]:
    async with kept_database() as database:
        waiting = await requests_waiting(database, runbook)
        runs = _runs_of(instance, waiting)
        await refuse(database, _refusals(waiting, runs))
    return [each for each in waiting if each.run_key not in runs and not each.overtaken][:RUNS_PER_TICK]


def _refusals(waiting: Sequence[TaskRequest], runs: Mapping[str, DagsterRun]) -> dict[UUID, str]:
    """Codes of those that can come to nothing any more. A run that is there may still begin, whatever else has changed."""
    codes = {}
    for each in waiting:
        run = runs.get(each.run_key)
        if run is None and each.overtaken:
            codes[each.id] = each.overtaken
        elif run and run.is_finished:
            codes[each.id] = NOT_BEGUN
    return codes


def _runs_of(instance: DagsterInstance, waiting: Sequence[TaskRequest]) -> dict[str, DagsterRun]:
    """By run key."""
    if not waiting:
        return {}
    asked = RunsFilter(tags={RUN_KEY_TAG: [each.run_key for each in waiting]})
    return {run.tags[RUN_KEY_TAG]: run for run in instance.get_runs(asked)}
