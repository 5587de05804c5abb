"""The first pass over a document: what only all its rows together can tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ntro_dagster.ingest.returns.dates import is_month_first_only
from ntro_dagster.ingest.returns.header import Header
from ntro_dagster.ingest.returns.layout import DateOrder


@dataclass(frozen=True)
class Survey:
    """What the first pass saw.

    Attributes:
        records: rows with any text.
        blank_lines: rows without.
        filled: 0-based columns among the known ones that hold text in any row.
        month_first: 0-based date columns with a date valid only as month-first.
    """

    records: int
    blank_lines: int
    filled: frozenset[int]
    month_first: frozenset[int]

    def is_filled(self, column: str | None, columns: Sequence[str]) -> bool:
        """Does the column hold text in any row? A column that is not there does not."""
        return column is not None and columns.index(column) in self.filled

    def date_order(self, column: str | None, columns: Sequence[str]) -> DateOrder:
        """Verdict over the dates of one column."""
        doubtful = column is not None and columns.index(column) in self.month_first
        return DateOrder.DOUBTFUL if doubtful else DateOrder.DAY_FIRST


def survey(header: Header, all_rows: Iterable[Sequence[str]]) -> Survey:
    """Sees every row once, keeps none."""
    unseen = {index for places in header.candidates.values() for _, index in places}
    dates = [index for _, index in header.candidates.get("expense_date", ())]
    filled: set[int] = set()
    month_first: set[int] = set()
    records = blank_lines = 0
    for cells in all_rows:
        if is_blank(cells):
            blank_lines += 1
            continue
        records += 1
        if unseen:
            now = {index for index in unseen if index < len(cells) and cells[index].strip()}
            filled |= now
            unseen -= now
        for index in dates:
            if index < len(cells) and is_month_first_only(cells[index]):
                month_first.add(index)
    return Survey(records, blank_lines, frozenset(filled), frozenset(month_first))


def is_blank(cells: Iterable[str]) -> bool:
    """Does the row hold nothing but delimiters and spaces?"""
    return not any(cell and not cell.isspace() for cell in cells)
