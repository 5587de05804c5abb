"""The one writer: what has gathered meanwhile is one transaction, and the keys of its calls are in it.

What comes here has been read, checked and rebuilt already (`view`); only the database's work is done in the writer's turn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from uuid import UUID

from dagster import DagsterInstance
from dagster._core.events.log import EventLogEntry
from sqlalchemy import Connection, Engine, text

from ntro_dagster.boundary.pool import transaction
from ntro_dagster.boundary.relay import encoding
from ntro_dagster.boundary.relay.calls import ENDS
from ntro_dagster.boundary.relay.turns import Turns
from ntro_dagster.boundary.relay.waker import ENDED
from ntro_dagster.boundary.storage import PooledEventLogStorage
from ntro_dagster.errors import NtroError

LARGEST_BATCH = 64
MOST_WAITING = 32
"""Of one tenant. Its workers wait for their answers, so an honest one has as many as it has runs at work."""

_NOTHING = encoding.dumps(None)
_TELL = text("SELECT pg_notify(:channel, '')")
_CLAIM = text("""
    INSERT INTO relay.writes (tenant, key, digest)
    SELECT * FROM unnest(CAST(:tenants AS text[]), CAST(:keys AS uuid[]), CAST(:digests AS bytea[]))
    ON CONFLICT DO NOTHING
    RETURNING tenant, key
""")
_ANSWERED = text("UPDATE relay.writes SET answer = :answer WHERE tenant = :tenant AND key = :key")
_KNOWN = text("SELECT digest, answer FROM relay.writes WHERE tenant = :tenant AND key = :key")


class KeyReusedError(NtroError):
    code = "RELAY_KEY_REUSED"
    summary = "two different calls carry the same key"
    mend = "a key is made for one call and used again only to repeat it"


@dataclass(frozen=True, slots=True, eq=False)
class Write:
    """One call that changes something: what is left to do of it, in the database."""

    tenant: str
    key: UUID
    digest: bytes
    do: Callable[[], bytes]
    done: Future[bytes] = field(default_factory=Future)


class Writer:
    """Does writes, tenant by tenant in turns, as many in one transaction as have gathered meanwhile."""

    def __init__(self, engine: Engine, instance: DagsterInstance, *, ended: Callable[[str], object] = lambda _: None) -> None:
        """Args:
        ended: called with the tenant whose run has ended, once that is stored.
        """
        self._engine = engine
        self._instance = instance
        self._ended = ended
        self._tenant = ""
        self._whose_ended: set[str] = set()
        self._events: list[EventLogEntry] = []
        self._turns: Turns[Write] = Turns(MOST_WAITING)
        self._thread = threading.Thread(target=self._work, name="relay-writer", daemon=True)
        self._thread.start()

    def submit(self, write: Write) -> None:
        """Raises: TooManyWaitingError."""
        self._turns.put(write)

    def known(self, tenant: str, key: UUID, digest: bytes) -> bytes | None:
        """The answer of a call that was done before; None: it was not.

        Raises: KeyReusedError.
        """
        with self._engine.connect() as connection:
            return _answer(connection, tenant, key, digest)

    def store(self, event: EventLogEntry) -> None:
        """For the writes themselves: an event that has passed the wall. All of a transaction are stored together, at its end."""
        self._events.append(event)
        if event.dagster_event and event.dagster_event.event_type in ENDS:
            self._whose_ended.add(self._tenant)

    def _store(self) -> None:
        storage = self._instance.event_log_storage
        assert isinstance(storage, PooledEventLogStorage)  # noqa: S101
        storage.store_known(self._events)

    def close(self) -> None:
        """Return when everything that was submitted is done."""
        self._turns.close()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._turns.take(LARGEST_BATCH):
            self._do(batch)

    def _do(self, batch: list[Write]) -> None:
        self._events, self._whose_ended = [], set()
        try:
            with transaction(self._engine) as connection:
                answers = self._answers(connection, batch)
                self._store()
                if self._whose_ended:
                    connection.execute(_TELL, {"channel": ENDED})
        except Exception as error:
            if len(batch) > 1:
                self._turns.put_back_alone(batch)  # so that whose fault it is pays for it, in its own turns
            else:
                batch[0].done.set_exception(error)
            return
        for write, answer in zip(batch, answers, strict=True):
            if isinstance(answer, bytes):
                write.done.set_result(answer)
            else:
                write.done.set_exception(answer)
        for tenant in self._whose_ended:
            self._ended(tenant)

    def _answers(self, connection: Connection, batch: list[Write]) -> list[bytes | KeyReusedError]:
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
        answers: list[bytes | KeyReusedError] = []
        for write in batch:
            call = write.tenant, write.key
            if call in fresh:
                fresh.remove(call)
                self._tenant = write.tenant
                answers.append(write.do())
                if answers[-1] != _NOTHING:
                    connection.execute(_ANSWERED, {"tenant": write.tenant, "key": write.key, "answer": answers[-1]})
            else:
                answers.append(self._again(connection, write))
        return answers

    def _again(self, connection: Connection, write: Write) -> bytes | KeyReusedError:
        """Not raised: the others' writes of this transaction stand."""
        try:
            return _answer(connection, write.tenant, write.key, write.digest) or _NOTHING
        except KeyReusedError as error:
            return error


def _answer(connection: Connection, tenant: str, key: UUID, digest: bytes) -> bytes | None:
    row = connection.execute(_KNOWN, {"tenant": tenant, "key": key}).one_or_none()
    if row is None:
        return None
    if bytes(row.digest) != digest:
        raise KeyReusedError
    return bytes(row.answer) if row.answer is not None else _NOTHING
