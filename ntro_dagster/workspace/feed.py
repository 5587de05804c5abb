"""The status feed: which run did what and when, read from the tables of Dagster's run and event storage.

Allow-list: an entry is built field by field from ids, slugs, a closed set of words, counts and times. What does not look like
one of these (a tag somebody typed in the Dagster UI) is left out, not passed on.

In SQL, without Dagster: who asks for a list of runs would wait a second longer for its import than for the list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol, Self

import psycopg
from psycopg.rows import namedtuple_row

from ntro_dagster.boundary import vocabulary as words
from ntro_dagster.boundary.names import CODE_LOCATION_TAG, PARTITION_TAG, TENANT_TAG, WORK_TAG
from ntro_dagster.errors import NotFoundError, UsageError
from ntro_dagster.workspace.registry import ENTITY_SLUG, TENANT_SLUG

ENTITY_TAG, PERIOD_TAG = f"{PARTITION_TAG}/entity", f"{PARTITION_TAG}/period"
FINISHED: Final = frozenset({"SUCCESS", "FAILURE", "CANCELED"})
STATUSES: Final = ("QUEUED", "NOT_STARTED", "MANAGED", "STARTING", "STARTED", "SUSPENDED", *sorted(FINISHED), "CANCELING")
"""Of a run, in Dagster's words."""
SHORTEST_PREFIX = 4
CONNECT_S = 10

_PERIOD = re.compile(r"\d{4}-(0[1-9]|1[0-2])")
_WORD = re.compile(r"[a-z][a-z0-9_]{0,62}")
_WORKS = frozenset({"intake", "review", "proposals", "posting", "close"})
_RUN_ID = re.compile(r"[0-9a-f-]{4,36}")
_STEP_ENDS = {"STEP_SUCCESS": "SUCCESS", "STEP_FAILURE": "FAILURE", "STEP_SKIPPED": "SKIPPED"}


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
    """Reads the runs of one workspace over a connection of the workspace's."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def of(cls, installation: KnowsWorkspace) -> Iterator[Self]:
        """The feed of an installation. Raises `NotRunningError` where the home was never started, psycopg.OperationalError."""
        with psycopg.connect(installation.workspace_url(), autocommit=True, connect_timeout=CONNECT_S) as connection:
            yield cls(connection)

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
        asked = [(name, value) for name, value in tags.items() if value is not None]
        conditions = [_TAGGED for _ in asked] + (["run.status = ANY(%s)"] if statuses else [])
        parameters = [word for tag in asked for word in tag] + ([list(statuses)] if statuses else [])
        return self._entries(" AND ".join(conditions) or "true", [*parameters, limit])

    def run(self, run_id: str) -> FeedEntry:
        """One run, by its id or the beginning of it. Raises: `RunNotFoundError`, `RunAmbiguousError`."""
        found = self._entries("run.run_id = %s", [self._full_id(run_id), 1])
        if not found:
            raise RunNotFoundError(run=run_id)
        return found[0]

    def steps(self, run_id: str) -> list[StepEntry]:
        """The assets of a run that have begun, in the order they began."""
        query = """
            SELECT step_key, dagster_event_type AS event, extract(epoch FROM timestamp)::float AS said
            FROM event_logs WHERE run_id = %s AND step_key IS NOT NULL AND dagster_event_type = ANY(%s) ORDER BY id
        """
        begun: dict[str, float] = {}
        ended: dict[str, tuple[str, float]] = {}
        for step in self._ask(query, [run_id, ["STEP_START", *_STEP_ENDS]]):
            if step.event in _STEP_ENDS:
                ended[step.step_key] = (_STEP_ENDS[step.event], step.said)
            else:
                begun[step.step_key] = step.said
                ended.pop(step.step_key, None)
        found = []
        for key in sorted(begun | ended, key=lambda key: begun.get(key, float("inf"))):
            _, *asset = key.split("__")
            if asset and all(_WORD.fullmatch(word) for word in asset):
                status, end = ended.get(key, ("IN_PROGRESS", None))
                taken = end - begun[key] if end is not None and key in begun else None
                found.append(StepEntry("/".join(asset), status, taken))
        return found

    def failures(self, run_id: str) -> list[FailureEntry]:
        """The steps of a run that failed, in the order they did."""
        query = """
            SELECT step_key, event::json #>> '{dagster_event,event_specific_data,error,message}' AS message
            FROM event_logs WHERE run_id = %s AND dagster_event_type = 'STEP_FAILURE' ORDER BY id
        """
        found = []
        for event in self._ask(query, [run_id]):
            code, _, rest = words.failure(event.message).partition(" (error ")
            asset = (event.step_key or "").partition("__")[2].replace("__", "/")
            found.append(FailureEntry(asset, code, rest.removesuffix(")") or None))
        return found

    def _full_id(self, run_id: str) -> str:
        prefix = run_id.strip().lower()
        if not _RUN_ID.fullmatch(prefix):
            raise RunNotFoundError(run=run_id)
        ids = self._ask("SELECT run_id FROM runs WHERE run_id LIKE %s LIMIT 2", [f"{prefix}%"])
        if not ids:
            raise RunNotFoundError(run=run_id)
        if len(ids) > 1:
            raise RunAmbiguousError(run=run_id)
        return str(ids[0].run_id)

    def _entries(self, condition: str, parameters: list[Any]) -> list[FeedEntry]:
        found = self._ask(_RUNS.format(condition=condition), parameters)
        done = self._assets_done([run.run_id for run in found if run.start_time])
        return [entry for run in found if (entry := _entry(run, done.get(run.run_id, 0)))]

    def _assets_done(self, run_ids: Sequence[str]) -> dict[str, int]:
        """Steps that succeeded, for all runs at once."""
        query = """
            SELECT run_id, count(DISTINCT step_key) AS steps
            FROM event_logs WHERE run_id = ANY(%s) AND dagster_event_type = 'STEP_SUCCESS' GROUP BY run_id
        """
        return {found.run_id: found.steps for found in self._ask(query, [list(run_ids)])}

    def _ask(self, query: str, parameters: list[Any]) -> list[Any]:
        with self._connection.cursor(row_factory=namedtuple_row) as cursor:
            # never prepared: how to find runs by their tags depends on how many have them
            return cursor.execute(query.encode(), parameters, prepare=False).fetchall()


_TAGGED = "EXISTS (SELECT FROM run_tags AS tag WHERE tag.run_id = run.run_id AND tag.key = %s AND tag.value = %s)"
_RUNS = """
    SELECT run.run_id, run.pipeline_name, run.status, run.create_timestamp, run.start_time, run.end_time, tags.tags,
        json_array_length(run.run_body::json #> '{{asset_selection,__frozenset__}}') AS assets
    FROM (SELECT * FROM runs AS run WHERE {condition} ORDER BY run.id DESC LIMIT %s) AS run LEFT JOIN LATERAL
        (SELECT json_object_agg(key, value) AS tags FROM run_tags WHERE run_tags.run_id = run.run_id) AS tags ON true
    ORDER BY run.id DESC
"""


def _entry(run: Any, assets_done: int) -> FeedEntry | None:
    tags = run.tags or {}
    tenant = _matching(TENANT_SLUG, tags.get(TENANT_TAG) or tags.get(CODE_LOCATION_TAG))
    if tenant is None:
        return None
    work = tags.get(WORK_TAG)
    return FeedEntry(
        run_id=run.run_id,
        tenant=tenant,
        runbook=(_matching(_WORD, run.pipeline_name) or "").replace("_", "-") or None,
        entity=_matching(ENTITY_SLUG, tags.get(ENTITY_TAG)),
        period=_matching(_PERIOD, tags.get(PERIOD_TAG)),
        work=work if work in _WORKS else None,
        status=run.status,
        created=run.create_timestamp.replace(tzinfo=UTC),
        started=_moment(run.start_time),
        ended=_moment(run.end_time),
        assets_done=assets_done,
        assets=run.assets or None,
    )


def _matching(pattern: re.Pattern[str], value: str | None) -> str | None:
    return value if value and pattern.fullmatch(value) else None


def _moment(timestamp: float | None) -> datetime | None:
    return datetime.fromtimestamp(timestamp, UTC) if timestamp else None
