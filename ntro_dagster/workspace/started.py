"""When the workspace last started a runbook for an entity and a month, sensors apart: what tells a missed tick from one that was
made up for.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from dagster import DagsterRunStatus
from dagster._core.storage.runs.schema import RunsTable, RunTagsTable
from sqlalchemy import exists, func, select

from ntro_dagster.boundary.names import CODE_LOCATION_TAG, WORK_TAG
from ntro_dagster.boundary.pool import pooled_engine


def last_started(url: str, jobs: Collection[str], since: datetime) -> dict[tuple[str, str, str], datetime]:
    """By tenant, job and partition: the newest run that a person or a schedule started, of those made after `since`.

    A run that was made and never handed over (its maker died) does not count: it will be handed over when it is asked for again.
    """
    runs, tags = RunsTable.c, RunTagsTable.alias()
    work = RunTagsTable.alias()
    asked = (
        select(tags.c.value, runs.pipeline_name, runs.partition, func.max(runs.create_timestamp))
        .join_from(RunsTable, tags, (tags.c.run_id == runs.run_id) & (tags.c.key == CODE_LOCATION_TAG))
        .where(
            runs.pipeline_name.in_(jobs),
            runs.partition.is_not(None),
            runs.status != DagsterRunStatus.NOT_STARTED.value,
            runs.create_timestamp >= since.astimezone(UTC).replace(tzinfo=None),
            ~exists().where(work.c.run_id == runs.run_id, work.c.key == WORK_TAG),
        )
        .group_by(tags.c.value, runs.pipeline_name, runs.partition)
    )
    engine = pooled_engine(url)
    try:
        with engine.connect() as connection:
            return {
                (tenant, job, partition): last.replace(tzinfo=UTC) for tenant, job, partition, last in connection.execute(asked)
            }
    finally:
        engine.dispose()
