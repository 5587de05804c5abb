"""`ntro approval`: above which amounts two approve, and who approves for whom."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Annotated
from uuid import UUID

import typer

from ntro_dagster.cli.entities import CurrencyInvalidError
from ntro_dagster.cli.invocation import command
from ntro_dagster.cli.members import operator, owner_of
from ntro_dagster.cli.output import Column, figure, line, result, table, when
from ntro_dagster.cli.selection import TenantOption
from ntro_dagster.desk.roles import full_login
from ntro_dagster.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="Above which amounts two approve, and who approves for whom.")

_LARGEST, _SMALLEST = Decimal(10) ** 29, Decimal(10) ** -9
_EXACT = Context(prec=60, traps=[Inexact, InvalidOperation])

Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The first day, in UTC. [default: from now on]")]
LastDay = Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="The last day, in UTC.")]
Reason = Annotated[str, typer.Option(help="Why; kept for ever.")]


class AmountUnreadableError(UsageError):
    code = "AMOUNT_UNREADABLE"
    summary = "that is not an amount"
    detail = "{amount!r} is not an amount"
    mend = "digits with a point before the cents, not below zero: 10000 or 10000.00; `none` takes a limit away"


class DaysReversedError(UsageError):
    code = "DAYS_REVERSED"
    summary = "the last day lies before the first one, or has passed"
    mend = "give --until a day that is still to come"


@command(app, "limit")
def limit(
    currency: Annotated[str, typer.Argument(help="ISO 4217.")],
    amount: Annotated[str, typer.Argument(help="Above it two approve; `none`: one does, whatever the amount.")],
    *,
    tenant: TenantOption,
) -> None:
    """Set the amount above which two approve. It holds for what is applied from now on."""
    from ntro_dagster.desk.approvals import set_limit  # noqa: PLC0415

    if not re.fullmatch("[A-Z]{3}", currency):
        raise CurrencyInvalidError(currency=currency)
    above = None if amount == "none" else _amount(amount)
    set_limit(owner_of(tenant), currency, above, by=operator())
    said = (
        f"one approves, whatever the amount in {currency}" if above is None else f"above {currency} {figure(above)} two approve"
    )
    result({"tenant": tenant, "currency": currency, "amount": above}, lambda: line(said))


@command(app, "delegate")
def delegate(
    giver: Annotated[str, typer.Argument(metavar="FROM", help="An approver.")],
    taker: Annotated[str, typer.Argument(metavar="TO", help="A preparer.")],
    *,
    tenant: TenantOption,
    until: LastDay,
    reason: Reason,
    since: Day = None,
) -> None:
    """Let a preparer approve for an approver until a day. The history says for whom."""
    from ntro_dagster.desk.approvals import delegate as give  # noqa: PLC0415

    begins = since.replace(tzinfo=UTC) if since else None
    ends = until.replace(tzinfo=UTC) + timedelta(days=1)
    if ends <= max(begins or datetime.now(UTC), datetime.now(UTC)):
        raise DaysReversedError
    _refuse_blank(reason)
    whole, other = full_login(giver), full_login(taker)
    made = give(owner_of(tenant), whole, other, begins=begins, ends=ends, reason=reason, by=operator())
    value = {"id": made, "tenant": tenant, "from": whole, "to": other, "begins_at": begins, "ends_at": ends}
    result(value, lambda: line(f"{other} may approve for {whole} until the end of {until:%Y-%m-%d}, UTC"))


@command(app, "end")
def end(
    delegation: Annotated[UUID, typer.Argument(metavar="ID", help="As `ntro approval list` shows it.")],
    *,
    tenant: TenantOption,
    reason: Reason,
) -> None:
    """End a delegation before its day. What was approved under it stays."""
    from ntro_dagster.desk.approvals import end_delegation  # noqa: PLC0415

    _refuse_blank(reason)
    end_delegation(owner_of(tenant), delegation, reason=reason, by=operator())
    result({"id": delegation, "tenant": tenant, "active": False}, lambda: line(f"delegation {delegation} has ended"))


@command(app, "list")
def list_(*, tenant: TenantOption) -> None:
    """The limits, and the delegations: former ones too."""
    from ntro_dagster.desk.approvals import delegations, limits  # noqa: PLC0415

    owner = owner_of(tenant)
    held, given = limits(owner), delegations(owner)

    def human() -> None:
        if held:
            columns = [Column("Currency"), Column("Above", right=True), Column("Since"), Column("By", flexible=True)]
            table(columns, [(x["currency"], figure(x["amount"]), when(x["recorded_at"]), x["recorded_by"]) for x in held])
        else:
            line(f"one approves, whatever the amount: `ntro approval limit GBP 10000 --tenant {tenant}` sets a limit")
        if given:
            columns = [Column("Delegation"), Column("From"), Column("To"), Column("Until"), Column("State")]
            table(
                columns,
                [
                    (str(x["id"]), x["from_login"], x["to_login"], when(x["ended_at"] or x["ends_at"]), _state(x["active"]))
                    for x in given
                ],
            )

    result({"limits": held, "delegations": given}, human)


def _state(active: bool) -> str:
    return "holds" if active else ""


def _refuse_blank(reason: str) -> None:
    if not reason.strip():
        raise typer.BadParameter("a reason cannot be blank", param_hint="--reason")


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
        fits = amount.is_finite() and 0 <= amount < _LARGEST and amount.quantize(_SMALLEST, context=_EXACT) == amount
    except ArithmeticError:
        fits = False
    if not fits:
        raise AmountUnreadableError(amount=text)
    return amount
