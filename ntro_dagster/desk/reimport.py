"""An exported sheet that somebody edited, taken back: a change becomes an edit of the row as it was exported, or is reported."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated, Any, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Query, Request
from psycopg import sql
from pydantic import Field
from starlette.datastructures import UploadFile

from ntro_dagster.desk import shapes
from ntro_dagster.desk.api import ERRORS, NO_NUL, LedgerName
from ntro_dagster.desk.cells import CellError, said, untouched
from ntro_dagster.desk.desk import Desk
from ntro_dagster.desk.doors import Database, Decider, desk_of
from ntro_dagster.desk.export import BEFORE, XLSX, ExportsBusyError, columns_of, exported, type_of
from ntro_dagster.desk.review_api import as_model, receipt
from ntro_dagster.desk.rows import plain
from ntro_dagster.desk.sittings import Sitting
from ntro_dagster.errors import UsageError
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.filing import Seen, file_seen
from ntro_dagster.subledger.lifecycle import EDIT

MOST_UNPACKED = 256 << 20
MOST_COLUMNS = 200
MOST_CHANGED = 2_000
"""Rows that one import changes; more is a migration, not a review."""
BATCH = 5_000

router = APIRouter(prefix="/v1", responses=ERRORS)


class SheetUnreadableError(UsageError):
    """Values: `why`."""

    code = "SHEET_UNREADABLE"
    summary = "that is no sheet that was exported here"
    detail = "that is no sheet that was exported here: {why}"
    mend = "export as XLSX, edit that file, and send it back as it is"


class ImportTooLargeError(UsageError):
    """Values: `most`."""

    code = "IMPORT_TOO_LARGE"
    summary = "too many rows are changed"
    detail = "more than {most:,} rows are changed"
    mend = "send them in parts"


class Proposed(NamedTuple):
    """New values of a row, as text, and the line they stand in."""

    line: int
    digest: bytes
    values: dict[str, str | None]


@dataclass
class Found:
    """What a sheet says against the rows as they are now.

    Attributes:
        proposals: by row.
        refused: lines that cannot be taken, with a code.
    """

    lines: int = 0
    unchanged: int = 0
    proposals: dict[UUID, Proposed] = field(default_factory=dict)
    refused: list[dict[str, Any]] = field(default_factory=list)

    def refuse(self, line: int, row: str | None, code: str, fields: Mapping[str, str] | None = None) -> None:
        self.refused.append({"line": line, "id": row, "code": code, "fields": dict(fields or {})})


class Proposal(shapes.Shape):
    id: UUID
    values: dict[str, str | None]


class RefusedLine(shapes.Shape):
    line: int
    id: str | None
    code: str
    fields_: dict[str, str] = Field(alias="fields")


class Imported(shapes.Shape):
    """`filed` and `signals` are empty in a dry run."""

    lines: int
    unchanged: int
    proposals: list[Proposal]
    refused: list[RefusedLine]
    filed: int
    signals: list[shapes.FiledSignal]


@router.post(
    "/subledgers/{ledger}/import",
    response_model=Imported,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                XLSX: {"schema": {"type": "string", "format": "binary"}},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["file"],
                        "properties": {"file": {"type": "string", "format": "binary"}},
                    }
                },
            },
        }
    },
)
async def take_back(
    ledger: LedgerName,
    request: Request,
    database: Database,
    member: Decider,
    *,
    file: Annotated[bool, Query(description="file the edits; else it is a dry run")] = False,
    reason: Annotated[str | None, Query(max_length=2_000, pattern=NO_NUL)] = None,
) -> dict[str, Any]:
    """Edits from a sheet that was exported here: all of those that stand are filed, or none (409). No formula is worked out."""
    desk = desk_of(request)
    kind = await desk.ledger(database, ledger)
    content = await _sent(request)
    if desk.exports.locked():
        raise ExportsBusyError
    async with desk.exports:
        lines = await asyncio.to_thread(_read, content, kind)
        found = await _compared(database, kind, lines)
    await _looked_over(desk, database, kind, found)
    filed = await _file(database, kind, found, member, reason) if file and found.proposals else {"filed": 0, "signals": []}
    return {
        "lines": found.lines,
        "unchanged": found.unchanged,
        "proposals": [{"id": row, "values": new.values} for row, new in found.proposals.items()],
        "refused": sorted(found.refused, key=lambda refused: refused["line"]),
        **filed,
    }


async def _sent(request: Request) -> bytes:
    """The body, or the file of a form's field `file`. Raises: `SheetUnreadableError`."""
    if not request.headers.get("content-type", "").startswith("multipart/"):
        return await request.body()
    sent = (await request.form()).get("file")
    if not isinstance(sent, UploadFile):
        raise SheetUnreadableError(why="the form has no file")
    return await sent.read()


Line = tuple[int, dict[str, Any]]
"""Number of a line, and its cells by column."""


def _read(content: bytes, kind: TypeDescription) -> list[Line]:
    """The lines that say something. Raises: `SheetUnreadableError`."""
    from openpyxl import load_workbook  # noqa: PLC0415 - 10 MB that only sheets need

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MOST_UNPACKED:
                raise SheetUnreadableError(why=f"unpacked it has more than {MOST_UNPACKED >> 20} MiB")
        book = load_workbook(io.BytesIO(content), read_only=True, keep_links=False)
        try:
            return list(_lines(book.worksheets[0].iter_rows(max_col=MOST_COLUMNS), kind))
        finally:
            book.close()
    except SheetUnreadableError:
        raise
    except Exception as error:  # whatever a file that is none makes a parser raise
        raise SheetUnreadableError(why=type(error).__name__) from None


def _lines(rows: Iterator[Any], kind: TypeDescription) -> Iterator[Line]:
    names = [str(cell.value) if cell.value is not None else "" for cell in next(iter(rows), ())]
    known = columns_of(kind)
    if not {*BEFORE, "updated_at"} <= set(names):
        raise SheetUnreadableError(why=f"its first line has to name {', '.join(BEFORE)}, updated_at")
    if len({name for name in names if name in known}) < sum(name in known for name in names):
        raise SheetUnreadableError(why="its first line names a column twice")
    for number, cells in enumerate(rows, 2):
        line = {name: cell for name, cell in zip(names, cells, strict=False) if name in known}
        if any(cell.value is not None for cell in line.values()):
            yield number, line


async def _compared(database: TenantDatabase, kind: TypeDescription, lines: list[Line]) -> Found:
    """Raises: `ImportTooLargeError`."""
    found, seen, rest = Found(lines=len(lines)), set[UUID](), iter(lines)
    while part := list(islice(rest, BATCH)):
        wanted: dict[UUID, Line] = {}
        for number, line in part:
            said_id = str(line["id"].value)
            try:
                row = UUID(said_id)
            except ValueError:
                found.refuse(number, None, "ROW_ID_INVALID")
                continue
            if row in seen:
                found.refuse(number, str(row), "ROW_REPEATED")
                continue
            seen.add(row)
            wanted[row] = (number, line)
        statement = exported(kind, sql.SQL("t.id = ANY(%s)"), sql.SQL("t.id"))
        there = {row["id"]: row for row in await database.fetch(statement, [list(wanted)])}
        for row, (number, line) in wanted.items():
            _compare(kind, found, row, line=(number, line), now=there.get(row))
        if len(found.proposals) > MOST_CHANGED:
            raise ImportTooLargeError(most=MOST_CHANGED)
    return found


def _compare(kind: TypeDescription, found: Found, row: UUID, *, line: Line, now: Mapping[str, Any] | None) -> None:
    number, cells = line
    if now is None:
        found.refuse(number, str(row), "ROW_NOT_FOUND")
        return
    changed = [name for name in _compared_by(kind, cells, now) if not untouched(cells[name], now[name])]
    if not changed:
        found.unchanged += 1
        return
    wrong = {name: "not for people to edit" for name in changed if name not in kind.editable}
    code = "FIELD_NOT_EDITABLE"
    values: dict[str, str | None] = {}
    for name in changed:
        if name in kind.editable:
            try:
                values[name] = said(cells[name], name, type_of(kind, name))
            except CellError as error:
                wrong[name], code = error.summary, error.code
    if str(cells["digest"].value) != now["digest"]:
        found.refuse(number, str(row), "CONTENT_CHANGED")
    elif wrong:
        found.refuse(number, str(row), code, wrong)
    elif now["status"] not in kind.lifecycle.sources(EDIT):
        found.refuse(number, str(row), "ILLEGAL_TRANSITION")
    else:
        found.proposals[row] = Proposed(number, bytes.fromhex(now["digest"]), values)


def _compared_by(kind: TypeDescription, cells: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Its content; and what the platform writes, unless the row moved since the export, when that differs by itself."""
    still = untouched(cells["updated_at"], now["updated_at"])
    return [name for name in cells if name in kind.content or (still and name not in {"id", "digest"})]


async def _looked_over(desk: Desk, database: TenantDatabase, kind: TypeDescription, found: Found) -> None:
    """With the row type's own model: what does not stand is reported, and not proposed."""
    statement = exported(kind, sql.SQL("t.id = ANY(%s)"), sql.SQL("t.id"))
    for row in await database.fetch(statement, [list(found.proposals)]):
        shown = {"id": plain(row["id"]), "period": row["period"], "values": {name: plain(row[name]) for name in kind.content}}
        new = found.proposals[row["id"]]
        if wrong := await desk.models.errors(kind.table, as_model(shown), new.values, row["status"]):
            del found.proposals[row["id"]]
            found.refuse(new.line, str(row["id"]), "VALUES_INVALID", wrong)


async def _file(
    database: TenantDatabase, kind: TypeDescription, found: Found, member: Sitting, reason: str | None
) -> dict[str, Any]:
    """One signal for all rows of a partition that are given the same values. Raises: `ContentMovedError`."""
    same: defaultdict[tuple[tuple[str, str | None], ...], list[Seen]] = defaultdict(list)
    for row, new in found.proposals.items():
        same[tuple(sorted(new.values.items()))].append(Seen(row, new.digest))
    filed = []
    async with database.transaction():
        for values, rows in same.items():
            filed += await file_seen(database, kind, EDIT, filed_by=member.login, reason=reason, values=dict(values), rows=rows)
    return await receipt(database, filed)
