"""Returns of one row per line: CSV with a comma, a semicolon or a tab."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from ntro_dagster.ingest.returns.errors import DocumentQuotingError, NotAReturnError
from ntro_dagster.ingest.returns.header import Header, chosen_columns, find_header, stated_currencies
from ntro_dagster.ingest.returns.layout import Layout, unnamed_column
from ntro_dagster.ingest.returns.survey import Survey, is_blank, survey

DELIMITERS = (",", ";", "\t")
_HEADER_WITHIN = 40
"""Rows among which the header must be: titles and banners of the returns known take up to four."""
_FEWEST_SWALLOWED = 3

Row = tuple[int, list[str]]


def open_delimited(content: Path, encoding: str, *, name: str) -> tuple[Layout, Survey]:
    """Layout and survey of a delimited document.

    Raises:
        NotAReturnError: no header of a return among the first rows.
        DocumentQuotingError: a quote is not closed, anywhere in the document.
    """
    found: list[tuple[Header, int, str]] = []
    broken: DocumentQuotingError | None = None
    for delimiter in DELIMITERS:
        try:
            opening = list(islice(rows(content, encoding, delimiter, name=name), _HEADER_WITHIN))
        except DocumentQuotingError as error:
            broken = broken or error
            continue
        if header := find_header([cells for _, cells in opening]):
            found.append((header, opening[header.row][0], delimiter))
    if not found:
        raise broken or NotAReturnError(name=name)
    header, line, delimiter = max(found, key=lambda each: len(each[0].candidates))
    following = _after(rows(content, encoding, delimiter, name=name), line)
    seen = survey(header, (row for _, row in _unswallowed(following, delimiter, header.width, name)))
    mapping, rivals = chosen_columns(header, seen.filled)
    layout = Layout(
        kind="csv",
        encoding=encoding,
        delimiter=delimiter,
        header_line=line,
        columns=header.columns,
        width=header.width,
        mapping=mapping,
        rivals=rivals,
        date_order=seen.date_order(mapping.get("expense_date"), header.columns),
        names_entity=seen.is_filled(mapping.get("entity"), header.columns),
        currencies=stated_currencies(mapping),
    )
    return layout, seen


def delimited_records(content: Path, layout: Layout, *, name: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Line and cells of every row below the header that holds any text."""
    columns, named = layout.columns, len(layout.columns)
    for line, cells in _after(rows(content, layout.encoding, layout.delimiter, name=name), layout.header_line):
        if is_blank(cells):
            continue
        raw = dict(zip(columns, cells, strict=False))
        for index in range(named, len(cells)):
            beyond = index >= layout.width and index == len(cells) - 1
            if beyond or cells[index].strip():
                raw[unnamed_column(index)] = cells[index]
        yield line, raw


def rows(content: Path, encoding: str, delimiter: str, *, name: str) -> Iterator[Row]:
    """1-based line each row starts on, and its cells. Strict: text after a closing quote is an error, not a cell."""
    with content.open(encoding=encoding, newline="") as stream:
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        line = 1
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error:
                raise DocumentQuotingError(name=name, line=line) from None
            yield line, cells
            line = reader.line_num + 1


def _after(all_rows: Iterator[Row], header_line: int) -> Iterator[Row]:
    return (row for row in all_rows if row[0] > header_line)


def _unswallowed(all_rows: Iterator[Row], delimiter: str, width: int, name: str) -> Iterator[Row]:
    """The rows, unless a cell over several lines holds what looks like another row.

    Strict reading finds an open quote by the text after the quote that closes it. The one case it cannot see is a stray
    quote at the end of a later cell; then whole rows stand inside a cell, recognised by delimiters without a space.
    """
    tight = re.compile(re.escape(delimiter) + r"(?! )")
    fewest = max(_FEWEST_SWALLOWED, width // 2)
    for line, cells in all_rows:
        for cell in cells:
            if "\n" in cell or "\r" in cell:
                later = re.split(r"\r\n|\n|\r", cell)[1:]
                if any(len(tight.findall(part)) >= fewest for part in later):
                    raise DocumentQuotingError(name=name, line=line)
        yield line, cells
