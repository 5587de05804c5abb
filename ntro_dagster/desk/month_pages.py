"""The part of a month's page where its work is begun, and what its buttons do.

The page asks for this part again while something is under way, and for nothing else.
"""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Form, Request, UploadFile
from starlette.responses import HTMLResponse, Response

from ntro_dagster.desk import month
from ntro_dagster.desk.api import NO_NUL
from ntro_dagster.desk.doors import Database, Visitor, desk_of
from ntro_dagster.desk.intake import take_in
from ntro_dagster.desk.month_work import month_work
from ntro_dagster.desk.pages import EntitySlug, Month, page
from ntro_dagster.desk.sittings import Sitting
from ntro_dagster.desk.task_requests import Asker, ask_for
from ntro_dagster.desk.tasks import known_entity
from ntro_dagster.errors import NtroError
from ntro_dagster.platforms.postgres.database import TenantDatabase

MOST_FILES = 20

router = APIRouter(include_in_schema=False)


@router.get("/entities/{slug}/periods/{period}/requests", response_class=HTMLResponse)
async def work(slug: EntitySlug, period: Month, request: Request, database: Database, member: Visitor) -> Response:
    return await _shown(request, database, member, slug, period)


@router.post("/entities/{slug}/periods/{period}/requests/run", response_class=HTMLResponse)
async def run(
    slug: EntitySlug,
    period: Month,
    workflow: Annotated[UUID, Form()],
    request: Request,
    *,
    database: Database,
    member: Asker,
) -> Response:
    """What the button does. A refusal is told beside it."""
    entity = await month.entity(database, slug)
    refused: list[dict[str, str]] = []
    try:
        await ask_for(database, entity["id"], workflow, {"period": period}, by=member.login)
    except NtroError as error:
        refused.append(_told("Not asked for", error))
    return await _shown(request, database, member, slug, period, refused=refused, taken=[])


@router.post("/entities/{slug}/periods/{period}/requests/files", response_class=HTMLResponse)
async def hand_in(
    slug: EntitySlug,
    period: Month,
    source: Annotated[str, Form(min_length=1, max_length=100, pattern=NO_NUL)],
    files: list[UploadFile],
    request: Request,
    *,
    database: Database,
    member: Asker,
) -> Response:
    """Each file has its own outcome; one that is refused stops no other."""
    entity = await known_entity(database, (await month.entity(database, slug))["id"])
    refused, taken = [], []
    for file in files[:MOST_FILES]:
        try:
            outcome = await take_in(desk_of(request), file.file, file.filename, entity, period, source=source, by=member.login)
        except NtroError as error:
            refused.append(_told(file.filename or "A file without a name", error))
        else:
            taken.append(outcome)
    if len(files) > MOST_FILES:
        refused.append({"what": "The rest", "why": f"at most {MOST_FILES} files at a time", "mend": "send the others now"})
    return await _shown(request, database, member, slug, period, refused=refused, taken=taken)


def _told(what: str, error: NtroError) -> dict[str, str]:
    why = error.explain()
    return {"what": "" if why.startswith(what) else what, "why": why, "mend": error.advice()}


async def _shown(request: Request, database: TenantDatabase, member: Sitting, slug: str, period: str, **said: Any) -> Response:
    entity = await month.entity(database, slug)
    context = await month_work(database, member, entity, period)
    standing = await month.standing(database, await desk_of(request).ledgers(database), entity["id"], period)
    shown = {"entity": entity, "period": period, "standing": standing}
    return page(request, "work.html", member, "board", {**shown, **context, **said})
