"""How one document is laid out: all that reading its rows needs, kept with the document so that it can be done later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from ntro_dagster.ingest.returns.content import DOUBTFUL_ENCODING

DECISIVE = frozenset({"amount_gross", "amount_net", "expense_date", "vendor"})
"""Columns a payment cannot be booked without."""


class DateOrder(StrEnum):
    """What the dates of a document, taken together, say about `04/05/2013`."""

    DAY_FIRST = "day-first"
    """Nothing contradicts the order in use where these returns come from."""
    DOUBTFUL = "doubtful"
    """At least one date is valid only as month-first, so nobody can say for the others."""


@dataclass(frozen=True)
class Layout:
    """The layout of one document. Two documents of the same shape may differ in `date_order`: never mix them up.

    Attributes:
        kind: `csv` or `json`.
        encoding: Python codec name; `DOUBTFUL_ENCODING` when nobody can tell which letters the bytes stand for.
        delimiter: one character; empty for JSON.
        header_line: 1-based line of the header (of its last row, when it is split over two); 0 for JSON.
        columns: unique names of the columns up to the last heading, as used in `ReturnRecord.raw`.
        width: cells in the header row, blank ones included. What stands beyond is out of line.
        mapping: canonical column (see columns.yaml) -> name in `columns`.
        rivals: canonical column -> further columns with the very same heading.
        date_order: verdict over all dates of the document.
        names_entity: does any row name the body that spent? If none does, the return is the filer's own.
        currencies: ISO 4217 codes the heading of the amount may stand for; empty when it states none.
    """

    kind: str
    encoding: str
    delimiter: str
    header_line: int
    columns: tuple[str, ...]
    width: int
    mapping: Mapping[str, str]
    rivals: Mapping[str, tuple[str, ...]]
    date_order: DateOrder = DateOrder.DAY_FIRST
    names_entity: bool = True
    currencies: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON form; `from_dict` turns it back into an equal layout."""
        return {
            "kind": self.kind,
            "encoding": self.encoding,
            "delimiter": self.delimiter,
            "header_line": self.header_line,
            "columns": list(self.columns),
            "width": self.width,
            "mapping": dict(self.mapping),
            "rivals": {canonical: list(names) for canonical, names in self.rivals.items()},
            "date_order": self.date_order.value,
            "names_entity": self.names_entity,
            "currencies": list(self.currencies),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Layout:
        """The layout `as_dict` was called on. Raises KeyError when a part is missing."""
        return cls(
            kind=stored["kind"],
            encoding=stored["encoding"],
            delimiter=stored["delimiter"],
            header_line=stored["header_line"],
            columns=tuple(stored["columns"]),
            width=stored["width"],
            mapping=dict(stored["mapping"]),
            rivals={canonical: tuple(names) for canonical, names in stored["rivals"].items()},
            date_order=DateOrder(stored["date_order"]),
            names_entity=stored["names_entity"],
            currencies=tuple(stored["currencies"]),
        )

    @cached_property
    def within(self) -> frozenset[str]:
        """Names of all cells that stand under the header, blank headings included."""
        unnamed = (unnamed_column(index) for index in range(len(self.columns), self.width))
        return frozenset(self.columns).union(unnamed)

    @cached_property
    def letters_doubtful(self) -> bool:
        """May letters outside ASCII be other ones than they seem? So when the encoding is unknown, and when the heading of
        the amount shows what a DOS pound sign becomes in Windows-1252.
        """
        dos = self.encoding == "cp1252" and any("œ" in self.mapping.get(each, "") for each in DECISIVE)
        return dos or self.encoding == DOUBTFUL_ENCODING

    @property
    def amount(self) -> str | None:
        """Canonical column the amount is read from: the gross one where there is one."""
        return next((each for each in ("amount_gross", "amount_net") if each in self.mapping), None)

    @cached_property
    def after_amount(self) -> str | None:
        """The column right of the amount, named or not; None when that holds amounts too."""
        if self.amount is None or self.mapping[self.amount] not in self.columns:
            return None
        following = self.columns.index(self.mapping[self.amount]) + 1
        if following >= len(self.columns):
            return unnamed_column(following)
        monetary = {self.mapping.get(each) for each in ("amount_net", "vat_amount")}
        return None if self.columns[following] in monetary else self.columns[following]


def unnamed_column(index: int) -> str:
    """Name of the 0-based cell `index` when nothing is written above it."""
    return f"column {index + 1}"
