"""`ntro trial-balance`: from the general ledger, as it stands now."""

from __future__ import annotations

import csv
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer

from ntro_dagster.cli.connections import as_role, entity_of, tenant_home
from ntro_dagster.cli.invocation import command, invocation
from ntro_dagster.cli.output import Column, figure, line, money, result, table
from ntro_dagster.cli.selection import TenantOption, written_period
from ntro_dagster.errors import UsageError

if TYPE_CHECKING:
    from ntro_dagster.gl.trial_balance import TrialBalance, TrialBalanceLine
    from ntro_dagster.platforms.postgres.database import TenantDatabase
    from ntro_dagster.tenant.entities import Entity


class FormatsClashError(UsageError):
    code = "FORMATS_CLASH"
    summary = "one output has one format"
    detail = "--csv and --json exclude each other"
    mend = "leave one of them out"


def register(app: typer.Typer) -> None:
    command(app, "trial-balance")(trial_balance)


def trial_balance(
    tenant: TenantOption,
    entity: Annotated[str, typer.Option("--entity", "-e", help="The entity's slug.")],
    period: Annotated[str, typer.Option("--period", "-p", metavar="YYYY-MM", help="The month.")],
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV (RFC 4180) on standard output.")] = False,
) -> None:
    """The trial balance of an entity and month.

    The month's movements, and the balance at its end: debit less credit.
    """
    from ntro_dagster.gl.net_assets import net_assets  # noqa: PLC0415
    from ntro_dagster.gl.trial_balance import trial_balance as read  # noqa: PLC0415
    from ntro_dagster.host.home import Role  # noqa: PLC0415

    if as_csv and invocation.json:
        raise FormatsClashError
    month = written_period(period) or ""
    tenant_home(tenant)

    async def look(database: TenantDatabase) -> tuple[Entity, TrialBalance]:
        known = await entity_of(database, entity, tenant=tenant)
        return known, await read(database, entity_id=known.id, period=month)

    known, balance = as_role(tenant, Role.AUDITOR, look)
    if as_csv:
        _write_csv(balance)
        return
    totals = balance.totals()
    worth = {each.currency: each for each in net_assets(balance)}
    value = {
        "tenant": tenant,
        "entity": entity,
        "period": month,
        "balanced": balance.balanced,
        "currencies": [
            {
                "currency": currency,
                "debit": debit,
                "credit": credit,
                "net_assets": {
                    "assets": worth[currency].assets,
                    "liabilities": worth[currency].liabilities,
                    "value": worth[currency].value,
                },
                "lines": [
                    {
                        "account": x.account_code,
                        "name": x.account_name,
                        "type": x.account_type,
                        "debit": x.debit,
                        "credit": x.credit,
                        "balance": x.balance,
                    }
                    for x in balance.lines
                    if x.currency == currency
                ],
            }
            for currency, (debit, credit) in totals.items()
        ],
    }

    def human() -> None:
        line(f"{known.name}, {month}", style="bold")
        if not totals:
            line("nothing is posted up to this month")
        for currency, (debit, credit) in totals.items():
            _show([x for x in balance.lines if x.currency == currency], currency, debit, credit)
            owned, owed = (figure(amount) for amount in (worth[currency].assets, worth[currency].liabilities))
            line(f"Net assets {figure(worth[currency].value)} {currency}: {owned} owned less {owed} owed")
        if not balance.balanced:
            line("debits and credits differ", style="bold red")

    result(value, human)


def _show(lines: list[TrialBalanceLine], currency: str, debit: Decimal, credit: Decimal) -> None:
    rows = [(x.account_code, x.account_name, figure(x.debit), figure(x.credit), figure(x.balance)) for x in lines]
    table(
        [
            Column("Account"),
            Column("Name", flexible=True),
            Column(f"Debit {currency}", right=True),
            Column(f"Credit {currency}", right=True),
            Column("Balance", right=True),
        ],
        [*rows, ("", "Total", figure(debit), figure(credit), figure(sum((x.balance for x in lines), Decimal(0))))],
    )


def _write_csv(balance: TrialBalance) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\r\n")
    writer.writerow(["currency", "account", "name", "type", "debit", "credit", "balance"])
    for x in balance.lines:
        amounts = [money(amount) for amount in (x.debit, x.credit, x.balance)]
        writer.writerow([x.currency, x.account_code, x.account_name, x.account_type, *amounts])
