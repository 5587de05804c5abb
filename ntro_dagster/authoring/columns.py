"""What the columns of a CSV hold, told from every value of the file, and from nothing that is not sure.

Money only where every value is an exact decimal, a date only where no value can mean two days, otherwise text: a column that
is text by mistake is seen at once, one that is a number by mistake loses its leading zeros in silence.
"""

from __future__ import annotations

import csv
import keyword
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.resources import files
from pathlib import Path

from ntro_dagster.errors import UsageError
from ntro_dagster.platforms.tables import LogicalType
from ntro_dagster.subledger.row import PLATFORM_FIELDS, Row

MONEY_DIGITS, MONEY_DECIMALS = 38, 9
LONGEST_INTEGER = 18
LONGEST_NAME = 50
MOST_COLUMNS = 200

_DECIMAL = re.compile(r"[+-]?([0-9]+)(?:\.([0-9]+))?")
_ISO = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_SLASHED = re.compile(r"([0-9]{1,2})([/.-])([0-9]{1,2})\2([0-9]{4})")
_IDENTIFIER = re.compile(
    r"(^|_)(id|no|nr|num|number|code|ref|reference|account|phone|postcode|zip|sort|iban|isin|vat_reg|key|uprn|year)(_|$)"
)
_LIKE_A_DAY = re.compile(r"[0-9][/.-][0-9]{1,2}[/.-][0-9]")
_TRUTH = ({"true", "false"}, {"yes", "no"})

SQL_WORDS = frozenset((files("ntro_dagster.authoring") / "reserved_words.txt").read_text().split())
"""PostgreSQL's reserved words: no column can be called so without quotes."""


class CsvUnreadableError(UsageError):
    """Values: `file`, `why`."""

    code = "CSV_UNREADABLE"
    summary = "the file cannot be read as a table"
    detail = "{file}: {why}"
    mend = "give a CSV in UTF-8 with one row of headings, and as many cells in every row"


@dataclass(frozen=True, slots=True)
class ColumnFound:
    """One column.

    Attributes:
        heading: as the file has it.
        name: a legal name of Python and SQL, unlike every other.
        why: what speaks for the type, in words for the author.
    """

    heading: str
    name: str
    type: LogicalType
    why: str


def columns_of_csv(path: Path) -> list[ColumnFound]:
    """Reads the whole file. Raises `CsvUnreadableError`."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            delimiter = _delimiter(file.readline())
            file.seek(0)
            rows = csv.reader(file, delimiter=delimiter, strict=True)
            return _columns(path.name, rows)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CsvUnreadableError(file=path.name, why=str(error)) from None


def _delimiter(first_line: str) -> str:
    return max(",;\t|", key=first_line.count)


def _columns(file: str, rows: Iterator[list[str]]) -> list[ColumnFound]:
    headings = next(rows, [])
    if not any(heading.strip() for heading in headings):
        raise CsvUnreadableError(file=file, why="the first row has no headings")
    if len(headings) > MOST_COLUMNS:
        raise CsvUnreadableError(file=file, why=f"it has more than {MOST_COLUMNS} columns")
    names = legal_names(headings)
    watches = [_Watch(name) for name in names]
    for number, row in enumerate(rows, start=2):
        if not row:
            continue
        if len(row) > len(headings):
            raise CsvUnreadableError(file=file, why=f"row {number} has {len(row)} cells, the headings are {len(headings)}")
        for watch, cell in zip(watches, row, strict=False):
            watch.see(cell.strip(), number)
    found = zip(headings, names, watches, strict=True)
    return [ColumnFound(heading.strip(), name, *watch.verdict()) for heading, name, watch in found]


@dataclass
class _Watch:
    """What one column may still be. `against`: what ruled a type out, the first time."""

    name: str
    seen: int = 0
    against: dict[LogicalType, str] = field(default_factory=dict)
    pointed: int = 0
    truths: set[str] = field(default_factory=set)
    shape: str = ""
    like_a_day: bool = False
    day_first: int = 0
    month_first: int = 0

    def see(self, value: str, row: int) -> None:
        if not value:
            return
        self.seen += 1
        if LogicalType.MONEY not in self.against or LogicalType.INTEGER not in self.against:
            self._number(value, row)
        if LogicalType.DATE not in self.against:
            self._day(value, row)
        if LogicalType.BOOLEAN not in self.against:
            self.truths.add(value.casefold())
            if not any(self.truths <= pair for pair in _TRUTH):
                self._not(LogicalType.BOOLEAN, value, row, "neither yes nor no")

    def _not(self, logical: LogicalType, value: str, row: int, why: str) -> None:
        shown = value if len(value) <= 24 else f"{value[:21]}..."  # noqa: PLR2004
        self.against.setdefault(logical, f"row {row} has {shown!r}, {why}")

    def _number(self, value: str, row: int) -> None:
        match = _DECIMAL.fullmatch(value)
        if match is None:
            for logical in (LogicalType.MONEY, LogicalType.INTEGER):
                self._not(logical, value, row, "which is no plain decimal")
            return
        whole, decimals = match[1], match[2] or ""
        if len(whole) > 1 and whole.startswith("0"):
            for logical in (LogicalType.MONEY, LogicalType.INTEGER):
                self._not(logical, value, row, "whose leading zero a number would lose")
        if decimals:
            self.pointed = self.pointed or row
            self._not(LogicalType.INTEGER, value, row, "which is no whole number")
        if len(decimals) > MONEY_DECIMALS or len(whole) > MONEY_DIGITS - MONEY_DECIMALS:
            self._not(LogicalType.MONEY, value, row, f"which has more than {MONEY_DECIMALS} decimals or too many digits")
        if len(whole) > LONGEST_INTEGER:
            self._not(LogicalType.INTEGER, value, row, "which is too long for a whole number")

    def _day(self, value: str, row: int) -> None:
        if (match := _ISO.fullmatch(value)) and _is_day(int(match[1]), int(match[2]), int(match[3])):
            shape = "ISO"
        elif match := _SLASHED.fullmatch(value):
            shape = match[2]
            first, second, year = int(match[1]), int(match[3]), int(match[4])
            day_first, month_first = _is_day(year, second, first), _is_day(year, first, second)
            if not (day_first or month_first):
                self._not(LogicalType.DATE, value, row, "which is no day")
            elif not month_first:
                self.day_first = self.day_first or row
            elif not day_first:
                self.month_first = self.month_first or row
        else:
            self.like_a_day = _LIKE_A_DAY.search(value) is not None
            self._not(LogicalType.DATE, value, row, "which is no date as YYYY-MM-DD or with a four-digit year last")
            return
        if self.shape not in ("", shape):
            self._not(LogicalType.DATE, value, row, "and other rows write dates in another way")
        self.shape = shape

    def verdict(self) -> tuple[LogicalType, str]:  # noqa: PLR0911 - one line per kind
        if not self.seen:
            return LogicalType.TEXT, "no row has a value: nothing can be told"
        if LogicalType.BOOLEAN not in self.against and len(self.truths) > 1:
            return LogicalType.BOOLEAN, f"every value is {' or '.join(sorted(self.truths))}"
        if LogicalType.DATE not in self.against:
            return self._date()
        if LogicalType.INTEGER not in self.against:
            if _IDENTIFIER.search(self.name):
                return LogicalType.TEXT, "digits only, but by its name it is an identifier, not a number to reckon with"
            return LogicalType.INTEGER, f"all {self.seen} values are whole numbers; make it Money if they are amounts"
        if LogicalType.MONEY not in self.against and not self.pointed:
            return LogicalType.TEXT, "digits only, and too many for a whole number"
        if LogicalType.MONEY not in self.against:
            return LogicalType.MONEY, f"all {self.seen} values are exact decimals"
        nearest = LogicalType.DATE if self.shape or self.like_a_day else LogicalType.MONEY
        return LogicalType.TEXT, self.against[nearest]

    def _date(self) -> tuple[LogicalType, str]:
        if self.shape == "ISO":
            return LogicalType.DATE, f"all {self.seen} values are dates as YYYY-MM-DD"
        if self.day_first and self.month_first:
            said = f"row {self.day_first} can only have the day first, row {self.month_first} only the month"
            return LogicalType.TEXT, said
        if not (self.day_first or self.month_first):
            return LogicalType.TEXT, "dates of which no one can tell day from month: none has a day above 12"
        order, row = ("day", self.day_first) if self.day_first else ("month", self.month_first)
        return LogicalType.DATE, f"dates with the {order} first (row {row} has no other reading); assets.py must read them so"


def _is_day(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def legal_names(headings: Sequence[str]) -> list[str]:
    """Names that Python, Pydantic and SQL take without quotes, each another one."""
    names: list[str] = []
    for number, heading in enumerate(headings, start=1):
        name = first = _legal(heading, number)
        copies = 1
        while name in names:
            copies += 1
            name = f"{first}_{copies}"
        names.append(name)
    return names


def _legal(heading: str, number: int) -> str:
    plain = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:LONGEST_NAME].strip("_") or f"column_{number}"
    if name[0].isdigit():
        name = f"n_{name}"
    return f"source_{name}" if name in _taken() or keyword.iskeyword(name) or name.startswith("model_") else name


def _taken() -> Iterable[str]:
    """Names that mean something already: to the platform, to Pydantic's models, to SQL, to the module that is written."""
    return PLATFORM_FIELDS | SQL_WORDS | set(dir(Row)) | {"date", "cls", "row", "annotations"}
