"""Plain tables: a header row, then one record per line, or a list of JSON objects; every value kept as the text it is.

Nothing is read into a value here. The source says in which columns a record names its entity and its month.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ntro_dagster.ingest.finding import Finding
from ntro_dagster.ingest.returns import Layout, ReturnRecord
from ntro_dagster.ingest.returns.content import encoding_of, is_json
from ntro_dagster.ingest.returns.delimited import DELIMITERS, delimited_records, rows
from ntro_dagster.ingest.returns.document import named
from ntro_dagster.ingest.returns.errors import DocumentQuotingError, DocumentRefusedError
from ntro_dagster.ingest.returns.header import unique_names
from ntro_dagster.ingest.returns.structured import columns_of, rows_of_json
from ntro_dagster.ingest.sources import Source

_HEADER_WITHIN = 40
"""Rows among which the header must be: titles may stand above it."""

_MONTH = re.compile(r"((?:19|20)\d{2}-(?:0[1-9]|1[0-2]))(?:-(?:0[1-9]|[12]\d|3[01]))?(?:[T ].*)?", re.ASCII)


class NotATableError(DocumentRefusedError):
    """Values: `name`, `columns`."""

    code = "DOCUMENT_NOT_A_TABLE"
    summary = "the document has no header with the columns of its source"
    detail = "{name} has no row that names each of these columns once: {columns}"
    mend = "hand in the table as CSV with its header row, or name its proper source with --source"


@dataclass(frozen=True)
class Table:
    """One table. `layout.mapping` says which columns name entity and period."""

    name: str
    layout: Layout
    record_count: int
    findings: tuple[Finding, ...] = ()
    _content: Path | None = None
    _listed: tuple[dict[str, str], ...] = ()

    def records(self) -> Iterator[ReturnRecord]:
        """Every row with any text, in order. May be called again: the file is read anew."""
        entity, period = (self.layout.mapping.get(each) for each in ("entity", "period"))
        for line, raw in self._rows():
            yield ReturnRecord(
                line,
                raw,
                named(raw.get(entity, ""), entity) if entity else None,
                month_of(raw.get(period, "")) if period else None,
            )

    def _rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        if self._content is None:
            return ((ordinal, dict(row)) for ordinal, row in enumerate(self._listed, start=1))
        return delimited_records(self._content, self.layout, name=self.name)


def month_of(cell: str) -> str | None:
    """The month of `2022-02`, `2022-02-28`, `2022-02-28T10:00`; None for anything else: it is not guessed."""
    found = _MONTH.fullmatch(cell.strip())
    return found[1] if found else None


def open_table(content: Path, *, name: str, source: Source) -> Table:
    """Finds the header, and counts the rows below it.

    Raises: `DocumentRefusedError` and its kinds, `NotATableError` among them.
    """
    wanted = {each: column for each, column in (("entity", source.entity), ("period", source.period)) if column}
    if is_json(content):
        return _open_listed(content, wanted, name=name)
    layout = find_layout(content, name=name, wanted=wanted)
    count = sum(1 for _ in delimited_records(content, layout, name=name))
    return Table(name, layout, count, _content=content)


def find_layout(content: Path, *, name: str, wanted: Mapping[str, str]) -> Layout:
    """The table that has each column of `wanted` (by what it is for) once in its header.

    Raises: `DocumentRefusedError` and its kinds, `NotATableError` among them.
    """
    encoding = encoding_of(content, name=name)
    broken: DocumentQuotingError | None = None
    best: tuple[int, list[str], str] | None = None
    for delimiter in DELIMITERS:
        try:
            opening = list(islice(rows(content, encoding, delimiter, name=name), _HEADER_WITHIN))
        except DocumentQuotingError as error:
            broken = broken or error
            continue
        for line, cells in opening:
            headings = [" ".join(cell.split()) for cell in cells]
            if not any(headings) or any(headings.count(column) != 1 for column in wanted.values()):
                continue
            if best is None or len(headings) > len(best[1]):
                best = (line, headings, delimiter)
            break
    if best is None:
        raise broken or NotATableError(name=name, columns=", ".join(wanted.values()))
    line, headings, delimiter = best
    filled = max(index + 1 for index, heading in enumerate(headings) if heading)
    return Layout(
        kind="table",
        encoding=encoding,
        delimiter=delimiter,
        header_line=line,
        columns=unique_names(headings[:filled]),
        width=len(headings),
        mapping=dict(wanted),
        rivals={},
        names_entity="entity" in wanted,
    )


def _open_listed(content: Path, wanted: dict[str, str], *, name: str) -> Table:
    encoding = encoding_of(content, name=name, max_line=None)
    rows = rows_of_json(content, encoding, name=name)
    columns = columns_of(rows or ())
    if rows is None or (rows and not set(wanted.values()) <= set(columns)):
        raise NotATableError(name=name, columns=", ".join(wanted.values()))
    layout = Layout(
        kind="json",
        encoding=encoding,
        delimiter="",
        header_line=0,
        columns=columns,
        width=len(columns),
        mapping=wanted,
        rivals={},
        names_entity="entity" in wanted,
    )
    return Table(name, layout, len(rows), _listed=rows)
