"""What a code server and a run of it tell each other, over pipes.

`multiprocessing` takes nine semaphores with names for it, which a process of its own watches over for as long as the code server
lives: 6 MB of every tenant, and messages of every run.
"""

from __future__ import annotations

import os
import queue
from multiprocessing import Pipe, forkserver, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.synchronize import Event
from typing import Any


class PipedEvent(Event):
    """Set once and for all, by whoever has it. A pipe out of which nobody reads: there is something in it, or not."""

    def __init__(self) -> None:
        self._heard, self._told = Pipe(duplex=False)
        os.set_blocking(self._told.fileno(), False)

    def is_set(self) -> bool:
        return self._heard.poll()

    def set(self) -> None:
        if not self.is_set():
            os.write(self._told.fileno(), b"\1")

    def wait(self, timeout: float | None = None) -> bool:
        """Until it is set, at most so many seconds. Returns: whether it is."""
        return bool(wait([self._heard], timeout))

    def clear(self) -> None:
        """Not of this kind of event. Raises: NotImplementedError."""
        raise NotImplementedError


class PipedQueue:
    """From a run to its code server, in the order it was put; as much as a pipe holds waits to be read."""

    def __init__(self) -> None:
        self._out, self._in = Pipe(duplex=False)

    def put(self, each: object) -> None:
        self._in.send(each)

    def get_nowait(self) -> Any:
        """Raises: queue.Empty."""
        if not self._out.poll():
            raise queue.Empty
        return self._out.recv()


def without_tracker() -> None:
    """Fork servers start no process that watches over semaphores, as none of ours has a name. What a runbook makes of its own
    has a tracker of its own.
    """
    if forkserver.resource_tracker is resource_tracker:  # type: ignore[attr-defined]
        forkserver.resource_tracker = _NoTracker()  # type: ignore[attr-defined]


class _NoTracker:
    """As much of `multiprocessing.resource_tracker` as a fork server asks for: each process it makes is given a descriptor."""

    def __init__(self) -> None:
        self._resource_tracker = self
        self._fd: int | None = None

    def ensure_running(self) -> None: ...

    def getfd(self) -> int:
        if self._fd is None:
            self._fd = os.open(os.devnull, os.O_WRONLY)
        return self._fd
