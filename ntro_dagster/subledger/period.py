"""A month of the books, written `YYYY-MM`."""

from __future__ import annotations

import calendar
import re
from datetime import date
from typing import Annotated

from pydantic import StringConstraints

from ntro_dagster.errors import UsageError

PATTERN = r"^[0-9]{4}-(0[1-9]|1[0-2])$"

Period = Annotated[str, StringConstraints(pattern=PATTERN)]

_PERIOD = re.compile(PATTERN)


class PeriodInvalidError(UsageError):
    code = "PERIOD_INVALID"
    summary = "that is not a month"
    detail = "{period!r} is not a period"
    mend = "write the month as YYYY-MM, for instance 2025-01"


def parse_period(text: str) -> str:
    """`text` if it is a period, else raises `PeriodInvalidError`."""
    if not _PERIOD.fullmatch(text):
        raise PeriodInvalidError(period=text)
    return text


def last_day(period: str) -> date:
    year, month = int(period[:4]), int(period[5:])
    return date(year, month, calendar.monthrange(year, month)[1])
