"""A month-end of many entities, and a job that does nothing: what runs cost, beside Dagster's own ways and beside no runs at all.

Each entity's document lies ready while the daemon is stopped in its tracks; time begins when it may go on. A person approves
each entity's rows in one decision as soon as they are staged. CPU is that of all processes of the installation until no run is
left; that of this script, who plays the people, is not in it.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
from dagster_graphql import DagsterGraphQLClient

from benchmarks import bare_month
from benchmarks.documents import submit_documents
from benchmarks.installed import (
    OURS,
    STOCK_LAUNCHER,
    STOCK_STORAGES,
    Runs,
    Way,
    installed,
    nothing_runs,
    now_of,
    runs_since,
    until,
    watching,
)
from benchmarks.measure import told
from benchmarks.processor_time import between, used
from benchmarks.subject import APPROVER, PERIOD, SLUG
from ntro_dagster.host.dagster_instance import ReloadError, reload_workspace
from ntro_dagster.host.home import Role
from ntro_dagster.host.installation import Installation, credential
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.registry import subledger_type
from ntro_dagster.subledger.review import file_signal
from ntro_dagster.tenant.code_server import DEFINITIONS_MODULE
from ntro_dagster.tenant.entities import entity_by_slug

ENTITIES, ROWS, FEWEST = 200, 250, 10
"""Entities; rows of each; the least entities of a way that is not ours."""
JOB_RUNS, STOCK_JOB_RUNS = 60, 15
FIRST = "warm"
"""An entity whose month-end is done before, so that whatever happens once has happened."""
ENTITY_PATIENCE_S, RUN_PATIENCE_S, LEAST_PATIENCE_S = 30.0, 10.0, 120.0
STOCK = (STOCK_LAUNCHER, STOCK_STORAGES)

SHOWN = {
    "name": "what",
    "entities": "entities",
    "runs": "runs",
    "unsuccessful": "failed",
    "wall_s": "wall s",
    "cpu_s": "CPU s",
    "cpu_per_run_s": "CPU s / run",
    "cpu_per_entity_s": "CPU s / entity",
}
"""What of a result is printed, and under which heading."""

Found = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Measured:
    """One repeat. `cpu`: seconds by kind of process. `phases`: seconds until every entity was staged, posted."""

    wall_s: float
    cpu: dict[str, float]
    runs: Runs | None = None
    phases: dict[str, float] | None = None

    @property
    def cpu_s(self) -> float:
        return sum(self.cpu.values())


def measure(entities: int = ENTITIES, repeats: int = 1) -> list[Found]:
    """Ours, the stock ways over a tenth of the entities, no runs at all; then the job that does nothing, each way."""
    few = max(FEWEST, entities // 10)
    found = [_result("month-end, ours", entities, [_month_end(OURS, entities) for _ in range(repeats)])]
    for way in STOCK:
        found.append(_result(f"month-end, {way.name}", few, [_month_end(way, few) for _ in range(repeats)]))
    found.append(_result("month-end, no runs at all", entities, [_bare(entities) for _ in range(repeats)]))
    found += job_runs(repeats)
    return found


def job_runs(repeats: int = 1) -> list[Found]:
    """The job of two assets that do nothing, through the queue."""
    numbers = [(OURS, JOB_RUNS), *((way, STOCK_JOB_RUNS) for way in STOCK)]
    return [_result(f"two assets, {way.name}", None, [_jobs(way, runs) for _ in range(repeats)]) for way, runs in numbers]


def _result(name: str, entities: int | None, measured: Sequence[Measured]) -> Found:
    middle = sorted(measured, key=lambda each: each.cpu_s)[len(measured) // 2]
    runs = middle.runs
    found = {
        "name": name,
        "entities": entities,
        "repeats": len(measured),
        "runs": runs.number if runs else 0,
        "unsuccessful": runs.unsuccessful if runs else 0,
        "wall_s": round(statistics.median(each.wall_s for each in measured), 1),
        "wall_spread": _spread([each.wall_s for each in measured]),
        "cpu_s": round(middle.cpu_s, 1),
        "cpu_spread": _spread([each.cpu_s for each in measured]),
        "cpu_per_run_s": round(middle.cpu_s / runs.number, 3) if runs else None,
        "cpu_per_entity_s": round(middle.cpu_s / entities, 3) if entities else None,
        "run_median_s": round(statistics.median(runs.seconds), 2) if runs and runs.seconds else None,
        "cpu_by_kind_s": {kind: round(seconds, 2) for kind, seconds in sorted(middle.cpu.items(), key=lambda one: -one[1])},
        "phases_s": middle.phases,
    }
    return told(found)


def _spread(values: Sequence[float]) -> float | None:
    return round((max(values) - min(values)) / statistics.median(values), 2) if len(values) > 1 else None


# -- the month-end


def _month_end(way: Way, number: int) -> Measured:
    entities = _slugs(number)
    with installed(way, entities=[FIRST, *entities]) as installation, watching(installation) as workspace:
        asyncio.run(submit_documents(installation, [FIRST], rows=1))
        asyncio.run(_people([FIRST], installation))
        daemon = _daemon(installation)
        daemon.suspend()
        asyncio.run(submit_documents(installation, entities, rows=ROWS))
        until(lambda: nothing_runs(workspace), LEAST_PATIENCE_S)
        moment, before, begun = now_of(workspace), used(installation), time.monotonic()
        daemon.resume()
        phases = asyncio.run(_people(entities, installation))
        wall = time.monotonic() - begun
        until(lambda: nothing_runs(workspace), LEAST_PATIENCE_S)
        return Measured(wall, between(before, used(installation)), runs_since(workspace, moment), phases)


def _slugs(number: int) -> list[str]:
    return [f"spv{each:04}" for each in range(number)]


def _daemon(installation: Installation) -> psutil.Process:
    return psutil.Process(next(each.pid for each in installation.status() if each.name == "daemon"))


async def _people(entities: Sequence[str], installation: Installation) -> dict[str, float]:
    """Approve whatever is staged, until all of them are closed. Returns: seconds until all were staged, posted, closed."""
    begun, reached = time.monotonic(), dict.fromkeys(("staged", "posted", "closed"), 0.0)
    patience = max(LEAST_PATIENCE_S, ENTITY_PATIENCE_S * len(entities))
    kind = subledger_type("expenses")
    async with (
        TenantDatabase(credential(installation.home, SLUG, Role.DESK)) as desk,
        TenantDatabase(credential(installation.home, SLUG, Role.AUDITOR)) as auditor,
    ):
        open_ones = [(await entity_by_slug(auditor, slug, tenant=SLUG)).id for slug in entities]
        wanted, undecided = list(open_ones), set(open_ones)
        while True:
            staged = {row["entity_id"] for row in await auditor.fetch(_STAGED, [list(undecided), PERIOD])}
            for entity in staged:
                await file_signal(desk, kind, "approve", filed_by=APPROVER, entity_id=entity, period=PERIOD, status="PENDING")
            undecided -= staged
            counts = await auditor.fetch_single(_REACHED, {"entities": wanted, "period": PERIOD})
            for name in reached:
                if not reached[name] and counts[name] == len(wanted):
                    reached[name] = round(time.monotonic() - begun, 1)
            if reached["closed"]:
                return reached
            if time.monotonic() - begun > patience:
                raise TimeoutError(dict(counts))
            await asyncio.sleep(0.2)


_STAGED = """
    SELECT entity_id FROM ingest.intake WHERE entity_id = ANY(%s) AND period = %s
     GROUP BY 1 HAVING bool_and(staged_at IS NOT NULL)"""
_REACHED = """
    SELECT (SELECT count(DISTINCT entity_id) FROM ingest.intake
             WHERE entity_id = ANY(%(entities)s) AND period = %(period)s AND staged_at IS NOT NULL) AS staged,
           (SELECT count(DISTINCT entity_id) FROM ledgers.journals
             WHERE entity_id = ANY(%(entities)s) AND period = %(period)s) AS posted,
           (SELECT count(DISTINCT entity_id) FROM ledgers.closes
             WHERE entity_id = ANY(%(entities)s) AND period = %(period)s) AS closed"""


def _bare(number: int) -> Measured:
    entities = _slugs(number)
    with installed(entities=[FIRST, *entities], started=False) as installation:
        asyncio.run(submit_documents(installation, [FIRST], rows=1))
        asyncio.run(bare_month.month_end(installation, [FIRST]))
        asyncio.run(submit_documents(installation, entities, rows=ROWS))
        wall, cpu = asyncio.run(bare_month.month_end(installation, entities))
        with psycopg.connect(credential(installation.home, SLUG, Role.AUDITOR)) as auditor:
            closed = auditor.execute("SELECT count(DISTINCT entity_id) FROM ledgers.closes").fetchone()
        if closed != (number + 1,):
            raise RuntimeError("not every entity was closed")
        return Measured(wall, cpu)


# -- the job that does nothing


def _jobs(way: Way, number: int) -> Measured:
    code = {DEFINITIONS_MODULE: "two_assets", "PYTHONPATH": str(Path(__file__).parent / "jobs")}
    with installed(way.running(code)) as installation, watching(installation) as workspace:
        port = installation.home.describe().webserver_port
        until(lambda: _loaded(installation), LEAST_PATIENCE_S)
        client = DagsterGraphQLClient("127.0.0.1", port_number=port)

        def run(times: int) -> None:
            before = now_of(workspace)
            for _ in range(times):
                client.submit_job_execution("two_assets", repository_location_name=SLUG)
            until(lambda: runs_since(workspace, before).number == times and nothing_runs(workspace), times * RUN_PATIENCE_S)

        run(2)
        moment, before, begun = now_of(workspace), used(installation), time.monotonic()
        run(number)
        wall = time.monotonic() - begun
        return Measured(wall, between(before, used(installation)), runs_since(workspace, moment))


def _loaded(installation: Installation) -> bool:
    try:
        return reload_workspace(installation.addresses.dagster).get(SLUG, False)
    except ReloadError:
        return False
