"""The process between tenants and the workspace's database: `python -m ntro_dagster.workspace.relay`.

One unix socket for each tenant of the registry, in the tenant's own directory below NTRO_RELAY_SOCKETS: who may enter the
directory is the tenant. SIGHUP: read the registry again. SIGTERM: answer what was asked, then end.

Environment: DAGSTER_HOME, NTRO_PLANE, NTRO_INSTANCE_URL, NTRO_SURVEYS, NTRO_RELAY_SOCKETS.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dagster import DagsterInstance
from sqlalchemy import event, text
from sqlalchemy.exc import SQLAlchemyError
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from ntro_dagster.boundary.answers.survey import known_names
from ntro_dagster.boundary.names import INSTANCE_URL, RELAY_SOCKET, RELAY_SOCKETS
from ntro_dagster.boundary.relay.service import Relay
from ntro_dagster.boundary.storage import pooled_engine
from ntro_dagster.workspace.registry import Registry

KEEP_ALIVE_S = 24 * 3600
"""A sensor's thread may be quiet for hours; a closed connection would cost it a second try."""
STATEMENT_MS = 8_000
CONNECTIONS_PER_TENANT = 64
"""A worker needs one, a code server one for each of its threads that ask."""
FORGET_EVERY_S = 3600.0
_FORGET = text("DELETE FROM relay.writes WHERE done_at < now() - interval '2 days'")
"""No client tries for longer than minutes."""

logger = logging.getLogger("ntro.relay")


def _be_quick(connection: Any, _: Any) -> None:
    """No question of a tenant's keeps a reader, or the database, busy for long."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET statement_timeout = {STATEMENT_MS}")
    connection.commit()


class _FewConnections(HttpToolsProtocol):
    """Nobody takes up all files that this process may open: what is too many for one tenant is closed at once."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) >= CONNECTIONS_PER_TENANT:
            transport.abort()
        else:
            super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self.connections:
            super().connection_lost(exc)


class RelayServer:
    """The sockets of all tenants, in one event loop."""

    def __init__(
        self, url: str, instance: DagsterInstance, sockets: Path, names: Callable[[str], frozenset[str]] = known_names
    ) -> None:
        self._url = url
        self._sockets = sockets
        self._engine = pooled_engine(url)
        event.listen(self._engine, "connect", _be_quick)
        self._relay = Relay(instance, self._engine, names)
        self._servers: dict[str, tuple[asyncio.Server, int | None]] = {}
        self._opening = asyncio.Lock()

    async def open_sockets(self) -> None:
        """One for each tenant that has a directory and none yet."""
        async with self._opening:
            await self._open_sockets()

    async def _open_sockets(self) -> None:
        for slug in await asyncio.to_thread(self._tenants):
            path = self._sockets / slug / RELAY_SOCKET
            if not path.parent.is_dir() or self._stands(slug, path):
                continue
            try:
                server = await self._listen(slug, path)
            except OSError as error:  # one tenant's directory is not the others' concern
                logger.warning("not serving %s: %s", slug, error.strerror)
                continue
            self._servers[slug] = server, _inode(path)
            logger.info("serving %s", slug)

    def _stands(self, slug: str, path: Path) -> bool:
        """Whether we listen there, and it is still our socket that is there."""
        known = self._servers.get(slug)
        if known and known[1] != _inode(path):
            known[0].close()
            known = None
        return known is not None

    def _tenants(self) -> list[str]:
        registry = Registry(self._url)
        try:
            return [tenant.slug for tenant in registry.tenants()]
        finally:
            registry.dispose()

    async def _listen(self, slug: str, path: Path) -> asyncio.Server:
        application = self._relay.application(slug)
        config = Config(application, timeout_keep_alive=KEEP_ALIVE_S, access_log=False, log_config=None, lifespan="off")
        config.load()
        state = ServerState()
        return await asyncio.get_running_loop().create_unix_server(
            lambda: _FewConnections(config=config, server_state=state, app_state={}), sock=_bind(path)
        )

    async def forget(self) -> None:
        """Keys that nobody will use again."""
        while True:
            try:
                await asyncio.to_thread(self._forget)
            except SQLAlchemyError:
                logger.warning("old keys stay for now: the database does not answer")
            await asyncio.sleep(FORGET_EVERY_S)

    def _forget(self) -> None:
        with self._engine.connect() as connection:
            connection.execute(_FORGET)

    async def close(self) -> None:
        for server, _ in self._servers.values():
            server.close()
        await asyncio.to_thread(self._relay.close)


def _inode(path: Path) -> int | None:
    try:
        return path.lstat().st_ino
    except FileNotFoundError:
        return None


def _bind(path: Path) -> socket.socket:
    """A socket for us alone: the umask of this process sees to that. In a tenant's directory for whoever may come in: the two."""
    path.unlink(missing_ok=True)  # a killed predecessor's; of a link, the link
    bound = socket.socket(socket.AF_UNIX)
    before = os.umask(0 if path.parent.lstat().st_uid != os.geteuid() else 0o077)
    try:
        bound.bind(str(path))  # never through a link; a mode given afterwards would go through one
    finally:
        os.umask(before)
    return bound


async def serve(url: str, instance: DagsterInstance, sockets: Path) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    server = RelayServer(url, instance, sockets)
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def look() -> None:
        try:
            await server.open_sockets()
        except (SQLAlchemyError, OSError) as error:
            logger.warning("new tenants wait: %s", type(error).__name__)

    def again() -> None:
        task = loop.create_task(look())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, again)
    await server.open_sockets()
    forgetting = loop.create_task(server.forget())
    await stop.wait()
    forgetting.cancel()
    await server.close()


def main() -> None:
    os.umask(0o077)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.INFO)
    with DagsterInstance.get() as instance:
        asyncio.run(serve(os.environ[INSTANCE_URL], instance, Path(os.environ[RELAY_SOCKETS])))


if __name__ == "__main__":
    main()
