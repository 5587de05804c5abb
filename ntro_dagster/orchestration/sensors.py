"""The five kinds of sensors: new documents, decisions, reviewed rows, approved rows, finished months each start a run.

Sensors keep no cursor. What to do is read from the tenant's database, what is being done from Dagster, so a run that died is
simply started again: its partition still has work and no run. The run key carries a generation (how many runs this kind of
work on the partition has had), because Dagster honours a run key once, for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any

from dagster import (
    AssetKey,
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    JobDefinition,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from ntro_dagster.boundary.names import CODE_LOCATION_TAG, PARTITION_TAG, TENANT_TAG, WORK_TAG, unit
from ntro_dagster.orchestration.assets import decisions_key, journals_key, ledger_key, records_key, trial_balance_key
from ntro_dagster.orchestration.derived import Derivation, derivations_waiting, proposals_key
from ntro_dagster.orchestration.due import DueRule
from ntro_dagster.orchestration.failures import Place, at_the_wall
from ntro_dagster.orchestration.partitions import partition_key
from ntro_dagster.orchestration.work import Waiting, Work, waiting
from ntro_dagster.platforms.environment import bound_tenant, database_from_environment
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.registry import SubledgerType

RUNS_PER_TICK = 50

INTERVAL_S = 5
"""The daemon's loop has a floor of 5 s."""

LONGEST_BACKOFF = timedelta(minutes=10)
_FREE_RETRIES = 1
"""A run that died once is started again at once: a killed worker is no reason to wait."""
_LOOK_BACK = 12
"""Failed runs that are looked at: enough for the longest back-off."""

Job = JobDefinition | UnresolvedAssetJobDefinition


Ask = Callable[[TenantDatabase], Coroutine[Any, Any, list[Waiting]]]


def sensor(job: Job, work: Work, kinds: Sequence[SubledgerType], rules: Sequence[DueRule] = ()) -> SensorDefinition:
    """Starts a run for each partition in which `work` waits, over the assets that do it. Args: `rules`: of review."""
    subledgers = {kind.table: kind.lifecycle for kind in kinds}

    async def ask(database: TenantDatabase) -> list[Waiting]:
        return await waiting(database, work, subledgers, due=[each.question for each in rules], day=datetime.now(UTC).date())

    return _sensor(job, work, ask)


def proposals_sensor(job: Job, derivations: Sequence[Derivation]) -> SensorDefinition:
    """Starts a run for each partition in which rows can be made of reviewed ones anew."""
    return _sensor(job, Work.PROPOSALS, partial(derivations_waiting, derivations=derivations))


def _sensor(job: Job, work: Work, ask: Ask) -> SensorDefinition:
    def find(instance: DagsterInstance) -> list[RunRequest]:
        found = asyncio.run(_ask(ask))
        return list(islice(_requests(instance, job.name, work, found), RUNS_PER_TICK))

    return asking_sensor(f"{job.name}_{work}", job, find, why=_WHY[work])


def asking_sensor(name: str, job: Job, find: Callable[[DagsterInstance], list[RunRequest]], *, why: str) -> SensorDefinition:
    """A sensor without a cursor: each tick asks `find` what to start."""

    def evaluate(context: SensorEvaluationContext) -> Iterator[RunRequest | SkipReason]:
        with at_the_wall(Place(step=name)):
            requests = find(context.instance)
        if requests:
            yield from requests
        else:
            yield SkipReason("IDLE")

    return SensorDefinition(
        name=name,
        job=job,
        evaluation_fn=evaluate,
        minimum_interval_seconds=INTERVAL_S,
        default_status=DefaultSensorStatus.RUNNING,
        description=why,
    )


_ASSETS: dict[Work, Callable[[Sequence[str]], list[AssetKey]]] = {
    Work.INTAKE: lambda subledgers: [records_key(), *map(ledger_key, subledgers)],
    Work.REVIEW: lambda subledgers: [*map(decisions_key, subledgers)],
    Work.PROPOSALS: lambda derivations: [*map(proposals_key, derivations)],
    Work.POSTING: lambda _: [journals_key()],
    Work.CLOSE: lambda _: [trial_balance_key()],
}

_WHY = {
    Work.INTAKE: "New documents: reads their records into the subledger.",
    Work.REVIEW: "Filed decisions, and steps that are due: applies them to the rows.",
    Work.PROPOSALS: "Reviewed rows: makes others of them, for review in turn.",
    Work.POSTING: "Approved rows: posts them to the general ledger.",
    Work.CLOSE: "Months in which nothing is open: draws up the trial balance.",
}


async def _ask(ask: Ask) -> list[Waiting]:
    async with database_from_environment() as database:
        return await ask(database)


def _requests(instance: DagsterInstance, job: str, work: Work, found: Sequence[Waiting]) -> Iterator[RunRequest]:
    if not found:
        return
    busy = _busy(instance)
    for partition in found:
        key = partition_key(partition.entity, partition.period)
        if key in busy:
            continue
        mine = {TENANT_TAG: bound_tenant(), WORK_TAG: work.value, PARTITION_TAG: str(key)}
        past = RunsFilter(job_name=job, tags=mine)
        if _resting(instance, past):
            continue
        yield RunRequest(
            run_key=f"{work}:{key}:{instance.get_runs_count(past)}",
            partition_key=key,
            asset_selection=_ASSETS[work](partition.subledgers),
            tags={WORK_TAG: work.value, **unit(bound_tenant(), str(key))},
        )


def _busy(instance: DagsterInstance) -> set[str]:
    """Partitions with a run that has not ended, whatever it does and whoever launched it."""
    running = RunsFilter(tags={CODE_LOCATION_TAG: bound_tenant()}, statuses=list(NOT_FINISHED_STATUSES))
    return {run.tags.get(PARTITION_TAG, "") for run in instance.get_runs(running)}


def _resting(instance: DagsterInstance, past: RunsFilter) -> bool:
    """Whether the last runs failed, and it is too early to try again: 5 s, 10 s, 20 s, ... 10 min."""
    records = instance.get_run_records(past, limit=_LOOK_BACK)
    failures = 0
    for record in records:
        if record.dagster_run.status is not DagsterRunStatus.FAILURE:
            break
        failures += 1
    if failures <= _FREE_RETRIES:
        return False
    pause = min(timedelta(seconds=INTERVAL_S * 2 ** (failures - _FREE_RETRIES - 1)), LONGEST_BACKOFF)
    return datetime.now(UTC) - records[0].update_timestamp.astimezone(UTC) < pause
