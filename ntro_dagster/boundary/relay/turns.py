"""Whose write is next: tenants take turns, one write each, however many one of them has sent.

Each tenant's own writes stay in the order in which they came. Nobody may have more than a few waiting: who sends more is told
to come again, and keeps the memory of nobody but itself.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from ntro_dagster.errors import TransientError


class TooManyWaitingError(TransientError):
    code = "RELAY_BUSY"
    summary = "this tenant has too much waiting at the workspace's relay"
    mend = "nothing: it is asked again by itself"


class OfTenant(Protocol):
    @property
    def tenant(self) -> str: ...


T = TypeVar("T", bound=OfTenant)


class Turns(Generic[T]):
    """What waits, by tenant. Safe for several threads that put, and one that takes."""

    def __init__(self, most_waiting: int) -> None:
        """Args:
        most_waiting: of one tenant.
        """
        self._most_waiting = most_waiting
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()
        """Tenants in the order of their turns; who has nothing waiting is not there."""
        self._alone: deque[T] = deque()
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        """Raises: TooManyWaitingError."""
        with self._changed:
            line = self._waiting.setdefault(item.tenant, deque())
            if len(line) >= self._most_waiting:
                raise TooManyWaitingError
            line.append(item)
            self._changed.notify()

    def put_back_alone(self, items: Iterable[T]) -> None:
        """Items that were taken together and must be taken again, each by itself, before anything else of their tenants."""
        with self._changed:
            back: dict[str, list[T]] = {}
            for item in items:
                back.setdefault(item.tenant, []).append(item)
                self._alone.append(item)
            for tenant, first in back.items():
                self._waiting.setdefault(tenant, deque()).extendleft(reversed(first))

    def take(self, most: int) -> list[T]:
        """What is next, up to `most`, as soon as there is something. Empty: closed, and nothing is left."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            taken: list[T] = []
            while self._waiting and len(taken) < most:
                tenant, line = next(iter(self._waiting.items()))
                alone = any(line[0] is each for each in self._alone)
                if alone and taken:
                    break
                taken.append(line.popleft())
                self._waiting.move_to_end(tenant)
                if not line:
                    del self._waiting[tenant]
                if alone:
                    self._alone = deque(each for each in self._alone if each is not taken[0])
                    break
            return taken

    def close(self) -> None:
        """Nothing more will be put."""
        with self._changed:
            self._closed = True
            self._changed.notify()
