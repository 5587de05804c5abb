"""What will start by itself, what should have and did not, and starting that: never unless it is asked for."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Protocol

from ntro_dagster.boundary.answers.survey import Survey, survey_of
from ntro_dagster.boundary.names import PARTITION_TAG, VERSION_TAG, monthly_key, unit
from ntro_dagster.boundary.schedules import GRACE, IN_FLIGHT, Schedule
from ntro_dagster.host.home import Home, Role
from ntro_dagster.host.installation import credential
from ntro_dagster.tenant.workflows import active_versions
from ntro_dagster.workspace.workflows import Workflow

ASSETS_OF_A_SCHEDULE = frozenset({"ingest", "subledgers"})
"""Groups of assets that a schedule's run makes: what comes after waits for people, and sensors see to it."""


@dataclass(frozen=True, slots=True)
class Upcoming:
    """One start. `at`: in the schedule's own time zone."""

    at: datetime
    period: str
    workflow: Workflow


@dataclass(frozen=True, slots=True)
class Missed:
    """Ticks of one workflow for one month that started nothing, the last of them at `ticks[-1]`."""

    workflow: Workflow
    period: str
    ticks: tuple[datetime, ...]

    @property
    def partition(self) -> str:
        return f"{self.workflow.binding.entity}|{self.period}"


def job_of(runbook: str) -> str:
    """As Dagster calls the job of a runbook."""
    return runbook.replace("-", "_")


def upcoming(workflows: Sequence[Workflow], now: datetime, limit: int) -> list[Upcoming]:
    """The next `limit` starts over all workflows, paused ones among them, as they would be."""
    ticks = {time: list(islice(time.after(now), limit)) for time in _times(workflows)}
    every = (
        Upcoming(tick, time.period(tick, each.binding.period_offset), each)
        for each in workflows
        if (time := each.binding.schedule)
        for tick in ticks[time]
    )
    return heapq.nsmallest(limit, every, key=lambda start: (start.at, *_place(start.workflow)))


def _place(workflow: Workflow) -> tuple[str, str, str]:
    return workflow.binding.tenant, workflow.binding.entity, workflow.binding.runbook


def _times(workflows: Iterable[Workflow]) -> set[Schedule]:
    return {each.binding.schedule for each in workflows if each.binding.schedule}


LastStarted = Callable[[Sequence[str], datetime], dict[tuple[str, str, str], datetime]]
"""Jobs and a time -> by tenant, job and partition, when it was last started since then."""


def missed(workflows: Sequence[Workflow], now: datetime, last_started: LastStarted) -> list[Missed]:
    """Ticks that came while a workflow was there and not paused, and after which its month was never started.

    A tick that the daemon may still take, or has just taken, is not missed yet. Oldest first.
    """
    bound = [each for each in workflows if each.binding.schedule]
    if not bound:
        return []
    begin, end = min(each.created_at for each in bound), now - GRACE - IN_FLIGHT
    ticks = {time: time.between(begin, end) for time in _times(bound)}
    started = last_started(sorted({job_of(each.binding.runbook) for each in bound}), begin)
    found: dict[tuple[Workflow, str], list[datetime]] = {}
    for each in bound:
        time = each.binding.schedule
        assert time is not None  # noqa: S101
        for tick in filter(each.counts, ticks[time]):
            period = time.period(tick, each.binding.period_offset)
            key = (each.binding.tenant, job_of(each.binding.runbook), f"{each.binding.entity}|{period}")
            if key not in started or started[key] < tick:
                found.setdefault((each, period), []).append(tick)
    every = [Missed(each, period, tuple(came)) for (each, period), came in found.items()]
    return sorted(every, key=lambda gap: (gap.ticks[-1], *_place(gap.workflow)))


class Launches(Protocol):
    """What starting takes of the webserver."""

    def launch(self, *, tenant: str, job: str, tags: dict[str, str], assets: Sequence[Sequence[str]] = ()) -> str: ...


class Starter:
    """Starts what was missed, as the schedule would have."""

    def __init__(self, home: Home, webserver: Launches) -> None:
        self._home = home
        self._webserver = webserver
        self._versions: dict[str, dict[str, str]] = {}

    def start(self, gap: Missed) -> str:
        """The run that the last of its ticks should have started; returns its id. Asked for again, there is one run.

        Raises: what the webserver raises, `DefinitionNotDeployedError`, `NotRunningError`.
        """
        binding = gap.workflow.binding
        assert binding.schedule is not None  # noqa: S101
        version = binding.pinned or self._active(binding.tenant).get(binding.runbook)
        tags = {
            PARTITION_TAG: gap.partition,
            f"{PARTITION_TAG}/entity": binding.entity,
            f"{PARTITION_TAG}/period": gap.period,
            "dagster/schedule_name": binding.schedule.name(binding.runbook),
            "dagster/run_key": monthly_key(gap.partition, version),
            ".dagster/scheduled_execution_time": gap.ticks[-1].astimezone(UTC).isoformat(),
            **({VERSION_TAG: version} if version else {}),
            **unit(binding.tenant, gap.partition),
        }
        job = job_of(binding.runbook)
        assets = scheduled_assets(survey_of(binding.tenant, self._home.surveys), job)
        return self._webserver.launch(tenant=binding.tenant, job=job, tags=tags, assets=assets)

    def _active(self, tenant: str) -> dict[str, str]:
        if tenant not in self._versions:
            self._versions[tenant] = active_versions(credential(self._home, tenant, Role.OWNER))
        return self._versions[tenant]


def scheduled_assets(survey: Survey, job: str) -> list[list[str]]:
    """Keys of what a schedule of the job makes."""
    return [
        node["asset_key"]["path"]
        for node in survey.repository["external_asset_graph_data"]
        if job in (node["job_names"] or ()) and node["group_name"] in ASSETS_OF_A_SCHEDULE
    ]
