"""A subledger as a table for other programs, as CSV or XLSX: everything that a filter matches, of one instant.

It is made whole before the first byte is sent, in a file without a name: a table that ends half-way would look like one that is
complete, and a slow reader would hold one of the desk's connections.
"""

from __future__ import annotations

import asyncio
import csv
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from io import TextIOWrapper
from typing import IO, Any

from fastapi import APIRouter, Request
from psycopg import sql
from starlette.responses import Response, StreamingResponse

from ntro_dagster.desk.api import ERRORS, Group, LedgerName, Sort, Wanted
from ntro_dagster.desk.cells import as_cell, in_csv
from ntro_dagster.desk.desk import Desk
from ntro_dagster.desk.doors import Database, Member, desk_of
from ntro_dagster.desk.rows import chosen, order
from ntro_dagster.errors import TransientError, UsageError
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.description import TypeDescription

BEFORE = ("id", "digest", "entity", "period", "status")
BEHIND = ("source_ref", "made_by", "approved_by", "findings", "updated_at")
MOST_LINES = 1_048_575
"""Lines of a sheet below its header, by the format."""
BLOCK = 1 << 18
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
ABOUT = "ntro"

router = APIRouter(prefix="/v1", responses=ERRORS)


class ExportTooLargeError(UsageError):
    """Values: `most`."""

    code = "EXPORT_TOO_LARGE"
    summary = "more rows than a sheet has lines"
    detail = "more rows than the {most:,} lines of a sheet"
    mend = "export as CSV, or narrow the filter"


class ExportsBusyError(TransientError):
    code = "EXPORTS_BUSY"
    summary = "others export at this moment"
    mend = "try again in a minute"


def columns_of(kind: TypeDescription) -> list[str]:
    return [*BEFORE, *kind.content, *BEHIND]


def type_of(kind: TypeDescription, column: str) -> str:
    return kind.columns[column] if column in kind.content else "text"


def exported(kind: TypeDescription, where: sql.Composable, order: sql.Composable) -> sql.Composed:
    """The rows as they stand in an export. Args: `where`: a condition on row `t`."""
    return sql.SQL(
        "SELECT t.id, encode({digest}(t), 'hex') AS digest, e.slug AS entity, t.period, t.status, {content}, "
        "t.source_ref, t.made_by, t.approved_by, t.validation_errors AS findings, t.updated_at "
        "FROM {table} t JOIN system.entities e ON e.id = t.entity_id WHERE {where} ORDER BY {order}"
    ).format(
        digest=sql.Identifier("ledgers", f"{kind.table}_digest"),
        content=sql.SQL(", ").join(sql.Identifier("t", name) for name in kind.content),
        table=sql.Identifier("ledgers", kind.table),
        where=where,
        order=order,
    )


async def batches(
    database: TenantDatabase, statement: sql.Composable, values: Sequence[Any], columns: Sequence[str]
) -> AsyncIterator[list[list[Any]]]:
    async for rows in database.stream(statement, values):
        yield [[row[name] for name in columns] for row in rows]


@router.get("/subledgers/{ledger}/export.csv", response_class=Response, responses={200: {"content": {"text/csv": {}}}})
async def export_csv(
    ledger: LedgerName,
    request: Request,
    database: Database,
    member: Member,
    *,
    where: Wanted,
    group: Group = None,
    sort: Sort = None,
) -> Response:
    """Everything that matches, as CSV. A text that a program could take for a formula has an apostrophe before it."""
    kind = await desk_of(request).ledger(database, ledger)
    condition, values = chosen(kind, where, group, member)
    columns = columns_of(kind)
    types = [type_of(kind, name) for name in columns]
    async with turn(desk_of(request)):
        file = tempfile.TemporaryFile()  # noqa: SIM115 (the answer closes it)
        try:
            text = TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
            writer = csv.writer(text)
            writer.writerow(columns)
            async for rows in batches(database, exported(kind, condition, order(kind, sort)), values, columns):
                lines = ([in_csv(*pair) for pair in zip(row, types, strict=True)] for row in rows)
                await asyncio.to_thread(writer.writerows, lines)
            text.detach()
        except BaseException:
            file.close()
            raise
    return sent(file, "text/csv; charset=utf-8", f"{kind.table}.csv")


@router.get("/subledgers/{ledger}/export.xlsx", response_class=Response, responses={200: {"content": {XLSX: {}}}})
async def export_xlsx(
    ledger: LedgerName,
    request: Request,
    database: Database,
    member: Member,
    *,
    where: Wanted,
    group: Group = None,
    sort: Sort = None,
) -> Response:
    """Everything that matches, as XLSX. Columns that people may edit have bold names; an edited file can be sent back."""
    desk = desk_of(request)
    kind = await desk.ledger(database, ledger)
    condition, values = chosen(kind, where, group, member)
    statement, columns = exported(kind, condition, order(kind, sort)), columns_of(kind)
    async with turn(desk):
        with _book(desk, kind) as (book, sheet):
            count = 0
            async for rows in batches(database, statement, values, columns):
                count += len(rows)
                if count > MOST_LINES:
                    raise ExportTooLargeError(most=MOST_LINES)
                await asyncio.to_thread(_append, sheet, rows)
            file = tempfile.TemporaryFile()  # noqa: SIM115 (the answer closes it)
            try:
                await asyncio.to_thread(book.save, file)
            except BaseException:
                file.close()
                raise
    return sent(file, XLSX, f"{kind.table}.xlsx")


@asynccontextmanager
async def turn(desk: Desk) -> AsyncIterator[None]:
    """Raises: `ExportsBusyError`; who waited would hold a connection."""
    if desk.exports.locked():
        raise ExportsBusyError
    async with desk.exports:
        yield


@contextmanager
def _book(desk: Desk, kind: TypeDescription) -> Iterator[tuple[Any, Any]]:
    """A workbook whose lines go to a file each sheet has; it is taken away also where the book is never finished."""
    from openpyxl import Workbook  # noqa: PLC0415 - 10 MB that only sheets need
    from openpyxl.cell import WriteOnlyCell  # noqa: PLC0415
    from openpyxl.styles import Font  # noqa: PLC0415

    book: Any = Workbook(write_only=True)
    sheet: Any = book.create_sheet(kind.table[:31])
    sheet.freeze_panes = "B2"
    header = []
    for name in columns_of(kind):
        cell = WriteOnlyCell(sheet, name)
        cell.font = Font(bold=name in kind.editable)
        header.append(cell)
    sheet.append(header)
    about: Any = book.create_sheet(ABOUT)
    about.append(["tenant", desk.settings.tenant])
    about.append(["subledger", kind.table])
    with released(sheet, about):
        yield book, sheet


@contextmanager
def released(*sheets: Any) -> Iterator[None]:
    """At its end the files that sheets are written to are gone, whatever came between."""
    try:
        yield
    finally:
        for each in sheets:
            with suppress(Exception):  # a finished sheet is closed, and its file is gone
                each.close()
            with suppress(Exception):
                each._writer.cleanup()


def _append(sheet: Any, rows: Sequence[Sequence[Any]]) -> None:
    for row in rows:
        sheet.append([as_cell(sheet, value) for value in row])


def sent(file: IO[bytes], media_type: str, name: str) -> Response:
    size = file.seek(0, 2)
    file.seek(0)
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Content-Length": str(size)}
    return StreamingResponse(_blocks(file), media_type=media_type, headers=headers)


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while block := file.read(BLOCK):
            yield block
