"""A month's close over the API: how it stands, and the acts of those who may close and reopen it."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from ntro_dagster.desk.api import ERRORS, NO_NUL
from ntro_dagster.desk.doors import Database, Decider, Member
from ntro_dagster.desk.pages import Month
from ntro_dagster.desk.rows import money
from ntro_dagster.desk.sittings import Sitting
from ntro_dagster.desk.tasks import known_entity
from ntro_dagster.gl.periods import (
    CHECKLIST,
    Act,
    PeriodState,
    ask_reopening,
    close_period,
    confirm_reopening,
    period_state,
)
from ntro_dagster.platforms.postgres.database import TenantDatabase

router = APIRouter(prefix="/v1", responses=ERRORS)


class FindingShape(BaseModel):
    """Something that stands against closing. `answerable`: a reason is enough."""

    code: str
    should_hold: str
    mend: str
    things: int
    answerable: bool


class ControlShape(BaseModel):
    """A subledger and its control account: amounts are decimal text."""

    subledger: str
    role: str
    currency: str
    posted_rows: str
    account: str
    difference: str


class BankShape(BaseModel):
    """Decimal text."""

    account: str
    currency: str
    statement: str
    books: str
    difference: str


class SealShape(BaseModel):
    """`holds`: whether the journals still make the digest."""

    digest: str
    journals: int
    holds: bool


class PeriodShape(BaseModel):
    """How a month stands. Net assets are decimal text, in the entity's currency."""

    period: str
    status: str
    ready: bool
    findings: list[FindingShape]
    control_accounts: list[ControlShape]
    bank: list[BankShape]
    net_assets: str
    net_assets_before: str
    reopening_asked_by: str | None
    seal: SealShape | None


class ActBody(BaseModel):
    """What a person does with a month: close it, ask to reopen it, or confirm what another one has asked."""

    model_config = ConfigDict(extra="forbid")

    act: Act
    reason: Annotated[str, Field(max_length=2_000, pattern=NO_NUL)] = ""


@router.get("/entities/{entity_id}/periods/{period}")
async def stand(entity_id: UUID, period: Month, database: Database, member: Member) -> PeriodShape:
    """How a month of an entity stands, and what its close looks at."""
    await known_entity(database, entity_id)
    return shaped(await period_state(database, entity_id=entity_id, period=period))


@router.post("/entities/{entity_id}/periods/{period}/acts")
async def act(entity_id: UUID, period: Month, body: ActBody, database: Database, member: Decider) -> PeriodShape:
    """Close a month or reopen it. The database refuses who may not, and what is not ready."""
    await known_entity(database, entity_id)
    await take_act(database, member, entity_id, period, body)
    return shaped(await period_state(database, entity_id=entity_id, period=period))


def shaped(state: PeriodState) -> PeriodShape:
    return PeriodShape(
        period=state.period,
        status=state.status,
        ready=state.ready,
        findings=[
            FindingShape(
                code=x.code, should_hold=CHECKLIST[x.code][0], mend=CHECKLIST[x.code][1], things=x.things, answerable=x.answerable
            )
            for x in state.findings
        ],
        control_accounts=[
            ControlShape(
                subledger=x.subledger,
                role=x.role,
                currency=x.currency,
                posted_rows=money(x.posted_rows),
                account=money(x.account),
                difference=money(x.difference),
            )
            for x in state.controls
        ],
        bank=[
            BankShape(
                account=x.account_code,
                currency=x.currency,
                statement=money(x.statement),
                books=money(x.books),
                difference=money(x.difference),
            )
            for x in state.banks
        ],
        net_assets=money(state.net_assets),
        net_assets_before=money(state.net_assets_before),
        reopening_asked_by=state.asked.login if state.asked else None,
        seal=state.seal and SealShape(digest=state.seal.digest, journals=state.seal.journals, holds=state.seal.holds),
    )


async def take_act(database: TenantDatabase, member: Sitting, entity_id: UUID, period: str, body: ActBody) -> None:
    where: dict[str, Any] = {"entity_id": entity_id, "period": period, "by": member.login, "reason": body.reason.strip()}
    match body.act:
        case Act.CLOSE:
            await close_period(database, **where | {"reason": where["reason"] or None})
        case Act.ASK_REOPEN:
            await ask_reopening(database, **where)
        case Act.REOPEN:
            await confirm_reopening(database, **where)
