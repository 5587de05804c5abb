"""What is coming and what was missed, beside a model that looks at every tick by itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from hypothesis import given, settings
from hypothesis import strategies as st

from ntro_dagster.boundary.schedules import GRACE, IN_FLIGHT, schedule
from ntro_dagster.host.upcoming import Missed, missed, upcoming
from ntro_dagster.workspace.workflows import Binding, Workflow

MADE = datetime(2026, 1, 20, 12, tzinfo=UTC)
NOW = datetime(2026, 6, 20, 12, tzinfo=UTC)
Pauses = tuple[tuple[datetime, datetime | None], ...]
Started = dict[tuple[str, str, str], datetime]


def workflow(entity: str, cron: str | None = "0 8 5 * *", zone: str = "Europe/London", *, offset: int = -1, pauses: Pauses = ()):  # type: ignore[no-untyped-def]
    when = schedule(cron, zone) if cron else None
    return Workflow(uuid4(), uuid4(), Binding("acme", "nav-monthly", entity, when, offset), MADE, pauses)


def gaps(workflows: Sequence[Workflow], started: Started | None = None, now: datetime = NOW) -> list[Missed]:
    return missed(workflows, now, lambda _jobs, _since: started or {})


def day(month: int, number: int, hour: int = 12) -> datetime:
    return datetime(2026, month, number, hour, tzinfo=UTC)


def test_the_next_starts_over_all_workflows_in_their_own_time() -> None:
    paused = workflow("spv-2", "0 8 5 * *", "America/New_York", pauses=((day(2, 1), None),))
    every = [workflow("spv-1"), paused, workflow("spv-3", None), workflow("spv-4", "30 23 L * *", "Europe/Luxembourg", offset=0)]
    found = upcoming(every, NOW, 5)
    assert [(start.workflow.binding.entity, start.at.isoformat(), start.period, start.workflow.paused) for start in found] == [
        ("spv-4", "2026-06-30T23:30:00+02:00", "2026-06", False),
        ("spv-1", "2026-07-05T08:00:00+01:00", "2026-06", False),
        ("spv-2", "2026-07-05T08:00:00-04:00", "2026-06", True),
        ("spv-4", "2026-07-31T23:30:00+02:00", "2026-07", False),
        ("spv-1", "2026-08-05T08:00:00+01:00", "2026-07", False),
    ]
    assert upcoming([workflow("spv-3", None)], NOW, 5) == []


def test_what_was_missed_since_it_was_bound() -> None:
    found = gaps([workflow("spv-1")])
    assert [gap.period for gap in found] == ["2026-01", "2026-02", "2026-03", "2026-04", "2026-05"]
    assert [len(gap.ticks) for gap in found] == [1] * 5
    assert gaps([workflow("spv-1", None)]) == gaps([]) == []


def test_many_ticks_for_one_month_are_one_gap() -> None:
    found = gaps([workflow("spv-1", "0 6 * * *")], now=day(3, 2))
    assert [(gap.period, len(gap.ticks)) for gap in found] == [("2025-12", 11), ("2026-01", 28), ("2026-02", 2)]


def test_pauses_do_not_count_and_their_edges_do() -> None:
    fifth_of_march, fifth_of_may = day(3, 5, 8), day(5, 5, 7)
    assert [gap.period for gap in gaps([workflow("spv-1", pauses=((fifth_of_march, fifth_of_may),))])] == [
        "2026-01",
        "2026-04",
        "2026-05",
    ]
    assert [gap.period for gap in gaps([workflow("spv-1", pauses=((day(2, 1), None),))])] == []


def test_a_month_that_was_started_since_its_tick_is_not_missed() -> None:
    key = ("acme", "nav_monthly", "spv-1|2026-02")
    tick = day(3, 5, 8)
    assert "2026-02" in {gap.period for gap in gaps([workflow("spv-1")], {key: tick - timedelta(seconds=1)})}
    assert "2026-02" not in {gap.period for gap in gaps([workflow("spv-1")], {key: tick})}
    other = {("other", *key[1:]): tick, ("acme", "nav", key[2]): tick, (*key[:2], "spv-2|2026-02"): tick}
    assert "2026-02" in {gap.period for gap in gaps([workflow("spv-1")], other)}


def test_a_tick_belongs_to_the_daemon_until_it_is_over() -> None:
    tick = day(6, 5, 7)
    for now, is_missed in [(tick + GRACE + IN_FLIGHT, False), (tick + GRACE + IN_FLIGHT + timedelta(seconds=1), True)]:
        assert ("2026-05" in {gap.period for gap in gaps([workflow("spv-1")], now=now)}) is is_missed


HOURS = st.integers(0, 150 * 24).map(lambda hours: MADE + timedelta(hours=hours))


@st.composite
def paused(draw: st.DrawFn) -> Pauses:
    edges = sorted(draw(st.lists(HOURS, max_size=6, unique=True)))
    pairs: list[tuple[datetime, datetime | None]] = list(zip(edges[::2], edges[1::2], strict=False))
    return tuple([*pairs, (edges[-1], None)] if len(edges) % 2 else pairs)


@given(
    st.sampled_from(["0 8 5 * *", "30 1 * * *", "0 0 1 * *", "0 18 L * *", "15 7 * * MON"]),
    st.tuples(st.sampled_from(["Europe/London", "America/New_York"]), st.integers(-2, -1)),
    paused(),
    st.dictionaries(st.sampled_from([f"2026-0{month}" for month in range(1, 7)]), HOURS),
    HOURS,
)
@settings(max_examples=150, deadline=None)
def test_as_a_model_has_it(cron: str, place: tuple[str, int], pauses: Pauses, hand: dict[str, datetime], now: datetime) -> None:
    zone, offset = place
    bound = workflow("spv-1", cron, zone, offset=offset, pauses=pauses)
    started = {("acme", "nav_monthly", f"spv-1|{period}"): at for period, at in hand.items()}
    expected: dict[str, list[datetime]] = {}
    time = schedule(cron, zone)
    for tick in time.between(MADE, now - GRACE - IN_FLIGHT):
        held = any(begin <= tick < (end or NOW + timedelta(days=999)) for begin, end in pauses)
        period = time.period(tick, offset)
        if not held and not (period in hand and hand[period] >= tick):
            expected.setdefault(period, []).append(tick)
    assert {gap.period: list(gap.ticks) for gap in gaps([bound], started, now)} == expected
