"""Reports as files: CSV and XLSX for other programs, HTML to print. Formulas are held off as in every export of the desk."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

from jinja2 import Environment, FileSystemLoader

from ntro_dagster.desk.cells import as_cell, in_csv
from ntro_dagster.desk.export import ABOUT, MOST_LINES, ExportTooLargeError, released
from ntro_dagster.desk.pages import amount
from ntro_dagster.desk.rows import money
from ntro_dagster.gl.reports.report import Cell, Column, Kind, Report, Row, Style

_TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True)
_STYLES = Path(__file__).parent / "static" / "report.css"


async def write_csv(report: Report, file: IO[str]) -> int:
    """Every row with all its cells, totals too; a column says what each is. Returns how many rows."""
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow([*(column.name for column in report.columns), "row"])
    count = 0
    async for row in _all(report):
        writer.writerow(
            [*(_in_csv(cell, column) for cell, column in zip(row.cells, report.columns, strict=True)), row.style.value]
        )
        count += 1
    return count


def _in_csv(cell: Cell, column: Column) -> str:
    if column.kind is Kind.MONEY:
        return "" if cell is None or isinstance(cell, str) else money(Decimal(str(cell)))
    return in_csv(cell, "text")


async def write_xlsx(report: Report, file: IO[bytes], *, tenant: str) -> int:
    """Raises: `ExportTooLargeError`."""
    from openpyxl import Workbook  # noqa: PLC0415 - 10 MB that only sheets need

    book = Workbook(write_only=True)
    sheet: Any = book.create_sheet(report.name or "report")
    about: Any = book.create_sheet(ABOUT)
    sheet.freeze_panes = "A2"
    count = 0
    with released(sheet, about):
        sheet.append([_bold(sheet, column.title) for column in report.columns])
        async for row in _all(report):
            count += 1
            if count > MOST_LINES:
                raise ExportTooLargeError(most=MOST_LINES)
            cells = [as_cell(sheet, cell) for cell in row.cells]
            sheet.append([_bold(sheet, cell) for cell in cells] if row.style in {Style.SUBTOTAL, Style.TOTAL} else cells)
        for said in [("tenant", tenant), ("report", report.title), ("of", report.subtitle), *_said(report)]:
            about.append([as_cell(about, text) for text in said])
        book.save(file)
    return count


def _bold(sheet: Any, value: Any) -> Any:
    from openpyxl.cell import WriteOnlyCell  # noqa: PLC0415 - 10 MB that only sheets need
    from openpyxl.styles import Font  # noqa: PLC0415

    cell = value if hasattr(value, "data_type") else WriteOnlyCell(sheet, value)
    cell.font = Font(bold=True)
    return cell


def _said(report: Report) -> list[tuple[str, str]]:
    checks = [("agrees" if check.holds else "DOES NOT AGREE", check.text) for check in report.checks]
    return [*(("note", note) for note in report.notes), *checks]


async def write_html(report: Report, file: IO[str], *, tenant: str) -> None:
    """One page that needs nothing else, for screen and paper."""
    template = _TEMPLATES.get_template("report_file.html")
    rows = [row async for row in report.rows]
    context = {"report": report, "rows": shown(report, rows), "totals": shown(report, report.totals), "tenant": tenant}
    file.write(template.render(context, styles=_STYLES.read_text(encoding="utf-8"), made=datetime.now(UTC), link=None))


def shown(report: Report, rows: Any) -> list[dict[str, Any]]:
    """Rows for a page: texts as people read them, what stands above already left out."""
    found, last = [], None
    for row in rows:
        again = last is not None and row.group is not None and row.group == last
        cells = [_shown(cell, column, again=again) for cell, column in zip(row.cells, report.columns, strict=True)]
        found.append({"cells": cells, "style": row.style.value, "depth": row.depth, "account": row.account, "source": row.source})
        last = row.group
    return found


def _shown(cell: Cell, column: Column, *, again: bool) -> str:
    if cell is None or (again and column.once):
        return ""
    if isinstance(cell, Decimal):
        return amount(cell)
    return str(cell)


async def _all(report: Report) -> AsyncIterator[Row]:
    async for row in report.rows:
        yield row
    for row in report.totals:
        yield row
