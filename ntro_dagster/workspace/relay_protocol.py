"""HTTP on the relay's connections: who may have one, and how long a request may take to say what it is.

On a unix socket the socket says who it is. On TLS the bearer key of the first request does, before any body is read; the
connection is that key's from then on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from ntro_dagster.workspace.relay_keys import Holder

if TYPE_CHECKING:
    from ntro_dagster.workspace.relay_listener import Listener

KEEP_ALIVE_S = 24 * 3600
"""A sensor's thread may be quiet for hours; a closed connection would cost it a second try."""
CONNECTIONS_PER_TENANT = 64
"""A worker needs one, a code server one for each of its threads that ask."""
HEADERS_S = 10.0
LARGEST_HEADERS = 2**14

_BEARER = b"bearer "
_UNAUTHORIZED = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def configuration(application: Any) -> Config:
    """Of uvicorn's protocol, which is all of it that we use."""
    config = Config(
        application, timeout_keep_alive=KEEP_ALIVE_S, access_log=False, log_config=None, lifespan="off", ws="none"
    )  # fmt: skip
    config.load()
    return config


class RelayProtocol(HttpToolsProtocol):
    """One connection of a tenant that is known. Headers have a deadline and a size; bodies have theirs in the application."""

    _slow: asyncio.TimerHandle | None = None
    """Runs from the first byte of a request to the end of its headers."""
    _heard = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Nobody takes up all files that this process may open: what is too many for one tenant is closed at once."""
        if len(self.connections) >= CONNECTIONS_PER_TENANT:
            transport.abort()
        else:
            super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        if self in self.connections:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._slow is not None:
            self._heard += len(data)
            if self._heard > LARGEST_HEADERS:
                self.transport.abort()

    def on_message_begin(self) -> None:
        if self._slow is None:
            self._slow, self._heard = self.loop.call_later(HEADERS_S, self.transport.abort), 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_time()
        super().on_headers_complete()

    def _in_time(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None


class KeyedProtocol(RelayProtocol):
    """One connection over TLS."""

    def __init__(self, listener: Listener, forget: Callable[[], None], config: Config) -> None:
        """Args:
        forget: called as soon as it is known who it is, or that it is nobody.
        """
        super().__init__(config=config, server_state=ServerState(), app_state={})
        self.holder: Holder | None = None
        self._listener = listener
        self._forget = forget
        self._refused = False

    def on_headers_complete(self) -> None:
        if self._refused or not self._known():
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._refused:
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _known(self) -> bool:
        keys = self._listener.keys
        if not keys.known:
            return self._refuse(_UNAVAILABLE)
        found = keys.holder(_secret(self.headers))
        if found is None or self.holder not in {None, found}:
            self._listener.count_unknown()
            return self._refuse(_UNAUTHORIZED)
        return self.holder is not None or self._admitted(found)

    def _admitted(self, holder: Holder) -> bool:
        theirs = self._listener.connections_of(holder.tenant)
        if len(theirs) >= CONNECTIONS_PER_TENANT:
            self._refused = True
            self.transport.abort()
            return False
        self.connections.discard(self)
        theirs.add(self)
        self.connections, self.holder = theirs, holder  # type: ignore[assignment]
        self.app = self._listener.application(holder.tenant)
        self._forget()
        return True

    def _refuse(self, answer: bytes) -> bool:
        """What is still on its way is not read; the deadline of the headers stands until the other side has gone."""
        self._refused = True
        self.transport.write(answer)
        self.transport.close()
        return False


def _secret(headers: list[tuple[bytes, bytes]]) -> bytes:
    """Empty where there is none, or more than one."""
    said: list[Any] = [value for name, value in headers if name == b"authorization"]
    return said[0][len(_BEARER) :].strip() if len(said) == 1 and said[0][: len(_BEARER)].lower() == _BEARER else b""
