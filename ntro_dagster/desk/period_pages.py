"""A month's close on its page: what it looks at, and the buttons of those who may close and reopen it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from starlette.responses import HTMLResponse, Response

from ntro_dagster.desk import month
from ntro_dagster.desk.api import NO_NUL
from ntro_dagster.desk.doors import Database, Visitor
from ntro_dagster.desk.pages import EntitySlug, Month, page
from ntro_dagster.desk.periods import ActBody, take_act
from ntro_dagster.errors import NtroError
from ntro_dagster.gl.periods import CHECKLIST, Act, period_state
from ntro_dagster.platforms.postgres.database import TenantDatabase

router = APIRouter(include_in_schema=False)

Reason = Annotated[str, Form(max_length=2_000, pattern=NO_NUL)]


@router.get("/entities/{slug}/periods/{period}/close", response_class=HTMLResponse)
async def close_page(slug: EntitySlug, period: Month, request: Request, database: Database, member: Visitor) -> Response:
    """A part of the page of a month, which comes without it first."""
    return page(request, "close.html", member, "board", await _context(database, slug, period))


@router.post("/entities/{slug}/periods/{period}/close", response_class=HTMLResponse)
async def close_button(
    slug: EntitySlug,
    period: Month,
    request: Request,
    *,
    database: Database,
    member: Visitor,
    chosen: Annotated[Act, Form(alias="act")],
    reason: Reason = "",
) -> Response:
    """The same part again, with what came of it."""
    entity = await month.entity(database, slug)
    refused: NtroError | None = None
    try:
        await take_act(database, member, entity["id"], period, ActBody(act=chosen, reason=reason))
    except NtroError as error:
        refused = error
    context = await _context(database, slug, period)
    told = {"refused": refused, "reason": reason if refused else "", "why": refused.explain() if refused else ""}
    return page(request, "close.html", member, "board", context | told)


async def _context(database: TenantDatabase, slug: str, period: str) -> dict[str, Any]:
    entity = await month.entity(database, slug)
    state = await period_state(database, entity_id=entity["id"], period=period)
    found = {finding.code: finding for finding in state.findings}
    return {
        "entity": entity,
        "period": period,
        "state": state,
        "checklist": [(holds, mend, found.get(code)) for code, (holds, mend) in CHECKLIST.items()],
        "answers": [finding for finding in state.findings if finding.answerable],
        "refused": None,
        "reason": "",
    }
