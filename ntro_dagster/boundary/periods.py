"""A month of the books, written `YYYY-MM`: part of the closed vocabulary, so both planes may name it."""

from __future__ import annotations

import calendar
import re
from datetime import UTC, date, datetime

from ntro_dagster.errors import UsageError

PATTERN = r"^[1-9][0-9]{3}-(0[1-9]|1[0-2])$"

FIRST_PERIOD = "2010-01"
"""Months before are not offered as partitions."""

_PERIOD = re.compile(PATTERN)


class PeriodInvalidError(UsageError):
    code = "PERIOD_INVALID"
    summary = "that is not a month"
    detail = "{period!r} is not a period"
    mend = "write the month as YYYY-MM, for instance 2025-01"


class PeriodOutOfRangeError(UsageError):
    code = "PERIOD_OUT_OF_RANGE"
    summary = "that month is not open for work"
    detail = "{period} lies outside {first} to {last}"
    mend = "months begin with {first} and end with the current one; check the year"


def parse_period(text: str) -> str:
    """`text` if it is a period, else raises `PeriodInvalidError`."""
    if not _PERIOD.fullmatch(text):
        raise PeriodInvalidError(period=text)
    return text


def open_period(text: str) -> str:
    """A month that has a partition: from `FIRST_PERIOD` to the current one (UTC).

    Raises: `PeriodInvalidError`, `PeriodOutOfRangeError`.
    """
    last = f"{datetime.now(UTC):%Y-%m}"
    if not FIRST_PERIOD <= parse_period(text) <= last:
        raise PeriodOutOfRangeError(period=text, first=FIRST_PERIOD, last=last)
    return text


def shifted(period: str, months: int) -> str:
    """The period so many months later; earlier, where `months` is below 0."""
    number = int(period[:4]) * 12 + int(period[5:]) - 1 + months
    return f"{number // 12:04d}-{number % 12 + 1:02d}"


def last_day(period: str) -> date:
    year, month = int(period[:4]), int(period[5:])
    return date(year, month, calendar.monthrange(year, month)[1])
