"""The workspace's half: an HTTP application for each tenant, over one pool of connections to the workspace's database.

A few threads answer reads, and a few read, check and rebuild what is to be written. Only then it waits for its tenant's turn with
the one writer (`writer`), which does what has gathered in one transaction together with the key of each call: whoever asks again,
after a kill at whatever moment, finds it done once.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar
from uuid import UUID

import psycopg2  # type: ignore[import-untyped]
from dagster import DagsterInstance
from dagster_postgres.utils import DagsterPostgresException
from sqlalchemy import Engine
from sqlalchemy.exc import InterfaceError, OperationalError

from ntro_dagster.boundary import vocabulary as words
from ntro_dagster.boundary import wall
from ntro_dagster.boundary.relay import encoding
from ntro_dagster.boundary.relay.calls import CALLS, QUESTIONS, STORE_EVENTS, TELL_AND_ASK, WAKE, WRITES
from ntro_dagster.boundary.relay.foresight import answers
from ntro_dagster.boundary.relay.question import Question
from ntro_dagster.boundary.relay.turns import TooManyWaitingError
from ntro_dagster.boundary.relay.view import NotYoursError, TenantView
from ntro_dagster.boundary.relay.waker import Waker
from ntro_dagster.boundary.relay.writer import MOST_WAITING, KeyReusedError, Write, Writer
from ntro_dagster.errors import NtroError

logger = logging.getLogger("ntro.relay")

LARGEST_BODY = 2**20
LARGEST_EVENT = 2**16
"""Of words alone."""
LARGEST_QUESTION = 2**16
"""That comes with events: a larger one comes by itself."""
BODY_S = 10.0
"""A body that trickles in for longer is not waited for."""
READERS, READS_PER_TENANT = 4, 2
PREPARERS, PREPARED_PER_TENANT = 2, 1
"""Threads, and how many of them one tenant keeps busy at once: nobody has all."""

_AWAY = (OperationalError, InterfaceError, psycopg2.OperationalError, psycopg2.InterfaceError, DagsterPostgresException)
"""The database is not there: come again."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
T = TypeVar("T")
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class BodyTooLargeError(encoding.RelayProtocolError):
    """Of the same code: whoever speaks the language never says so much."""


class BodyTooSlowError(encoding.RelayProtocolError):
    """Of the same code. Whoever says it so slowly may try again, on another connection."""


_STATUS: dict[type[NtroError], HTTPStatus] = {
    BodyTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    BodyTooSlowError: HTTPStatus.REQUEST_TIMEOUT,
    TooManyWaitingError: HTTPStatus.TOO_MANY_REQUESTS,
    NotYoursError: HTTPStatus.FORBIDDEN,
    KeyReusedError: HTTPStatus.CONFLICT,
    encoding.RelayProtocolError: HTTPStatus.BAD_REQUEST,
}

_NOTHING = encoding.dumps(None)


@dataclass(slots=True)
class _Client:
    """One tenant, as the relay knows it.

    Attributes:
        writes: how many are under way, whatever they wait for.
    """

    tenant: str
    view: TenantView
    writes: int = 0
    reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(READS_PER_TENANT))
    preparing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PREPARED_PER_TENANT))


class Relay:
    """What all tenants share."""

    def __init__(self, instance: DagsterInstance, engine: Engine, names: Callable[[str], frozenset[str]]) -> None:
        self.instance = instance
        self.names = names
        self.waker = Waker(engine)
        self.writer = Writer(engine, instance, ended=self.waker.wake)
        self.readers = ThreadPoolExecutor(READERS, "relay-reader")
        self.preparers = ThreadPoolExecutor(PREPARERS, "relay-preparer")
        self.closing = False
        self.refused: Counter[tuple[str, str]] = Counter()
        """How often each tenant was refused each call."""
        self.dropped: Counter[tuple[str, str]] = Counter()
        """How much of each kind the wall left out of what each tenant sent: its own half should have done so."""
        self._applications: dict[str, Application] = {}

    def close(self) -> None:
        """Whoever asks from now on is told to come again."""
        self.closing = True
        self.readers.shutdown()
        self.preparers.shutdown()
        self.writer.close()
        self.waker.close()

    def application(self, tenant: str) -> Application:
        """The ASGI application of one tenant, one whichever way it comes: who reaches it is that tenant."""
        return self._applications.setdefault(tenant, self._application(tenant))

    def _application(self, tenant: str) -> Application:
        client = _Client(tenant, TenantView(tenant, self.instance, store=self.writer.store, names=self.names))

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            status, answer = await self._answer(client, scope, receive)
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
            if status == HTTPStatus.REQUEST_TIMEOUT:
                headers.append((b"connection", b"close"))
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": answer})

        return application

    async def _answer(self, client: _Client, scope: Scope, receive: Receive) -> tuple[int, bytes]:  # noqa: PLR0911 - one for each end
        """Status and body. What went wrong is told by its code: an exception's text would hold SQL, and more."""
        call = scope["path"].removeprefix("/v1/")
        if scope["method"] != "POST" or call not in CALLS | {WAKE}:
            return self._refuse(client.tenant, "UNKNOWN_CALL", HTTPStatus.FORBIDDEN, "RELAY_REFUSED")
        try:
            answered = await self._way(call)(client, call, scope, receive)
            return (HTTPStatus.SERVICE_UNAVAILABLE, _NOTHING) if answered is None else (HTTPStatus.OK, answered)
        except TooManyWaitingError as error:  # no refusal: it will be done, later
            return HTTPStatus.TOO_MANY_REQUESTS, encoding.dumps(error.code)
        except NtroError as error:
            return self._refuse(client.tenant, call, _STATUS.get(type(error), HTTPStatus.INTERNAL_SERVER_ERROR), error.code)
        except _AWAY:
            logger.warning("%s: %s: the database is away", client.tenant, call)
            return HTTPStatus.SERVICE_UNAVAILABLE, _NOTHING
        except Exception as error:
            if self.closing:  # our threads have ended meanwhile
                return HTTPStatus.SERVICE_UNAVAILABLE, _NOTHING
            return self._refuse(client.tenant, call, HTTPStatus.INTERNAL_SERVER_ERROR, type(error).__name__)

    def _way(self, call: str) -> Callable[[_Client, str, Scope, Receive], Awaitable[bytes | None]]:
        if call in WRITES:
            return self._told_and_asked if call == TELL_AND_ASK else self._written
        return self._woken if call == WAKE else self._read

    async def _woken(self, client: _Client, _call: str, _: Scope, receive: Receive) -> bytes | None:
        """Whose socket it came by is all that it says."""
        await _body(receive, 0)
        self.waker.wake(client.tenant)
        return _NOTHING

    async def _read(self, client: _Client, call: str, _: Scope, receive: Receive) -> bytes | None:
        """None: we are about to end."""
        body = await _body(receive, LARGEST_BODY)
        if self.closing:
            return None
        return await self._answered(client, lambda: encoding.dumps(_call(client.view, call, body)))

    async def _answered(self, client: _Client, answer: Callable[[], T]) -> T:
        async with client.reading:
            return await asyncio.get_running_loop().run_in_executor(self.readers, answer)

    async def _written(self, client: _Client, call: str, scope: Scope, receive: Receive) -> bytes | None:
        """None: we are about to end."""
        with _one_more(client):
            body = await _body(receive, LARGEST_EVENT)
            return None if self.closing else await self._done(client, call, _key(scope), body)

    async def _told_and_asked(self, client: _Client, _: str, scope: Scope, receive: Receive) -> bytes | None:
        """A question, and in the next line what is to be stored before, as the call for that alone has it. None: we are to end.

        What was told stands whatever becomes of the question, so the answer tells that it was refused.
        """
        with _one_more(client):
            body = await _body(receive, LARGEST_QUESTION + LARGEST_EVENT)
            if self.closing:
                return None
            question, _line, events = body.partition(b"\n")
            if len(question) > LARGEST_QUESTION or len(events) > LARGEST_EVENT:
                raise BodyTooLargeError
            if events:
                await self._done(client, STORE_EVENTS, _key(scope), events)
        told = await self._answered(client, lambda: _told(client, question))
        if isinstance(told, bytes):
            return told
        self._refuse(client.tenant, told.call, HTTPStatus.FORBIDDEN, told.code)
        return encoding.dumps({"refused": words.code(told.code)})

    async def _done(self, client: _Client, call: str, key: UUID, body: bytes) -> bytes:
        """The answer of a write, once it is stored."""
        digest = hashlib.sha256(call.encode() + b"\0" + body).digest()
        left_out: Counter[str] = Counter()
        try:
            async with client.preparing:
                submitted = await asyncio.get_running_loop().run_in_executor(
                    self.preparers, self._submitted, client, call, key, digest, body, left_out
                )
        finally:
            self.dropped.update({(client.tenant, kind): number for kind, number in left_out.items()})
        if isinstance(submitted, bytes):
            return submitted
        done: bytes = await asyncio.wrap_future(submitted.done)
        return done

    def _submitted(  # noqa: PLR0917 - called by a pool of threads, which passes no names
        self, client: _Client, call: str, key: UUID, digest: bytes, body: bytes, left_out: Counter[str]
    ) -> Write | bytes:
        """Read, checked, rebuilt, and waiting for its turn; or the answer, where it was done already.

        What was done once may not be allowed any more (a step that a new deployment has not): who asks again is still told so.
        """
        try:
            with wall.counting(left_out):
                work = _call(client.view, call, body)
        except NtroError:
            known = self.writer.known(client.tenant, key, digest)
            if known is None:
                raise
            return known
        write = Write(client.tenant, key, digest, lambda: encoding.dumps(work()))
        self.writer.submit(write)
        return write

    def _refuse(self, tenant: str, call: str, status: HTTPStatus, code: str) -> tuple[int, bytes]:
        self.refused[tenant, call] += 1
        logger.warning("refused %s: %s: %s", tenant, call, words.code(code))
        return status, encoding.dumps(words.code(code))


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Of a question that came with events."""

    call: str
    code: str


def _told(client: _Client, question: bytes) -> bytes | _Refusal:
    """Raises nothing but that the database is away: what came with the question is stored."""
    call = TELL_AND_ASK
    try:
        asked = Question.read(question)
        call = asked.call if asked.call in QUESTIONS else call
        return encoding.dumps({"told": list(answers(partial(_ask, client.view), asked, client.tenant))})
    except _AWAY:
        raise
    except Exception as error:
        return _Refusal(call, error.code if isinstance(error, NtroError) else type(error).__name__)


@contextmanager
def _one_more(client: _Client) -> Iterator[None]:
    """Raises: `TooManyWaitingError`."""
    if client.writes >= MOST_WAITING:
        raise TooManyWaitingError
    client.writes += 1
    try:
        yield
    finally:
        client.writes -= 1


def _call(view: TenantView, call: str, body: bytes) -> Any:
    return _ask(view, call, encoding.loads(body))


def _ask(view: TenantView, call: str, given: Mapping[str, Any]) -> Any:
    method = getattr(view, call)
    try:
        arguments = inspect.signature(method).bind(**given)
    except TypeError:
        raise encoding.RelayProtocolError from None
    return method(*arguments.args, **arguments.kwargs)


async def _body(receive: Receive, largest: int) -> bytes:
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > largest:
                    raise BodyTooLargeError
                if message["type"] == "http.disconnect":
                    raise BodyTooSlowError
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        raise BodyTooSlowError from None


def _key(scope: Scope) -> UUID:
    for name, value in scope["headers"]:
        if name == b"idempotency-key":
            try:
                return UUID(value.decode())
            except ValueError:
                break
    raise encoding.RelayProtocolError
