"""The workspace's half: an HTTP application for each tenant, over one pool of connections to the workspace's database.

Reads are answered by a few threads. What changes something goes through one writer, which does what has gathered in one
transaction, together with the key of each call: whoever asks again, after a kill at whatever moment, finds it done once.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
import queue
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from uuid import UUID

import psycopg2  # type: ignore[import-untyped]
from dagster import DagsterInstance
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS, PIPELINE_EVENTS
from dagster._core.events.log import EventLogEntry
from dagster_postgres.utils import DagsterPostgresException
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import InterfaceError, OperationalError

from ntro_dagster.boundary import vocabulary as words
from ntro_dagster.boundary.relay import encoding
from ntro_dagster.boundary.relay.calls import CALLS, EVENTS, WRITES
from ntro_dagster.boundary.relay.view import NotYoursError, TenantView
from ntro_dagster.boundary.storage import PooledEventLogStorage, transaction
from ntro_dagster.errors import NtroError

logger = logging.getLogger("ntro.relay")

LARGEST_BODY = 2**20
LARGEST_EVENT = 2**16
"""Of words alone; the writer reads it while everybody waits."""
LARGEST_BATCH = 64
READERS = 4
READS_PER_TENANT = 2
"""At once, so that nobody's questions keep all readers busy."""

_AWAY = (OperationalError, InterfaceError, psycopg2.OperationalError, psycopg2.InterfaceError, DagsterPostgresException)
"""The database is not there: come again."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class KeyReusedError(NtroError):
    code = "RELAY_KEY_REUSED"
    summary = "two different calls carry the same key"
    mend = "a key is made for one call and used again only to repeat it"


class BodyTooLargeError(encoding.RelayProtocolError):
    """Of the same code: whoever speaks the language never says so much."""


_STATUS: dict[type[NtroError], HTTPStatus] = {
    BodyTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    NotYoursError: HTTPStatus.FORBIDDEN,
    KeyReusedError: HTTPStatus.CONFLICT,
    encoding.RelayProtocolError: HTTPStatus.BAD_REQUEST,
}


@dataclass(frozen=True, slots=True)
class Write:
    """One call that changes something."""

    tenant: str
    key: UUID
    digest: bytes
    do: Callable[[], bytes]
    done: Future[bytes]


class Writer:
    """Does writes in the order in which they come, as many in one transaction as have gathered meanwhile."""

    def __init__(self, engine: Engine, instance: DagsterInstance) -> None:
        self._engine = engine
        self._instance = instance
        self._steps: list[EventLogEntry] = []
        self._waiting: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="relay-writer", daemon=True)
        self._thread.start()

    def submit(self, tenant: str, key: UUID, digest: bytes, do: Callable[[], bytes]) -> Future[bytes]:
        done: Future[bytes] = Future()
        self._waiting.put(Write(tenant, key, digest, do, done))
        return done

    def store(self, event: EventLogEntry) -> None:
        """For the writes themselves: an event that has passed the wall. Most are of a step, and are stored together."""
        if event.dagster_event and event.dagster_event.event_type in _STEPS:
            self._steps.append(event)
        else:
            self._store_steps()
            self._instance.handle_new_event(event)

    def _store_steps(self) -> None:
        if self._steps:
            storage = self._instance.event_log_storage
            assert isinstance(storage, PooledEventLogStorage)  # noqa: S101
            storage.store_steps(self._steps)
            self._steps = []

    def close(self) -> None:
        """Return when everything that was submitted is done."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, last = [first], False
            while len(batch) < LARGEST_BATCH and not self._waiting.empty():
                following = self._waiting.get()
                if following is None:
                    last = True
                    break
                batch.append(following)
            self._do(batch)
            if last:
                return

    def _do(self, batch: list[Write]) -> None:
        self._steps = []
        try:
            with transaction(self._engine) as connection:
                answers = self._answers(connection, batch)
                self._store_steps()
        except Exception as error:
            if len(batch) > 1:
                for write in batch:
                    self._do([write])
            else:
                batch[0].done.set_exception(error)
            return
        for write in batch:
            write.done.set_result(answers[write.tenant, write.key])

    def _answers(self, connection: Connection, batch: list[Write]) -> dict[tuple[str, UUID], bytes]:
        fresh = {
            (row.tenant, row.key)
            for row in connection.execute(
                _CLAIM,
                {
                    "tenants": [write.tenant for write in batch],
                    "keys": [str(write.key) for write in batch],
                    "digests": [write.digest for write in batch],
                },
            )
        }
        answers: dict[tuple[str, UUID], bytes] = {}
        for write in batch:
            call = write.tenant, write.key
            if call in fresh:
                fresh.remove(call)
                answers[call] = write.do()
                if answers[call] != _NOTHING:
                    connection.execute(_ANSWERED, {"tenant": write.tenant, "key": write.key, "answer": answers[call]})
            else:
                answers[call] = self._replay(connection, write)
        return answers

    def _replay(self, connection: Connection, write: Write) -> bytes:
        row = connection.execute(_KNOWN, {"tenant": write.tenant, "key": write.key}).one()
        if bytes(row.digest) != write.digest:
            raise KeyReusedError
        return bytes(row.answer) if row.answer is not None else _NOTHING


_NOTHING = encoding.dumps(None)
_STEPS = EVENTS - PIPELINE_EVENTS - ASSET_EVENTS - ASSET_CHECK_EVENTS
"""Events that nothing follows from."""
_CLAIM = text("""
    INSERT INTO relay.writes (tenant, key, digest)
    SELECT * FROM unnest(CAST(:tenants AS text[]), CAST(:keys AS uuid[]), CAST(:digests AS bytea[]))
    ON CONFLICT DO NOTHING
    RETURNING tenant, key
""")
_ANSWERED = text("UPDATE relay.writes SET answer = :answer WHERE tenant = :tenant AND key = :key")
_KNOWN = text("SELECT digest, answer FROM relay.writes WHERE tenant = :tenant AND key = :key")


@dataclass(frozen=True, slots=True)
class _Client:
    """One tenant, as the relay knows it."""

    tenant: str
    view: TenantView
    reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(READS_PER_TENANT))


class Relay:
    """What all tenants share."""

    def __init__(self, instance: DagsterInstance, engine: Engine, names: Callable[[str], frozenset[str]]) -> None:
        self.instance = instance
        self.names = names
        self.writer = Writer(engine, instance)
        self.readers = ThreadPoolExecutor(READERS, "relay-reader")
        self.closing = False
        self.refused: Counter[tuple[str, str]] = Counter()
        """How often each tenant was refused each call."""

    def close(self) -> None:
        """Whoever asks from now on is told to come again."""
        self.closing = True
        self.readers.shutdown()
        self.writer.close()

    def application(self, tenant: str) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        """The ASGI application behind one tenant's socket: who reaches it is that tenant."""
        client = _Client(tenant, TenantView(tenant, self.instance, store=self.writer.store, names=self.names))

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            status, answer = await self._answer(client, scope, receive)
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": answer})

        return application

    async def _answer(self, client: _Client, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        """Status and body. What went wrong is told by its code: an exception's text would hold SQL, and more."""
        call = scope["path"].removeprefix("/v1/")
        if scope["method"] != "POST" or call not in CALLS:
            return self._refuse(client.tenant, "UNKNOWN_CALL", HTTPStatus.FORBIDDEN, "RELAY_REFUSED")
        try:
            body = await _body(receive, LARGEST_EVENT if call in WRITES else LARGEST_BODY)
            if self.closing:
                return HTTPStatus.SERVICE_UNAVAILABLE, _NOTHING
            return HTTPStatus.OK, await self._done(client, call, scope, body)
        except NtroError as error:
            return self._refuse(client.tenant, call, _STATUS.get(type(error), HTTPStatus.INTERNAL_SERVER_ERROR), error.code)
        except _AWAY:
            logger.warning("%s: %s: the database is away", client.tenant, call)
            return HTTPStatus.SERVICE_UNAVAILABLE, _NOTHING
        except Exception as error:
            return self._refuse(client.tenant, call, HTTPStatus.INTERNAL_SERVER_ERROR, type(error).__name__)

    async def _done(self, client: _Client, call: str, scope: Scope, body: bytes) -> bytes:
        def do() -> bytes:
            return _perform(client.view, call, body)

        if call not in WRITES:
            async with client.reading:
                return await asyncio.get_running_loop().run_in_executor(self.readers, do)
        key = _key(scope)
        digest = hashlib.sha256(call.encode() + b"\0" + body).digest()
        return await asyncio.wrap_future(self.writer.submit(client.tenant, key, digest, do))

    def _refuse(self, tenant: str, call: str, status: HTTPStatus, code: str) -> tuple[int, bytes]:
        self.refused[tenant, call] += 1
        logger.warning("refused %s: %s: %s", tenant, call, words.code(code))
        return status, encoding.dumps(words.code(code))


def _perform(view: TenantView, call: str, body: bytes) -> bytes:
    given = encoding.loads(body)
    method = getattr(view, call)
    try:
        arguments = inspect.signature(method).bind(**given)
    except TypeError:
        raise encoding.RelayProtocolError from None
    return encoding.dumps(method(*arguments.args, **arguments.kwargs))


async def _body(receive: Receive, largest: int) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > largest:
            raise BodyTooLargeError
        if not message.get("more_body"):
            return b"".join(parts)


def _key(scope: Scope) -> UUID:
    for name, value in scope["headers"]:
        if name == b"idempotency-key":
            try:
                return UUID(value.decode())
            except ValueError:
                break
    raise encoding.RelayProtocolError
