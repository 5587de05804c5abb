"""The relay on TCP, for tenants whose processes live on other hosts: TLS always, one port for all, the key says who it is.

Off unless a file says otherwise (`ntro relay listen` writes it). SIGHUP: look at the file and the certificate again.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, IPvAnyAddress, ValidationError
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ntro_dagster.boundary.relay.service import Application
from ntro_dagster.errors import UsageError
from ntro_dagster.workspace.relay_keys import LiveKeys
from ntro_dagster.workspace.relay_protocol import HEADERS_S, KeyedProtocol, configuration

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 4443
STRANGERS = 32
"""Connections that have not said yet who they are. One more, and the oldest of them ends."""
HANDSHAKE_S = SHUTDOWN_S = 5.0
BACKLOG = 128
PAUSE_S = 0.2

logger = logging.getLogger("ntro.relay")


class RelayListenerError(UsageError):
    """Values: `path`, `why`."""

    code = "RELAY_LISTENER"
    summary = "the relay cannot listen as it was told to"
    detail = "{path}: {why}"
    mend = "`ntro relay listen --certificate FILE --key FILE` says it anew, `ntro relay listen --off` takes it back"


class ListenerSettings(BaseModel):
    """Where to listen, and as whom. There is no form of it without TLS."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: IPvAnyAddress = IPvAnyAddress(LOOPBACK)  # type: ignore[operator]
    port: Annotated[int, Field(ge=0, le=65535)] = DEFAULT_PORT
    certificate: Path
    key: Path

    @classmethod
    def read(cls, path: Path) -> ListenerSettings | None:
        """None: there is no such file. Raises: RelayListenerError."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError):
            raise RelayListenerError(path=path, why="it is not what this program wrote") from None

    def context(self) -> ssl.SSLContext:
        """Raises: RelayListenerError: certificate or key cannot be used."""
        made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            made.load_cert_chain(self.certificate, self.key)
        except OSError as error:  # ssl.SSLError is one
            why = error.strerror if isinstance(error, FileNotFoundError | PermissionError) else "no certificate with this key"
            raise RelayListenerError(path=self.certificate, why=why) from None
        return made


class Listener:
    """One socket, and the connections that came by it. Of one event loop."""

    def __init__(self, url: str, application: Callable[[str], Application]) -> None:
        self.application = application
        self.keys = LiveKeys(url, self._keys_changed)
        self.port: int | None = None
        self.unknown = 0
        """How often somebody without a key that is good has asked."""
        self._tenants: defaultdict[str, set[HttpToolsProtocol]] = defaultdict(set)
        self._strangers: dict[asyncio.Task[None], None] = {}
        """In the order in which they came."""
        self._configuration = configuration(_nobody)
        self._loop = asyncio.get_running_loop()
        self._accepting: asyncio.Task[None] | None = None
        self._bound: socket.socket | None = None
        self._started = False

    def connections_of(self, tenant: str) -> set[HttpToolsProtocol]:
        return self._tenants[tenant]

    def count_unknown(self) -> None:
        self.unknown += 1

    async def open(self, settings: ListenerSettings) -> None:
        """Listen there, and no longer anywhere else; connections stay.

        Raises: RelayListenerError.
        """
        context = await asyncio.to_thread(settings.context)
        await self.stop()
        if not self._started:
            self._started = True
            await asyncio.to_thread(self.keys.start)
        self._bound = _bind(settings)
        self.port = self._bound.getsockname()[1]
        self._accepting = self._loop.create_task(self._accept(self._bound, context))
        logger.info("listening on %s port %d", settings.address, self.port)

    async def stop(self) -> None:
        """Take no more connections."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
            self._accepting = None
        if self._bound is not None:
            self._bound.close()
            self._bound = self.port = None

    async def close(self) -> None:
        """Take no more connections, and end those there are."""
        await self.stop()
        if self._started:
            await asyncio.to_thread(self.keys.close)
        for task in list(self._strangers):
            task.cancel()
        self._end(lambda _: True)

    async def _accept(self, bound: socket.socket, context: ssl.SSLContext) -> None:
        while True:
            try:
                accepted, _ = await self._loop.sock_accept(bound)
            except OSError as error:
                logger.warning("a connection was lost: %s", error.strerror)
                await asyncio.sleep(PAUSE_S)  # too many files, most likely
                continue
            if len(self._strangers) >= STRANGERS:
                oldest = next(iter(self._strangers))
                del self._strangers[oldest]  # at once: many may come before it has ended
                oldest.cancel()
            task = self._loop.create_task(self._meet(accepted, context))
            self._strangers[task] = None
            task.add_done_callback(lambda done: self._strangers.pop(done, None))
            await asyncio.sleep(0)  # a task that has not begun could not close what it was given

    async def _meet(self, accepted: socket.socket, context: ssl.SSLContext) -> None:
        """Until it has said who it is, or for as long as it may take for that."""
        said = asyncio.Event()
        transport: asyncio.Transport | None = None
        try:
            async with asyncio.timeout(HEADERS_S):
                transport, _ = await self._loop.connect_accepted_socket(
                    lambda: KeyedProtocol(self, said.set, self._configuration),
                    accepted,
                    ssl=context,
                    ssl_handshake_timeout=HANDSHAKE_S,
                    ssl_shutdown_timeout=SHUTDOWN_S,
                )
                await said.wait()
        except (OSError, TimeoutError, asyncio.CancelledError):
            if transport is not None:
                transport.abort()

    def _keys_changed(self) -> None:
        """On the thread that keeps the keys."""
        self._loop.call_soon_threadsafe(self._end_revoked)

    def _end_revoked(self) -> None:
        """What has been asked already is done, and not answered."""
        if self.keys.known:
            self._end(lambda protocol: protocol.holder is None or not self.keys.is_good(protocol.holder))

    def _end(self, which: Callable[[KeyedProtocol], bool]) -> None:
        for theirs in self._tenants.values():
            for protocol in [each for each in theirs if isinstance(each, KeyedProtocol) and which(each)]:
                protocol.transport.abort()


async def _nobody(scope: object, receive: object, send: object) -> None:
    """Whoever has not said who it is has no application."""
    raise AssertionError


def _bind(settings: ListenerSettings) -> socket.socket:
    """Raises: RelayListenerError."""
    family = socket.AF_INET6 if settings.address.version == 6 else socket.AF_INET  # noqa: PLR2004
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setblocking(False)
    try:
        bound.bind((str(settings.address), settings.port))
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        where = f"{settings.address} port {settings.port}"
        raise RelayListenerError(path=where, why=str(error.strerror).lower()) from None
    return bound
