"""Amounts as publishers write them. Exact decimals; text that is not surely an amount is none."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import cache, lru_cache
from typing import NamedTuple

from ntro_dagster.ingest.finding import FindingCode
from ntro_dagster.ingest.returns.vocabulary import vocabulary

_MAX_DIGITS = 24
"""Longer numbers are account numbers run together; they would not fit NUMERIC(38, s) for every s in use either."""
MINOR_DIGITS = 2
"""Decimals of the currencies these returns are kept in."""
_LONGEST = 64
"""No amount is longer, however padded; it bounds the cache and the matching."""
_MINUS = "[-\u2212]"
_GROUPED = r"[1-9][0-9]{0,2}(?:,[0-9]{3})+"
_MONEY = re.compile(r"[£$€]|,[0-9]{3}(?![0-9])|\.[0-9]{2}$")


class AmountReading(NamedTuple):
    """An amount, or why there is none. With `AMOUNT_PRECISION` there are both.

    Attributes:
        value: exact, negative for `-1`, `1-` and `(1)`.
        code: what is wrong with the writing; None when nothing is.
        sign: currency sign or lower-case code beside the number, empty when there is none.
    """

    value: Decimal | None
    code: FindingCode | None
    sign: str = ""


def read_amount(text: str) -> AmountReading:
    """The amount `text` means: `1,234.56`, `£1,234.56`, `(1,234.56)`, `- 1,234.56`, `1,234.56-`.

    A lone dash, as spreadsheets print for nothing, is no amount.
    """
    text = text.strip()
    return _read(text) if len(text) <= _LONGEST else AmountReading(None, FindingCode.AMOUNT_UNREADABLE)


@lru_cache(maxsize=16384)
def _read(text: str) -> AmountReading:
    if not text or text.casefold() in vocabulary().blank:
        return AmountReading(None, FindingCode.AMOUNT_MISSING)
    match = _amount().fullmatch(text)
    if match is None:
        nothing = _nothing().fullmatch(text) is not None
        return AmountReading(None, FindingCode.AMOUNT_MISSING if nothing else FindingCode.AMOUNT_UNREADABLE)
    minuses = sum(match[part] is not None for part in ("open", "lead", "inner", "trail"))
    unpaired = (match["open"] is None) != (match["close"] is None)
    digits = match["number"].replace(",", "")
    signs = [sign.casefold() for sign in (match["before"], match["after"]) if sign]
    if minuses > 1 or unpaired or len(digits) > _MAX_DIGITS or len(signs) > 1:
        return AmountReading(None, FindingCode.AMOUNT_UNREADABLE)
    value = Decimal(digits)
    fraction = digits.partition(".")[2]
    return AmountReading(
        value=-value if minuses and value else value,
        code=FindingCode.AMOUNT_PRECISION if len(fraction) > MINOR_DIGITS else None,
        sign=signs[0] if signs else "",
    )


def looks_like_money(text: str) -> bool:
    """Is `text` an amount that nobody would take for a reference number: with a sign, grouping or pence?"""
    return bool(_MONEY.search(text)) and read_amount(text).value is not None


@cache
def _amount() -> re.Pattern[str]:
    sign = "|".join(map(re.escape, vocabulary().currencies))
    return re.compile(
        rf"(?P<open>\()?\s*(?P<lead>{_MINUS})?\s*(?P<before>{sign})?\s*(?P<inner>{_MINUS})?\s*"
        rf"(?P<number>(?:{_GROUPED}|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)\s*"
        rf"(?P<after>{sign})?\s*(?P<close>\))?\s*(?P<trail>{_MINUS})?",
        re.IGNORECASE,
    )


@cache
def _nothing() -> re.Pattern[str]:
    sign = "|".join(map(re.escape, vocabulary().currencies))
    return re.compile(rf"(?:{sign})?\s*{_MINUS}*\s*", re.IGNORECASE)
