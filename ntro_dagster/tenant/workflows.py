"""Workflows in the tenant's database: what a tick is asked of. Written as the database's owner, under the registry's ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import psycopg

from ntro_dagster.boundary.schedules import Schedule

_LOCK = 0x776F726B  # advisory: who tells the tenant what the registry has reads the registry while holding it


@dataclass(frozen=True, slots=True)
class TenantWorkflow:
    """One row of `system.workflows`. `armed_at`: ticks before do not count."""

    id: UUID
    runbook: str
    entity_id: UUID
    schedule: Schedule | None
    period_offset: int
    pinned: str | None
    paused: bool
    armed_at: datetime
    created_at: datetime


def hold_workflows(connection: psycopg.Connection) -> None:
    """Nobody else tells this tenant of workflows, or of their parameters, until the transaction ends."""
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


def tell_workflows(owner_dsn: str, read: Callable[[], Sequence[TenantWorkflow]], *, at: datetime) -> None:
    """The tenant's database as the registry is, whole or not at all; workflows that `read` has no more are closed.

    Args: `read`: the registry's open workflows; called while nobody else tells this tenant.
    """
    with psycopg.connect(owner_dsn) as connection:
        hold_workflows(connection)
        known = read()
        connection.execute(
            "UPDATE system.workflows SET closed_at = %s WHERE closed_at IS NULL AND NOT id = ANY(%s)",
            [at, [each.id for each in known]],
        )
        connection.execute(
            """INSERT INTO system.workflows
                 (id, runbook, entity_id, cron, timezone, period_offset, pinned, paused, armed_at, created_at)
               SELECT * FROM unnest(%s::uuid[], %s::text[], %s::uuid[], %s::text[], %s::text[], %s::int[], %s::text[],
                                    %s::boolean[], %s::timestamptz[], %s::timestamptz[])
               ON CONFLICT (id) DO UPDATE SET paused = EXCLUDED.paused, armed_at = EXCLUDED.armed_at
                WHERE (workflows.paused, workflows.armed_at) IS DISTINCT FROM (EXCLUDED.paused, EXCLUDED.armed_at)""",
            [
                [each.id for each in known],
                [each.runbook for each in known],
                [each.entity_id for each in known],
                [each.schedule.cron if each.schedule else None for each in known],
                [each.schedule.timezone if each.schedule else None for each in known],
                [each.period_offset for each in known],
                [each.pinned for each in known],
                [each.paused for each in known],
                [each.armed_at for each in known],
                [each.created_at for each in known],
            ],
        )


def stop_workflow(owner_dsn: str, workflow: UUID) -> None:
    """Its ticks start nothing from now on. Before the registry says so: what is said to be paused never fires."""
    with psycopg.connect(owner_dsn) as connection:
        connection.execute("UPDATE system.workflows SET paused = TRUE WHERE id = %s AND NOT paused", [workflow])


def active_versions(owner_dsn: str) -> dict[str, str]:
    """Which version of which runbook is active, as deployments have it."""
    with psycopg.connect(owner_dsn) as connection:
        return dict(connection.execute("SELECT slug, version FROM system.active_runbooks").fetchall())
