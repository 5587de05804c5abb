"""What one tenant may ask of the workspace: a method for each call, and nothing else.

Each looks at what is asked before it asks Dagster's storages, and takes out of the answer what is another tenant's.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence

from dagster import AssetKey, DagsterInstance, DagsterRun
from dagster._core.event_api import AssetRecordsFilter, EventRecordsResult
from dagster._core.events import DagsterEventType
from dagster._core.events.log import EventLogEntry
from dagster._core.instance.config import PoolConfig
from dagster._core.snap.execution_plan_snapshot import ExecutionPlanSnapshot
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES, NOT_FINISHED_STATUSES, RunRecord, RunsFilter
from dagster._core.storage.event_log.base import AssetRecord, PoolLimit
from dagster._core.storage.runs import SqlRunStorage
from dagster._core.storage.runs.schema import RunsTable, RunTagsTable
from dagster._utils.concurrency import ConcurrencyClaimStatus
from sqlalchemy import bindparam, select

from ntro_dagster.boundary import wall
from ntro_dagster.boundary.names import CODE_LOCATION_TAG, PARTITION_TAG, entities_set
from ntro_dagster.boundary.relay.calls import EVENTS
from ntro_dagster.errors import NtroError

REMEMBERED = 10_000
"""Ids of runs and of their plans, per tenant."""
MOST_TAGS, MOST_RUNS = 10, 1_000
"""In one question."""
MOST_EVENTS = 64
"""In one call."""

_LOCATION, _PARTITION = RunTagsTable.alias("location"), RunTagsTable.alias("of_partition")


_AT_WORK = (
    select(_PARTITION.c.value)
    .distinct()
    .select_from(
        RunsTable.join(_LOCATION, _LOCATION.c.run_id == RunsTable.c.run_id).join(
            _PARTITION, _PARTITION.c.run_id == RunsTable.c.run_id
        )
    )
    .where(
        RunsTable.c.status.in_([status.value for status in NOT_FINISHED_STATUSES]),
        _LOCATION.c.key == CODE_LOCATION_TAG,
        _LOCATION.c.value == bindparam("tenant"),
        _PARTITION.c.key == PARTITION_TAG,
    )
)


class NotYoursError(NtroError):
    """Another tenant's, or nobody's."""

    code = "NOT_YOURS"
    summary = "a tenant's process asked for what is not its own"
    mend = "see the relay's log: it names the tenant and the call"


def entities_of(event: EventLogEntry) -> set[str]:
    """The slugs of entities that an event which has passed the wall names."""
    inner = event.dagster_event
    data = getattr(inner, "event_specific_data", None)
    partition = getattr(inner, "partition", None) or getattr(data, "partition", None)
    made = getattr(data, "materialization", None) or getattr(data, "asset_observation", None)
    tags = made.tags if made else {}
    named = {str(partition).split("|")[0]} if partition else set()
    return named | {value for name, value in tags.items() if name == f"{PARTITION_TAG}/entity"}


class TenantView:
    """The workspace as one tenant sees it. Safe for several threads.

    A read answers. A write (`calls.WRITES`) looks at what it was given, and returns what is then to be done in the writer's turn:
    nobody waits for the looking at what another has sent.
    """

    def __init__(
        self,
        tenant: str,
        instance: DagsterInstance,
        *,
        store: Callable[[EventLogEntry], None],
        names: Callable[[str], frozenset[str]],
    ) -> None:
        """Args:
        store: what is done with an event that may be stored.
        names: the names of code that a tenant's definitions had when they were deployed.
        """
        self._tenant = tenant
        self._names = names
        self._store = store
        self._runs = instance.run_storage
        self._events = instance.event_log_storage
        self._owned: OrderedDict[str, None] = OrderedDict()
        self._remembering = threading.Lock()
        self._entities: frozenset[str] = frozenset()

    # -- runs

    def get_run_records(  # noqa: PLR0917 - as Dagster has it
        self,
        filters: RunsFilter | None = None,
        limit: int | None = None,
        order_by: str | None = None,
        ascending: bool = False,
        cursor: str | None = None,
        bucket_by: None = None,
    ) -> Sequence[RunRecord]:
        self._refuse_unless(bucket_by is None and order_by in {None, "id", "create_timestamp", "update_timestamp"})
        self._own_cursor(cursor)
        records = self._runs.get_run_records(self._own(filters), limit, order_by, ascending, cursor)
        for record in records:
            self._remember(record.dagster_run)
        return records

    def get_runs(
        self,
        filters: RunsFilter | None = None,
        cursor: str | None = None,
        limit: int | None = None,
        bucket_by: None = None,
        ascending: bool = False,
    ) -> Sequence[DagsterRun]:
        self._refuse_unless(bucket_by is None)
        self._own_cursor(cursor)
        runs = self._runs.get_runs(self._own(filters), cursor, limit, None, ascending)
        for run in runs:
            self._remember(run)
        return runs

    def get_runs_count(self, filters: RunsFilter | None = None) -> int:
        return self._runs.get_runs_count(self._own(filters))

    def partitions_at_work(self) -> Sequence[str]:
        assert isinstance(self._runs, SqlRunStorage)  # noqa: S101
        with self._runs.connect() as connection:
            return list(connection.execute(_AT_WORK, {"tenant": self._tenant}).scalars())

    def get_execution_plan_snapshot(self, execution_plan_snapshot_id: str) -> ExecutionPlanSnapshot:
        """Of a run of ours: who executes a plan has asked for its run before, or the run is at work."""
        if execution_plan_snapshot_id not in self._owned:
            self.get_run_records(RunsFilter(statuses=list(IN_PROGRESS_RUN_STATUSES)))
        self._refuse_unless(execution_plan_snapshot_id in self._owned)
        return self._runs.get_execution_plan_snapshot(execution_plan_snapshot_id)

    # -- events

    def store_event(self, event: EventLogEntry) -> Callable[[], None]:
        known = self._checked(event)

        def store() -> None:
            if known is not None:
                self._store(known)

        return store

    def store_events(self, events: Sequence[EventLogEntry]) -> Callable[[], None]:
        self._refuse_unless(len(events) <= MOST_EVENTS)
        stores = [self.store_event(event) for event in events]

        def store() -> None:
            for each in stores:
                each()

        return store

    def fetch_materializations(
        self,
        records_filter: AssetKey | AssetRecordsFilter,
        limit: int,
        cursor: str | None = None,
        ascending: bool = False,
    ) -> EventRecordsResult:
        self._ours(records_filter if isinstance(records_filter, AssetKey) else records_filter.asset_key)
        return self._events.fetch_materializations(records_filter, limit, cursor, ascending)

    def fetch_observations(
        self,
        records_filter: AssetKey | AssetRecordsFilter,
        limit: int,
        cursor: str | None = None,
        ascending: bool = False,
    ) -> EventRecordsResult:
        self._ours(records_filter if isinstance(records_filter, AssetKey) else records_filter.asset_key)
        return self._events.fetch_observations(records_filter, limit, cursor, ascending)

    def get_latest_materialization_events(self, asset_keys: Iterable[AssetKey]) -> Mapping[AssetKey, EventLogEntry | None]:
        keys = list(asset_keys)
        self._ours(*keys)
        return self._events.get_latest_materialization_events(keys)

    def get_asset_records(self, asset_keys: Sequence[AssetKey] | None = None) -> Sequence[AssetRecord]:
        self._refuse_unless(asset_keys is not None)
        self._ours(*asset_keys or ())
        return self._events.get_asset_records(asset_keys)

    def get_latest_tags_by_partition(  # noqa: PLR0917 - as Dagster has it
        self,
        asset_key: AssetKey,
        event_type: DagsterEventType,
        tag_keys: Sequence[str],
        asset_partitions: Sequence[str] | None = None,
        before_cursor: int | None = None,
        after_cursor: int | None = None,
    ) -> Mapping[str, Mapping[str, str]]:
        self._ours(asset_key)
        return self._events.get_latest_tags_by_partition(
            asset_key, event_type, tag_keys, asset_partitions, before_cursor, after_cursor
        )

    # -- partitions

    def has_dynamic_partition(self, partitions_def_name: str, partition_key: str) -> bool:
        self._refuse_unless(partitions_def_name == entities_set(self._tenant))
        return self._events.has_dynamic_partition(partitions_def_name, partition_key)

    def get_dynamic_partitions(self, partitions_def_name: str) -> Sequence[str]:
        self._refuse_unless(partitions_def_name == entities_set(self._tenant))
        return self._events.get_dynamic_partitions(partitions_def_name)

    # -- pools

    def get_pool_config(self) -> PoolConfig:
        return self._events.get_pool_config()

    def get_pool_limits(self) -> Sequence[PoolLimit]:
        return [pool for pool in self._events.get_pool_limits() if self._our_pool(pool.name)]

    def claim_concurrency_slot(
        self, concurrency_key: str, run_id: str, step_key: str, priority: int | None = None
    ) -> Callable[[], ConcurrencyClaimStatus]:
        self._pooled(concurrency_key, run_id, step_key)
        return lambda: self._events.claim_concurrency_slot(concurrency_key, run_id, step_key, priority)

    def check_concurrency_claim(self, concurrency_key: str, run_id: str, step_key: str) -> ConcurrencyClaimStatus:
        self._pooled(concurrency_key, run_id, step_key)
        return self._events.check_concurrency_claim(concurrency_key, run_id, step_key)

    def free_concurrency_slot_for_step(self, run_id: str, step_key: str) -> Callable[[], None]:
        self._our_run(run_id)
        return lambda: self._events.free_concurrency_slot_for_step(run_id, step_key)

    def free_concurrency_slots_for_run(self, run_id: str) -> Callable[[], None]:
        self._our_run(run_id)
        return lambda: self._events.free_concurrency_slots_for_run(run_id)

    # -- what is ours

    def _refuse_unless(self, right: bool) -> None:
        if not right:
            raise NotYoursError

    def _own_cursor(self, cursor: str | None) -> None:
        if cursor is not None:
            self._our_run(cursor)

    def _own(self, filters: RunsFilter | None) -> RunsFilter:
        filters = filters or RunsFilter()
        self._refuse_unless(len(filters.tags) <= MOST_TAGS and len(filters.run_ids or ()) <= MOST_RUNS)
        self._refuse_unless(filters.tags.get(CODE_LOCATION_TAG, self._tenant) == self._tenant)
        return RunsFilter(
            run_ids=filters.run_ids,
            job_name=filters.job_name,
            statuses=filters.statuses,
            tags={**filters.tags, CODE_LOCATION_TAG: self._tenant},
            snapshot_id=filters.snapshot_id,
            updated_after=filters.updated_after,
            updated_before=filters.updated_before,
            created_after=filters.created_after,
            created_before=filters.created_before,
            exclude_subruns=filters.exclude_subruns,
        )

    def _ours(self, *keys: AssetKey) -> None:
        self._refuse_unless(all(key.path[0] == self._tenant for key in keys))

    def _our_run(self, run_id: str) -> None:
        self._refuse_unless(bool(self._ours_among({run_id})))

    def _ours_among(self, run_ids: set[str]) -> set[str]:
        """A run's owner never changes, so ours are remembered."""
        known = {run_id for run_id in run_ids if run_id in self._owned}
        unknown = list(run_ids - known)
        found = self.get_run_records(RunsFilter(run_ids=unknown)) if unknown else []
        return known | {record.dagster_run.run_id for record in found}

    def _remember(self, run: DagsterRun) -> None:
        with self._remembering:
            for known in (run.run_id, run.execution_plan_snapshot_id):
                if known:
                    self._owned[known] = None
                    self._owned.move_to_end(known)
            while len(self._owned) > REMEMBERED:
                self._owned.popitem(last=False)

    def _our_entities(self, slugs: set[str]) -> bool:
        if not slugs <= self._entities:
            self._entities = frozenset(self._events.get_dynamic_partitions(entities_set(self._tenant)))
        return slugs <= self._entities

    def _our_pool(self, name: str) -> bool:
        return name.startswith(f"{self._tenant}/")  # not "__": a slug may hold it

    def _pooled(self, concurrency_key: str, run_id: str, step_key: str) -> None:
        """A pool that the operator gave a limit, a step that was deployed: both are stored as they are."""
        self._refuse_unless(concurrency_key in {pool.name for pool in self.get_pool_limits()})
        self._refuse_unless(step_key in self._names(self._tenant))
        self._our_run(run_id)

    def _checked(self, event: EventLogEntry) -> EventLogEntry | None:
        """The event, if it is of a run of ours, of a kind that a run may store, about our own assets; rebuilt by the wall."""
        self._our_run(event.run_id)
        known = wall.event(event)
        if known is None or known.dagster_event is None:
            return None
        inner = known.dagster_event
        self._refuse_unless(inner.event_type in EVENTS)
        data = inner.event_specific_data
        about = [key for key in (inner.asset_key, getattr(data, "asset_key", None)) if key]
        self._ours(*about)
        self._refuse_unless(self._our_entities(entities_of(known)))
        said = {inner.job_name, inner.step_key, *(getattr(data, part, None) for part in ("check_name", "output_name"))} - {None}
        self._refuse_unless(said.union(*(key.path[1:] for key in about)) <= self._names(self._tenant))
        return known
