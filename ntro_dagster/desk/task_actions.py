"""What the spec's endpoints do (section 7): decisions over a task's rows, and over single rows for operators.

All of it is filed as signals, which a run applies: nothing is written to a ledger here, whoever asks. What a desk has no
credential for is answered with 501 and what to use instead.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request
from psycopg import sql
from pydantic import BaseModel, Field

from ntro_dagster.desk.api import ERRORS, NO_NUL, LedgerName, Problem
from ntro_dagster.desk.doors import Database, Decider, RoleMayNotError, desk_of
from ntro_dagster.desk.review_api import ValuesInvalidError, as_model, receipt
from ntro_dagster.desk.roles import OPERATOR
from ntro_dagster.desk.rows import RowUnknownError, row_of
from ntro_dagster.desk.sittings import Sitting, label_of
from ntro_dagster.desk.task_shapes import RowDecided, TaskDecided
from ntro_dagster.desk.tasks import SPEC, TaskId, known_task, root
from ntro_dagster.errors import NtroError, UsageError
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.filing import Seen, file_matching, file_seen, summarise
from ntro_dagster.subledger.lifecycle import APPROVE, EDIT
from ntro_dagster.subledger.selection import Filter

REJECT = "reject"
ROW_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

ELSEWHERE: dict[int | str, dict[str, Any]] = {501: {"model": Problem, "description": "not at a desk"}}
router = APIRouter(prefix="/v1", responses=ERRORS, tags=[SPEC])


class NotAtADeskError(NtroError):
    """Values: `what`, `instead`."""

    code = "NOT_AT_A_DESK"
    summary = "a desk has no credential for that"
    detail = "a desk reads and files decisions; it cannot {what}"
    mend = "{instead}"


class TaskHasNoRowsError(UsageError):
    """Values: `task`."""

    code = "NO_ROWS_MATCHED"
    summary = "no row of that task can take the decision"
    detail = "task {task} has no row that can take the decision: each was decided, or waits for a decision already"
    mend = "GET /v1/tasks/{task}/ui shows what is open"


class SeenElsewhereError(UsageError):
    """Values: `named`, `known`."""

    code = "SEEN_SUBLEDGER_UNKNOWN"
    summary = "`seen` names what takes no such decision; nothing was filed"
    detail = "`seen` names {named}; the decision is for {known}"
    mend = "name only subledgers that take the decision, by their names in GET /v1/subledgers"


class RowIdInvalidError(UsageError):
    code = "ROW_ID_INVALID"
    summary = "a row's id is a UUID"
    mend = "send the id that the rows have"


class InvalidFieldError(UsageError):
    """Values: `field`, `editable`."""

    code = "INVALID_FIELD"
    summary = "that field is not for people to edit"
    detail = "{field!r} cannot be edited; these can: {editable}"
    mend = "name one of the editable fields"


class RowElsewhereError(UsageError):
    """Values: `currentStatus`."""

    code = "ILLEGAL_TRANSITION"
    summary = "the row's status does not lead there"
    detail = "the row is {currentStatus}, which does not lead there"
    mend = "look at the row again"


class TaskAction(BaseModel):
    """`seen`: by subledger the digest of a summary, for callers that bind to what somebody saw. Others are then left alone."""

    type: Literal["approved", "rejected"]
    comments: str | None = Field(None, max_length=2_000, pattern=NO_NUL)
    seen: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = Field(default_factory=dict, max_length=100)


class TaskRowAction(BaseModel):
    ledger: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    action: Literal["edit_cell", "reject_row"]
    rowId: UUID  # noqa: N815 - the spec's name
    field: str | None = Field(None, max_length=63, pattern=NO_NUL)
    value: str | int | bool | None = None


class CellValue(BaseModel):
    field: str = Field(max_length=63, pattern=NO_NUL)
    value: str | int | bool | None = None


def row_id(row: Annotated[str, Path(alias="rowId", max_length=100)]) -> UUID:
    """Raises: `RowIdInvalidError`."""
    if not ROW_ID.fullmatch(row):
        raise RowIdInvalidError
    return UUID(row)


RowId = Annotated[UUID, Depends(row_id)]


async def operator(member: Decider, database: Database) -> Sitting:
    """Who holds a key for operators. Raises: `RoleMayNotError`."""
    if member.kind != "key" or await label_of(database, member) != OPERATOR:
        raise RoleMayNotError(role=member.role)
    return member


Operator = Annotated[Sitting, Depends(operator)]


@router.post("/tasks/{task_id}/action", response_model=TaskDecided)
async def act(task_id: TaskId, action: TaskAction, request: Request, database: Database, member: Decider) -> dict[str, Any]:
    """Approve or reject every row that the run left clean and that nobody has decided upon. Raises: `SeenElsewhereError`."""
    task = await known_task(database, root(task_id))
    kind_of_signal = APPROVE if action.type == "approved" else REJECT
    reason = action.comments or (None if kind_of_signal == APPROVE else f"task {task['run_id']} was rejected")
    filed, skipped = [], Counter[str]()
    async with database.transaction():
        ledgers = (await desk_of(request).ledgers(database)).items()
        takers = {name: kind for name, kind in ledgers if kind_of_signal in kind.lifecycle.signals}
        if strange := action.seen.keys() - takers.keys():
            raise SeenElsewhereError(named=", ".join(sorted(strange)), known=", ".join(takers) or "none")
        for kind in takers.values():
            # Who binds to what was seen has not seen the rows of the others.
            if action.seen and kind.table not in action.seen:
                continue
            where = Filter(ids=await _rows_of(database, kind, task))
            summary = await summarise(database, kind, kind_of_signal, where, by=member.login)
            skipped.update(summary.skipped)
            told = action.seen.get(kind.table)
            seen = bytes.fromhex(told) if told else summary.seen
            filed += await file_matching(
                database, kind, kind_of_signal, filed_by=member.login, reason=reason, values=None, where=where, seen=seen
            )
        if not filed:
            raise TaskHasNoRowsError(task=task["run_id"])
        listed = [{"code": code, "count": times} for code, times in skipped.items()]
        return {"ok": True, "skipped": listed, **await receipt(database, filed)}


async def _rows_of(database: TenantDatabase, kind: TypeDescription, task: dict[str, Any]) -> tuple[UUID, ...]:
    found = await database.fetch(
        sql.SQL("SELECT id FROM {} WHERE entity_id = %s AND period = %s AND task_id = %s AND status = %s").format(
            sql.Identifier("ledgers", kind.table)
        ),
        [task["entity_id"], task["period"], task["run_id"], kind.lifecycle.clean],
    )
    return tuple(row["id"] for row in found)


@router.post("/tasks/{task_id}/row-action", response_model=RowDecided)
async def act_on_row(
    task_id: TaskId, action: TaskRowAction, request: Request, database: Database, member: Decider
) -> dict[str, Any]:
    """One cell, or one row that is turned down. The rest of the task stays as open as it was."""
    task = await known_task(database, root(task_id))
    kind = await desk_of(request).ledger(database, action.ledger)
    row = await row_of(database, kind, action.rowId)
    if (row["entity"], row["period"]) != (task["entity"], task["period"]):
        raise RowUnknownError(row=action.rowId)
    if action.action == "reject_row":
        return await _reject(database, kind, row, member, f"row rejected in task {task['run_id']}")
    reason = f"cell edited in task {task['run_id']}"
    return await _edit(request, database, kind, row, member=member, reason=reason, cell=(action.field, action.value))


@router.post("/subledgers/{ledger}/{rowId}/reject", response_model=RowDecided)
async def reject(ledger: LedgerName, row: RowId, request: Request, database: Database, member: Operator) -> dict[str, Any]:
    """For operators: turn down a row that is stuck."""
    kind = await desk_of(request).ledger(database, ledger)
    return await _reject(database, kind, await row_of(database, kind, row), member, "rejected by an operator, outside of a task")


@router.patch("/subledgers/{ledger}/{rowId}", response_model=RowDecided)
async def patch(
    ledger: LedgerName, row: RowId, cell: CellValue, request: Request, *, database: Database, member: Operator
) -> dict[str, Any]:
    """For operators: correct one cell."""
    kind = await desk_of(request).ledger(database, ledger)
    found = await row_of(database, kind, row)
    reason = "edited by an operator, outside of a task"
    return await _edit(request, database, kind, found, member=member, reason=reason, cell=(cell.field, cell.value))


async def _reject(
    database: TenantDatabase, kind: TypeDescription, row: dict[str, Any], member: Sitting, reason: str
) -> dict[str, Any]:
    target = kind.lifecycle.targets(REJECT).get(row["status"])
    if target is None:
        raise RowElsewhereError(currentStatus=row["status"])
    return {**await _filed(database, kind, row, member, signal=REJECT, reason=reason), "newStatus": target}


async def _edit(
    request: Request,
    database: TenantDatabase,
    kind: TypeDescription,
    row: dict[str, Any],
    *,
    member: Sitting,
    reason: str,
    cell: tuple[str | None, str | int | bool | None],
) -> dict[str, Any]:
    field, value = cell
    if field not in kind.editable:
        raise InvalidFieldError(field=field, editable=", ".join(kind.editable))
    if row["status"] not in kind.lifecycle.sources(EDIT):
        raise RowElsewhereError(currentStatus=row["status"])
    text = str(value).lower() if isinstance(value, bool) else None if value is None else str(value)
    if text is not None and "\x00" in text:
        raise ValuesInvalidError(fields={field: "a NUL cannot be stored"})
    if wrong := await desk_of(request).models.errors(kind.table, as_model(row), {field: text}, row["status"]):
        raise ValuesInvalidError(fields=wrong)
    filed = await _filed(database, kind, row, member, signal=EDIT, reason=reason, values={field: text})
    return {**filed, "field": field, "value": value}


async def _filed(
    database: TenantDatabase,
    kind: TypeDescription,
    row: dict[str, Any],
    member: Sitting,
    *,
    signal: str,
    reason: str,
    values: dict[str, str | None] | None = None,
) -> dict[str, Any]:
    seen = [Seen(UUID(row["id"]), bytes.fromhex(row["digest"]))]
    (filed,) = await file_seen(database, kind, signal, filed_by=member.login, reason=reason, values=values, rows=seen)
    return {"status": "FILED", "rowId": row["id"], "signalId": filed.signal_id}


# What is done elsewhere


@router.post("/tasks/{task_id}/events", status_code=501, responses=ELSEWHERE)
async def told(task_id: TaskId, database: Database, _: Decider) -> None:
    """Not at a desk: runs write what they did themselves."""
    await known_task(database, root(task_id))
    raise NotAtADeskError(what="write a run's events", instead="runs record their own; GET the same address to read them")
