"""Which row is the header, and which of its columns is which."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ntro_dagster.ingest.returns.layout import unnamed_column
from ntro_dagster.ingest.returns.vocabulary import vocabulary

_ENOUGH = 3
"""Known columns that make a row a header. Banners and catalogue records reach one by chance, not three."""


@dataclass(frozen=True)
class Header:
    """The header of one document.

    Attributes:
        row: 0-based index of its (last) row among the rows it was found in.
        columns: unique names up to the last heading.
        width: cells of the row, blank ones included.
        candidates: canonical column -> (rank, index in `columns`), best first.
    """

    row: int
    columns: tuple[str, ...]
    width: int
    candidates: Mapping[str, Sequence[tuple[int, int]]]

    @property
    def is_of_a_return(self) -> bool:
        """An amount, and a supplier or a date: less than that is not a list of payments."""
        known = self.candidates.keys()
        return (
            len(known) >= _ENOUGH
            and not known.isdisjoint({"amount_gross", "amount_net"})
            and not known.isdisjoint({"vendor", "expense_date"})
        )


def find_header(rows: Sequence[Sequence[str]]) -> Header | None:
    """The row, or pair of rows, that names most known columns; None when no row is the header of a return.

    A heading may be split over two rows (`Transaction ` above `number`). A pair counts only where it names more than
    either row alone, so a data row is never taken into the header.
    """
    best: Header | None = None
    for index, row in enumerate(rows):
        readings = [header_of(row, index)]
        if index:
            readings.append(header_of(_joined(rows[index - 1], row), index))
        for header in readings:
            if header.is_of_a_return and (best is None or len(header.candidates) > len(best.candidates)):
                best = header
    return best


def header_of(cells: Sequence[str], row: int = 0) -> Header:
    """`cells` read as a header, whether or not they are one."""
    headings = [" ".join(cell.split()) for cell in cells]
    named = max((index + 1 for index, heading in enumerate(headings) if heading), default=0)
    found: dict[str, list[tuple[int, int]]] = {}
    for index, heading in enumerate(headings):
        if known := vocabulary().column(heading):
            canonical, rank = known
            found.setdefault(canonical, []).append((rank, index))
    candidates = {canonical: sorted(places) for canonical, places in found.items()}
    return Header(row, unique_names(headings[:named]), len(cells), candidates)


def unique_names(headings: Iterable[str]) -> tuple[str, ...]:
    """The headings with blank and repeated ones made distinct: `column 7`, `Expense Area (2)`."""
    names: list[str] = []
    taken: set[str] = set()
    for index, heading in enumerate(headings):
        name = first = heading or unnamed_column(index)
        copies = 1
        while name in taken:
            copies += 1
            name = f"{first} ({copies})"
        taken.add(name)
        names.append(name)
    return tuple(names)


def chosen_columns(header: Header, filled: Collection[int]) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Mapping and rivals (see Layout), given the 0-based columns that hold any text.

    An empty column loses against one with text; then the earlier spelling wins; the same heading twice makes a rival.
    """
    mapping: dict[str, str] = {}
    rivals: dict[str, tuple[str, ...]] = {}
    for canonical, places in header.candidates.items():
        contenders = [place for place in places if place[1] in filled] or places
        best_rank, best = contenders[0]
        mapping[canonical] = header.columns[best]
        equals = tuple(header.columns[index] for rank, index in contenders[1:] if rank == best_rank)
        if equals:
            rivals[canonical] = equals
    return mapping, rivals


def stated_currencies(mapping: Mapping[str, str]) -> tuple[str, ...]:
    """Currencies the heading of the amount may stand for, sorted."""
    heading = mapping.get("amount_gross") or mapping.get("amount_net") or ""
    return tuple(sorted(vocabulary().currencies_in(heading)))


def _joined(upper: Sequence[str], lower: Sequence[str]) -> list[str]:
    width = max(len(upper), len(lower))
    padded = [[*row, *[""] * (width - len(row))] for row in (upper, lower)]
    return [f"{above} {below}".strip() for above, below in zip(*padded, strict=True)]
