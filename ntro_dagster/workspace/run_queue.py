"""Dagster's queue reads, of all runs that wait, those that may start.

Stock code reads all of them, whole, and again each time that a run has left: what a start costs grew with the runs behind it.
Here the tags that limits go by are read of all, and the rest of as many runs as there are places.

They are the same runs as long as limits nest, as ours do (an entity's month is of one tenant). Where they cross and there is more
than one page, stock code forgets on the first page what a run on the second would have let start; here it starts. A limit must be
of a tag that runs show. With 100 places or more, or none, stock code reads as ever, and once more where one of these is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from dagster import DagsterInstance, DagsterRun, RunRecord, RunsFilter
from dagster._core.instance.config import ConcurrencyConfig
from dagster._core.storage.tags import PRIORITY_TAG
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._utils.tags import TagConcurrencyLimitsCounter
from sqlalchemy import text

_WAITING = text("""
    SELECT waiting.run_id, coalesce(jsonb_object_agg(tag.key, tag.value) FILTER (WHERE tag.key IS NOT NULL), '{}') AS tags
    FROM runs AS waiting
    LEFT JOIN run_tags AS tag ON tag.run_id = waiting.run_id AND tag.key = ANY(:keys)
    WHERE waiting.status = 'QUEUED'
    GROUP BY waiting.id
    ORDER BY waiting.id
""")


def read_what_may_start() -> None:
    """Takes the place of a method of Dagster's, for which it has no setting. Call it before the daemon is made."""
    stock = QueuedRunCoordinatorDaemon._get_runs_to_dequeue

    def _get_runs_to_dequeue(
        self: QueuedRunCoordinatorDaemon,
        instance: DagsterInstance,
        concurrency_config: ConcurrencyConfig,
        fixed_iteration_time: float | None,
    ) -> list[DagsterRun]:
        config = concurrency_config.run_queue_config
        if config and 0 <= config.max_concurrent_runs < self._page_size:  # else a page has not room for all that may start
            few = _MayStart(instance, self, config.max_concurrent_runs, config.tag_concurrency_limits)
            chosen = stock(self, few, concurrency_config, fixed_iteration_time)  # type: ignore[arg-type]
            if len(chosen) == few.offered:
                return chosen
        return stock(self, instance, concurrency_config, fixed_iteration_time)  # others may take the place of what was refused

    QueuedRunCoordinatorDaemon._get_runs_to_dequeue = _get_runs_to_dequeue  # type: ignore[method-assign]


class _MayStart:
    """An instance in which only those runs wait that are the next to start after the limits of tags.

    Dagster's own code judges them once more, by its other rules too: limits of pools, code servers that it gives time to recover.
    Where it refuses one, these are too few to choose from. Attributes: `offered`: how many there were.
    """

    def __init__(
        self, instance: DagsterInstance, daemon: QueuedRunCoordinatorDaemon, most: int, limits: Sequence[Mapping[str, Any]]
    ) -> None:
        self.offered = 0
        self._instance, self._daemon, self._most, self._limits = instance, daemon, most, limits
        self._at_work: Sequence[RunRecord] = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._instance, name)

    def get_run_records(self, filters: RunsFilter) -> Sequence[RunRecord]:
        """Of the runs at work, which are asked for first."""
        self._at_work = self._instance.get_run_records(filters)
        return self._at_work

    def get_runs(self, filters: RunsFilter, **_: Any) -> Sequence[DagsterRun]:
        """Of the runs that wait: the next ones, in the order in which they came."""
        next_ones = self._next()
        if not next_ones:
            return []
        found = self._instance.get_runs(RunsFilter(run_ids=next_ones, statuses=filters.statuses), ascending=True)
        self.offered = len(found)
        return found

    def _next(self) -> list[str]:
        keys = [PRIORITY_TAG, *(limit["key"] for limit in self._limits)]
        with self._instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
            waiting = [SimpleNamespace(run_id=run_id, tags=tags) for run_id, tags in connection.execute(_WAITING, {"keys": keys})]
        counted = TagConcurrencyLimitsCounter(self._limits, [record.dagster_run for record in self._at_work])
        places, chosen = self._most - len(self._at_work), list[str]()
        for run in self._daemon._priority_sort(waiting):  # type: ignore[arg-type]
            if len(chosen) == places:
                break
            if not counted.is_blocked(run):
                counted.update_counters_with_launched_item(run)
                chosen.append(run.run_id)
        return chosen
