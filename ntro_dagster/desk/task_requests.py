"""Runs that members ask for (spec, section 7.2). The desk files the request; a sensor of the tenant's starts the run.

What a run of a workflow has to be told is its month. The other parameters are the operator's (decision 021): a caller may name
them to be sure of them, and is refused where they are set otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path
from psycopg.types.json import Jsonb
from pydantic import BaseModel, Field
from starlette.responses import Response

from ntro_dagster.boundary.periods import open_period
from ntro_dagster.bundles.active import ActiveSetError, active_set
from ntro_dagster.bundles.parameter_values import effective
from ntro_dagster.bundles.runbook_md import read_page
from ntro_dagster.desk.api import ERRORS
from ntro_dagster.desk.doors import Database, Member, RoleMayNotError
from ntro_dagster.desk.roles import OPERATOR
from ntro_dagster.desk.rows import plain_row
from ntro_dagster.desk.sittings import Sitting, label_of
from ntro_dagster.desk.task_shapes import TaskRequested
from ntro_dagster.desk.tasks import SPEC, known_entity, params_of
from ntro_dagster.errors import NotFoundError, UsageError
from ntro_dagster.platforms.postgres.database import TenantDatabase

MAY_ASK, MAY_ASK_WITH_A_KEY = frozenset({"preparer", "approver"}), frozenset({"preparer", "approver", "agent"})
"""As `system.must_be_preparer` says, which is what refuses."""

router = APIRouter(prefix="/v1", responses=ERRORS, tags=[SPEC])


class WorkflowUnknownError(NotFoundError):
    """Values: `workflow`."""

    code = "WORKFLOW_NOT_FOUND"
    summary = "no such workflow of this entity"
    detail = "the entity has no workflow {workflow}"
    mend = "GET /v1/entities/ID/workflows lists those it has"


class RequestUnknownError(NotFoundError):
    """Values: `request`."""

    code = "REQUEST_NOT_FOUND"
    summary = "no such request"
    detail = "nobody has asked for a run under {request}"
    mend = "use the id that the answer to the request had"


class AlreadyRequestedError(UsageError):
    """Values: `runbook`, `period`."""

    code = "ALREADY_REQUESTED"
    summary = "somebody has asked for that run already, and it has not begun"
    detail = "a run of {runbook} for {period} is asked for already"
    mend = "wait until it has begun; the page of the month shows it"


class RunbookNotActiveError(UsageError):
    """Values: `runbook`."""

    code = "RUNBOOK_NOT_ACTIVE"
    summary = "the workflow's runbook is not deployed"
    detail = "{runbook} is not deployed here, so nothing would start"
    mend = "an operator deploys it with `ntro workflow deploy`"


class ContextInvalidError(UsageError):
    """Values: `name`, `why`."""

    code = "CONTEXT_INVALID"
    summary = "the context is not what the workflow's startParams ask for"
    detail = "{name}: {why}"
    mend = "GET /v1/entities/ID/workflows lists what it takes"


class ParameterSetOtherwiseError(UsageError):
    """Values: `name`."""

    code = "PARAMETER_SET_OTHERWISE"
    summary = "a parameter is set to something else for this entity; nothing was filed"
    detail = "{name} is set to something else for this entity"
    mend = "leave it out, or have an operator set it with `ntro workflow set`"


async def asker(member: Member, database: Database) -> Sitting:
    """Who may ask for runs and hand things in; with a key only an operator's. Raises: `RoleMayNotError`."""
    by_key = member.kind == "key"
    if member.role not in (MAY_ASK_WITH_A_KEY if by_key else MAY_ASK) or (
        by_key and await label_of(database, member) != OPERATOR
    ):
        raise RoleMayNotError(role=member.role)
    return member


Asker = Annotated[Sitting, Depends(asker)]


class TaskWanted(BaseModel):
    """`context`: by the keys of the workflow's startParams."""

    workflowId: UUID  # noqa: N815 - the spec's name
    context: dict[str, Any] = Field(default_factory=dict, max_length=100)


@router.post("/entities/{entity_id}/tasks", status_code=202, response_model=TaskRequested)
async def start(entity_id: UUID, wanted: TaskWanted, database: Database, member: Asker, response: Response) -> dict[str, Any]:
    """Ask for a run. It begins within seconds; GET the `Location` to see what became of it."""
    await known_entity(database, entity_id)
    filed = await ask_for(database, entity_id, wanted.workflowId, wanted.context, by=member.login)
    response.headers["Location"] = f"/v1/task-requests/{filed['id']}"
    return filed


@router.get("/task-requests/{request_id}", response_model=TaskRequested)
async def requested(request_id: Annotated[UUID, Path()], database: Database, _: Member) -> dict[str, Any]:
    """What became of a request."""
    found = await database.fetch_one(f"{_REQUESTS} WHERE q.id = %s", [request_id])
    if found is None:
        raise RequestUnknownError(request=request_id)
    return plain_row(found)


async def ask_for(
    database: TenantDatabase, entity_id: UUID, workflow_id: UUID, context: Mapping[str, Any], *, by: str
) -> dict[str, Any]:
    """File a request. Raises: `WorkflowUnknownError`, `RunbookNotActiveError`, `ContextInvalidError`, `PeriodInvalidError`,
    `PeriodOutOfRangeError`, `ParameterSetOtherwiseError`, `ParameterInvalidError`, `AlreadyRequestedError`, and what the database
    refuses.
    """
    bound = await database.fetch_one(
        """SELECT w.id, w.runbook, w.pinned, system.parameters_of(w.id, coalesce(w.pinned, a.version)) AS set
             FROM system.workflows w LEFT JOIN system.active_runbooks a ON a.slug = w.runbook
            WHERE w.id = %s AND w.entity_id = %s AND w.closed_at IS NULL""",
        [workflow_id, entity_id],
    )
    if bound is None:
        raise WorkflowUnknownError(workflow=workflow_id)
    period = _checked(context, _parameters(bound["runbook"], bound["pinned"]), bound["set"])
    filed = await database.fetch_one(
        """INSERT INTO system.task_requests (workflow_id, period, context, filed_by) VALUES (%s, %s, %s, %s)
           ON CONFLICT (workflow_id, period) WHERE settled_at IS NULL DO NOTHING RETURNING id""",
        [bound["id"], period, Jsonb(dict(context)), by],
    )
    if filed is None:
        raise AlreadyRequestedError(runbook=bound["runbook"], period=period)
    return plain_row(await database.fetch_single(f"{_REQUESTS} WHERE q.id = %s", [filed["id"]]))


def _parameters(runbook: str, pinned: str | None) -> Mapping[str, Any]:
    """JSON Schema of the version that would run. Raises: `RunbookNotActiveError`."""
    try:
        active = active_set()
    except ActiveSetError:
        raise RunbookNotActiveError(runbook=runbook) from None
    for bundle in active.pinned if pinned else active.bundles:
        if bundle.slug == runbook and pinned in {None, bundle.version} and (head := read_page(bundle.root).head):
            return head.parameters
    raise RunbookNotActiveError(runbook=runbook)


def _checked(context: Mapping[str, Any], schema: Mapping[str, Any], set_values: Mapping[str, Any]) -> str:
    """The month."""
    known = {param.key for param in params_of(schema)}
    if unknown := sorted(context.keys() - known):
        raise ContextInvalidError(name=unknown[0], why="is none of the workflow's startParams")
    if not isinstance(period := context.get("period"), str):
        raise ContextInvalidError(name="period", why="is required, as YYYY-MM")
    in_force = effective(schema, set_values)
    for name in context.keys() - {"period"}:
        if type(context[name]) is not type(in_force.get(name)) or context[name] != in_force[name]:
            raise ParameterSetOtherwiseError(name=name)
    return open_period(period)


_REQUESTS = """
SELECT q.id, CASE WHEN q.settled_at IS NULL THEN 'REQUESTED' WHEN q.run_id IS NULL THEN 'REFUSED' ELSE 'STARTED' END AS state,
       q.entity_id AS "entityId", q.workflow_id AS "workflowId", q.runbook AS workflow, q.period, q.run_id AS "taskId", q.code,
       q.filed_by AS "filedBy", q.filed_at AS "filedAt", q.settled_at AS "settledAt"
  FROM system.task_requests q"""
