"""What every report is: columns, rows of cells, totals, notes, and checks that it ties out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, localcontext
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.row import EXACT

Cell = str | Decimal | date | int | None


class Kind(StrEnum):
    """What stands in a column."""

    TEXT = "text"
    MONEY = "money"
    DATE = "date"


class Style(StrEnum):
    """What a row is: a line of the report, what stood before it, or a sum of lines above it."""

    LINE = "line"
    BALANCE = "balance"
    SUBTOTAL = "subtotal"
    TOTAL = "total"


class Column(NamedTuple):
    """
    Attributes:
        name: of the field in JSON and CSV.
        title: for people.
        flexible: cut short where there is no room.
        once: where the same stands above in the same journal, people need not read it again.
    """

    name: str
    title: str
    kind: Kind = Kind.TEXT
    flexible: bool = False
    once: bool = False


class Row(NamedTuple):
    """
    Attributes:
        depth: how far below others it stands, for people.
        group: rows of one group belong together: lines of one journal, of one account.
        account: code of the account that the row is about, where it is about one.
        source: id of the subledger row it came from; None where that is none, or many.
    """

    cells: tuple[Cell, ...]
    style: Style = Style.LINE
    depth: int = 0
    group: str | None = None
    account: str | None = None
    source: UUID | None = None


class Check(NamedTuple):
    """One way in which the report was held against the books. `text`: a sentence that says what agrees."""

    text: str
    holds: bool


@dataclass(frozen=True)
class About:
    """Whose books, and up to when. `first_month`: of the entity's year."""

    entity_id: UUID
    slug: str
    name: str
    currency: str
    period: str
    first_month: int = 1

    @property
    def year_begins(self) -> str:
        """The first month of the year that the period lies in."""
        year, month = int(self.period[:4]), int(self.period[5:])
        return f"{year if month >= self.first_month else year - 1:04d}-{self.first_month:02d}"


@dataclass
class Report:
    """Rows come once, in order; of a long report they are read while they are written.

    Attributes:
        totals: rows that stand below the others.
        notes: what a reader has to know.
    """

    title: str
    subtitle: str
    columns: Sequence[Column]
    rows: AsyncIterator[Row]
    totals: Sequence[Row] = ()
    notes: Sequence[str] = ()
    checks: Sequence[Check] = ()
    name: str = field(default="")

    @property
    def ties_out(self) -> bool:
        return all(check.holds for check in self.checks)


async def each(rows: Iterable[Row]) -> AsyncIterator[Row]:
    """Rows that are all there."""
    for row in rows:
        yield row


@asynccontextmanager
async def one_instant(database: TenantDatabase) -> AsyncIterator[None]:
    """Everything in here is read as it was at one moment, whatever is posted meanwhile; and reckoned exactly."""
    async with database.transaction(one_instant=True):
        with localcontext(EXACT):
            yield
