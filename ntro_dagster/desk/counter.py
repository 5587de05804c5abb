"""Where log-ins queue. One password is looked at at a time, so that a burst of guesses is counted as well as a series,
and holds neither the desk's connections nor its memory (argon2id takes 64 MiB a guess).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ntro_dagster.errors import TransientError

MOST_WAITING = 20
COMES_ROUND_S = 10
"""In how many seconds a full queue has gone by, roughly: half a second a password."""


class LoginsBusyError(TransientError):
    code = "LOGINS_BUSY"
    summary = "many log in at this moment"
    mend = "try again in a few seconds"


class Counter:
    """One for each process."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Raises: `LoginsBusyError` where too many wait already."""
        if self._waiting >= MOST_WAITING:
            raise LoginsBusyError
        self._waiting += 1
        try:
            async with self._turn:
                yield
        finally:
            self._waiting -= 1
