"""What happened: runs with their failures and output, changes, a member's own decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

from ntro_dagster.boundary.tenant_logs import run_log
from ntro_dagster.errors import NotFoundError
from ntro_dagster.platforms.postgres.database import TenantDatabase

MOST_RUNS, MOST_CHANGES, MOST_DECISIONS = 100, 200, 30
LONGEST_OUTPUT = 256 << 10
"""Bytes of a run's output that a page shows: the last ones."""


class RunUnknownError(NotFoundError):
    """Values: `run`."""

    code = "RUN_NOT_FOUND"
    summary = "no such run"
    detail = "no run {run} of this tenant wrote anything"
    mend = "the page of runs lists those that did"


TOUCHED = "h.action NOT IN ('REFUSED', 'SIGNED', 'SUPERSEDED', 'HELD')"
"""Of history `h`: that a row was changed, and not only spoken of."""


async def runs(database: TenantDatabase) -> list[dict[str, Any]]:
    """The last ones, with how many rows each touched and how it failed, if it did."""
    return await database.fetch(
        """SELECT r.run_id, e.slug AS entity, r.period, r.runbook, r.version, r.began_at,
                  (SELECT count(*) FROM system.changes c JOIN system.history h ON h.change_id = c.id
                    WHERE c.run_id = r.run_id AND """
        + TOUCHED
        + """) AS changes,
                  (SELECT array_agg(DISTINCT x.code) FROM system.errors x WHERE x.run_id = r.run_id) AS errors
             FROM (SELECT * FROM system.runs ORDER BY began_at DESC LIMIT %s) r JOIN system.entities e ON e.id = r.entity_id
            ORDER BY r.began_at DESC""",
        [MOST_RUNS],
    )


async def run(database: TenantDatabase, run_id: UUID, logs: Path | None) -> dict[str, Any]:
    """A run: what it worked on, what it changed, how it failed, what it printed. Raises: `RunUnknownError`."""
    known = await database.fetch_one(
        """SELECT r.run_id, e.slug AS entity, e.name AS entity_name, r.period, r.runbook, r.version, r.code, r.began_at
             FROM system.runs r JOIN system.entities e ON e.id = r.entity_id WHERE r.run_id = %s""",
        [run_id],
    )
    errors = await database.fetch(
        "SELECT id, at, step, partition, code, story, advice, traceback FROM system.errors WHERE run_id = %s ORDER BY at",
        [run_id],
    )
    printed = _printed(logs, run_id)
    steps = await database.fetch(
        """SELECT c.at, c.subledger, c.actor_kind, s.kind, s.filed_by, h.action, h.from_status, h.to_status, count(*) AS rows
             FROM system.changes c JOIN system.history h ON h.change_id = c.id
             LEFT JOIN system.signals s ON s.id = c.signal_id
            WHERE c.run_id = %s GROUP BY c.id, s.kind, s.filed_by, h.action, h.from_status, h.to_status ORDER BY c.id""",
        [run_id],
    )
    if known is None and not errors and printed is None and not steps:  # a command's changes have an id, and no run of Dagster's
        raise RunUnknownError(run=run_id)
    return {"run_id": str(run_id), "known": known, "errors": errors, "printed": printed, "steps": steps}


def _printed(logs: Path | None, run_id: UUID) -> str | None:
    if logs is None:
        return None
    try:
        with run_log(logs, str(run_id)).open("rb") as output:
            size = output.seek(0, 2)
            output.seek(max(0, size - LONGEST_OUTPUT))
            text = output.read().decode(errors="backslashreplace")
    except OSError:
        return None
    return text if size <= LONGEST_OUTPUT else f"(the last {LONGEST_OUTPUT >> 10} KiB of {size:,} bytes)\n{text}"


async def history(database: TenantDatabase, before: int | None) -> list[dict[str, Any]]:
    """Changes of the ledgers, the newest first. Args: `before`: number of the change at which the last page ended."""
    return await database.fetch(
        """SELECT c.id, c.at, c.subledger, c.actor, c.actor_kind, c.reason, c.run_id, s.kind, h.action, h.from_status,
                  h.to_status, h.code, h.rows, h.row_id, e.slug AS entity, s.period
             FROM (SELECT * FROM system.changes WHERE %(before)s::bigint IS NULL OR id < %(before)s
                    ORDER BY id DESC LIMIT %(most)s) c
             LEFT JOIN system.signals s ON s.id = c.signal_id LEFT JOIN system.entities e ON e.id = s.entity_id
            CROSS JOIN LATERAL (
                  SELECT action, from_status, to_status, code, count(*) AS rows, min(row_id::text) AS row_id
                    FROM system.history WHERE change_id = c.id GROUP BY 1, 2, 3, 4) h
            ORDER BY c.id DESC""",
        {"before": before, "most": MOST_CHANGES},
    )


async def decisions(database: TenantDatabase, login: str) -> list[dict[str, Any]]:
    """What a member decided last, and what became of it."""
    return await database.fetch(
        """SELECT s.id, s.kind, s.subledger, e.slug AS entity, s.period, s.filed_at, s.applied_at, s.reason,
                  count(*) AS rows, count(*) FILTER (WHERE r.outcome = 'APPLIED') AS applied,
                  count(*) FILTER (WHERE r.outcome = 'SIGNED') AS signed,
                  count(*) FILTER (WHERE r.outcome = 'SUPERSEDED') AS withdrawn,
                  count(*) FILTER (WHERE r.outcome = 'REFUSED') AS refused,
                  array_agg(DISTINCT r.code) FILTER (WHERE r.outcome = 'REFUSED') AS codes
             FROM (SELECT * FROM system.signals WHERE filed_by = %s ORDER BY seq DESC LIMIT %s) s
             JOIN system.signal_rows r ON r.signal_id = s.id JOIN system.entities e ON e.id = s.entity_id
            GROUP BY s.id, s.seq, s.kind, s.subledger, e.slug, s.period, s.filed_at, s.applied_at, s.reason
            ORDER BY s.seq DESC""",
        [login, MOST_DECISIONS],
    )
