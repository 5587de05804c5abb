"""One run for a tick, an entity and a month: whoever asks for it again is given the run that there is.

Dagster looks for a run of the tick before it makes one, which two askers (its daemon and `ntro schedule catch-up`, or two of
the latter) can do at the same time. Here the database decides, in the transaction that adds the run.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from dagster import DagsterRun
from dagster._core.storage.tags import SCHEDULED_EXECUTION_TIME_TAG
from sqlalchemy import Connection, text

from ntro_dagster.boundary.names import CODE_LOCATION_TAG, PARTITION_TAG

TABLE = """
CREATE TABLE IF NOT EXISTS relay.scheduled_runs (
    tenant TEXT NOT NULL,
    job TEXT NOT NULL,
    partition TEXT NOT NULL,
    tick TEXT NOT NULL,
    run_id UUID NOT NULL,
    PRIMARY KEY (tenant, job, partition, tick)
);
"""

_CLAIM = text(
    """INSERT INTO relay.scheduled_runs VALUES (:tenant, :job, :partition, :tick, :run_id)
       ON CONFLICT (tenant, job, partition, tick) DO NOTHING"""
)
_HOLDER = text(
    """SELECT run_id::text FROM relay.scheduled_runs
        WHERE tenant = :tenant AND job = :job AND partition = :partition AND tick = :tick"""
)
_TAKE_OVER = text(
    """UPDATE relay.scheduled_runs SET run_id = :run_id
        WHERE tenant = :tenant AND job = :job AND partition = :partition AND tick = :tick"""
)


@dataclass(frozen=True, slots=True)
class Claim:
    """What there is one run of. `tick`: in UTC, as Dagster's tag has it."""

    tenant: str
    job: str
    partition: str
    tick: str


def claim_of(run: DagsterRun) -> Claim | None:
    """None: no schedule asks for this run. A run that is made of another (run again in Dagster's pages) has its tags, and is
    asked for by a person.
    """
    if run.parent_run_id is not None:
        return None
    tags = (CODE_LOCATION_TAG, PARTITION_TAG, SCHEDULED_EXECUTION_TIME_TAG)
    tenant, partition, tick = (run.tags.get(tag) for tag in tags)
    return Claim(tenant, run.job_name, partition, tick) if tenant and partition and tick else None


def holder(connection: Connection, claim: Claim, run_id: str) -> str:
    """The id of the run that has the claim: `run_id` where nobody had it. Waits for whoever is taking it just now."""
    known = asdict(claim)
    connection.execute(_CLAIM, {**known, "run_id": run_id})
    return str(connection.execute(_HOLDER, known).scalar_one())


def take_over(connection: Connection, claim: Claim, run_id: str) -> None:
    """The run that had it was deleted."""
    connection.execute(_TAKE_OVER, {**asdict(claim), "run_id": run_id})
