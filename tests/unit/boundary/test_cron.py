"""When bindings fire, over ten years of clocks that go forward and back; and that Dagster's daemon would fire then too."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from dagster._utils.schedules import cron_string_iterator
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ntro_dagster.boundary.schedules import (
    CronInvalidError,
    PeriodOffsetInvalidError,
    Schedule,
    TimezoneInvalidError,
    check_offset,
    schedule,
)

ZONES = ["Europe/London", "Europe/Luxembourg", "America/New_York"]
BEGIN, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)


def ticks(cron: str, zone: str, begin: datetime = BEGIN, end: datetime = END) -> list[datetime]:
    at_home = {"tzinfo": ZoneInfo(zone)}
    return schedule(cron, zone).between(begin.replace(**at_home), end.replace(**at_home))  # type: ignore[arg-type]


@pytest.mark.parametrize("zone", ZONES)
def test_each_month_has_one_tick_for_the_month_before(zone: str) -> None:
    found = ticks("0 8 5 * *", zone)
    assert [(tick.year, tick.month) for tick in found] == [(y, m) for y in range(2020, 2030) for m in range(1, 13)]
    assert {(tick.day, tick.hour, tick.minute) for tick in found} == {(5, 8, 0)}
    time = schedule("0 8 5 * *", zone)
    before = [f"{year}-{month:02d}" for year in range(2019, 2030) for month in range(1, 13)][11:-1]
    assert [time.period(tick) for tick in found] == before
    assert [time.period(tick.astimezone(UTC)) for tick in found] == before


@pytest.mark.parametrize(
    ("zone", "skipped", "fires"),
    [
        ("Europe/London", date(2024, 3, 31), "2024-03-31T02:00:00+01:00"),
        ("America/New_York", date(2024, 3, 10), "2024-03-10T01:30:00-05:00"),  # its clock skips 02:00
    ],
)
def test_daily_at_half_past_one(zone: str, skipped: date, fires: str) -> None:
    found = ticks("30 1 * * *", zone)
    days = [BEGIN.date() + timedelta(days=n) for n in range((END - BEGIN).days)]
    assert [tick.date() for tick in found] == days
    assert next(tick for tick in found if tick.date() == skipped).isoformat() == fires


@pytest.mark.parametrize(
    ("cron", "zone", "day", "fires"),
    [
        # the hour that a clock skips: when it has skipped
        ("30 1 * * *", "Europe/London", date(2025, 3, 30), "2025-03-30T02:00:00+01:00"),
        ("30 2 * * *", "Europe/Luxembourg", date(2025, 3, 30), "2025-03-30T03:00:00+02:00"),
        ("30 2 * * *", "America/New_York", date(2025, 3, 9), "2025-03-09T03:00:00-04:00"),
        ("30 2 31 * *", "Europe/Luxembourg", date(2024, 3, 31), "2024-03-31T03:00:00+02:00"),
        # the hour that it shows twice: once, the second time
        ("30 1 * * *", "Europe/London", date(2025, 10, 26), "2025-10-26T01:30:00+00:00"),
        ("30 2 * * *", "Europe/Luxembourg", date(2025, 10, 26), "2025-10-26T02:30:00+01:00"),
        ("30 1 * * *", "America/New_York", date(2025, 11, 2), "2025-11-02T01:30:00-05:00"),
    ],
)
def test_hours_that_are_skipped_and_hours_that_come_twice(cron: str, zone: str, day: date, fires: str) -> None:
    assert [tick.isoformat() for tick in ticks(cron, zone) if tick.date() == day] == [fires]


@pytest.mark.parametrize("zone", ZONES)
def test_days_that_a_month_has_not(zone: str) -> None:
    on_31 = ticks("30 2 31 * *", zone)
    assert Counter(tick.month for tick in on_31) == dict.fromkeys([1, 3, 5, 7, 8, 10, 12], 10)
    assert {tick.day for tick in on_31} == {31}
    assert [tick.date() for tick in ticks("0 0 29 2 *", zone)] == [date(year, 2, 29) for year in (2020, 2024, 2028)]
    last = ticks("0 18 L * *", zone)
    assert len(last) == 120
    assert all((tick + timedelta(days=1)).day == 1 for tick in last)


@pytest.mark.parametrize("zone", ZONES)
def test_midnight_of_the_first_is_for_the_month_that_ended_there(zone: str) -> None:
    time = schedule("0 0 1 * *", zone)
    found = ticks("0 0 1 * *", zone)
    assert len(found) == 120
    for tick in found:
        ended = tick - timedelta(days=1)
        assert time.period(tick) == time.period(tick.astimezone(UTC)) == f"{ended:%Y-%m}"


def test_half_past_midnight_is_the_day_before_in_utc_and_the_month_is_right() -> None:
    time = schedule("30 0 1 * *", "Europe/Luxembourg")
    (tick,) = ticks("30 0 1 * *", "Europe/Luxembourg", datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 7, 2, tzinfo=UTC))
    assert tick.astimezone(UTC).isoformat() == "2026-06-30T22:30:00+00:00"
    assert [time.period(tick, offset) for offset in (-13, -1, 0)] == ["2025-06", "2026-06", "2026-07"]
    assert time.period(datetime(2026, 1, 5, 8, tzinfo=UTC), -1) == "2025-12"


def test_dagster_loses_29_february_as_it_is_commonly_written_and_we_do_not() -> None:
    eve = datetime(2028, 2, 28, 12, tzinfo=UTC)
    assert next(cron_string_iterator(eve.timestamp(), "0 0 29 2 *", "UTC")).year == 2032
    assert schedule("0 0 29 2 *", "UTC").cron == "0 0 29 FEB *"
    assert next(schedule("0 0 29 2 *", "UTC").after(eve)).isoformat() == "2028-02-29T00:00:00+00:00"


CRONS = st.builds(
    "{} {} {} {} {}".format,
    st.integers(0, 59),
    st.integers(0, 23) | st.integers(0, 3),
    st.sampled_from(["*", "L", "1", "5", "28", "29", "31", "1,15", "1-7", "25-31", "*/10"]),
    st.sampled_from(["*", "1,4,7,10", "3", "10", "*/3"]),
    st.just("*"),
) | st.builds("{} {} * * {}".format, st.integers(0, 59), st.integers(0, 23), st.sampled_from(["1", "MON", "1-5", "MON-FRI", "0"]))
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2029, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
CHANGES = [datetime(2025, 3, 29, 22, tzinfo=UTC), datetime(2025, 10, 25, 22, tzinfo=UTC), datetime(2025, 3, 9, 4, tzinfo=UTC)]
NEAR_CHANGES = st.builds(lambda day, hours: day + timedelta(hours=hours), st.sampled_from(CHANGES), st.integers(0, 8))


@given(CRONS, st.sampled_from(ZONES), MOMENTS | NEAR_CHANGES, st.lists(st.integers(0, 5 * 24 * 60), max_size=20))
@example("0 0 29 2 *", "Europe/London", datetime(2028, 2, 25, tzinfo=UTC), [3 * 24 * 60 + 720])
@settings(max_examples=300, deadline=None)
def test_the_daemon_fires_what_is_listed(cron: str, zone: str, begin: datetime, looks: list[int]) -> None:
    """Its way: look every now and then, each time from the last look on, a second after what fired last."""
    time = schedule(cron, zone)
    end = begin + timedelta(days=70)
    listed = time.between(begin, end)
    fired: list[datetime] = []
    since, now = begin, begin
    for minutes in [*looks, 70 * 24 * 60]:
        now = min(now + timedelta(minutes=minutes), end - timedelta(seconds=1))
        for tick in cron_string_iterator(since.timestamp(), time.cron, time.timezone):
            if tick.timestamp() > now.timestamp():
                break
            fired.append(tick)
        last = fired[-1] + timedelta(seconds=1) if fired else since
        since = max(now, last)
    assert [tick.timestamp() for tick in dict.fromkeys(fired)] == [tick.timestamp() for tick in listed]


@given(CRONS, st.sampled_from(ZONES), MOMENTS | NEAR_CHANGES, st.integers(-24, 0))
@settings(max_examples=200, deadline=None)
def test_at_most_one_tick_a_day_and_its_month_by_the_date_at_home(cron: str, zone: str, begin: datetime, offset: int) -> None:
    time = schedule(cron, zone)
    found = list(islice(time.after(begin), 40))
    assert all(earlier.date() < later.date() for earlier, later in pairwise(found))
    for tick in found:
        year, month = map(int, time.period(tick.astimezone(UTC), offset).split("-"))
        assert (tick.year * 12 + tick.month) - (year * 12 + month) == -offset


@pytest.mark.parametrize(
    "cron",
    [
        *("", "0 8 5 *", "0 8 5 * * *", "@monthly", "0 * * * *", "*/5 * * * *", "0 8,20 * * *", "0 8-10 * * *", "0 24 * * *"),
        *("60 8 * * *", "0 8 0 * *", "0 8 32 * *", "0 8 31 2 *", "0 8 31 4,6 *", "0 8 */40 * *", "0 8 R * *", "0 8 H * *"),
        *("0 8 29 2-2 *", "0 8 5 13 *", "0 8 * * L", "0 8 * * 1#2", "acme 8 5 * *", "0 8 5 ACM *", "0 8 5;DROP * *", "٠ 8 5 * *"),
    ],
)
def test_no_schedule(cron: str) -> None:
    with pytest.raises(CronInvalidError) as refused:
        schedule(cron, "UTC")
    assert str(refused.value) == "CRON_INVALID: that is no schedule"


@pytest.mark.parametrize("zone", ["", "London", "Europe/", "Europe", "../etc/passwd", "GMT+25", "Europe/London\n", "a" * 65])
def test_no_time_zone(zone: str) -> None:
    with pytest.raises(TimezoneInvalidError):
        schedule("0 8 5 * *", zone)


def test_equal_times_are_one_schedule_under_a_legal_name() -> None:
    one, other = schedule(" 00  08 5 * mon ", "Europe/London"), schedule("0 8 5 * MON", "Europe/London")
    assert one == other == Schedule("0 8 5 * MON", "Europe/London")
    assert one.name("nav-monthly") == other.name("nav-monthly")
    assert one.name("nav-monthly").isidentifier()
    assert one.name("nav-monthly") != schedule("0 8 5 * MON", "UTC").name("nav-monthly")


def test_a_month_that_has_not_begun_is_refused() -> None:
    check_offset(0, schedule("30 0 1 * *", "America/New_York"))
    check_offset(0, schedule("30 0 2 * *", "Europe/Luxembourg"))
    check_offset(-1, schedule("30 0 1 * *", "Europe/Luxembourg"))
    for offset, zone in [(0, "Europe/Luxembourg"), (1, "UTC"), (-25, "UTC")]:
        with pytest.raises(PeriodOffsetInvalidError):
            check_offset(offset, schedule("30 0 1 * *", zone))
