"""Dates as publishers write them."""

from __future__ import annotations

import calendar
import re
from datetime import date, timedelta
from functools import lru_cache
from typing import NamedTuple

from ntro_dagster.ingest.finding import FindingCode
from ntro_dagster.ingest.returns.vocabulary import vocabulary

EARLIEST = date(2000, 1, 1)
LATEST = date(2049, 12, 31)
"""Dates outside are typing errors: departments publish spending since 2010."""

PLAUSIBLE_MONTHS = 24
"""How far a payment may lie from the period it is filed for. Wide: whole financial years are filed under their first
month. It catches wrong years and misread serial numbers; telling one month from the next is the caller's affair."""

_LONGEST = 40
"""No date is longer, whatever the time beside it; it bounds the cache and the matching."""
_DAYS_PER_MONTH = 31
_TIME = r"(?:[ T]+[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?: ?[AaPp][Mm])?Z?)?"
_YEAR = r"([0-9]{4}|[0-9]{2})"
_NUMERIC = re.compile(rf"([0-9]{{1,2}})([/.-]+)([0-9]{{1,2}})([/.-]+){_YEAR}{_TIME}")
_NAMED = re.compile(rf"([0-9]{{1,2}})[ /.-]+([A-Za-z]{{3,9}})[ /.,-]+{_YEAR}{_TIME}")
_NAMED_FIRST = re.compile(rf"([A-Za-z]{{3,9}}) +([0-9]{{1,2}}), *([0-9]{{4}}){_TIME}")
_ISO = re.compile(rf"([0-9]{{4}})[-/]([0-9]{{1,2}})[-/]([0-9]{{1,2}}){_TIME}")
_MONTH = re.compile(rf"(?:([A-Za-z]{{3,9}})[ /.-]+{_YEAR}|(0?[1-9]|1[0-2])[/.-]([0-9]{{4}}))")
_SERIAL = re.compile(r"([0-9]{5})(?:\.[0-9]+)?")
_SERIAL_EPOCH = date(1899, 12, 30)
_MONTHS_PER_YEAR = 12


class DateReading(NamedTuple):
    """A date, or why there is none. With `DATE_MALFORMED` and `DATE_OUT_OF_RANGE` there are both."""

    value: date | None
    code: FindingCode | None


def plausible(day: date, period: str) -> bool:
    """May a payment of `day` be filed for `period` (`YYYY-MM`)? Within `PLAUSIBLE_MONTHS` either way."""
    year, month = int(period[:4]), int(period[5:7])
    return abs((day.year - year) * _MONTHS_PER_YEAR + day.month - month) <= PLAUSIBLE_MONTHS


def read_date(text: str, *, doubtful: bool) -> DateReading:
    """The date `text` means.

    Args:
        text: cell, verbatim.
        doubtful: does the document mix day-first and month-first dates (see DateOrder)? Then a date that is valid both
            ways is not read.
    """
    text = text.strip()
    return _read(text, doubtful) if len(text) <= _LONGEST else DateReading(None, FindingCode.DATE_UNREADABLE)


@lru_cache(maxsize=16384)
def _read(text: str, doubtful: bool) -> DateReading:
    if not text or text.casefold() in vocabulary().blank:
        return DateReading(None, FindingCode.DATE_MISSING)
    if match := _NUMERIC.fullmatch(text):
        return _numeric(match, doubtful=doubtful)
    day = _written_out(text) or _serial(text)
    if day is not None:
        return _in_range(day, None)
    if (month := _MONTH.fullmatch(text)) and (month[1] is None or _month(month[1])):
        return DateReading(None, FindingCode.DATE_WITHOUT_DAY)
    return DateReading(None, FindingCode.DATE_UNREADABLE)


def is_month_first_only(text: str) -> bool:
    """Is `text` a date only when its month stands first (`8/28/2013`)?"""
    text = text.strip()
    return len(text) <= _LONGEST and _is_month_first_only(text)


@lru_cache(maxsize=16384)
def _is_month_first_only(text: str) -> bool:
    match = _NUMERIC.fullmatch(text)
    if match is None:
        return False
    first, second, year = int(match[1]), int(match[3]), _year(match[5])
    return _day(year, second, first) is None and _day(year, first, second) is not None


def is_written_date(text: str) -> bool:
    """Is `text` a whole date with its separators, in whatever order? A bare number is not."""
    text = text.strip()
    if len(text) > _LONGEST:
        return False
    if match := _NUMERIC.fullmatch(text):
        first, second, year = int(match[1]), int(match[3]), _year(match[5])
        return (_day(year, second, first) or _day(year, first, second)) is not None
    return _written_out(text) is not None


def _numeric(match: re.Match[str], *, doubtful: bool) -> DateReading:
    first, second, year = int(match[1]), int(match[3]), _year(match[5])
    day_first, month_first = _day(year, second, first), _day(year, first, second)
    malformed = match[2] != match[4] or len(match[2]) > 1
    if day_first and month_first and day_first != month_first:
        if doubtful or malformed:
            return DateReading(None, FindingCode.DATE_AMBIGUOUS)
        return _in_range(day_first, None)
    day = day_first or month_first
    if day is None:
        return DateReading(None, FindingCode.DATE_UNREADABLE)
    return _in_range(day, FindingCode.DATE_MALFORMED if malformed else None)


def _in_range(day: date, code: FindingCode | None) -> DateReading:
    return DateReading(day, code if EARLIEST <= day <= LATEST else FindingCode.DATE_OUT_OF_RANGE)


def _written_out(text: str) -> date | None:
    if match := _NAMED.fullmatch(text):
        return _day(_year(match[3]), _month(match[2]), int(match[1]))
    if match := _ISO.fullmatch(text):
        return _day(int(match[1]), int(match[2]), int(match[3]))
    if match := _NAMED_FIRST.fullmatch(text):
        return _day(int(match[3]), _month(match[1]), int(match[2]))
    return None


def _serial(text: str) -> date | None:
    """Day of an Excel serial number (1900 date system), if it is one of our time; other numbers are no dates."""
    match = _SERIAL.fullmatch(text)
    if match is None:
        return None
    day = _SERIAL_EPOCH + timedelta(days=int(match[1]))
    return day if EARLIEST <= day <= LATEST else None


def _month(name: str) -> int:
    return vocabulary().months.get(name.casefold(), 0)


def _year(digits: str) -> int:
    return int(digits) if len(digits) > len("YY") else 2000 + int(digits)


def _day(year: int, month: int, day: int) -> date | None:
    if not (year and 1 <= month <= _MONTHS_PER_YEAR and 1 <= day <= _DAYS_PER_MONTH):
        return None
    return date(year, month, day) if day <= calendar.monthrange(year, month)[1] else None
