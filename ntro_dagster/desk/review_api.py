"""JSON about decisions: what one would do, filing it, what became of it."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from psycopg import sql
from pydantic import BaseModel, Field, model_validator

from ntro_dagster.desk import shapes
from ntro_dagster.desk.api import ERRORS, FilterBody, LedgerName
from ntro_dagster.desk.desk import Desk
from ntro_dagster.desk.doors import Database, Decider, Member, desk_of
from ntro_dagster.desk.rows import chosen, plain, plain_row, row_of, window
from ntro_dagster.desk.sittings import Sitting
from ntro_dagster.errors import NotFoundError, UsageError
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.filing import Seen, Summary, file_matching, file_seen, summarise, withdraw
from ntro_dagster.subledger.lifecycle import ACCEPT, EDIT
from ntro_dagster.subledger.review import Filed
from ntro_dagster.subledger.selection import Filter

MOST_NAMED = 10_000
MOST_CHECKED = 100
"""Rows whose new values are looked over before they are filed; the run looks over all of them again."""

Kind = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
router = APIRouter(prefix="/v1", responses=ERRORS)


class ValuesInvalidError(UsageError):
    """Values: `fields`, by column what is wrong with its new value."""

    code = "VALUES_INVALID"
    summary = "the new values are not valid"
    mend = "correct the fields; nothing was filed"


class SelectionMissingError(UsageError):
    code = "SELECTION_MISSING"
    summary = "a decision needs rows with their digests, or a filter with what was seen"
    mend = "send `rows`, or `filter` and `seen` from the summary"


class SelectionAmbiguousError(UsageError):
    code = "SELECTION_AMBIGUOUS"
    summary = "a decision is over rows or over a filter, not over both"
    mend = "send `rows`, or `filter` and `seen` from the summary"


class SignalNotFoundError(NotFoundError):
    """Values: `signal`."""

    code = "SIGNAL_NOT_FOUND"
    summary = "no such decision"
    detail = "there is no decision {signal} here"
    mend = "GET /v1/signals lists those that are asked for by id"


class SeenRow(BaseModel):
    """A row as the member saw it."""

    id: UUID
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")


class Decision(BaseModel):
    kind: Kind
    reason: str | None = Field(None, max_length=2_000)
    values: dict[Annotated[str, Field(max_length=63)], Annotated[str, Field(max_length=20_000)] | None] = Field(
        default_factory=dict, max_length=200
    )
    rows: list[SeenRow] | None = Field(None, max_length=MOST_NAMED)
    filter: FilterBody | None = None
    seen: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _storable(self) -> Decision:
        if any("\x00" in (text or "") for text in [self.reason, *self.values, *self.values.values()]):
            raise ValueError("a text holds a NUL, which cannot be stored")
        return self


class Asked(BaseModel):
    """What a decision would take: rows, or everything that a filter matches."""

    kind: Kind
    filter: FilterBody | None = None
    ids: list[UUID] | None = Field(None, max_length=MOST_NAMED)


class NewValues(BaseModel):
    id: UUID
    values: dict[Annotated[str, Field(max_length=63)], Annotated[str, Field(max_length=20_000)] | None] = Field(max_length=200)


def _where(body: FilterBody | None, ids: list[UUID] | None = None) -> Filter:
    where = (body or FilterBody()).where()
    return Filter(where.entity, where.period, where.statuses, where.text, tuple(ids) if ids is not None else None)


@router.post("/subledgers/{ledger}/summary", response_model=shapes.SummaryFound)
async def summary(ledger: LedgerName, asked: Asked, request: Request, database: Database, member: Member) -> dict[str, Any]:
    """A dry run: how many rows a decision would take, their totals, those it could not take and why."""
    kind = await desk_of(request).ledger(database, ledger)
    where = await _narrowed(database, kind, asked.filter, asked.ids, member)
    found = await summarise(database, kind, asked.kind, where, by=member.login)
    return summed_up(found)


def summed_up(found: Summary) -> dict[str, Any]:
    return {
        "count": found.count,
        "totals": {currency: plain(total) for currency, total in found.totals.items()},
        "skipped": [{"code": code, "count": times} for code, times in found.skipped.items()],
        "findings": found.findings,
        "seen": found.seen.hex(),
    }


async def _narrowed(
    database: TenantDatabase, kind: TypeDescription, body: FilterBody | None, ids: list[UUID] | None, member: Sitting
) -> Filter:
    """A group is who asks and what waits, which a filter of rows does not know: it is given the ids."""
    where = _where(body, ids)
    if body is None or body.group is None:
        return where
    condition, values = chosen(kind, where, body.group, member)
    found = await database.fetch(
        sql.SQL("SELECT t.id FROM {} t WHERE {}").format(sql.Identifier("ledgers", kind.table), condition), values
    )
    return Filter(ids=tuple(row["id"] for row in found))


@router.post("/subledgers/{ledger}/signals", status_code=201, response_model=shapes.Receipt)
async def decide(ledger: LedgerName, decision: Decision, request: Request, database: Database, member: Decider) -> dict[str, Any]:
    """File a decision over rows that are as the member saw them. All of them, or none (409)."""
    if decision.rows is not None and (decision.filter is not None or decision.seen is not None):
        raise SelectionAmbiguousError
    desk = desk_of(request)
    kind = await desk.ledger(database, ledger)
    values = decision.values or None
    if decision.rows:
        if decision.kind in {EDIT, ACCEPT}:
            await _look_over(desk, database, kind, decision)
        filed = await file_seen(
            database,
            kind,
            decision.kind,
            filed_by=member.login,
            reason=decision.reason,
            values=values,
            rows=[Seen(row.id, bytes.fromhex(row.digest)) for row in decision.rows],
        )
    elif decision.filter is not None and decision.seen is not None:
        filed = await file_matching(
            database,
            kind,
            decision.kind,
            filed_by=member.login,
            reason=decision.reason,
            values=values,
            where=await _narrowed(database, kind, decision.filter, None, member),
            seen=bytes.fromhex(decision.seen),
        )
    else:
        raise SelectionMissingError
    return await receipt(database, filed)


async def _look_over(desk: Desk, database: TenantDatabase, kind: TypeDescription, decision: Decision) -> None:
    """Raises: `ValuesInvalidError`."""
    for row in await window(database, kind, [row.id for row in (decision.rows or [])[:MOST_CHECKED]]):
        target = kind.lifecycle.targets(decision.kind).get(row["status"], row["status"])
        if wrong := await desk.models.errors(kind.table, as_model(row), decision.values, target):
            raise ValuesInvalidError(fields=wrong)


def as_model(row: dict[str, Any]) -> dict[str, Any]:
    """What a model needs of a row beside its content; whose entity and run it is makes no difference to its values."""
    nobody = str(UUID(int=0))
    values: dict[str, Any] = row["values"]
    return values | {"id": row["id"], "entity_id": nobody, "task_id": nobody, "period": row["period"]}


async def receipt(database: TenantDatabase, filed: list[Filed]) -> dict[str, Any]:
    slugs = await database.fetch("SELECT id, slug FROM system.entities WHERE id = ANY(%s)", [[each.entity_id for each in filed]])
    slug = {row["id"]: row["slug"] for row in slugs}
    return {
        "filed": sum(each.rows for each in filed),
        "signals": [
            {"id": plain(each.signal_id), "entity": slug[each.entity_id], "period": each.period, "rows": each.rows}
            for each in filed
        ],
    }


@router.post("/subledgers/{ledger}/validate", response_model=shapes.Fields)
async def validate(ledger: LedgerName, new: NewValues, request: Request, database: Database, _: Member) -> dict[str, Any]:
    """What is wrong with new values for a row, by column, as the row type's own model says."""
    desk = desk_of(request)
    kind = await desk.ledger(database, ledger)
    row = await row_of(database, kind, new.id)
    wrong = await desk.models.errors(kind.table, as_model(row), new.values, kind.lifecycle.clean)
    not_theirs = {name: "not for people to edit" for name in new.values if name not in kind.editable}
    return {"fields": {name: what for name, what in wrong.items() if not name or name in new.values} | not_theirs}


@router.get("/signals", response_model=list[shapes.SignalBecame])
async def signals(database: Database, _: Member, ids: Annotated[str, Query(max_length=4_000)]) -> list[dict[str, Any]]:
    """What became of these decisions (ids, separated by commas)."""
    try:
        wanted = [UUID(each) for each in ids.split(",") if each]
    except ValueError:
        raise SignalNotFoundError(signal="of such an id") from None
    rows = await database.fetch(
        """SELECT s.id, s.kind, s.filed_by, s.filed_at, s.applied_at, s.withdrawn_at, count(*) AS rows,
                  count(*) FILTER (WHERE r.outcome IN ('APPLIED', 'SIGNED')) AS applied,
                  count(*) FILTER (WHERE r.outcome = 'SIGNED') AS signed,
                  coalesce(jsonb_agg(jsonb_build_object('row_id', r.row_id, 'code', r.code))
                           FILTER (WHERE r.outcome = 'REFUSED'), '[]') AS refused
             FROM system.signals s JOIN system.signal_rows r ON r.signal_id = s.id
            WHERE s.id = ANY(%s) GROUP BY s.id ORDER BY s.seq""",
        [wanted],
    )
    return [plain_row(row) for row in rows]


@router.post("/signals/{signal_id}/withdraw", response_model=shapes.Withdrawn)
async def take_back(signal_id: UUID, database: Database, member: Decider) -> dict[str, Any]:
    """As long as no run has applied it, and by whom it was filed."""
    if not await database.fetch_one("SELECT id FROM system.signals WHERE id = %s", [signal_id]):
        raise SignalNotFoundError(signal=signal_id)
    await withdraw(database, signal_id, by=member.login)
    return {"id": signal_id, "withdrawn": True}
