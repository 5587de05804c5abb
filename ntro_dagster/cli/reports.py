"""`ntro report`: the books as accountants read them, on the terminal or as a file."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from ntro_dagster.cli.balance import FormatsClashError
from ntro_dagster.cli.connections import as_role, entity_of
from ntro_dagster.cli.invocation import command, invocation
from ntro_dagster.cli.journals import EntityOption
from ntro_dagster.cli.output import Column, figure, line, note, result, table
from ntro_dagster.cli.selection import TenantOption, written_period
from ntro_dagster.errors import UsageError

if TYPE_CHECKING:
    from ntro_dagster.gl.reports.report import Cell, Report, Row
    from ntro_dagster.platforms.postgres.database import TenantDatabase

app = typer.Typer(no_args_is_help=True, help="Trial balance, general ledger, journals, aged creditors, net asset value.")

DOES_NOT_TIE = 1


class Form(StrEnum):
    TABLE = "table"
    CSV = "csv"
    XLSX = "xlsx"
    HTML = "html"


class OutputNeededError(UsageError):
    code = "OUTPUT_NEEDED"
    summary = "a workbook does not go to a terminal"
    mend = "say where it goes: --output FILE, or send it on with | or >"


class OutputThereError(UsageError):
    code = "OUTPUT_EXISTS"
    summary = "the file is there already"
    detail = "{path} is there already"
    mend = "name another file, or take it away; nothing is overwritten"


MonthOption = Annotated[str, typer.Option("--period", "-p", metavar="YYYY-MM", help="The month.")]
FormOption = Annotated[Form, typer.Option("--format", help="How it is written.")]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="Into this file; it must not be there yet.")]
BasisOption = Annotated[str, typer.Option("--basis", help="cumulative; year: earlier years' income is with retained earnings.")]
CompareOption = Annotated[str | None, typer.Option("--compare", help="Beside closing balances: of the month or the year before.")]


@dataclass(frozen=True, slots=True)
class Order:
    """What the command line asks for."""

    name: str
    tenant: str
    entity: str
    period: str
    form: Form
    output: Path | None
    choices: dict[str, Any] = field(default_factory=dict)


def _register(name: str, what: str) -> None:
    def show(
        *,
        tenant: TenantOption,
        entity: EntityOption,
        period: MonthOption,
        form: FormOption = Form.TABLE,
        output: OutputOption = None,
    ) -> int:
        return _report(Order(name, tenant, entity, period, form, output))

    show.__doc__ = what
    command(app, name)(show)


_register("journals", "Every journal of the month with its lines, in the order of its number.")
_register("creditors", "What is owed to each party at the end of the month, by the age of its bills.")
_register("nav", "What is owned less what is owed, beside last month and the end of last year.")


@command(app, "trial-balance")
def trial_balance(
    *,
    tenant: TenantOption,
    entity: EntityOption,
    period: MonthOption,
    form: FormOption = Form.TABLE,
    output: OutputOption = None,
    basis: BasisOption = "cumulative",
    compare: CompareOption = None,
) -> int:
    """Opening, movements and closing by account: in the entity's currency, and in those of transactions."""
    from ntro_dagster.gl.reports import Basis, Compared  # noqa: PLC0415

    if basis not in set(Basis):
        raise typer.BadParameter(f"one of {', '.join(Basis)}", param_hint="--basis")
    if compare is not None and compare not in set(Compared):
        raise typer.BadParameter(f"one of {', '.join(Compared)}", param_hint="--compare")
    choices = {"basis": Basis(basis), "compare": Compared(compare) if compare else None}
    return _report(Order("trial-balance", tenant, entity, period, form, output, choices))


@command(app, "ledger")
def ledger(
    *,
    tenant: TenantOption,
    entity: EntityOption,
    period: MonthOption,
    account: Annotated[str | None, typer.Option("--account", help="Only this one.")] = None,
    form: FormOption = Form.TABLE,
    output: OutputOption = None,
) -> int:
    """Account by account every line of the month, with the balance after it and the row it came from."""
    return _report(Order("ledger", tenant, entity, period, form, output, {"account": account}))


def _report(order: Order) -> int:
    """Raises: `FormatsClashError`, `OutputNeededError`, `OutputThereError`, `EntityUnknownError`."""
    from ntro_dagster.gl.reports import ReportName, report  # noqa: PLC0415
    from ntro_dagster.gl.reports.report import About, one_instant  # noqa: PLC0415
    from ntro_dagster.host.home import Role  # noqa: PLC0415

    month, output = written_period(order.period) or "", order.output
    if invocation.json and (order.form is not Form.TABLE or output):
        raise FormatsClashError
    if order.form is Form.TABLE and output:
        raise typer.BadParameter("a table is for the terminal; a file is csv, xlsx or html", param_hint="--format")
    if order.form is Form.XLSX and output is None and sys.stdout.isatty():
        raise OutputNeededError
    if output is not None and output.exists():
        raise OutputThereError(path=output)

    async def look(database: TenantDatabase) -> bool:
        known = await entity_of(database, order.entity, tenant=order.tenant)
        about = About(known.id, known.slug, known.name, known.currency, month, known.first_month)
        async with one_instant(database):
            made = await report(ReportName(order.name), database, about, **order.choices)
            await (_show if order.form is Form.TABLE else _write)(made, order)
        for check in made.checks:
            if not check.holds:
                note(f"DOES NOT AGREE: {check.text}")
        return made.ties_out

    return 0 if as_role(order.tenant, Role.AUDITOR, look) else DOES_NOT_TIE


async def _write(made: Report, order: Order) -> None:
    from ntro_dagster.desk.report_files import write_csv, write_html, write_xlsx  # noqa: PLC0415

    async with _opened(order.output, binary=order.form is Form.XLSX) as file:
        if order.form is Form.XLSX:
            await write_xlsx(made, file, tenant=order.tenant)
        elif order.form is Form.CSV:
            await write_csv(made, file)
        else:
            await write_html(made, file, tenant=order.tenant)


@asynccontextmanager
async def _opened(output: Path | None, *, binary: bool) -> AsyncIterator[IO[Any]]:
    """Standard output, or a new file that is whole or not there."""
    if output is None:
        stream: IO[Any] = sys.stdout.buffer if binary else sys.stdout
        yield stream
        stream.flush()
        return
    partial = output.with_name(f".{output.name}.partial")
    try:
        with partial.open("wb") if binary else partial.open("w", encoding="utf-8", newline="") as file:
            yield file
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)


async def _show(made: Report, order: Order) -> None:
    rows = [row async for row in made.rows]
    value = {
        "tenant": order.tenant,
        "entity": order.entity,
        "period": order.period,
        "report": made.name,
        "title": made.title,
        "columns": [{"name": column.name, "title": column.title, "kind": column.kind} for column in made.columns],
        "rows": [_fields(made, row) for row in rows],
        "totals": [_fields(made, row) for row in made.totals],
        "notes": list(made.notes),
        "checks": [{"text": check.text, "holds": check.holds} for check in made.checks],
        "ties_out": made.ties_out,
    }

    def human() -> None:
        line(f"{made.title}: {made.subtitle}", style="bold")
        if not rows:
            line("nothing to show: nothing has been posted that this report is about")
            return
        columns = [Column(each.title, right=each.kind == "money", flexible=each.flexible) for each in made.columns]
        every = [*rows, *made.totals]
        table(columns, [[_text(cell, row.depth if at == 1 else 0) for at, cell in enumerate(row.cells)] for row in every])
        for text in made.notes:
            line(text)
        for check in made.checks:
            if check.holds:
                note(f"agrees: {check.text}")

    result(value, human)


def _fields(made: Report, row: Row) -> dict[str, Any]:
    return {column.name: cell for column, cell in zip(made.columns, row.cells, strict=True)} | {"row": row.style}


def _text(cell: Cell, depth: int) -> str | None:
    from decimal import Decimal  # noqa: PLC0415

    return figure(cell) if isinstance(cell, Decimal) else None if cell is None else "  " * depth + str(cell)
