"""The status feed: which run did what and when, read from Dagster's run and event storage.

Allow-list: an entry is built field by field from ids, slugs, a closed set of words, counts and times. What does not look like
one of these (a tag somebody typed in the Dagster UI) is left out, not passed on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, Self

from dagster import DagsterEventType, DagsterRunStatus, RunsFilter
from dagster._core.storage.dagster_run import FINISHED_STATUSES, RunRecord
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.runs.schema import RunsTable
from dagster._core.storage.tags import CODE_LOCATION_TAG
from sqlalchemy import func, select

from ntro_dagster.boundary import vocabulary as words
from ntro_dagster.boundary.names import PARTITION_TAG, TENANT_TAG, WORK_TAG
from ntro_dagster.boundary.pool import pooled_engine
from ntro_dagster.boundary.storage import PooledPostgresStorage
from ntro_dagster.errors import NotFoundError, UsageError
from ntro_dagster.workspace.registry import ENTITY_SLUG, TENANT_SLUG

ENTITY_TAG, PERIOD_TAG = f"{PARTITION_TAG}/entity", f"{PARTITION_TAG}/period"
FINISHED = frozenset(status.value for status in FINISHED_STATUSES)
SHORTEST_PREFIX = 4

_PERIOD = re.compile(r"\d{4}-(0[1-9]|1[0-2])")
_WORD = re.compile(r"[a-z][a-z0-9_]{0,62}")
_WORKS = frozenset({"intake", "review", "proposals", "posting", "close"})
_RUN_ID = re.compile(r"[0-9a-f-]{4,36}")


class RunNotFoundError(NotFoundError):
    """Values: `run`."""

    code = "RUN_NOT_FOUND"
    summary = "no run of that id"
    detail = "there is no run {run!r}"
    mend = "`ntro run list` shows the latest; the first characters of an id are enough"


class RunAmbiguousError(UsageError):
    """Values: `run`."""

    code = "RUN_AMBIGUOUS"
    summary = "several runs have ids that begin so"
    detail = "several runs have ids that begin with {run!r}"
    mend = "give more characters of the id"


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """One run.

    Attributes:
        runbook: slug; None for a run that was put together in the Dagster UI.
        work: what a sensor started it for: intake, review, proposals, posting, close; None where a person or a schedule did.
        status: Dagster's word: QUEUED, STARTED, SUCCESS, FAILURE, CANCELED, ...
        assets_done: steps that succeeded.
        assets: steps there are, where the run says which.
    """

    run_id: str
    tenant: str
    runbook: str | None
    entity: str | None
    period: str | None
    work: str | None
    status: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    assets_done: int
    assets: int | None

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    @property
    def duration_s(self) -> float | None:
        """From start to end, or until now; None for a run that has not started."""
        if self.started is None:
            return None
        return max(0.0, ((self.ended or datetime.now(UTC)) - self.started).total_seconds())


@dataclass(frozen=True, slots=True)
class StepEntry:
    """One asset of a run: `review/expenses`, its key without the tenant. `status`: SUCCESS, FAILURE, SKIPPED, IN_PROGRESS."""

    asset: str
    status: str
    duration_s: float | None


@dataclass(frozen=True, slots=True)
class FailureEntry:
    """A step that failed. `error_id`: of the story that its tenant keeps; None where nothing of the tenant's failed."""

    asset: str
    code: str
    error_id: str | None


class KnowsWorkspace(Protocol):
    """What the feed needs of an installation."""

    def workspace_url(self) -> str: ...


class Feed:
    """Reads the runs of one workspace with the workspace's credential."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._storage = PooledPostgresStorage(url)

    @classmethod
    @contextmanager
    def of(cls, installation: KnowsWorkspace) -> Iterator[Self]:
        """The feed of an installation. Raises `NotRunningError` where the home was never started."""
        feed = cls(installation.workspace_url())
        try:
            yield feed
        finally:
            pooled_engine(feed._url).dispose()

    def runs(
        self,
        *,
        tenant: str | None = None,
        entity: str | None = None,
        period: str | None = None,
        statuses: Sequence[str] = (),
        limit: int = 50,
    ) -> list[FeedEntry]:
        """Runs, newest first; of all tenants where none is given."""
        tags = {CODE_LOCATION_TAG: tenant, ENTITY_TAG: entity, PERIOD_TAG: period}
        return self._entries(
            self._storage.run_storage.get_run_records(
                RunsFilter(
                    tags={name: value for name, value in tags.items() if value is not None},
                    statuses=[DagsterRunStatus(status) for status in statuses] or None,
                ),
                limit=limit,
            )
        )

    def run(self, run_id: str) -> FeedEntry:
        """One run, by its id or the beginning of it. Raises: `RunNotFoundError`, `RunAmbiguousError`."""
        found = self._entries(self._storage.run_storage.get_run_records(RunsFilter(run_ids=[self._full_id(run_id)])))
        if not found:
            raise RunNotFoundError(run=run_id)
        return found[0]

    def steps(self, run_id: str) -> list[StepEntry]:
        """The assets of a run that have begun, in the order they began."""
        stats = self._storage.event_log_storage.get_step_stats_for_run(run_id)
        found = []
        for step in sorted(stats, key=lambda step: step.start_time or float("inf")):
            _, *asset = step.step_key.split("__")
            if asset and all(_WORD.fullmatch(word) for word in asset):
                taken = step.end_time - step.start_time if step.end_time and step.start_time else None
                found.append(StepEntry("/".join(asset), step.status.value if step.status else "IN_PROGRESS", taken))
        return found

    def failures(self, run_id: str) -> list[FailureEntry]:
        """The steps of a run that failed, in the order they did."""
        found = []
        for event in self._storage.event_log_storage.get_logs_for_run(run_id, of_type={DagsterEventType.STEP_FAILURE}):
            error = getattr(event.dagster_event and event.dagster_event.event_specific_data, "error", None)
            code, _, rest = words.failure(getattr(error, "message", None)).partition(" (error ")
            asset = (event.step_key or "").partition("__")[2].replace("__", "/")
            found.append(FailureEntry(asset, code, rest.removesuffix(")") or None))
        return found

    def _full_id(self, run_id: str) -> str:
        prefix = run_id.strip().lower()
        if not _RUN_ID.fullmatch(prefix):
            raise RunNotFoundError(run=run_id)
        with pooled_engine(self._url).connect() as connection:
            ids = list(
                connection.scalars(
                    select(RunsTable.c.run_id).where(RunsTable.c.run_id.startswith(prefix, autoescape=True)).limit(2)
                )
            )
        if not ids:
            raise RunNotFoundError(run=run_id)
        if len(ids) > 1:
            raise RunAmbiguousError(run=run_id)
        return str(ids[0])

    def _entries(self, records: Iterable[RunRecord]) -> list[FeedEntry]:
        found = list(records)
        done = self._assets_done([record.dagster_run.run_id for record in found if record.start_time])
        return [entry for record in found if (entry := self._entry(record, done.get(record.dagster_run.run_id, 0)))]

    def _entry(self, record: RunRecord, assets_done: int) -> FeedEntry | None:
        run = record.dagster_run
        tenant = _matching(TENANT_SLUG, run.tags.get(TENANT_TAG) or run.tags.get(CODE_LOCATION_TAG))
        if tenant is None:
            return None
        work = run.tags.get(WORK_TAG)
        return FeedEntry(
            run_id=run.run_id,
            tenant=tenant,
            runbook=(_matching(_WORD, run.job_name) or "").replace("_", "-") or None,
            entity=_matching(ENTITY_SLUG, run.tags.get(ENTITY_TAG)),
            period=_matching(_PERIOD, run.tags.get(PERIOD_TAG)),
            work=work if work in _WORKS else None,
            status=run.status.value,
            created=record.create_timestamp.replace(tzinfo=UTC),
            started=_moment(record.start_time),
            ended=_moment(record.end_time),
            assets_done=assets_done,
            assets=len(run.asset_selection) if run.asset_selection else None,
        )

    def _assets_done(self, run_ids: Sequence[str]) -> dict[str, int]:
        """Steps that succeeded, for all runs at once."""
        events = SqlEventLogStorageTable.c
        counted = (
            select(events.run_id, func.count(events.step_key.distinct()).label("steps"))
            .where(events.run_id.in_(run_ids), events.dagster_event_type == DagsterEventType.STEP_SUCCESS.value)
            .group_by(events.run_id)
        )
        with pooled_engine(self._url).connect() as connection:
            return {found.run_id: found.steps for found in connection.execute(counted)}


def _matching(pattern: re.Pattern[str], value: str | None) -> str | None:
    return value if value and pattern.fullmatch(value) else None


def _moment(timestamp: float | None) -> datetime | None:
    return datetime.fromtimestamp(timestamp, UTC) if timestamp else None
