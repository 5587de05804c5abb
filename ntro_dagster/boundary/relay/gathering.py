"""A run worker's way to the workspace: what it says goes out together, and what it has just been told it does not ask again.

A short run says thirty things and asks as many, and each call costs more than the work it tells of. Events go in their order, at
most `HELD_S` after they were said; at once where a run begins or ends, and before a question whose answer they may change. A
call that was cut short is made again under its key, so nothing is stored twice. A worker that is killed takes along what it said
within its last `HELD_S`, beside the end of its run, which it never said either.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from uuid import UUID, uuid4

from dagster._core.events import DagsterEventType
from dagster._core.events.log import EventLogEntry

from ntro_dagster.boundary.relay import encoding
from ntro_dagster.boundary.relay.calls import ENDS, STORE_EVENTS
from ntro_dagster.boundary.relay.connection import RelayRefusedError, call

HELD_S = 0.2
MOST_EVENTS = 30
MOST_CHARACTERS = 20_000
"""Of the events of one call: a call may have three times as many bytes, whatever they are encoded as."""

AT_ONCE: Final = ENDS | {DagsterEventType.RUN_START}
ABOUT_ASSETS: Final = frozenset({DagsterEventType.ASSET_MATERIALIZATION, DagsterEventType.ASSET_OBSERVATION})
QUESTIONS: Final = frozenset(
    {
        *("fetch_materializations", "fetch_observations", "get_latest_materialization_events"),
        *("get_asset_records", "get_latest_tags_by_partition"),
    }
)
"""About assets: asked again within `FRESH_S` they have the same answer, unless the run says something of an asset meanwhile, or
begins a step.
"""
FRESH_S = 1.0


@dataclass(slots=True)
class _Batch:
    """Events of one call. `told`: as Dagster made them. `closed`: it may have been sent, so it must stay what it is."""

    key: UUID = field(default_factory=uuid4)
    events: list[EventLogEntry] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    characters: int = 0
    since: float = field(default_factory=time.monotonic)
    closed: bool = False

    @property
    def full(self) -> bool:
        return len(self.events) >= MOST_EVENTS or self.characters >= MOST_CHARACTERS


class Gathering:
    """One for a run's process; several threads may speak."""

    def __init__(self) -> None:
        self._turn = threading.RLock()
        """Held while something is sent: the order is that of what was said."""
        self._batches: deque[_Batch] = deque()
        self._said = threading.Event()
        self._failed: BaseException | None = None
        self._answers: dict[tuple[str, bytes], tuple[float, Any]] = {}
        threading.Thread(target=self._pace, name="ntro-gathering", daemon=True).start()

    def say(self, event: EventLogEntry, told: str) -> None:
        """Raises: what sending raised, here or since the last call."""
        kind = event.dagster_event.event_type if event.dagster_event else None
        with self._turn:
            self._raise_late()
            batch = self._open()
            batch.events.append(event)
            batch.told.append(told)
            batch.characters += len(told)
            if kind in ABOUT_ASSETS or kind is DagsterEventType.STEP_START:
                self._answers.clear()
            if kind in AT_ONCE or batch.full:
                self.flush()
            else:
                self._said.set()

    def ask(self, name: str, body: bytes) -> Any:
        """Raises: as `connection.call`."""
        if name not in QUESTIONS:
            return encoding.loads(call(name, body))
        with self._turn:
            at, answer = self._answers.get((name, body), (-FRESH_S, None))
            if time.monotonic() - at < FRESH_S:
                return answer
            if any(_about_assets(batch) for batch in self._batches):
                self.flush()
            answer = encoding.loads(call(name, body))
            self._answers[name, body] = time.monotonic(), answer
            return answer

    def flush(self) -> None:
        """Returns when everything that was said is stored. Raises: as `connection.call`."""
        with self._turn:
            self._raise_late()
            while self._batches:
                batch = self._batches[0]
                batch.closed = True
                try:
                    _send(batch)
                except RelayRefusedError:
                    self._batches.popleft()
                    _send_alone(batch)
                else:
                    self._batches.popleft()

    def _open(self) -> _Batch:
        if not self._batches or self._batches[-1].closed:
            self._batches.append(_Batch())
        return self._batches[-1]

    def _raise_late(self) -> None:
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed

    def _pace(self) -> None:
        while True:
            self._said.wait()
            self._said.clear()
            with self._turn:
                since = self._batches[0].since if self._batches else None
            if since is None:
                continue
            time.sleep(max(0.0, since + HELD_S - time.monotonic()))
            try:
                self.flush()
            except BaseException as error:  # it is the run's, which hears of it as soon as it says or asks anything
                self._failed = error


def _send(batch: _Batch) -> None:
    body = encoding.dumps({"events": batch.events})
    call(STORE_EVENTS, body, run_id=batch.events[0].run_id, told=lambda: "\n".join(batch.told), key=batch.key)


def _send_alone(batch: _Batch) -> None:
    """Of what was refused together each by itself, so that one is refused for nobody's fault but its own.

    Raises: `RelayRefusedError`, when all were tried.
    """
    refused = None
    for event, told in zip(batch.events, batch.told, strict=True):
        try:
            call("store_event", encoding.dumps({"event": event}), run_id=event.run_id, told=partial(str, told))
        except RelayRefusedError as error:
            refused = refused or error
    if refused:
        raise refused


def _about_assets(batch: _Batch) -> bool:
    return any(event.dagster_event and event.dagster_event.event_type in ABOUT_ASSETS for event in batch.events)


gathering: Gathering | None = None
"""Of this process; None: everything goes at once."""


def begin() -> None:
    """From now on this process gathers."""
    global gathering  # noqa: PLW0603 - one for a process
    gathering = Gathering()


def end() -> None:
    """Send what is left."""
    if gathering is not None:
        gathering.flush()
