"""How a value stands in a spreadsheet, and what a cell that comes back says.

A cell that nobody touched is known by being what would be written again, so that nothing is lost by formats that cannot hold
everything: characters, lengths, digits.
"""

from __future__ import annotations

import json
import re
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from ntro_dagster.errors import NtroError
from ntro_dagster.subledger.raw import storable

LONGEST = 32_767
"""Characters of a cell, by the format (ECMA-376); what is longer is cut in XLSX, and whole in CSV."""
DIGITS = 15
"""Decimal digits that a double holds for certain: an amount with more stands as text."""
FIRST_DATE = date(1900, 3, 1)
"""Before it Excel counts a day that there was not."""
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How texts begin that programs take for formulas (OWASP, CSV injection), their full-width forms too."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f]|_(?=x[0-9A-Fa-f]{4}_)|[\ufffe\uffff]")
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")


class CellError(NtroError):
    """A cell that cannot be taken. Values: `field`."""

    code = "CELL_INVALID"
    summary = "a cell holds what its column cannot"


class FormulaError(CellError):
    code = "CELL_IS_FORMULA"
    summary = "a cell holds a formula, and formulas are not worked out"


def in_csv(value: Any, kind: str) -> str:
    """Text that no program takes for a formula: with an apostrophe before it where it might. Amounts stay what they are."""
    text = written(value)
    if kind in {"money", "integer"} or not text.startswith(FORMULA):
        return text
    return f"'{text}"


def written(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case Decimal():
            return format(value, "f")
        case datetime() | date():
            return value.isoformat()
        case dict() | list():
            return json.dumps(value, ensure_ascii=False)
    return str(value)


def in_xlsx(value: Any) -> str | bool | date | Decimal | None:
    """As the cell holds it: a number only where a double holds it exactly, a date only where Excel knows the day."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Decimal | int):
        number = Decimal(value)
        _, digits, exponent = number.normalize().as_tuple()
        exact = isinstance(exponent, int) and len(digits) + max(exponent, 0) <= DIGITS
        return number if exact else format(number, "f")
    if isinstance(value, date) and not isinstance(value, datetime) and value >= FIRST_DATE:
        return value
    return _CONTROL.sub(lambda found: f"_x{ord(found[0]):04X}_", written(value))[:LONGEST] or None


def as_cell(sheet: Any, value: Any) -> Any:
    """A text that could be taken for a formula is marked as text, also for whoever edits it."""
    held = in_xlsx(value)
    if not isinstance(held, str) or not written(value).startswith(FORMULA):
        return held
    from openpyxl.cell import WriteOnlyCell  # noqa: PLC0415 - 10 MB that only sheets need

    cell: Any = WriteOnlyCell(sheet, "")
    cell._value, cell.data_type = held, "s"  # the setter would make a formula of it
    cell.quotePrefix = True
    return cell


def untouched(cell: Any, value: Any) -> bool:
    """Whether a cell still says what was exported of `value`."""
    held, now = in_xlsx(value), cell.value
    if now in (None, "") or held is None:
        return now in (None, "") and held is None
    if cell.data_type in {"f", "e"}:
        return False
    if isinstance(now, datetime):
        return isinstance(held, date) and not isinstance(held, datetime) and now == datetime(held.year, held.month, held.day)  # noqa: DTZ001
    if isinstance(held, Decimal) or (isinstance(value, Decimal | int) and not isinstance(value, bool)):
        return _number(now) == Decimal(value)
    return bool(now == held) or written(now) == held


def said(cell: Any, field: str, kind: str) -> str | None:
    """What a cell that somebody changed says, as text. Raises: `CellError`."""
    value = cell.value
    if cell.data_type == "f":
        raise FormulaError(field=field)
    if cell.data_type == "e" or (isinstance(value, str) and len(value) >= LONGEST):
        raise CellError(field=field)
    if value in (None, ""):
        return None
    if kind == "date":
        if isinstance(value, datetime) and value.time() == datetime.min.time():
            return value.date().isoformat()
        if not isinstance(value, str):
            raise CellError(field=field)
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")
    text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), value) if isinstance(value, str) else written(value)
    if not storable(text):
        raise CellError(field=field)
    return text


def _number(value: Any) -> Decimal | None:
    try:
        return Decimal(repr(value) if isinstance(value, float) else str(value).strip())
    except ArithmeticError:
        return None
