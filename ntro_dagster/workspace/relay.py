"""The process between tenants and the workspace's database: `python -m ntro_dagster.workspace.relay`.

One unix socket for each tenant of the registry, in the tenant's own directory below NTRO_RELAY_SOCKETS: who may enter the
directory is the tenant. Where NTRO_RELAY_LISTENER names a file, TLS for tenants on other hosts, too (`relay_listener`).
SIGHUP: read registry, file and certificate again. SIGTERM: answer what was asked, then end.

Environment: DAGSTER_HOME, NTRO_PLANE, NTRO_INSTANCE_URL, NTRO_SURVEYS, NTRO_RELAY_SOCKETS, NTRO_RELAY_LISTENER.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from ntro_dagster.startup import import_plain, pause_collector

    pause_collector()
    import_plain("ntro_dagster.boundary.storage", "uvicorn")

import psycopg
from dagster import DagsterInstance
from sqlalchemy import event, text
from sqlalchemy.exc import SQLAlchemyError
from uvicorn.server import ServerState

from ntro_dagster.boundary.answers.survey import known_names
from ntro_dagster.boundary.names import INSTANCE_URL, RELAY_LISTENER, RELAY_SOCKET, RELAY_SOCKETS
from ntro_dagster.boundary.pool import pooled_engine
from ntro_dagster.boundary.relay.service import Relay
from ntro_dagster.startup import resume_collector
from ntro_dagster.workspace.registry import Registry
from ntro_dagster.workspace.relay_counts import RelayCounts
from ntro_dagster.workspace.relay_listener import Listener, ListenerSettings, RelayListenerError
from ntro_dagster.workspace.relay_protocol import RelayProtocol, configuration
from ntro_dagster.workspace.relay_refusals import NOBODY

STATEMENT_MS = 8_000
SWITCH_S = 0.0005
"""How long one thread may keep the interpreter while others wait: the longest body takes many times as long to look at."""
COUNT_EVERY_S = 3.0
FORGET_EVERY_S = 3600.0
_FORGET = text("DELETE FROM relay.writes WHERE done_at < now() - interval '2 days'")
"""No client tries for longer than minutes."""

logger = logging.getLogger("ntro.relay")


def _be_quick(connection: Any, _: Any) -> None:
    """No question of a tenant's keeps a reader, or the database, busy for long."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET statement_timeout = {STATEMENT_MS}")
    connection.commit()


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
        self.listener: Listener | None = None

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
        config, state = configuration(self._relay.application(slug)), ServerState()
        return await asyncio.get_running_loop().create_unix_server(
            lambda: RelayProtocol(config=config, server_state=state, app_state={}), sock=_bind(path)
        )

    async def listen(self, settings: ListenerSettings | None) -> None:
        """For tenants on other hosts, too; None: no longer.

        Raises: RelayListenerError.
        """
        if self.listener is None:
            self.listener = Listener(self._url, self._relay.application)
        if settings is None:
            await self.listener.stop()
        else:
            await self.listener.open(settings)

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

    async def count(self) -> None:
        """Have what was refused be seen (`relay_counts`)."""
        counts = RelayCounts(self._engine)
        while True:
            refused, dropped = Counter(self._relay.refused), Counter(self._relay.dropped)
            if self.listener is not None and self.listener.unknown:
                refused[NOBODY, "NO_KEY"] = self.listener.unknown
            try:
                await asyncio.to_thread(counts.write, refused, dropped)
            except SQLAlchemyError:
                logger.warning("counts wait: the database does not answer")
            await asyncio.sleep(COUNT_EVERY_S)

    async def close(self) -> None:
        for server, _ in self._servers.values():
            server.close()
        if self.listener is not None:
            await self.listener.close()
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


async def serve(url: str, instance: DagsterInstance, sockets: Path, listener: Path | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    server = RelayServer(url, instance, sockets)
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def look() -> None:
        try:
            await server.open_sockets()
        except (psycopg.Error, OSError) as error:
            logger.warning("new tenants wait: %s", type(error).__name__)
        await listen()

    async def listen() -> None:
        try:
            settings = ListenerSettings.read(listener) if listener else None
            if settings or server.listener:
                await server.listen(settings)
        except RelayListenerError as error:  # the tenants of this machine are served all the same
            logger.error("not listening: %s", error.explain())

    def again() -> None:
        task = loop.create_task(look())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, again)
    await server.open_sockets()
    await listen()
    always = [loop.create_task(server.forget()), loop.create_task(server.count())]
    resume_collector()
    await stop.wait()
    for task in always:
        task.cancel()
    await server.close()


def main() -> None:
    os.umask(0o077)
    sys.setswitchinterval(SWITCH_S)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.INFO)
    with DagsterInstance.get() as instance:
        listener = os.environ.get(RELAY_LISTENER)
        asyncio.run(
            serve(os.environ[INSTANCE_URL], instance, Path(os.environ[RELAY_SOCKETS]), Path(listener) if listener else None)
        )


if __name__ == "__main__":
    main()
