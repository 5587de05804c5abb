"""`ntro period`: how a month stands, and closing and reopening it. Acts are people's, filed with the desk's role."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ntro_dagster.cli.connections import as_role, entity_of, tenant_home
from ntro_dagster.cli.invocation import command
from ntro_dagster.cli.members import about_author
from ntro_dagster.cli.output import Column, figure, line, progress, result, table, when
from ntro_dagster.cli.selection import AsOption, TenantOption, TimeoutOption, checked_user, written_period
from ntro_dagster.errors import NtroError, TransientError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ntro_dagster.gl.periods import PeriodState
    from ntro_dagster.platforms.postgres.database import TenantDatabase
    from ntro_dagster.tenant.entities import Entity

app = typer.Typer(no_args_is_help=True, help="How a month of an entity stands; close it, reopen it.")

EntityOption = Annotated[str, typer.Option("--entity", "-e", help="The entity's slug.")]
PeriodOption = Annotated[str, typer.Option("--period", "-p", metavar="YYYY-MM", help="The month.")]
POLL_S = 0.3


class NotSealedInTimeError(TransientError):
    code = "NOT_SEALED_IN_TIME"
    summary = "the period is closed, but not sealed yet"
    detail = "{period} takes no postings any more, but no run has sealed it within {seconds} s"
    mend = "`ntro period status` shows when it is; `ntro status` whether runs are made"


@command(app, "status")
def status(
    tenant: TenantOption,
    entity: EntityOption,
    period: Annotated[str | None, typer.Option("--period", "-p", metavar="YYYY-MM", help="One month, in full.")] = None,
) -> None:
    """The entity's months; or, of one, everything that its close looks at, who did what, and whether its seal holds."""
    from ntro_dagster.gl.periods import period_state  # noqa: PLC0415
    from ntro_dagster.host.home import Role  # noqa: PLC0415

    tenant_home(tenant)
    if period is None:
        _months(tenant, entity)
        return
    month = written_period(period) or ""

    async def look(database: TenantDatabase) -> tuple[Entity, PeriodState]:
        known = await entity_of(database, entity, tenant=tenant)
        return known, await period_state(database, entity_id=known.id, period=month)

    known, state = as_role(tenant, Role.AUDITOR, look)
    result(_as_json(tenant, entity, state), lambda: _show(known, state))


@command(app, "close")
def close(
    tenant: TenantOption,
    entity: EntityOption,
    period: PeriodOption,
    *,
    user: AsOption = None,
    reason: Annotated[str | None, typer.Option(help="Why, where something about the month asks for it; kept for ever.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until a run has sealed it.")] = False,
    timeout: TimeoutOption = 60.0,
) -> None:
    """Close a month: from that moment nothing is posted to it. A run seals it behind.

    Refused while a row is undecided or unposted, the books do not balance, a subledger and its control account differ, or an
    earlier month is open. Where the bank differs or net assets moved a lot, it takes a reason.
    """
    from ntro_dagster.gl.periods import PeriodStatus, close_period, period_status  # noqa: PLC0415

    author, month = checked_user(user), written_period(period) or ""

    async def act(database: TenantDatabase, known: Entity) -> str:
        await close_period(database, entity_id=known.id, period=month, by=author, reason=reason)
        deadline = time.monotonic() + timeout
        with progress(1, "period sealed"):
            while wait:
                if await period_status(database, entity_id=known.id, period=month) is PeriodStatus.CLOSED:
                    return "closed and sealed"
                if time.monotonic() > deadline:
                    raise NotSealedInTimeError(period=month, seconds=round(timeout))
                await asyncio.sleep(POLL_S)
        return "closed; a run seals it"

    said = _acted(tenant, entity, author, "close", act)
    result({"tenant": tenant, "entity": entity, "period": month, "by": author}, lambda: line(f"{entity} {month} is {said}"))


@command(app, "reopen")
def reopen(
    tenant: TenantOption,
    entity: EntityOption,
    period: PeriodOption,
    reason: Annotated[str, typer.Option(help="Why; kept for ever.")],
    *,
    user: AsOption = None,
    confirm: Annotated[bool, typer.Option("--confirm", help="Another one has asked: do it.")] = False,
) -> None:
    """Reopen the latest closed month: one person asks, a second one confirms (--confirm)."""
    from ntro_dagster.gl.periods import ask_reopening, confirm_reopening  # noqa: PLC0415

    author, month = checked_user(user), written_period(period) or ""

    async def act(database: TenantDatabase, known: Entity) -> str:
        do = confirm_reopening if confirm else ask_reopening
        await do(database, entity_id=known.id, period=month, by=author, reason=reason)
        if confirm:
            return f"{entity} {month} is open again"
        return (
            f"asked to reopen {entity} {month}; an approver other than {author} confirms:\n"
            f"  ntro period reopen --tenant {tenant} --entity {entity} --period {month} --confirm --reason WHY"
        )

    said = _acted(tenant, entity, author, "reopen", act)
    value = {"tenant": tenant, "entity": entity, "period": month, "by": author, "reopened": confirm}
    result(value, lambda: line(said))


def _acted(tenant: str, entity: str, author: str, act: str, work: Callable[[TenantDatabase, Entity], Awaitable[str]]) -> str:
    from ntro_dagster.host.home import Role  # noqa: PLC0415

    tenant_home(tenant)

    async def run(database: TenantDatabase) -> str:
        return await work(database, await entity_of(database, entity, tenant=tenant))

    try:
        return as_role(tenant, Role.DESK, run)
    except NtroError as refused:
        raise about_author(refused, author, tenant=tenant, decision=act) from None


def _months(tenant: str, entity: str) -> None:
    from ntro_dagster.gl.periods import period_list  # noqa: PLC0415
    from ntro_dagster.host.home import Role  # noqa: PLC0415

    async def look(database: TenantDatabase) -> list[dict[str, Any]]:
        return await period_list(database, entity_id=(await entity_of(database, entity, tenant=tenant)).id)

    months = as_role(tenant, Role.AUDITOR, look)

    def human() -> None:
        if not months:
            line("nothing has happened yet")
            return
        table(
            [Column("Period"), Column("Status"), Column("Journals", right=True), Column("By"), Column("At")],
            [(x["period"], x["status"], str(x["journals"]), x["login"] or "", when(x["at"]) if x["at"] else "") for x in months],
        )

    result({"tenant": tenant, "entity": entity, "periods": months}, human)


def _as_json(tenant: str, entity: str, state: PeriodState) -> dict[str, Any]:
    from ntro_dagster.gl.periods import CHECKLIST  # noqa: PLC0415

    found = {finding.code: finding for finding in state.findings}
    return {
        "tenant": tenant,
        "entity": entity,
        "period": state.period,
        "status": state.status,
        "ready": state.ready,
        "findings": [
            {"code": x.code, "things": x.things, "answerable": x.answerable, "should_hold": CHECKLIST[x.code][0]}
            for x in found.values()
        ],
        "control_accounts": [
            {
                "subledger": x.subledger,
                "role": x.role,
                "currency": x.currency,
                "posted_rows": x.posted_rows,
                "account": x.account,
                "difference": x.difference,
            }
            for x in state.controls
        ],
        "bank": [
            {
                "account": x.account_code,
                "currency": x.currency,
                "statement": x.statement,
                "books": x.books,
                "difference": x.difference,
            }
            for x in state.banks
        ],
        "net_assets": {"now": state.net_assets, "month_before": state.net_assets_before},
        "acts": [{"act": x.act, "by": x.login, "reason": x.reason, "at": x.at} for x in state.acts],
        "seal": state.seal
        and {
            "digest": state.seal.digest,
            "journals": state.seal.journals,
            "run_id": state.seal.run_id,
            "at": state.seal.at,
            "holds": state.seal.holds,
        },
    }


def _show(known: Entity, state: PeriodState) -> None:
    from ntro_dagster.gl.periods import CHECKLIST, PeriodStatus  # noqa: PLC0415

    line(f"{known.name}, {state.period}: {state.status}", style="bold")
    if state.status is PeriodStatus.OPEN:
        found = {finding.code: finding for finding in state.findings}
        for code, (holds, mend) in CHECKLIST.items():
            if (finding := found.get(code)) is None:
                line(f"  yes  {holds}")
            else:
                many = f" ({finding.things})" if finding.things > 1 else ""
                line(
                    f"  {'ask' if finding.answerable else 'no '}  {holds}{many}: {mend}",
                    style="yellow" if finding.answerable else "red",
                )
    if state.controls:
        table(
            [
                Column("Subledger"),
                Column("Account"),
                Column("Posted rows", right=True),
                Column("Account says", right=True),
                Column("Difference", right=True),
            ],
            [
                (x.subledger, f"{x.role} {x.currency}", figure(x.posted_rows), figure(x.account), figure(x.difference))
                for x in state.controls
            ],
        )
    if state.banks:
        table(
            [Column("Bank"), Column("Statement", right=True), Column("Books", right=True), Column("Difference", right=True)],
            [(f"{x.account_code} {x.currency}", figure(x.statement), figure(x.books), figure(x.difference)) for x in state.banks],
        )
    line(f"Net assets {figure(state.net_assets)} {known.currency}; a month before {figure(state.net_assets_before)}")
    for act in state.acts:
        line(f"  {when(act.at)}  {act.act.replace('_', ' ').lower()} by {act.login}" + (f": {act.reason}" if act.reason else ""))
    if state.seal:
        holds = "and holds" if state.seal.holds else "AND DOES NOT HOLD: the journals are not those that were sealed"
        line(
            f"  {when(state.seal.at)}  sealed {state.seal.digest[:16]}… over {state.seal.journals} journals, {holds}",
            style="" if state.seal.holds else "bold red",
        )
    if state.asked:
        line(f"{state.asked.login} has asked to reopen it; another approver confirms with --confirm")
