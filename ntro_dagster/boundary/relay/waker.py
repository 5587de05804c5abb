"""Has the workspace's daemon look at a tenant's sensors now: the tenant's slug, on a channel of the workspace's database.

At most one a second for each tenant. The first is passed on at once; however many come within its second are one more at its end.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Collection

import psycopg2  # type: ignore[import-untyped]
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

logger = logging.getLogger("ntro.relay")

CHANNEL = "ntro_wake"
ENDED = "ntro_ended"
"""Said with each end of a run, in its transaction and of nobody: the queue may have a place. Who hears it keeps the pace."""
LEAST_S = 1.0
_TELL = text("SELECT pg_notify(:channel, tenant) FROM unnest(CAST(:tenants AS text[])) AS tenant")


class Pace:
    """Which tenants may be passed on, and when. Of one thread at a time; moments are seconds of any one clock."""

    def __init__(self, least_s: float = LEAST_S) -> None:
        self._least_s = least_s
        self._asked: set[str] = set()
        self._free_at: dict[str, float] = {}

    def ask(self, tenant: str) -> None:
        self._asked.add(tenant)

    def take(self, now: float) -> set[str]:
        """Those whose turn it is."""
        due = {tenant for tenant in self._asked if self._free_at.get(tenant, now) <= now}
        self._asked -= due
        self._free_at |= dict.fromkeys(due, now + self._least_s)
        return due

    def next(self) -> float:
        """When the next one's turn is; infinity, if nobody asks."""
        return min((self._free_at.get(tenant, -math.inf) for tenant in self._asked), default=math.inf)


class Waker:
    """One thread; `wake` may be called from any, and never waits for the database."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._pace = Pace()
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="relay-waker", daemon=True)
        self._thread.start()

    def wake(self, tenant: str) -> None:
        with self._changed:
            self._pace.ask(tenant)
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while due := self._due():
            try:
                self._tell(due)
            except (SQLAlchemyError, psycopg2.Error):
                logger.warning("the daemon was not woken: the database does not answer")

    def _due(self) -> set[str]:
        """As soon as there is somebody. Empty: closed."""
        with self._changed:
            while not self._closed:
                if due := self._pace.take(self._clock()):
                    return due
                until = self._pace.next()
                self._changed.wait(None if until == math.inf else max(0.0, until - self._clock()))
            return set()

    def _tell(self, tenants: Collection[str]) -> None:
        with self._engine.connect() as connection:
            connection.execute(_TELL, {"channel": CHANNEL, "tenants": list(tenants)})
