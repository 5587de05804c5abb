"""How long a desk waits for a request to arrive: one that dribbles would hold a place for as long as it likes."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

ARRIVES_S = 20.0
"""From the connection, or from the first byte on one that is kept, to the request's last: the largest body at 1.6 MB/s."""


class ImpatientProtocol(HttpToolsProtocol):
    """Closes a connection whose request does not arrive in time."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._begin()

    def data_received(self, data: bytes) -> None:
        self._begin()
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begin()

    def on_message_complete(self) -> None:
        self._arrived()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        super().connection_lost(exc)

    def _begin(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(ARRIVES_S, self._give_up)

    def _give_up(self) -> None:
        self._late = None
        if self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete:
            self._begin()  # the next request has begun early: it waits for the answer to this one
        else:
            self.transport.close()

    def _arrived(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
