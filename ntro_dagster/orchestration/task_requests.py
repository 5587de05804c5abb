"""Runs that members asked for at the desk: which of them wait, and what became of each. Every request is settled once."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from ntro_dagster.boundary.names import request_key
from ntro_dagster.errors import NtroError
from ntro_dagster.platforms.postgres.database import TenantDatabase

LIMIT = 500
"""Requests that are looked at in one tick: they wait for a sensor, or for their run to begin."""
NOT_BEGUN = "RUN_DID_NOT_BEGIN"
"""Why a request is refused whose run was cancelled in the queue, or died before its first step."""


class RequestSettledError(NtroError):
    """Values: `request`."""

    code = "REQUEST_IS_SETTLED"
    summary = "the request that the run was started for is another run's, or was refused"
    detail = "request {request} was settled before this run began"
    mend = "ask for the run again at the desk"


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """One that waits.

    Attributes:
        version: of the runbook, that the entity is pinned to, or that is active; None where it was not deployed as one.
        overtaken: the code of what has made it impossible since it was filed.
    """

    id: UUID
    entity: str
    period: str
    version: str | None
    overtaken: str | None

    @property
    def run_key(self) -> str:
        return request_key(self.id)


_WAITING = """
SELECT q.id, e.slug AS entity, q.period, coalesce(w.pinned, a.version) AS version,
       CASE WHEN w.closed_at IS NOT NULL THEN 'WORKFLOW_HAS_ENDED' WHEN e.status <> 'ACTIVE' THEN 'ENTITY_CLOSED' END AS overtaken
  FROM system.task_requests q JOIN system.entities e ON e.id = q.entity_id JOIN system.workflows w ON w.id = q.workflow_id
  LEFT JOIN system.active_runbooks a ON a.slug = q.runbook
 WHERE q.settled_at IS NULL AND q.runbook = %s ORDER BY q.seq LIMIT %s"""


async def requests_waiting(database: TenantDatabase, runbook: str) -> list[TaskRequest]:
    """The oldest first."""
    return [TaskRequest(**row) for row in await database.fetch(_WAITING, [runbook, LIMIT])]


async def refuse(database: TenantDatabase, codes: dict[UUID, str]) -> None:
    """Those that a run has taken up meanwhile stay what they are."""
    if codes:
        await database.execute(
            """UPDATE system.task_requests q SET settled_at = now(), code = r.code
                 FROM unnest(%s::uuid[], %s::text[]) AS r (id, code) WHERE q.id = r.id AND q.settled_at IS NULL""",
            [list(codes), list(codes.values())],
        )


_TAKE_UP = """
WITH taken AS (
    UPDATE system.task_requests SET settled_at = now(), run_id = %(run)s
     WHERE id = %(request)s AND entity_id = %(entity)s AND period = %(period)s AND settled_at IS NULL RETURNING run_id)
SELECT run_id FROM taken
UNION ALL SELECT run_id FROM system.task_requests WHERE id = %(request)s AND entity_id = %(entity)s AND period = %(period)s"""


async def take_up(database: TenantDatabase, request: UUID, *, run_id: UUID, entity_id: UUID, period: str) -> None:
    """Note that the run begins; each of its steps does so. Raises: `RequestSettledError`."""
    asked = {"request": request, "run": run_id, "entity": entity_id, "period": period}
    if all(row["run_id"] != run_id for row in await database.fetch(_TAKE_UP, asked)):
        raise RequestSettledError(request=request)
