"""Cells of somebody's journals, read as their mapping says and no other way: what does not fit is said, never guessed."""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property, lru_cache

from ntro_dagster.boundary.periods import PeriodInvalidError, PeriodOutOfRangeError, open_period
from ntro_dagster.gl.imports.mapping import Amounts, Currency, Dated, Month
from ntro_dagster.ingest.finding import FindingCode

_LONGEST = 64
_CODE = re.compile(r"[A-Z]{3}")


class UnreadableError(Exception):
    """A cell that is not what its column should hold. `code`: why."""

    def __init__(self, code: FindingCode) -> None:
        self.code = code
        super().__init__(code.value)


class AmountReader:
    """Amounts as a mapping writes them: digits, grouped in threes or not at all; a minus before or behind, or parentheses; a sign
    of the currency that the mapping knows.
    """

    def __init__(self, form: Amounts, signs: tuple[str, ...] = ()) -> None:
        self._form, self._signs = form, signs

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        sign = f"(?:{'|'.join(map(re.escape, self._signs))})?" if self._signs else ""
        point, group = re.escape(self._form.decimal), re.escape(self._form.grouping)
        whole = rf"[0-9]{{1,3}}(?:{group}[0-9]{{3}})+|[0-9]+" if group else "[0-9]+"
        return re.compile(
            rf"(?P<open>\()?\s*(?P<lead>[-\u2212+])?\s*{sign}\s*(?P<inner>[-\u2212])?(?P<whole>{whole})(?:{point}(?P<part>[0-9]+))?"
            rf"\s*{sign}\s*(?P<close>\))?(?P<trail>[-\u2212])?"
        )

    def read(self, text: str) -> Decimal | None:
        """None for a cell with nothing in it. Raises: `UnreadableError`."""
        text = text.strip()
        if not text:
            return None
        found = self._pattern.fullmatch(text) if len(text) <= _LONGEST else None
        if found is None or (found["open"] is None) != (found["close"] is None):
            raise UnreadableError(FindingCode.AMOUNT_UNREADABLE)
        minuses = sum(1 for part in ("open", "lead", "inner", "trail") if found[part] and found[part] != "+")
        if minuses > 1:
            raise UnreadableError(FindingCode.AMOUNT_UNREADABLE)
        whole = found["whole"].replace(self._form.grouping, "") if self._form.grouping else found["whole"]
        value = Decimal(f"{whole}.{found['part'] or '0'}") if found["part"] else Decimal(whole)
        return -value if minuses and value else value

    def sides(self, raw: dict[str, str]) -> tuple[Decimal, Decimal]:
        """Debit and credit of a line: one of them is above zero, the other zero. Raises: `UnreadableError`."""
        form = self._form
        if form.signed is not None:
            amount = self.read(raw.get(form.signed, ""))
            if amount is None:
                raise UnreadableError(FindingCode.AMOUNT_MISSING)
            amount = amount if form.positive == "debit" else -amount
            debit, credit = max(amount, Decimal(0)), max(-amount, Decimal(0))
        else:
            both = self.read(raw.get(form.debit or "", "")), self.read(raw.get(form.credit or "", ""))
            if both == (None, None):
                raise UnreadableError(FindingCode.AMOUNT_MISSING)
            debit, credit = (amount or Decimal(0) for amount in both)
            if debit < 0 or credit < 0:
                raise UnreadableError(FindingCode.AMOUNT_NEGATIVE)
            if debit and credit:
                raise UnreadableError(FindingCode.AMOUNT_UNREADABLE)
        if not debit and not credit:
            raise UnreadableError(FindingCode.AMOUNT_ZERO)
        return debit, credit


def read_day(form: Dated, raw: dict[str, str]) -> date:
    """Raises: `UnreadableError`."""
    if form.day is not None:
        return form.day
    text = raw.get(form.column or "", "").strip()
    if not text:
        raise UnreadableError(FindingCode.DATE_MISSING)
    day = _parsed(text, form.format)
    if day is None:
        raise UnreadableError(FindingCode.DATE_UNREADABLE)
    return day


@lru_cache(maxsize=16_384)
def _parsed(text: str, form: str) -> date | None:
    try:
        return datetime.strptime(text, form).date()  # noqa: DTZ007 - a day has no time zone
    except ValueError:
        return None


def read_month(form: Month | None, dated: Dated, raw: dict[str, str]) -> str:
    """The month that a line belongs to: said by the file, or that of its day. Raises: `UnreadableError`."""
    if form is None:
        month = f"{read_day(dated, raw):%Y-%m}"
    else:
        text = raw.get(form.column, "").strip()
        if not text:
            raise UnreadableError(FindingCode.PERIOD_MISSING)
        day = _parsed(text, form.format)
        if day is None:
            raise UnreadableError(FindingCode.PERIOD_MISSING)
        month = f"{day:%Y-%m}"
    try:
        return open_period(month)
    except (PeriodInvalidError, PeriodOutOfRangeError):
        raise UnreadableError(FindingCode.PERIOD_OUT_OF_RANGE) from None


def read_currency(form: Currency | None, raw: dict[str, str], *, entity: str) -> str:
    """Args: `entity`: its currency, where the mapping says nothing of any. Raises: `UnreadableError`."""
    if form is None:
        return entity
    if form.code is not None:
        return form.code
    text = raw.get(form.column or "", "").strip()
    found = form.names.get(text, text)
    if not _CODE.fullmatch(found):
        raise UnreadableError(FindingCode.CURRENCY_UNKNOWN)
    return found
