"""JSON about rows, documents and views: what the pages' scripts and programs read."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Path, Query, Request
from psycopg.types.json import Jsonb
from pydantic import BaseModel, Field, field_validator
from starlette.responses import FileResponse, Response

from ntro_dagster.boundary.periods import PATTERN as PERIOD_PATTERN
from ntro_dagster.desk import documents, shapes
from ntro_dagster.desk.desk import Desk
from ntro_dagster.desk.doors import Database, Decider, Member, desk_of
from ntro_dagster.desk.groups import count_groups
from ntro_dagster.desk.row_story import row_story
from ntro_dagster.desk.rows import MOST_ROWS, changed_since, index, plain_row, row_of, window
from ntro_dagster.desk.sittings import Sitting
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.lifecycle import ACCEPT, APPROVE, EDIT
from ntro_dagster.subledger.raw import holds_escapes, jsonable
from ntro_dagster.subledger.selection import Filter

LARGEST_NUMBER = 2**62
LONGEST_VIEW = 9_000
"""Characters of JSON; the table takes 10,000 as PostgreSQL writes them."""


class Problem(BaseModel):
    """An error: what happened, in words, and its code."""

    statusCode: int  # noqa: N815 - the spec's name
    message: str
    error: str
    advice: str | None = None


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": what}
    for status, what in {
        400: "not understood",
        401: "nobody is logged in",
        403: "the role may not",
        404: "no such thing",
        409: "it is not so any more",
        411: "a length is missing",
        413: "too large",
        421: "another host",
        422: "not valid",
        429: "too often",
        503: "try again",
    }.items()
}
router = APIRouter(prefix="/v1", responses=ERRORS)

LedgerName = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
NO_NUL = r"^[^\x00]*$"
Text = Annotated[str, Query(max_length=200, pattern=NO_NUL)]
Slug = Annotated[str, Query(max_length=63, pattern=NO_NUL)]


Sort = Annotated[str | None, Query(max_length=64, pattern=NO_NUL)]
Group = Literal["ready", "mine", "waiting", "assigned", "changed"] | None


class FilterBody(BaseModel):
    """Rows of a subledger; what is left out does not narrow."""

    entity: str | None = Field(None, max_length=63, pattern=NO_NUL)
    period: str | None = Field(None, pattern=PERIOD_PATTERN)
    status: list[Annotated[str, Field(max_length=40, pattern=NO_NUL)]] = Field(default_factory=list, max_length=40)
    group: Group = None
    q: str | None = Field(None, max_length=200, pattern=NO_NUL)

    def where(self) -> Filter:
        return Filter(entity=self.entity, period=self.period, statuses=tuple(self.status) or None, text=self.q or None)


def wanted(
    entity: Slug | None = None,
    period: Annotated[str | None, Query(pattern=PERIOD_PATTERN)] = None,
    status: Annotated[str | None, Query(max_length=400, pattern=NO_NUL)] = None,
    q: Text | None = None,
) -> Filter:
    """The filter of an address."""
    statuses = tuple(each for each in (status or "").split(",") if each)
    return Filter(entity=entity, period=period, statuses=statuses or None, text=q or None)


Wanted = Annotated[Filter, Depends(wanted)]


class Ids(BaseModel):
    ids: list[UUID] = Field(max_length=MOST_ROWS)


class Comment(BaseModel):
    text: str = Field(min_length=1, max_length=4_000, pattern=r"^[^\x00]*[^\x00\s][^\x00]*$")


class View(BaseModel):
    subledger: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    query: dict[str, Any]

    @field_validator("query")
    @classmethod
    def _storable(cls, query: dict[str, Any]) -> dict[str, Any]:
        kept = jsonable(query)
        if holds_escapes(kept) or len(json.dumps(kept, ensure_ascii=False, separators=(", ", ": "))) > LONGEST_VIEW:
            raise ValueError(f"more than {LONGEST_VIEW} characters, or one that cannot be stored")
        return query


def described(kind: TypeDescription, member: Sitting) -> dict[str, Any]:
    """A row type for a page or program: its columns, its statuses, what this member may decide."""
    life = kind.lifecycle
    return {
        "name": kind.table,
        "title": kind.name.replace("_", " "),
        "owner_runbook": kind.owner_runbook,
        "columns": [{"name": name, "type": kind.columns[name], "editable": name in kind.editable} for name in kind.content],
        "statuses": list(life.statuses),
        "initial": list(life.initial),
        "open": list(life.open),
        "approved": life.approved,
        "posted": life.posted,
        "signals": [
            {
                "kind": signal,
                "sources": life.sources(signal),
                "targets": life.targets(signal),
                "needs_reason": signal != APPROVE,
                "takes_values": signal in {EDIT, ACCEPT},
                "allowed": member.may_file(signal),
            }
            for signal in life.signals
        ],
    }


@router.get("/me", response_model=shapes.Me)
async def me(member: Member) -> dict[str, Any]:
    """Who is logged in."""
    return {"login": member.login, "name": member.name, "role": member.role, "kind": member.kind}


@router.get("/subledgers", response_model=list[shapes.Ledger])
async def subledgers(request: Request, database: Database, member: Member) -> list[dict[str, Any]]:
    """The row types of this tenant."""
    return [described(kind, member) for kind in (await desk_of(request).ledgers(database)).values()]


@router.get("/subledgers/{ledger}/index", response_class=Response, responses={200: {"content": {"application/octet-stream": {}}}})
async def rows_index(
    ledger: LedgerName,
    request: Request,
    database: Database,
    member: Member,
    *,
    where: Wanted,
    group: Group = None,
    sort: Sort = None,
) -> Response:
    """Id and number of status of every row that matches, 17 bytes each, in order."""
    kind = await desk_of(request).ledger(database, ledger)
    found = await index(database, kind, where, group=group, sort=sort, member=member)
    headers = {
        "X-Ntro-Count": str(found.count),
        "X-Ntro-Statuses": ",".join(found.statuses),
        "X-Ntro-Change": str(found.change),
    }
    return Response(found.packed, media_type="application/octet-stream", headers=headers)


@router.post("/subledgers/{ledger}/rows", response_model=shapes.Rows)
async def rows(ledger: LedgerName, sought: Ids, request: Request, database: Database, member: Member) -> dict[str, Any]:
    """The contents of these rows, in the order asked."""
    return {"rows": await window(database, await desk_of(request).ledger(database, ledger), sought.ids, member)}


@router.get("/subledgers/{ledger}/rows/{row_id}", response_model=shapes.RowStory)
async def one_row(ledger: LedgerName, row_id: UUID, request: Request, database: Database, _: Member) -> dict[str, Any]:
    """A row with its source, its history, its edits, its comments, and rows that look the same."""
    return await row_story(database, await desk_of(request).ledger(database, ledger), row_id)


@router.get("/subledgers/{ledger}/changes", response_model=shapes.Changes)
async def changes(
    ledger: LedgerName, request: Request, database: Database, _: Member, after: Annotated[int, Query(ge=0, le=LARGEST_NUMBER)] = 0
) -> dict[str, Any]:
    """Rows that changed since."""
    return await changed_since(database, await desk_of(request).ledger(database, ledger), after)


@router.post("/subledgers/{ledger}/rows/{row_id}/comments", status_code=201, response_model=shapes.CommentSaid)
async def comment(
    ledger: LedgerName, row_id: UUID, said: Comment, request: Request, *, database: Database, member: Decider
) -> dict[str, Any]:
    """Kept for ever; no part of what an approval binds to."""
    kind = await desk_of(request).ledger(database, ledger)
    await row_of(database, kind, row_id)
    made = await database.fetch_single(
        "INSERT INTO system.row_comments (subledger, row_id, by, text) VALUES (%s, %s, %s, %s) RETURNING id, at, by, text",
        [kind.table, row_id, member.login, said.text],
    )
    return plain_row(made)


@router.get("/subledgers/{ledger}/groups", response_model=shapes.Heaps)
async def groups(
    ledger: LedgerName,
    request: Request,
    database: Database,
    member: Member,
    *,
    entity: Slug | None = None,
    period: Annotated[str | None, Query(pattern=PERIOD_PATTERN)] = None,
) -> dict[str, Any]:
    """How many rows wait for whom, and since when."""
    kind = await desk_of(request).ledger(database, ledger)
    return await count_groups(database, kind, Filter(entity=entity, period=period), member)


@router.get("/documents/{document_id}", response_model=shapes.DocumentKnown)
async def document(document_id: UUID, database: Database, _: Member) -> dict[str, Any]:
    """What is known of a document."""
    return await documents.document(database, document_id)


@router.get(
    "/documents/{document_id}/content",
    response_class=Response,
    responses={200: {"content": {kind: {} for kind in (*documents.INLINE.values(), "text/plain", "application/octet-stream")}}},
)
async def document_content(document_id: UUID, request: Request, database: Database, _: Member) -> Response:
    """Its bytes, after comparing their SHA-256. Nothing of it is run by a browser."""
    desk: Desk = desk_of(request)
    path, known = await documents.content(database, desk.documents, document_id)
    inline = known["media_type"] != "application/octet-stream"
    return FileResponse(
        path,
        media_type=known["media_type"],
        filename=known["name"],
        content_disposition_type="inline" if inline else "attachment",
        headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; sandbox"}
        if known["media_type"] != "application/pdf"
        else {"Content-Security-Policy": "default-src 'none'; object-src 'self'; frame-ancestors 'self'"},
    )


@router.get("/documents/{document_id}/lines", response_model=shapes.Lines)
async def document_lines(
    document_id: UUID,
    database: Database,
    _: Member,
    first: Annotated[int, Query(alias="from", ge=0, le=LARGEST_NUMBER)] = 0,
    last: Annotated[int, Query(alias="to", ge=0, le=LARGEST_NUMBER)] = documents.MOST_LINES,
) -> dict[str, Any]:
    """Records of a table by their line, at most 500."""
    return await documents.lines(database, document_id, first, last)


@router.get("/views", response_model=list[shapes.ViewKept])
async def views(database: Database, member: Member) -> list[dict[str, Any]]:
    """Filters that this member keeps."""
    return await database.fetch(
        "SELECT name, subledger, query, updated_at::TEXT FROM system.saved_views WHERE login = %s ORDER BY name", [member.login]
    )


ViewName = Annotated[str, Path(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f/]*\S[^\x00-\x1f/]*$")]


@router.put("/views/{name}", status_code=204, response_class=Response)
async def keep_view(name: ViewName, view: Annotated[View, Body()], request: Request, database: Database, member: Member) -> None:
    """Keep a filter under a name; one of that name is replaced."""
    kind = await desk_of(request).ledger(database, view.subledger)
    await database.execute(
        """INSERT INTO system.saved_views AS v (login, name, subledger, query) VALUES (%s, %s, %s, %s)
           ON CONFLICT (login, name) DO UPDATE SET subledger = EXCLUDED.subledger, query = EXCLUDED.query, updated_at = now()""",
        [member.login, name, kind.table, Jsonb(view.query)],
    )


@router.delete("/views/{name}", status_code=204, response_class=Response)
async def drop_view(name: ViewName, database: Database, member: Member) -> None:
    """Forget it; nothing happens where there is none."""
    await database.execute("DELETE FROM system.saved_views WHERE login = %s AND name = %s", [member.login, name])
