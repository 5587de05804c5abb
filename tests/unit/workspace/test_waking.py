"""The event that Dagster's loops wait on, and which sensors a wake is for."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster._core.scheduler.instigation import SensorInstigatorData
from dagster._daemon import sensor as dagsters
from dagster._daemon.daemon import SensorDaemon, SpanMarker
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from ntro_dagster.workspace import waking
from ntro_dagster.workspace.waking import FORGET_S, PACE_S, WakeableEvent, Woken

FOR_EVER = 3600.0
DEADLINE_S = 10.0


class Clock:
    """As `time.monotonic`, or standing still; who waits looks at it once when it begins, and again and again while it waits."""

    def __init__(self, now: float | None = None) -> None:
        self.now = now
        self._looks = threading.Semaphore(0)

    def __call__(self) -> float:
        self._looks.release()
        return time.monotonic() if self.now is None else self.now

    def somebody_waits(self) -> bool:
        while self._looks.acquire(blocking=False):
            pass
        return all(self._looks.acquire(timeout=DEADLINE_S) for _ in range(3))


class Waiting(threading.Thread):
    """Somebody who waits on an event."""

    def __init__(self, event: WakeableEvent, timeout: float = FOR_EVER) -> None:
        super().__init__(daemon=True)
        self._event, self._timeout = event, timeout
        self.answer: bool | None = None
        self.start()

    def run(self) -> None:
        self.answer = self._event.wait(self._timeout)

    def ended(self) -> bool:
        self.join(DEADLINE_S)
        return not self.is_alive()


def test_a_wake_ends_a_wait_and_is_no_order_to_end() -> None:
    event = WakeableEvent().over(threading.Event())
    waiting = Waiting(event)
    event.wake()
    assert waiting.ended()
    assert waiting.answer is False
    assert not event.is_set()


def test_a_wake_before_the_wait_is_not_lost() -> None:
    event = WakeableEvent()
    event.wake()
    assert Waiting(event).ended()


def test_a_wake_ends_one_wait_only() -> None:
    clock, end = Clock(), threading.Event()
    event = WakeableEvent(clock).over(end)
    event.wake()
    event.wake()
    assert Waiting(event).ended()
    waiting = Waiting(event)
    assert clock.somebody_waits()
    end.set()
    assert waiting.ended()


def test_a_later_wake_comes_later() -> None:
    event = WakeableEvent()
    began = time.monotonic()
    event.wake(0.3)
    assert Waiting(event).ended()
    assert time.monotonic() - began >= 0.3


def test_the_order_to_end_ends_a_wait() -> None:
    end = threading.Event()
    event = WakeableEvent().over(end)
    waiting = Waiting(event)
    end.set()
    assert waiting.ended()
    assert waiting.answer is True
    assert event.is_set()


def test_looks_keep_their_distance_in_a_flood() -> None:
    event, over = WakeableEvent(), threading.Event()

    def flood() -> None:
        while not over.is_set():
            event.wake()

    threading.Thread(target=flood, daemon=True).start()
    began, looks = time.monotonic(), 5
    for _ in range(looks):
        assert Waiting(event).ended()
    over.set()
    assert time.monotonic() - began >= (looks - 1) * PACE_S


@pytest.mark.parametrize("later", [5.0, 5.2])
def test_who_is_not_woken_is_looked_at_as_often_as_ever(later: float) -> None:
    clock, end = Clock(0.0), threading.Event()
    event = WakeableEvent(clock).over(end)
    event.wake()
    assert Waiting(event, 5.0).ended()
    clock.now = later  # nobody has woken it since
    assert Waiting(event, 5.0).ended()
    waiting = Waiting(event, 5.0)  # that was the one for everybody: the next is 5 s away
    assert clock.somebody_waits()
    end.set()
    assert waiting.ended()


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> Woken:
    """Dagster's daemon as `wake_early` leaves it, but for the listener; as it was after the test."""
    for owner, name in (
        (SensorDaemon, "core_loop"),
        (dagsters, "is_under_min_interval"),
        (QueuedRunCoordinatorDaemon, "core_loop"),
        (QueuedRunCoordinator, "submit_run"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    made = Woken()
    waking._wake_sensors(made)
    waking._wake_queue(made)
    return made


def too_early(tenant: str, looked_at: float) -> bool:
    """What Dagster asks of a sensor that may tick once in 5 s."""
    data = SensorInstigatorData(min_interval=5, last_tick_start_timestamp=looked_at)
    sensor: Any = SimpleNamespace(handle=SimpleNamespace(location_name=tenant), min_interval_seconds=5)
    state: Any = SimpleNamespace(instigator_data=data)
    return dagsters.is_under_min_interval(state, sensor)


def test_only_the_sensors_of_who_was_woken_are_looked_at_early(woken: Woken) -> None:
    before = time.time()
    assert too_early("acme", before)
    woken.hear(frozenset({"acme"}))
    assert not too_early("acme", before)
    assert too_early("beta", before)
    assert too_early("acme", time.time() + 1)  # has been looked at since


def test_a_look_that_may_have_come_too_soon_is_repeated(woken: Woken) -> None:
    before = time.time()
    woken.hear(frozenset({"acme"}))
    assert Waiting(woken.sensors).ended()
    assert not too_early("acme", before)
    assert Waiting(woken.sensors).ended()


def test_a_wake_is_forgotten_whatever_the_clock_does(woken: Woken, monkeypatch: pytest.MonkeyPatch) -> None:
    woken.hear(frozenset({"acme"}))
    assert woken.owes_a_look("acme", 0.0)
    later = time.monotonic() + FORGET_S
    monkeypatch.setattr(waking.time, "monotonic", lambda: later)
    assert not woken.owes_a_look("acme", 0.0)


def test_an_old_connection_that_is_back_wakes_nobody(woken: Woken) -> None:
    clock, end = Clock(), threading.Event()
    woken.sensors._clock = clock
    woken.hear(frozenset())
    waiting = Waiting(woken.sensors.over(end))
    assert clock.somebody_waits()
    end.set()
    assert waiting.ended()


def test_the_queue_is_looked_at_when_a_run_comes_in(woken: Woken, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a daemon that else looks once an hour."""
    looks = threading.Semaphore(0)

    def run_iteration(_: object, __: object) -> Any:
        looks.release()
        yield None

    monkeypatch.setattr(QueuedRunCoordinatorDaemon, "run_iteration", run_iteration)
    daemon, end = QueuedRunCoordinatorDaemon(interval_seconds=FOR_EVER), threading.Event()
    spans: list[Any] = []

    def work() -> None:
        for said in daemon.core_loop(None, end):  # type: ignore[arg-type]
            if said is SpanMarker.END_SPAN:
                spans.append(said)
            if end.is_set():
                return

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert looks.acquire(timeout=DEADLINE_S)
    with pytest.raises(AttributeError):  # a coordinator without an instance: it is woken all the same
        QueuedRunCoordinator().submit_run(None)  # type: ignore[arg-type]
    assert looks.acquire(timeout=DEADLINE_S)
    woken.hear(frozenset({"acme"}))
    assert looks.acquire(timeout=DEADLINE_S)
    end.set()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
    assert len(spans) >= 3
