"""Entities and tasks, as the spec's tenant API has them (section 7). A task is a run: its id is the run's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request
from psycopg import sql

from ntro_dagster.boundary.periods import PATTERN as PERIOD_PATTERN
from ntro_dagster.bundles.active import ActiveSetError, active_set
from ntro_dagster.bundles.runbook_md import read_page
from ntro_dagster.desk.activity import RunUnknownError, run
from ntro_dagster.desk.api import ERRORS, NO_NUL
from ntro_dagster.desk.documents import media_type
from ntro_dagster.desk.doors import Database, Member, desk_of
from ntro_dagster.desk.month import EntityMonthUnknownError, closes
from ntro_dagster.desk.rows import plain, plain_row
from ntro_dagster.desk.task_shapes import (
    EntitySummary,
    Event,
    File,
    StartParam,
    StepSnapshot,
    TaskSummary,
    UIState,
    WorkflowListed,
)
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.tenant.entities import Entity

MOST_TASKS, MOST_FILES, MOST_EVENTS = 100, 20, 500
SPEC = "spec 7"
"""Tag of the routes that follow the spec, also in this: what is wrong with a body is a 400."""
IN_PROGRESS, COMPLETED, FAILED, WAITS = "IN_PROGRESS", "COMPLETED", "FAILED", "PENDING"
STEPS = {"ingest": "Reading documents", "review": "Review", "posting": "Posting", "close": "Close"}

router = APIRouter(prefix="/v1", responses=ERRORS, tags=[SPEC])
TaskId = Annotated[str, Path(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(:[a-z0-9_.:-]{1,200})?$")]


def root(task: str) -> UUID:
    """The run of a task, or of the parent of `parent:step:slug`."""
    return UUID(task.partition(":")[0])


@router.get("/entities", response_model=list[EntitySummary])
async def entities(database: Database, _: Member) -> list[dict[str, Any]]:
    """What this tenant keeps books for."""
    return await database.fetch(
        'SELECT e.id, (SELECT id FROM system.tenant) AS "tenantId", e.slug, e.name FROM system.entities e ORDER BY e.slug'
    )


@router.get("/entities/{entity_id}/tasks", response_model=list[TaskSummary])
async def tasks(entity_id: UUID, request: Request, database: Database, _: Member) -> list[dict[str, Any]]:
    """Its last runs, and what each waits for."""
    await known_entity(database, entity_id)
    found = await database.fetch(f"{_TASKS} WHERE r.entity_id = %s ORDER BY r.began_at DESC LIMIT %s", [entity_id, MOST_TASKS])
    open_rows = await _open(database, await desk_of(request).ledgers(database), entity_id)
    return [_summed_up(task, open_rows.get(task["period"], {})) for task in found]


@router.get("/entities/{entity_id}/workflows", response_model=list[WorkflowListed])
async def workflows(entity_id: UUID, database: Database, _: Member) -> list[dict[str, Any]]:
    """Runbooks that run for it, and what a run of each has to be told."""
    await known_entity(database, entity_id)
    found = await database.fetch(
        "SELECT id, runbook FROM system.workflows WHERE entity_id = %s AND closed_at IS NULL ORDER BY runbook", [entity_id]
    )
    return [{"id": row["id"], "name": row["runbook"], "startParams": start_params(row["runbook"])} for row in found]


def start_params(runbook: str) -> list[StartParam] | None:
    """From the page of the active version; None where there is no reading it, as the spec has it."""
    try:
        (bundle,) = (bundle for bundle in active_set().bundles if bundle.slug == runbook)
    except (ActiveSetError, ValueError):
        return None
    head = read_page(bundle.root).head
    return params_of(head.parameters) if head else None


def params_of(parameters: Mapping[str, Any]) -> list[StartParam]:
    """The month, and a runbook's own. Args: `parameters`: their JSON Schema."""
    params = [StartParam(key="period", type="string", pattern=PERIOD_PATTERN, required=True)]
    for key, schema in (parameters.get("properties") or {}).items():
        told = {name: schema[name] for name in ("description", "pattern", "enum", "default") if name in schema}
        # As `bundles.parameter_values` has it: a default stands for what is required.
        required = key in (parameters.get("required") or ()) and "default" not in schema
        params.append(StartParam(key=key, type=schema.get("type", "string"), required=required, **told))
    return params


@router.get("/tasks/{task_id}/ui", response_model=UIState)
async def ui(task_id: TaskId, request: Request, database: Database, _: Member) -> dict[str, Any]:
    """Where the task stands: its steps, and what a page should show."""
    task = await known_task(database, root(task_id))
    ledgers = await desk_of(request).ledgers(database)
    rows = (await _open(database, ledgers, task["entity_id"])).get(task["period"], {})
    drawn_up = await closes(database, task["entity_id"], task["period"])
    steps = _steps(task, rows, closed=bool(drawn_up))
    current = next((step for step, status in steps.items() if status != COMPLETED), "close")
    return {
        "task": _summed_up(task, rows),
        "step": {
            "id": current,
            "title": STEPS[current],
            "displayHint": {"component": _component(rows) or "SUMMARY", "config": {"period": task["period"], "open": rows}},
            "args": {"entity": task["entity"], "period": task["period"], "ledgers": sorted(rows)},
        },
        "steps": [{"id": step, "status": status} for step, status in steps.items()],
    }


def _steps(task: Mapping[str, Any], rows: Mapping[str, Mapping[str, int]], *, closed: bool) -> dict[str, str]:
    waiting = any(counts.get("review") for counts in rows.values())
    posting = any(counts.get("posting") for counts in rows.values())
    done = [not task["errors"], not waiting, not waiting and not posting, closed and not waiting and not posting]
    steps: dict[str, str] = {}
    for step, is_done in zip(STEPS, done, strict=True):
        before = all(status == COMPLETED for status in steps.values())
        steps[step] = COMPLETED if is_done and before else (IN_PROGRESS if before else WAITS)
    if task["errors"]:
        steps["ingest"] = FAILED
    return steps


@router.get("/tasks/{task_id}/snapshots", response_model=dict[str, StepSnapshot])
async def snapshots(task_id: TaskId, database: Database, _: Member) -> dict[str, Any]:
    """By step, what the run did and what members decided in its month."""
    task = await known_task(database, root(task_id))
    did = await run(database, task["run_id"], None)
    decided = await database.fetch(
        """SELECT s.id, s.subledger, s.kind, s.filed_by, s.filed_at, s.applied_at, s.reason, count(*) AS rows,
                  count(*) FILTER (WHERE r.outcome IN ('APPLIED', 'SIGNED')) AS applied
             FROM system.signals s JOIN system.signal_rows r ON r.signal_id = s.id
            WHERE s.entity_id = %s AND s.period = %s GROUP BY s.id ORDER BY s.seq DESC LIMIT %s""",
        [task["entity_id"], task["period"], MOST_EVENTS],
    )
    steps = [plain_row(step) for step in did["steps"]]
    return {
        "ingest": {"shown": {"steps": [step for step in steps if not step["kind"]]}, "decided": []},
        "review": {
            "shown": {"steps": [step for step in steps if step["kind"]]},
            "decided": [plain_row(each) for each in decided],
        },
    }


@router.get("/tasks/{task_id}/events", response_model=list[Event])
async def events(task_id: TaskId, database: Database, _: Member) -> list[dict[str, Any]]:
    """What the run did and how it failed, the oldest first. Of many steps the last are told; how it failed always is."""
    task = await known_task(database, root(task_id))
    return events_of(task, await run(database, task["run_id"], None))


def events_of(task: Mapping[str, Any], did: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Args: `did`: what `activity.run` found."""
    told = [{"at": plain(task["began_at"]), "type": "started", "data": {"runbook": task["runbook"], "version": task["version"]}}]
    room = max(0, MOST_EVENTS - len(told) - len(did["errors"]))
    for step in did["steps"][max(0, len(did["steps"]) - room) :]:
        data = {name: plain(value) for name, value in step.items() if name != "at"}
        told.append({"at": plain(step["at"]), "type": "rows_changed", "data": data})
    for error in did["errors"]:
        data = {name: plain(error[name]) for name in ("id", "step", "code", "story", "advice")}
        told.append({"at": plain(error["at"]), "type": "failed", "data": data})
    return sorted(told, key=lambda event: event["at"])


@router.get("/tasks/{task_id}/files", response_model=list[File])
async def files(
    task_id: TaskId, database: Database, _: Member, source: Annotated[str | None, Query(max_length=100, pattern=NO_NUL)] = None
) -> list[dict[str, Any]]:
    """The last documents of the task's entity and month."""
    task = await known_task(database, root(task_id))
    rows = await database.fetch(
        """SELECT d.id, d.name, d.source, d.period, d.bytes, d.submitted_at FROM ingest.submitted_documents d
            WHERE d.id IN (SELECT document_id FROM ingest.submitted_records WHERE entity_id = %(entity)s AND period = %(period)s)
              AND (%(source)s::text IS NULL OR d.source = %(source)s) ORDER BY d.submitted_at DESC, d.id LIMIT %(most)s""",
        {"entity": task["entity_id"], "period": task["period"], "source": source, "most": MOST_FILES},
    )
    return [
        {
            "id": row["id"],
            "name": row["name"],
            "source": row["source"],
            "period": row["period"],
            "bytes": row["bytes"],
            "submittedAt": plain(row["submitted_at"]),
            "mediaType": media_type(row["name"]),
        }
        for row in rows
    ]


_TASKS = """SELECT r.run_id, r.entity_id, e.slug AS entity, r.period, r.runbook, r.version, r.began_at, w.id AS workflow_id,
                   (SELECT count(*) FROM system.errors x WHERE x.run_id = r.run_id) AS errors
              FROM system.runs r JOIN system.entities e ON e.id = r.entity_id
              LEFT JOIN system.workflows w ON w.runbook = r.runbook AND w.entity_id = r.entity_id AND w.closed_at IS NULL"""


async def known_task(database: TenantDatabase, task: UUID) -> dict[str, Any]:
    """Raises: `RunUnknownError`."""
    found = await database.fetch_one(f"{_TASKS} WHERE r.run_id = %s", [task])
    if found is None:
        raise RunUnknownError(run=task)
    return found


async def known_entity(database: TenantDatabase, entity: UUID) -> Entity:
    """Raises: `EntityMonthUnknownError`."""
    found = await database.fetch_one("SELECT id, slug, name, currency, status FROM system.entities WHERE id = %s", [entity])
    if found is None:
        raise EntityMonthUnknownError(entity=str(entity))
    return Entity(**found)


Counts = dict[str, dict[str, dict[str, int]]]
"""By period and subledger: rows that wait for people in doubt and clean, and for the posting run."""


async def _open(database: TenantDatabase, ledgers: Mapping[str, TypeDescription], entity: UUID) -> Counts:
    counted = sql.SQL(" UNION ALL ").join(
        sql.SQL(
            "SELECT {ledger} AS ledger, t.period, count(*) FILTER (WHERE t.status = {doubt}) AS doubt, "
            "count(*) FILTER (WHERE t.status <> {doubt} AND t.status IS DISTINCT FROM {approved}) AS clean, "
            "count(*) FILTER (WHERE t.status = {approved}) AS posting "
            "FROM {table} t WHERE t.entity_id = %(entity)s AND t.status = ANY({open}) GROUP BY t.period"
        ).format(
            ledger=sql.Literal(kind.table),
            doubt=sql.Literal(kind.lifecycle.in_doubt),
            approved=sql.Literal(kind.lifecycle.approved),
            open=sql.Literal(list(kind.lifecycle.open)),
            table=sql.Identifier("ledgers", kind.table),
        )
        for kind in ledgers.values()
    )
    found: Counts = {}
    for row in await database.fetch(counted, {"entity": entity}) if ledgers else []:
        counts = {name: row[name] for name in ("doubt", "clean", "posting")}
        found.setdefault(row["period"], {})[row["ledger"]] = counts | {"review": row["doubt"] + row["clean"]}
    return found


def _summed_up(task: Mapping[str, Any], rows: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    status = FAILED if task["errors"] else IN_PROGRESS if rows else COMPLETED
    return {
        "id": task["run_id"],
        "title": f"{task['runbook'] or 'month-end'} {task['period']}",
        "status": status,
        "priority": "HIGH" if any(counts["doubt"] for counts in rows.values()) else "NORMAL",
        "awaiting": _component(rows) if status == IN_PROGRESS else None,
        "entityId": task["entity_id"],
        "workflowId": task["workflow_id"],
        "createdAt": plain(task["began_at"]),
    }


def _component(rows: Mapping[str, Mapping[str, int]]) -> str | None:
    """What a page shows (spec, 15): rows in doubt as a table, clean ones for approval, else that something is at work."""
    if any(counts["doubt"] for counts in rows.values()):
        return "DATA_TABLE"
    if any(counts["clean"] for counts in rows.values()):
        return "APPROVAL"
    return "LOADING" if rows else None
