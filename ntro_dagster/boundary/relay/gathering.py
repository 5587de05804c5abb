"""A run worker's way to the workspace: what it says goes out together, and with its next question; what it has just been told it
does not ask again.

A short run says thirty things and asks as many, and each call costs more than the work it tells of. Events go in their order, at
most `HELD_S` after they were said, at once where the run ends, and with the next question. Its answer comes with those to what
Dagster is about to ask (`foresight`). A call that was cut short is made again under its key, so nothing is stored twice. A
worker that is killed takes along what it said within its last `HELD_S`, and the end of its run: whoever started it says so.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID, uuid4

from dagster._core.events import DagsterEventType
from dagster._core.events.log import EventLogEntry

from ntro_dagster.boundary.names import PARTITION_TAG
from ntro_dagster.boundary.relay import encoding
from ntro_dagster.boundary.relay.calls import ENDS, QUESTIONS, STORE_EVENTS, TELL_AND_ASK
from ntro_dagster.boundary.relay.connection import RelayRefusedError, call
from ntro_dagster.boundary.relay.question import Question

HELD_S = 0.2
MOST_EVENTS = 30
MOST_CHARACTERS = 20_000
"""Of the events of one call: a call may have three times as many bytes, whatever they are encoded as."""
LARGEST_QUESTION = 2**15
"""Bytes, of one that goes with events."""

ABOUT_ASSETS: Final = frozenset({DagsterEventType.ASSET_MATERIALIZATION, DagsterEventType.ASSET_OBSERVATION})
OF_ASSETS: Final = frozenset(
    {
        *("fetch_materializations", "fetch_observations", "get_latest_materialization_events"),
        *("get_asset_records", "get_latest_tags_by_partition"),
    }
)
"""Questions whose answers change when the run says something of an asset."""
KEPT: Final = OF_ASSETS | {"get_execution_plan_snapshot", "get_pool_config", "has_dynamic_partition"}
"""Questions with the same answer for `FRESH_S`; those of assets only until another step begins. Never the run's own status: it
may be cancelled meanwhile.
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
        self._partition: str | None = None
        """That the run is about."""
        self._begun = False
        """Whether the run was asked for: what follows from it was told then."""
        threading.Thread(target=self._pace, name="ntro-gathering", daemon=True).start()

    def say(self, event: EventLogEntry, told: str) -> None:
        """Raises: what sending raised, here or since the last call; what is said now is said all the same."""
        kind = event.dagster_event.event_type if event.dagster_event else None
        with self._turn:
            batch = self._open()
            batch.events.append(event)
            batch.told.append(told)
            batch.characters += len(told)
            if kind in ABOUT_ASSETS or kind is DagsterEventType.STEP_START:
                self._forget(OF_ASSETS)
            if kind in ENDS or batch.full:
                self.flush()
            else:
                self._said.set()
                self._raise_late()

    def ask(self, name: str, given: Mapping[str, Any]) -> Any:
        """Raises: as `connection.call`."""
        body = encoding.dumps(given)
        if name not in QUESTIONS:
            return encoding.loads(call(name, body))
        with self._turn:
            if len(body) > LARGEST_QUESTION:
                self._send_all()
                return encoding.loads(call(name, body))
            at, answer = self._answers.get((name, body), (-FRESH_S, None))
            if time.monotonic() - at < FRESH_S:
                return answer
            told = self._tell_and_ask(name, given)
            now = time.monotonic()
            self._answers |= {(each, encoding.dumps(about)): (now, known) for each, about, known in told if each in KEPT}
            return told[0][2]

    def _tell_and_ask(self, name: str, given: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any], Any]]:
        """The answer, and those that came with it, each after what was asked."""
        of_runs = name == "get_run_records"
        ahead = not (of_runs and self._begun)
        said = encoding.loads(self._send_with(Question(name, given, self._partition, ahead).say()))
        if "refused" in said:
            raise RelayRefusedError(call=name, reason=said["refused"])
        told: list[tuple[str, Mapping[str, Any], Any]] = said["told"]
        if of_runs and not self._begun and len(told[0][2]) == 1:
            self._begun, self._partition = True, told[0][2][0].dagster_run.tags.get(PARTITION_TAG)
        return told

    def _send_with(self, question: bytes) -> bytes:
        """The answer to the question, once everything that was said is stored. What is refused of that is not the question's."""
        while self._batches:
            batch = self._batches[0]
            if batch.closed or len(self._batches) > 1:
                self._send_first()
                continue
            batch.closed = True
            try:
                answer = _send(batch, question)
            except RelayRefusedError as error:
                self._refused(error)
            else:
                self._batches.popleft()
                return answer
        return call(TELL_AND_ASK, question + b"\n")

    def _forget(self, calls: frozenset[str]) -> None:
        self._answers = {asked: known for asked, known in self._answers.items() if asked[0] not in calls}

    def flush(self) -> None:
        """Returns when everything that was said is stored. Raises: as `connection.call`; what was refused, when all else is."""
        with self._turn:
            self._send_all()
            self._raise_late()

    def _send_all(self) -> None:
        while self._batches:
            self._send_first()

    def _send_first(self) -> None:
        batch = self._batches[0]
        batch.closed = True
        try:
            _send(batch)
        except RelayRefusedError as error:
            self._refused(error)
        else:
            self._batches.popleft()

    def _refused(self, error: RelayRefusedError) -> None:
        """Of what was refused together each goes by itself, so that one is refused for nobody's fault but its own."""
        first, *others = self._batches
        alone = [_Batch(events=[event], told=[told], closed=True) for event, told in zip(first.events, first.told, strict=True)]
        if len(alone) > 1:
            self._batches = deque([*alone, *others])
        else:
            self._failed = self._failed or error
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
            while (left_s := self._left_s()) > 0:
                time.sleep(left_s)
            try:
                self.flush()
            except BaseException as error:  # it is the run's, which hears of it with its next word
                self._failed = error

    def _left_s(self) -> float:
        """Until what was said first has to go; 0: nothing is left to say."""
        with self._turn:
            return self._batches[0].since + HELD_S - time.monotonic() if self._batches else 0.0


def _send(batch: _Batch, question: bytes | None = None) -> bytes:
    """With a question or without it: what is stored of it under its key is the same."""
    events = encoding.dumps({"events": batch.events})
    name, body = (STORE_EVENTS, events) if question is None else (TELL_AND_ASK, question + b"\n" + events)
    return call(name, body, run_id=batch.events[0].run_id, told=lambda: "\n".join(batch.told), key=batch.key)


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
