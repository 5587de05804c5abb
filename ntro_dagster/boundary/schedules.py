"""When bindings fire: cron in a time zone, and which month a tick is for. Both planes reckon by this page, and by nothing else.

The ticks are those of Dagster's own iterator, the one its daemon goes by, so what is listed is what will happen:

- a time that a clock skips in spring (01:30 in London on the last Sunday of March) fires when the clock has skipped, at 02:00;
- a time that a clock shows twice in autumn fires once, the second time;
- a day that a month has not (the 31st, 29 February) does not fire in that month; `L` is the last day of each.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

from ntro_dagster.boundary.periods import shifted
from ntro_dagster.errors import UsageError

GRACE = timedelta(hours=2)
"""How late a tick may start runs by itself. A restart, an upgrade or a slow code server is over by then; what is older was an
outage that somebody should look at first: `ntro schedule catch-up`."""

IN_FLIGHT = timedelta(minutes=15)
"""How long a tick that was evaluated within `GRACE` may take to have created its runs: until then it is not called missed."""

EARLIEST_OFFSET, DEFAULT_OFFSET, LATEST_OFFSET = -24, -1, 0
"""Months from the month of a tick to the month that its run is for. A month that has not begun has no partition."""

_NUMBER = re.compile(r"[0-9]{1,2}")
_PART = r"(?:\*|[0-9]{1,2}|[A-Z]{3}|[0-9]{1,2}-[0-9]{1,2}|[A-Z]{3}-[A-Z]{3})(?:/[0-9]{1,2})?"
_LIST = re.compile(rf"L|{_PART}(?:,{_PART})*")
_RANGE = re.compile(r"([0-9]{1,2})-([0-9]{1,2})")
_ZONE = re.compile(r"[A-Za-z0-9_+\-/]{1,64}")
_FIELDS = 5
_HORIZON = timedelta(days=5 * 366)


class CronInvalidError(UsageError):
    """Values: `cron`, `why`."""

    code = "CRON_INVALID"
    summary = "that is no schedule"
    detail = "{cron!r} is no schedule: {why}"
    mend = "five fields: minute hour day month weekday; 08:00 on the 5th of every month is '0 8 5 * *'"


class TimezoneInvalidError(UsageError):
    """Values: `timezone`."""

    code = "TIMEZONE_INVALID"
    summary = "that is no time zone"
    detail = "{timezone!r} is no IANA time zone"
    mend = "for instance Europe/London, Europe/Luxembourg, America/New_York or UTC"


class PeriodOffsetInvalidError(UsageError):
    """Values: `offset`, `why`, `first`, `last`."""

    code = "PERIOD_OFFSET_INVALID"
    summary = "a binding cannot have that period"
    detail = "period offset {offset}: {why}"
    mend = "from {first} to {last} months; -1 is the month before the tick"


@dataclass(frozen=True, slots=True, order=True)
class Schedule:
    """When, and where that is the time. Made by `schedule()`, so that equal times are equal.

    Attributes:
        cron: five fields, at most one tick a day.
        timezone: IANA name.
    """

    cron: str
    timezone: str

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    def name(self, runbook: str) -> str:
        """What Dagster calls it: a legal name, the same wherever it is made."""
        digest = hashlib.sha256(f"{self.cron}\n{self.timezone}".encode()).hexdigest()[:10]
        return f"{runbook.replace('-', '_')}_at_{digest}"

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Ticks from `moment` on, without end, in the schedule's time zone."""
        from dagster._utils.schedules import cron_string_iterator  # noqa: PLC0415 - Dagster takes a second to import

        return (tick for tick in cron_string_iterator(moment.timestamp(), self.cron, self.timezone) if tick >= moment)

    def between(self, begin: datetime, end: datetime) -> list[datetime]:
        """Ticks at or after `begin` and before `end`."""
        return list(takewhile(lambda tick: tick < end, self.after(begin)))

    def period(self, tick: datetime, offset: int = DEFAULT_OFFSET) -> str:
        """The month that a tick is for, `YYYY-MM`: reckoned from its date where the schedule is at home."""
        return shifted(f"{tick.astimezone(self.zone):%Y-%m}", offset)


def schedule(cron: str, timezone: str) -> Schedule:
    """A schedule as it was asked for, in its one form.

    Not more often than once a day: minute and hour are one number each. What is filed between starts runs anyway (intake), and
    a month does not change by the hour.

    Raises: `CronInvalidError`, `TimezoneInvalidError`.
    """
    made = Schedule(_cron(cron), _timezone(timezone))
    try:
        next(made.after(datetime.now(UTC)))
    except (ValueError, StopIteration):
        raise CronInvalidError(cron=cron, why="it never comes") from None
    return made


def check_offset(offset: int, of: Schedule | None) -> None:
    """Raises `PeriodOffsetInvalidError`, also where a tick would be for a month that has not begun in UTC: no partition yet."""
    why = None
    if not EARLIEST_OFFSET <= offset <= LATEST_OFFSET:
        why = "out of range"
    elif of is not None and offset == LATEST_OFFSET:
        now = datetime.now(UTC)
        ticks = of.between(now, now + _HORIZON)
        if any(of.period(tick, offset) > f"{tick.astimezone(UTC):%Y-%m}" for tick in ticks):
            why = "some ticks come before their month has begun in UTC; begin later on that day"
    if why:
        raise PeriodOffsetInvalidError(offset=offset, why=why, first=EARLIEST_OFFSET, last=LATEST_OFFSET)


def _timezone(offered: str) -> str:
    try:
        if not _ZONE.fullmatch(offered):
            raise ValueError
        ZoneInfo(offered)
    except (ValueError, OSError, KeyError):  # a directory of zones; none of that name
        raise TimezoneInvalidError(timezone=offered) from None
    return offered


def _cron(offered: str) -> str:
    from dagster._utils.schedules import has_out_of_range_cron_interval, is_valid_cron_string  # noqa: PLC0415

    fields = offered.upper().split()
    why = _fault(fields)
    if why is None:
        try:
            if not is_valid_cron_string(" ".join(fields)) or has_out_of_range_cron_interval(" ".join(fields)):
                why = "a field is out of its range"
        except ValueError:
            why = "a field is out of its range"
    if why:
        raise CronInvalidError(cron=offered, why=why)
    minute, hour, day, month, weekday = fields
    # Dagster takes "29 2 *" apart into 28 February and a day, and from 28 February on no longer finds the 29th
    return f"{int(minute)} {int(hour)} {day} {'FEB' if month.lstrip('0') == '2' else month} {weekday}"


def _fault(fields: list[str]) -> str | None:
    if len(fields) != _FIELDS:
        return f"it has {len(fields)} fields"
    if not all(_NUMBER.fullmatch(field) for field in fields[:2]):
        return "minute and hour must be one number each; at most one run a day"
    if not all(_LIST.fullmatch(field) for field in fields[2:]) or "L" in fields[3:]:
        return "a field holds something else than numbers, *, lists, ranges, steps, names, or L for the last day of a month"
    if any(int(low) >= int(high) for field in fields for low, high in _RANGE.findall(field)):
        return "a range must go up"
    return None
