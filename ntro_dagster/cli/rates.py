"""`ntro rate`, `ntro bank`: what the world says: exchange rates, balances of bank statements."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ntro_dagster.cli.connections import as_role, entity_of
from ntro_dagster.cli.invocation import command
from ntro_dagster.cli.journals import EntityOption, plain_rate
from ntro_dagster.cli.members import operator, owner_of
from ntro_dagster.cli.output import Column, count, figure, line, result, table, when
from ntro_dagster.cli.selection import AsOption, PeriodFilter, TenantOption, checked_user, written_period
from ntro_dagster.errors import UsageError

if TYPE_CHECKING:
    from ntro_dagster.platforms.postgres.database import TenantDatabase

app = typer.Typer(no_args_is_help=True, help="Exchange rates, which journals in other currencies are translated by.")
bank = typer.Typer(no_args_is_help=True, help="What the bank says, for the close to compare.")

Day = Annotated[datetime, typer.Option("--on", formats=["%Y-%m-%d"], help="The day.")]


class BalanceInvalidError(UsageError):
    code = "BALANCE_INVALID"
    summary = "that is not a balance"
    detail = "{balance!r} is not a balance"
    mend = "digits with a point before the cents, below zero for what is overdrawn: 1234.50 or -20"


class BankAccountUnknownError(UsageError):
    code = "ACCOUNT_NOT_A_BANK"
    summary = "no account of the chart with the role BANK has that code"
    detail = "{account} is no account with the role BANK"
    mend = "`ntro account list` shows them; `ntro account role CODE BANK` gives the role"


@command(app, "add")
def add(
    *,
    tenant: TenantOption,
    origin: Annotated[str, typer.Option("--from", metavar="CUR", help="One unit of this currency")],
    to: Annotated[str, typer.Option("--to", metavar="CUR", help="is worth so many of this one.")],
    on: Day,
    rate: Annotated[str, typer.Option("--rate", help="How many.")],
    source: Annotated[str, typer.Option("--source", help="Who says so: ECB.")],
) -> None:
    """Write down a rate. The last record of a day holds; journals that are posted keep theirs."""
    from ntro_dagster.gl.rates import parsed, record  # noqa: PLC0415

    known = parsed({"from": origin, "to": to, "on": f"{on:%Y-%m-%d}", "rate": rate, "source": source}, "the rate")
    done = record(owner_of(tenant), [known], by=operator())
    value = {"tenant": tenant, "from": origin, "to": to, "on": known.on, "rate": plain_rate(known.rate), "source": source}
    said = "recorded" if done.new else "known already"
    result(value | {"new": bool(done.new)}, lambda: line(f"1 {origin} = {value['rate']} {to} on {known.on.isoformat()}: {said}"))


@command(app, "import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV with the columns from, to, on, rate, source.")],
    *,
    tenant: TenantOption,
) -> None:
    """Write down all rates of a file, or none. The same file again changes nothing."""
    from ntro_dagster.gl.rates import read_rates, record  # noqa: PLC0415

    done = record(owner_of(tenant), read_rates(file), by=operator())
    value = {"tenant": tenant, "new": done.new, "known": done.known}
    result(value, lambda: line(f"{count(done.new, 'rate')} recorded, {done.known:,} known already"))


@command(app, "list")
def list_(
    *,
    tenant: TenantOption,
    origin: Annotated[str | None, typer.Option("--from", metavar="CUR", help="Only of this currency.")] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="CUR", help="Only into this one.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000)] = 50,
) -> None:
    """Rates, the latest day first."""
    from ntro_dagster.gl.rates import listed  # noqa: PLC0415

    found = listed(owner_of(tenant), origin=origin, to=to, limit=limit)
    value = [
        {
            "from": row["from_currency"], "to": row["to_currency"], "on": row["on_date"], "rate": plain_rate(row["rate"]),
            "source": row["source"], "recorded_by": row["recorded_by"], "recorded_at": row["recorded_at"],
        }
        for row in found
    ]  # fmt: skip
    columns = [Column("On"), Column("From"), Column("To"), Column("Rate", right=True), Column("Source", flexible=True)]

    def human() -> None:
        if not value:
            line("no rates")
            return
        table(
            [*columns, Column("Recorded", spare=True)],
            [(f"{x['on']}", x["from"], x["to"], x["rate"], x["source"], when(x["recorded_at"])) for x in value],
        )

    result(value, human)


@command(bank, "record")
def record_balance(
    balance: Annotated[str, typer.Argument(help="1234.50; behind `--` where it is below zero.")],
    *,
    tenant: TenantOption,
    entity: EntityOption,
    account: Annotated[str, typer.Option("--account", help="An account with the role BANK.")],
    on: Day,
    currency: Annotated[str | None, typer.Option("--currency", help="[default: the entity's]")] = None,
    source: Annotated[str | None, typer.Option("--source", help="Which statement says so.")] = None,
    user: AsOption = None,
) -> None:
    """Write down what a bank statement says. The last record of a day holds; a close compares it with the books."""
    from ntro_dagster.host.home import Role  # noqa: PLC0415

    amount, who = _balance(balance), checked_user(user)

    async def work(desk: TenantDatabase) -> dict[str, Any]:
        known = await entity_of(desk, entity, tenant=tenant)
        if not await desk.fetch("SELECT 1 FROM ledgers.accounts WHERE code = %s AND role = 'BANK'", [account]):
            raise BankAccountUnknownError(account=account)
        values = {
            "entity_id": known.id, "account_code": account, "currency": currency or known.currency, "on_date": on.date(),
            "balance": amount, "source_ref": source, "recorded_by": who,
        }  # fmt: skip
        places = ", ".join(f"%({name})s" for name in values)
        await desk.execute(f"INSERT INTO system.bank_balances ({', '.join(values)}) VALUES ({places})", values)
        return values

    done = as_role(tenant, Role.DESK, work)
    value = {
        "tenant": tenant, "entity": entity, "account": account, "currency": done["currency"], "on": done["on_date"],
        "balance": amount, "source": source, "recorded_by": who,
    }  # fmt: skip
    result(value, lambda: line(f"{account} had {figure(amount)} {done['currency']} on {done['on_date'].isoformat()}"))


@command(bank, "list")
def list_balances(*, tenant: TenantOption, entity: EntityOption, period: PeriodFilter = None) -> None:
    """What was recorded, the last first; and what the books say at the end of that day."""
    from ntro_dagster.host.home import Role  # noqa: PLC0415

    month = written_period(period)

    async def look(database: TenantDatabase) -> list[dict[str, Any]]:
        known = await entity_of(database, entity, tenant=tenant)
        return await database.fetch(
            """SELECT b.account_code AS account, b.currency, b.on_date AS on, b.balance,
                      coalesce((SELECT sum(l.debit - l.credit) FROM ledgers.journals j
                                  JOIN ledgers.journal_lines l ON l.journal_id = j.id
                                 WHERE j.entity_id = b.entity_id AND j.posting_date <= b.on_date AND j.currency = b.currency
                                   AND l.account_code = b.account_code), 0) AS books,
                      b.source_ref AS source, b.recorded_by, b.recorded_at
                 FROM system.bank_balances b
                WHERE b.entity_id = %(entity)s AND (%(month)s::text IS NULL OR to_char(b.on_date, 'YYYY-MM') = %(month)s)
                ORDER BY b.on_date DESC, b.id DESC""",
            {"entity": known.id, "month": month},
        )

    found = as_role(tenant, Role.AUDITOR, look)

    def human() -> None:
        if not found:
            line("no balances are recorded")
            return
        columns = [
            Column("On"), Column("Account"), Column("Currency"), Column("Statement", right=True), Column("Books", right=True),
            Column("Source", flexible=True), Column("By", spare=True),
        ]  # fmt: skip
        table(
            columns,
            [
                (
                    f"{x['on']}",
                    x["account"],
                    x["currency"],
                    figure(x["balance"]),
                    figure(x["books"]),
                    x["source"],
                    x["recorded_by"],
                )
                for x in found
            ],
        )

    result(found, human)


def _balance(text: str) -> Decimal:
    try:
        amount = Decimal(text)
        fits = amount.is_finite() and abs(amount) < Decimal(10) ** 29 and amount == amount.quantize(Decimal("1e-9"))
    except InvalidOperation:
        fits = False
    if not fits:
        raise BalanceInvalidError(balance=text)
    return amount
