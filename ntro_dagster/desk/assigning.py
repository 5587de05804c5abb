"""Who looks after which rows: assigned by members, to members who prepare or approve; the last assignment of a row counts."""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from psycopg import sql
from pydantic import BaseModel, Field, model_validator

from ntro_dagster.desk.api import ERRORS, NO_NUL, FilterBody, LedgerName
from ntro_dagster.desk.doors import Database, Member, desk_of
from ntro_dagster.desk.rows import chosen
from ntro_dagster.desk.shapes import Assignable, AssignedRows, AssignmentSummary
from ntro_dagster.desk.sittings import Sitting
from ntro_dagster.desk.task_requests import MAY_ASK, Asker
from ntro_dagster.errors import UsageError
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.filing import ContentMovedError

MOST_NAMED = 10_000

router = APIRouter(prefix="/v1", responses=ERRORS)


class AssigneeInvalidError(UsageError):
    """Values: `assignee`."""

    code = "ASSIGNEE_INVALID"
    summary = "rows are assigned to active members who prepare or approve"
    detail = "{assignee} is no active member who prepares or approves"
    mend = "GET /v1/members lists who may be named"


class AssignedFilter(BaseModel):
    filter: FilterBody


class Assignment(BaseModel):
    """Rows by their ids, or everything that a filter matches, with what the summary said was `seen`. `assignee`: null, nobody."""

    assignee: str | None = Field(max_length=80, pattern=NO_NUL)
    ids: list[UUID] | None = Field(None, max_length=MOST_NAMED)
    filter: FilterBody | None = None
    seen: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _one_of_both(self) -> Assignment:
        by_filter = self.filter is not None and self.seen is not None
        if (self.ids is not None) == by_filter or (self.filter is None) != (self.seen is None):
            raise ValueError("send `ids`, or `filter` and `seen` from the summary")
        return self


@router.get("/members", response_model=list[Assignable])
async def members(database: Database, _: Member) -> list[dict[str, Any]]:
    """Who rows may be assigned to."""
    return await database.fetch(
        "SELECT login, name, role FROM system.members WHERE active AND role = ANY(%s) ORDER BY name, login", [sorted(MAY_ASK)]
    )


@router.post("/subledgers/{ledger}/assignments/summary", response_model=AssignmentSummary)
async def summary(
    ledger: LedgerName, asked: AssignedFilter, request: Request, database: Database, member: Member
) -> dict[str, Any]:
    """A dry run: how many rows the filter matches, and one digest over all that they say."""
    kind = await desk_of(request).ledger(database, ledger)
    found = await _seen(database, kind, asked.filter, member)
    return {"count": len(found[0]), "seen": found[1]}


@router.post("/subledgers/{ledger}/assignments", status_code=201, response_model=AssignedRows)
async def assign(ledger: LedgerName, wanted: Assignment, request: Request, database: Database, member: Asker) -> dict[str, Any]:
    """All of the rows, or none (409)."""
    kind = await desk_of(request).ledger(database, ledger)
    if wanted.assignee is not None and not await database.fetch_one(
        "SELECT login FROM system.members WHERE login = %s AND active AND role = ANY(%s)", [wanted.assignee, sorted(MAY_ASK)]
    ):
        raise AssigneeInvalidError(assignee=wanted.assignee)
    async with database.transaction():
        ids = wanted.ids
        if wanted.filter is not None:
            ids, seen = await _seen(database, kind, wanted.filter, member)
            if seen != wanted.seen:
                raise ContentMovedError
        assigned = await database.execute(
            """INSERT INTO system.assignments (subledger, row_id, assignee, assigned_by)
               SELECT %s, id, %s, %s FROM (SELECT DISTINCT unnest(%s::uuid[]) AS id ORDER BY 1) each""",
            [kind.table, wanted.assignee, member.login, ids],
        )
    return {"assigned": assigned, "assignee": wanted.assignee}


async def _seen(database: TenantDatabase, kind: TypeDescription, body: FilterBody, member: Sitting) -> tuple[list[UUID], str]:
    condition, values = chosen(kind, body.where(), body.group, member)
    rows = await database.fetch(
        sql.SQL("SELECT t.id, {}(t) AS digest FROM {} t WHERE {} ORDER BY t.id").format(
            sql.Identifier("ledgers", f"{kind.table}_digest"), sql.Identifier("ledgers", kind.table), condition
        ),
        values,
    )
    seen = hashlib.sha256()
    for row in rows:
        seen.update(row["id"].bytes + bytes(row["digest"]))
    return [row["id"] for row in rows], seen.hexdigest()
