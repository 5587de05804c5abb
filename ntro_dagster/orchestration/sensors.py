"""The five kinds of sensors: new documents, decisions, reviewed rows, approved rows, finished months each start a run.

Sensors keep no cursor. What to do is read from the tenant's database, what is being done from Dagster, so a run that died is
simply started again: its partition still has work and no run. The run key carries a generation (how many runs this kind of
work on the partition has had), because Dagster honours a run key once, for ever.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice, takewhile
from typing import Any

from dagster import (
    AssetKey,
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    JobDefinition,
    RunRecord,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from ntro_dagster.boundary.names import PARTITION_TAG, TENANT_TAG, WORK_TAG, unit
from ntro_dagster.boundary.relay.client import partitions_at_work
from ntro_dagster.orchestration.assets import DECISIONS, decisions_key, journals_key, ledger_key, records_key, trial_balance_key
from ntro_dagster.orchestration.derived import Derivation, derivations_waiting, proposals_key
from ntro_dagster.orchestration.due import DueRule
from ntro_dagster.orchestration.failures import Place, at_the_wall
from ntro_dagster.orchestration.partitions import partition_key
from ntro_dagster.orchestration.work import Waiting, Work, waiting
from ntro_dagster.platforms.environment import bound_tenant, kept_database
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
_TOGETHER = 300
"""Past runs of several partitions that are read by one question: most partitions have a handful."""

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


_OWN: dict[Work, Callable[[Sequence[str]], list[AssetKey]]] = {
    Work.INTAKE: lambda subledgers: [records_key(), *map(ledger_key, subledgers)],
    Work.REVIEW: lambda subledgers: [*map(decisions_key, subledgers)],
    Work.PROPOSALS: lambda derivations: [*map(proposals_key, derivations)],
    Work.POSTING: lambda _: [journals_key()],
    Work.CLOSE: lambda _: [trial_balance_key()],
}

_AFTER = {Work.REVIEW: (Work.POSTING, Work.CLOSE), Work.POSTING: (Work.CLOSE,)}
"""What a run goes on with where its own work lets it (`assets.idle`): one run takes a decision to the books (decision 031)."""

_WHY = {
    Work.INTAKE: "New documents: reads their records into the subledger.",
    Work.REVIEW: "Filed decisions, and steps that are due: applies them to the rows, and posts what they approve.",
    Work.PROPOSALS: "Reviewed rows: makes others of them, for review in turn.",
    Work.POSTING: "Approved rows: posts them to the general ledger.",
    Work.CLOSE: "Months in which nothing is open: draws up the trial balance.",
}


def likely_parts(keys: Set[AssetKey]) -> Iterator[Set[AssetKey]]:
    """What most runs of a job are over: the work of one kind, in one subledger. Args: `keys`: the job's assets."""
    names = {key.path[-1].removesuffix(DECISIONS) for key in keys}
    for work in Work:
        parts = {frozenset([*_OWN[work]([name]), *_later(work)]) for name in names}
        yield from (part for part in parts if part <= keys)


async def _ask(ask: Ask) -> list[Waiting]:
    with _in_turn():
        async with kept_database() as database:
            return await ask(database)


@contextmanager
def _in_turn() -> Iterator[None]:
    """The sensors of a tenant look one after the other, over the same connection: another is 5 MB for as long as the tenant is
    there. One that takes its time keeps the others for `LONGEST_TURN_S`.
    """
    ours = _turn.acquire(timeout=LONGEST_TURN_S)  # each is in a thread of its own
    try:
        yield
    finally:
        if ours:
            _turn.release()


LONGEST_TURN_S = 1.0
_turn = threading.Lock()


def _requests(instance: DagsterInstance, job: str, work: Work, found: Sequence[Waiting]) -> Iterator[RunRequest]:
    if not found:
        return
    busy = partitions_at_work(instance, bound_tenant())
    keyed = [(partition_key(each.entity, each.period), each) for each in found]
    free = [(key, each) for key, each in keyed if key not in busy]
    for start in range(0, len(free), RUNS_PER_TICK):
        some = free[start : start + RUNS_PER_TICK]
        histories = _histories(instance, job, work, [str(key) for key, _ in some])
        for key, partition in some:
            past = histories(str(key))
            if _resting(past.last, work):
                continue
            yield RunRequest(
                run_key=f"{work}:{key}:{past.number}",
                partition_key=key,
                asset_selection=[*_OWN[work](partition.subledgers), *_later(work)],
                asset_check_keys=[],  # see `assets.evaluations`
                tags={WORK_TAG: work.value, **unit(bound_tenant(), str(key))},
            )


@dataclass(frozen=True, slots=True)
class History:
    """What a kind of work on one partition has had: how many runs, and the last of them, newest first."""

    number: int
    last: Sequence[RunRecord]


def _histories(instance: DagsterInstance, job: str, work: Work, keys: Sequence[str]) -> Callable[[str], History]:
    """By one question for all, unless there are more runs of them than one answer should hold."""

    def of(*partitions: str) -> RunsFilter:
        return RunsFilter(job_name=job, tags={TENANT_TAG: bound_tenant(), WORK_TAG: work.value, PARTITION_TAG: list(partitions)})

    by_partition: dict[str, list[RunRecord]] = {key: [] for key in keys}
    together = instance.get_run_records(of(*keys), limit=_TOGETHER)
    for record in together:
        by_partition[record.dagster_run.tags[PARTITION_TAG]].append(record)
    if len(together) < _TOGETHER:
        return lambda key: History(len(by_partition[key]), by_partition[key][:_LOOK_BACK])
    return lambda key: History(instance.get_runs_count(of(key)), instance.get_run_records(of(key), limit=_LOOK_BACK))


def _later(work: Work) -> list[AssetKey]:
    return [key for after in _AFTER.get(work, ()) for key in _OWN[after](())]


def _resting(records: Sequence[RunRecord], work: Work) -> bool:
    """Whether the last runs failed at `work`, and it is too early to try again: 5 s, 10 s, 20 s, ... 10 min."""
    failed = list(takewhile(lambda record: record.dagster_run.status is DagsterRunStatus.FAILURE, records))
    if len(failed) > _FREE_RETRIES and _AFTER.get(work):
        went_on = asyncio.run(_failed_later([each.dagster_run.run_id for each in failed], work))
        failed = list(takewhile(lambda record: record.dagster_run.run_id not in went_on, failed))
    if len(failed) <= _FREE_RETRIES:
        return False
    pause = min(timedelta(seconds=INTERVAL_S * 2 ** (len(failed) - _FREE_RETRIES - 1)), LONGEST_BACKOFF)
    return datetime.now(UTC) - records[0].update_timestamp.astimezone(UTC) < pause


async def _failed_later(run_ids: Sequence[str], work: Work) -> set[str]:
    """Of runs that failed, those that had done `work` by then: it is for what follows to be tried again, not for `work`."""
    async with kept_database() as database:
        found = await database.fetch(
            "SELECT DISTINCT run_id FROM system.errors WHERE run_id = ANY(%s::uuid[]) AND step = ANY(%s)",
            [list(run_ids), [key.to_python_identifier() for key in _later(work)]],
        )
    return {str(row["run_id"]) for row in found}
