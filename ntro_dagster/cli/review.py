"""`ntro review`: decisions, filed as signals with the desk's role. Runs apply them; no ledger is written here."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer
from typer.core import TyperGroup

from ntro_dagster.cli.connections import as_role, entity_of, tenant_home
from ntro_dagster.cli.failures import OK, PARTIAL
from ntro_dagster.cli.invocation import command
from ntro_dagster.cli.members import about_author
from ntro_dagster.cli.output import Column, count, line, note, progress, result, table
from ntro_dagster.cli.selection import (
    AsOption,
    EntityFilter,
    PeriodFilter,
    StatusFilter,
    TenantOption,
    TimeoutOption,
    checked_status,
    checked_user,
    known_subledger,
    written_period,
)
from ntro_dagster.errors import NotFoundError, TransientError, UsageError

if TYPE_CHECKING:
    from ntro_dagster.platforms.postgres.database import TenantDatabase
    from ntro_dagster.subledger.description import TypeDescription
    from ntro_dagster.subledger.review import Filed

_SIGNAL = re.compile(r"[a-z][a-z0-9_]{0,39}")


class ReviewGroup(TyperGroup):
    """A decision of a type's own is a command too: `ntro review confirm_payment ROW --subledger capital_call`."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        known = super().get_command(ctx, cmd_name)
        if known is not None or not _SIGNAL.fullmatch(cmd_name):
            return known
        own = typer.Typer()
        _register(cmd_name, "A decision of the subledger's own. Needs --reason.", takes_values=False, app=own)
        return typer.main.get_command(own)


app = typer.Typer(
    cls=ReviewGroup,
    no_args_is_help=True,
    help="Decide upon rows: approve, undo, reject, exclude, reinstate, edit, accept, or a decision of the subledger's own.",
)

POLL_S = 0.5
_PREFIX = re.compile(r"[0-9a-f]{8,32}")

RowsArgument = Annotated[list[str] | None, typer.Argument(metavar="ROW", help="Ids, or their first 8 characters or more.")]
SubledgerOption = Annotated[str, typer.Option("--subledger", help="The subledger the rows are in.")]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Why; kept for ever.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="A new value; may be repeated.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say how many rows it would take, and file nothing.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Until a run has applied it.")]

WORDS = {
    "approve": "approved",
    "undo": "taken back",
    "reject": "rejected",
    "exclude": "excluded",
    "reinstate": "reinstated",
    "edit": "edited",
    "accept": "accepted",
}


def _word(signal: str) -> str:
    return WORDS.get(signal, f"moved by {signal}")


class SelectionMissingError(UsageError):
    code = "SELECTION_MISSING"
    summary = "a decision needs to say which rows it is about"
    mend = "name rows, or choose some with --entity, --period or --status"


class RowIdInvalidError(UsageError):
    code = "ROW_ID_INVALID"
    summary = "that is not a row's id"
    detail = "{row!r} is not a row's id"
    mend = "give the whole id or its first characters, 8 at least: `ntro rows` shows them"


class RowAmbiguousError(UsageError):
    code = "ROW_AMBIGUOUS"
    summary = "several rows have ids that begin so"
    detail = "several rows have ids that begin with {row}"
    mend = "give more characters of the id"


class RowUnknownError(NotFoundError):
    code = "ROW_NOT_FOUND"
    summary = "no such row in this subledger"
    detail = "{subledger} has no row {row}"
    mend = "`ntro rows {subledger} --tenant {tenant}` lists what there is"


class NoRowsMatchedError(NotFoundError):
    code = "NO_ROWS_MATCHED"
    summary = "no row can be decided upon so"
    detail = "no row can be {word}: {found}"
    mend = "`ntro rows summary {subledger} --tenant {tenant}` shows what stands where"


class SetInvalidError(UsageError):
    code = "SET_INVALID"
    summary = "a value to set is not written as field=value"
    detail = "{text!r} is not written as field=value"
    mend = "for instance --set vendor='Acme Ltd' --set amount_gross=12.50"


class ApplyingSlowError(TransientError):
    code = "APPLYING_SLOW"
    summary = "the decision is filed, but not applied yet"
    detail = "after {seconds} s, decisions not applied yet: {signals}; they are filed, and will be applied"
    mend = "`ntro run list --tenant {tenant}` shows the runs"


@dataclass(frozen=True, slots=True)
class Decision:
    """What the command line asks for."""

    signal: str
    tenant: str
    kind: TypeDescription
    rows: tuple[str, ...]
    entity: str | None
    period: str | None
    status: str | None
    reason: str | None
    values: dict[str, str | None]
    filed_by: str
    dry_run: bool
    wait: bool
    timeout: float


@app.callback()
def group() -> None:
    """Decide upon rows: approve, undo, reject, exclude, reinstate, edit, accept.

    Files a decision (a signal), which a run then applies. Nobody approves what they made.
    """


def _register(signal: str, what: str, *, takes_values: bool, app: typer.Typer = app) -> None:
    def decide(
        *,
        tenant: TenantOption,
        subledger: SubledgerOption,
        rows: RowsArgument = None,
        entity: EntityFilter = None,
        period: PeriodFilter = None,
        status: StatusFilter = None,
        reason: ReasonOption = None,
        dry_run: DryRunOption = False,
        user: AsOption = None,
        wait: WaitOption = False,
        timeout: TimeoutOption = 120,
        values: SetOption = None,
    ) -> int:
        kind = known_subledger(subledger, tenant)
        chosen = tuple(rows or ())
        if not chosen and not (entity or period or status):
            raise SelectionMissingError
        return _decide(
            Decision(
                signal, tenant, kind, chosen, entity, written_period(period), checked_status(kind, status), reason,
                _values(values or ()), checked_user(user), dry_run, wait, timeout,
            )
        )  # fmt: skip

    decide.__doc__ = what
    if not takes_values:
        decide = _without_values(decide)
    command(app, signal)(decide)


def _without_values(decide: Callable[..., int]) -> Callable[..., int]:
    import inspect  # noqa: PLC0415

    signature = inspect.signature(decide, eval_str=True)
    kept = [parameter for name, parameter in signature.parameters.items() if name != "values"]
    decide.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    return decide


_register("approve", "PENDING rows go on to be posted. Whoever made a row's content cannot approve it.", takes_values=False)
_register("undo", "APPROVED rows become PENDING again, as long as they are not posted. Needs --reason.", takes_values=False)
_register("reject", "Rows are turned down: final, but see `reinstate`. Needs --reason.", takes_values=False)
_register("exclude", "PENDING rows are left out of the books: final, but see `reinstate`. Needs --reason.", takes_values=False)
_register(
    "reinstate",
    "REJECTED and EXCLUDED rows stay; new ones in their place wait for acceptance. Needs --reason.",
    takes_values=False,
)
_register("edit", "New values for fields of rows; their status stays. Needs --set and --reason.", takes_values=True)
_register("accept", "NEEDS_ATTENTION rows become PENDING, as they are or with --set. Needs --reason.", takes_values=True)


def _decide(decision: Decision) -> int:
    from ntro_dagster.host.home import Role  # noqa: PLC0415
    from ntro_dagster.platforms.postgres.database import RefusedByDatabaseError  # noqa: PLC0415

    tenant_home(decision.tenant)

    async def work(desk: TenantDatabase) -> tuple[list[Filed], dict[UUID, str], list[dict[str, Any]], int]:
        filed, named = await _file(desk, decision)
        slugs = await desk.fetch("SELECT id, slug FROM system.entities WHERE id = ANY(%s)", [[f.entity_id for f in filed]])
        outcomes, waiting = ([], 0) if decision.dry_run or not decision.wait else await _wait(desk, decision, filed)
        left_out = named - sum(f.rows for f in filed) if named else 0
        if left_out > 0:
            note(f"{left_out} of the {named} rows named cannot be {_word(decision.signal)} where they stand; left out")
        if waiting:
            note(f"{waiting} not applied yet")
        return filed, {row["id"]: row["slug"] for row in slugs}, outcomes, waiting

    try:
        filed, slugs, outcomes, waiting = as_role(decision.tenant, Role.DESK, work)
    except RefusedByDatabaseError as refused:
        raise about_author(refused, decision.filed_by, tenant=decision.tenant, decision=decision.signal) from None
    _show(decision, filed, slugs, outcomes)
    if waiting:
        raise ApplyingSlowError(seconds=round(decision.timeout), signals=waiting, tenant=decision.tenant)
    return PARTIAL if any(found["outcome"] == "REFUSED" for found in outcomes) else OK


async def _file(desk: TenantDatabase, decision: Decision) -> tuple[list[Filed], int]:
    """The signals, and how many rows were named one by one."""
    from ntro_dagster.subledger.review import file_signal  # noqa: PLC0415

    ids = [await _full_id(desk, decision, row) for row in decision.rows]
    entity = await entity_of(desk, decision.entity, tenant=decision.tenant) if decision.entity else None
    filed = await file_signal(
        desk,
        decision.kind,
        decision.signal,
        filed_by=decision.filed_by,
        reason=decision.reason,
        values=decision.values or None,
        ids=list(dict.fromkeys(ids)) or None,
        entity_id=entity.id if entity else None,
        period=decision.period,
        status=decision.status,
        dry_run=decision.dry_run,
    )
    if not filed:
        found = await _stand(desk, decision, ids, entity.id if entity else None)
        raise NoRowsMatchedError(word=_word(decision.signal), found=found, subledger=decision.kind.table, tenant=decision.tenant)
    return filed, len(set(ids))


async def _full_id(desk: TenantDatabase, decision: Decision, row: str) -> UUID:
    """Raises: `RowIdInvalidError`, `RowAmbiguousError`, `RowUnknownError`."""
    from psycopg import sql  # noqa: PLC0415

    prefix = row.lower().replace("-", "")
    if not _PREFIX.fullmatch(prefix):
        raise RowIdInvalidError(row=row)
    found = await desk.fetch(
        sql.SQL("SELECT id FROM {} WHERE id BETWEEN %s AND %s LIMIT 2").format(sql.Identifier("ledgers", decision.kind.table)),
        [UUID(prefix.ljust(32, "0")), UUID(prefix.ljust(32, "f"))],
    )
    if not found:
        raise RowUnknownError(row=row, subledger=decision.kind.table, tenant=decision.tenant)
    if len(found) > 1:
        raise RowAmbiguousError(row=row)
    return UUID(str(found[0]["id"]))


async def _stand(desk: TenantDatabase, decision: Decision, ids: Sequence[UUID], entity_id: UUID | None) -> str:
    """Where the rows that were meant do stand."""
    from psycopg import sql  # noqa: PLC0415

    from ntro_dagster.platforms.postgres.database import conditions  # noqa: PLC0415

    where, values = conditions(
        {"id": list(ids) or None, "entity_id": entity_id, "period": decision.period, "status": decision.status}
    )
    rows = await desk.fetch(
        sql.SQL("SELECT status, count(*) AS rows FROM {} WHERE {} GROUP BY 1 ORDER BY 1").format(
            sql.Identifier("ledgers", decision.kind.table), where
        ),
        values,
    )
    return ", ".join(f"{row['rows']} {row['status']}" for row in rows) or "there are none"


async def _wait(desk: TenantDatabase, decision: Decision, filed: Sequence[Filed]) -> tuple[list[dict[str, Any]], int]:
    """Outcomes by code once all is applied, and how many signals still wait at the deadline."""
    signals = [f.signal_id for f in filed]
    deadline = time.monotonic() + decision.timeout
    with progress(len(signals), "decisions applied") as update:
        while True:
            row = await desk.fetch_one(
                "SELECT count(*) AS waiting FROM system.signals "
                "WHERE id = ANY(%s) AND applied_at IS NULL AND withdrawn_at IS NULL",
                [signals],
            )
            waiting: int = row["waiting"] if row else 0
            update(len(signals) - waiting, "runs are at work" if waiting else "")
            if not waiting or time.monotonic() > deadline:
                break
            await asyncio.sleep(POLL_S)
    outcomes = await desk.fetch(
        "SELECT signal_id, outcome, code, count(*) AS rows FROM system.signal_rows "
        "WHERE signal_id = ANY(%s) AND outcome IS NOT NULL GROUP BY 1, 2, 3 ORDER BY 2, 3",
        [signals],
    )
    return outcomes, waiting


def _show(decision: Decision, filed: Sequence[Filed], slugs: dict[UUID, str], outcomes: Sequence[dict[str, Any]]) -> None:
    by_signal: dict[UUID, Counter[str]] = {}
    for found in outcomes:
        by_signal.setdefault(found["signal_id"], Counter())[found["code"] or found["outcome"]] += found["rows"]
    signals = [
        {
            "signal_id": None if decision.dry_run else f.signal_id,
            "entity": slugs[f.entity_id],
            "period": f.period,
            "rows": f.rows,
            "applied": by_signal[f.signal_id]["APPLIED"] if f.signal_id in by_signal else None,
            "signed": by_signal[f.signal_id]["SIGNED"] if f.signal_id in by_signal else None,
            "refused": {
                code: n for code, n in by_signal.get(f.signal_id, Counter()).items() if code not in {"APPLIED", "SIGNED"}
            },
        }
        for f in filed
    ]
    total = sum(f.rows for f in filed)
    value = {
        "decision": decision.signal,
        "subledger": decision.kind.table,
        "filed_by": decision.filed_by,
        "dry_run": decision.dry_run,
        "rows": total,
        "signals": signals,
    }

    def human() -> None:
        columns = [Column("Entity"), Column("Period"), Column("Rows", right=True)]
        waited = decision.wait and not decision.dry_run
        if waited:
            columns += [Column("Applied", right=True), Column("Refused", flexible=True)]
        else:
            columns += [Column("Signal")]
        table(columns, [_cells(signal, waited=waited) for signal in signals])
        if decision.dry_run:
            line(f"dry run: nothing was filed; {count(total, 'row')} would be {_word(decision.signal)}")
        else:
            line(
                f"filed by {decision.filed_by}: {count(total, 'row')} to be {_word(decision.signal)}"
                + ("" if waited else "; runs apply it")
            )

    result(value, human)


def _cells(signal: dict[str, Any], *, waited: bool) -> list[str | None]:
    shown: list[str | None] = [signal["entity"], signal["period"], f"{signal['rows']:,}"]
    if not waited:
        return [*shown, str(signal["signal_id"])[:8] if signal["signal_id"] else "not filed"]
    left = ({"SIGNED, a second approver is to come": signal["signed"]} if signal["signed"] else {}) | signal["refused"]
    refused = ", ".join(f"{rows:,} {code}" for code, rows in left.items())
    return [*shown, "" if signal["applied"] is None else f"{signal['applied']:,}", refused]


def _values(texts: Sequence[str]) -> dict[str, str | None]:
    """`field=value`; nothing behind the sign empties the field."""
    values: dict[str, str | None] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise SetInvalidError(text=text)
        values[name.strip()] = value or None
    return values
