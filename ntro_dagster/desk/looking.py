"""What has changed since a member looked: by view, which is a subledger, and of it an entity, a month, or both.

A look covers every view within its own. Of a row the latest look that covers it counts; without one nothing is marked, for all
would be new. What the member did is no news to the member.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from ntro_dagster.boundary.periods import PATTERN as PERIOD_PATTERN
from ntro_dagster.desk import month
from ntro_dagster.desk.api import ERRORS, LARGEST_NUMBER, NO_NUL, LedgerName
from ntro_dagster.desk.doors import Database, Member, desk_of

router = APIRouter(prefix="/v1", responses=ERRORS)


class Look(BaseModel):
    """`change`: what the page has shown up to, as the index or the changes told."""

    entity: Annotated[str, Field(max_length=63, pattern=NO_NUL)] | None = None
    period: Annotated[str, Field(pattern=PERIOD_PATTERN)] | None = None
    change: int = Field(ge=0, le=LARGEST_NUMBER)


@router.post("/subledgers/{ledger}/look", status_code=204, response_class=Response)
async def look(ledger: LedgerName, seen: Look, request: Request, database: Database, member: Member) -> None:
    """Remember how far this member has looked. An earlier look, told late, takes nothing back."""
    kind = await desk_of(request).ledger(database, ledger)
    entity = (await month.entity(database, seen.entity))["id"] if seen.entity else None
    await database.execute(
        """INSERT INTO system.looks AS l (login, subledger, entity_id, period, change)
           VALUES (%(login)s, %(ledger)s, %(entity)s, %(period)s,
                   least(%(change)s::text::xid8, pg_snapshot_xmin(pg_current_snapshot())))
           ON CONFLICT ON CONSTRAINT looks_view DO UPDATE SET change = greatest(l.change, EXCLUDED.change), at = now()""",
        {"login": member.login, "ledger": kind.table, "entity": entity, "period": seen.period, "change": seen.change},
    )
