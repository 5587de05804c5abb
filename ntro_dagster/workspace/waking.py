"""Dagster's daemon looks at the sensors of a tenant as soon as the relay says that there may be work for them.

Its loops stand as they are, and tick as often as ever: they wait on an event that also ends the wait when there is something to
look at, and a look of that kind is at the sensors of that tenant alone. The queue of runs is looked at when a run comes in, and
each time that one has left.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ntro_dagster.boundary.notifications import Notifications
from ntro_dagster.boundary.relay.waker import CHANNEL, ENDED

if TYPE_CHECKING:
    from dagster._core.remote_representation.external import RemoteSensor
    from dagster._core.scheduler.instigation import InstigatorState

NAME = "ntro daemon wake"
PACE_S = 0.25
"""Between two looks, whoever asks for them."""
AGAIN_S = 0.5
"""After which a look is repeated that came while a sensor was still at its last one."""
FORGET_S = 10.0
"""By then the sensors have ticked by themselves."""
SLICE_S = 0.5
"""How late a wait may see that the daemon is to end."""


class WakeableEvent:
    """In the place of the event by which one of Dagster's loops is told to end."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = threading.Event()
        self._changed = threading.Condition()
        self._floor: float | None = None
        """When the wait would end by itself; None: it has."""
        self._asked, self._free_at = math.inf, -math.inf

    def over(self, end: threading.Event) -> WakeableEvent:
        """This event, ending when `end` does."""
        self._end = end
        return self

    def is_set(self) -> bool:
        return self._end.is_set()

    def wake(self, after_s: float = 0.0) -> None:
        """End the wait, this one or the next."""
        with self._changed:
            self._asked = min(self._asked, self._clock() + after_s)
            self._changed.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """For `timeout` seconds since the last wait that nobody ended early: who is not woken waits no longer for that."""
        with self._changed:
            now = self._clock()
            if self._floor is None:
                self._floor = now + (math.inf if timeout is None else timeout)
            while not self._end.is_set() and (until := min(self._floor, max(self._asked, self._free_at))) > now:
                self._changed.wait(min(until - now, SLICE_S))
                now = self._clock()
            if self._floor <= now:
                self._floor = None
            self._asked, self._free_at = math.inf, now + PACE_S
        return self._end.is_set()


class Woken:
    """Who was woken, and when."""

    def __init__(self) -> None:
        self.sensors, self.queue = WakeableEvent(), WakeableEvent()
        self._at: dict[str, tuple[float, float]] = {}

    def hear(self, tenants: frozenset[str]) -> None:
        """Called on the listener's thread."""
        if tenants:
            self._at |= dict.fromkeys(tenants, (time.time(), time.monotonic()))
            self.sensors.wake()
            self.queue.wake()

    def owes_a_look(self, tenant: str, looked_at: float) -> bool:
        """Whether it was woken since a moment of the clock that Dagster goes by."""
        woken_at, known_since = self._at.get(tenant, (-math.inf, -math.inf))
        return woken_at >= looked_at and time.monotonic() - known_since < FORGET_S


def wake_early(url: str) -> None:
    """Takes the place of methods of Dagster's, for which it has no setting. Call it before the daemon is made.

    Args:
        url: of the workspace's database.
    """
    woken = Woken()
    _wake_sensors(woken)
    _wake_queue(woken)
    Notifications(url, CHANNEL, woken.hear, name=NAME).start()
    Notifications(url, ENDED, lambda _: woken.queue.wake(), name=NAME).start()


def _wake_sensors(woken: Woken) -> None:
    from dagster._daemon import sensor as dagsters  # noqa: PLC0415 - Dagster takes a second to import
    from dagster._daemon.daemon import DaemonIterator, SensorDaemon  # noqa: PLC0415

    loop, too_early = SensorDaemon.core_loop, dagsters.is_under_min_interval

    def core_loop(self: SensorDaemon, workspace_process_context: Any, shutdown_event: threading.Event) -> DaemonIterator:
        return loop(self, workspace_process_context, woken.sensors.over(shutdown_event))  # type: ignore[arg-type]

    def is_under_min_interval(
        state: InstigatorState, remote_sensor: RemoteSensor, minimum_allowed_min_interval: int | None = None
    ) -> bool:
        if woken.owes_a_look(remote_sensor.handle.location_name, _looked_at(state)):
            woken.sensors.wake(AGAIN_S)  # Dagster passes over one that is at work; once it has ticked it owes nothing
            return False
        return too_early(state, remote_sensor, minimum_allowed_min_interval)

    SensorDaemon.core_loop = core_loop  # type: ignore[method-assign]
    dagsters.is_under_min_interval = is_under_min_interval


def _looked_at(state: InstigatorState) -> float:
    started: float | None = getattr(state.instigator_data, "last_tick_start_timestamp", None)
    return started or -math.inf


def _wake_queue(woken: Woken) -> None:
    from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext  # noqa: PLC0415
    from dagster._core.storage.dagster_run import DagsterRun  # noqa: PLC0415
    from dagster._daemon.daemon import DaemonIterator, SpanMarker  # noqa: PLC0415
    from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon  # noqa: PLC0415

    loop, submit = QueuedRunCoordinatorDaemon.core_loop, QueuedRunCoordinator.submit_run

    def core_loop(
        self: QueuedRunCoordinatorDaemon, workspace_process_context: Any, shutdown_event: threading.Event
    ) -> DaemonIterator:
        event, every_s = woken.queue.over(shutdown_event), self.interval_seconds
        self.interval_seconds = 0  # its own waits cannot be ended
        try:
            for said in loop(self, workspace_process_context, shutdown_event):
                yield said
                if said is SpanMarker.END_SPAN:
                    event.wait(every_s)
        finally:
            self.interval_seconds = every_s

    def submit_run(self: QueuedRunCoordinator, context: SubmitRunContext) -> DagsterRun:
        try:
            return submit(self, context)
        finally:
            woken.queue.wake()

    QueuedRunCoordinatorDaemon.core_loop = core_loop  # type: ignore[method-assign,assignment]
    QueuedRunCoordinator.submit_run = submit_run  # type: ignore[method-assign,assignment]
