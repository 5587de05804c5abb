"""Cells of a table as values: only what is written in one unmistakable way, everything else is a finding."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

_NUMBER = re.compile(r"-?\d{1,24}(?:\.\d{1,9})?", re.ASCII)
_WHOLE = re.compile(r"\d{1,9}", re.ASCII)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_MISSING = "the column is missing or empty"


class Cells:
    """One record's cells by column, and what could not be read of them."""

    def __init__(self, raw: Mapping[str, str]) -> None:
        self._raw = raw
        self.findings: list[dict[str, Any]] = []

    def text(self, column: str, *, optional: bool = False) -> str | None:
        found = " ".join((self._raw.get(column) or "").split())
        if not found and not optional:
            self._note("CELL_MISSING", column, _MISSING)
        return found or None

    def number(self, column: str, *, optional: bool = False) -> Decimal | None:
        """`1234.50`: no signs of currency, no thousands."""
        found = self._form(column, _NUMBER, "not a number written like 1234.50", optional=optional)
        return Decimal(found) if found else None

    def whole(self, column: str) -> int | None:
        found = self._form(column, _WHOLE, "not a whole number")
        return int(found) if found else None

    def day(self, column: str) -> date | None:
        found = self._form(column, _DAY, "not a date written like 2025-01-31")
        try:
            return date.fromisoformat(found) if found else None
        except ValueError:
            self._note("CELL_UNREADABLE", column, "there is no such day")
            return None

    def _form(self, column: str, form: re.Pattern[str], why: str, *, optional: bool = False) -> str | None:
        found = self.text(column, optional=optional)
        if found is not None and not form.fullmatch(found):
            self._note("CELL_UNREADABLE", column, why)
            return None
        return found

    def _note(self, code: str, column: str, message: str) -> None:
        self.findings.append({"code": code, "field": column, "message": message})
