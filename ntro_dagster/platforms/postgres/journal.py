"""Appending to the tenant's journal: errors, transcript, answers (migrations/008_keeping.sql), from any thread of any process.

Synchronous, because each record must be kept before what it tells of leaves the process. The transcript and the answers are
committed with `synchronous_commit = off`: they survive the death (kill -9) of the process and of its session, and PostgreSQL's
own crash loses at most its last 0.6 s. Errors wait for the disk.

A record that the database does not take within a bounded patience becomes a file below the tenant's logs, and goes into the
database when that is back (`take_back`). Only where neither takes it the writer raises: an unkept byte must not leave.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg

from ntro_dagster.errors import TransientError

Value = str | int | bytes | None
Row = Mapping[str, Value]

MOST_IDLE = 2
"""Connections: each is 2 to 5 MB of PostgreSQL's for as long as it is kept."""
REST_S = 10.0
"""After which one that nobody needed is closed, when another is given back."""
CONNECT_S = 3
SILENCE_MS = 10_000
"""How long a server may stay silent in mid-statement before the connection counts as lost."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.5
_SHUT_S = 5.0
"""After a record had to be put aside, how long the next ones try the database only once."""

_PASSING = ("08", "53", "57")
"""SQLSTATE classes that end by themselves: connection, resources, intervention of an operator."""

STATEMENTS = {
    "errors": b"""INSERT INTO system.errors (id, at, run_id, step, partition, code, story, advice, traceback, values)
                  VALUES (%(id)s, %(at)s, %(run_id)s, %(step)s, %(partition)s, %(code)s, %(story)s, %(advice)s, %(traceback)s,
                          %(values)s)
                  ON CONFLICT DO NOTHING""",
    "transcript": b"""INSERT INTO system.transcript (at, run_id, call, key, sent, told)
                      VALUES (%(at)s, %(run_id)s, %(call)s, %(key)s, %(sent)b, %(told)s)""",
    "answers": b"""INSERT INTO system.answers AS a (method, digest, content, first_at, last_at, times)
                   VALUES (%(method)s, %(digest)b, %(content)b, %(at)s, %(at)s, %(times)s)
                   ON CONFLICT (method, digest) DO UPDATE SET last_at = greatest(a.last_at, excluded.last_at),
                                                              times = a.times + excluded.times""",
    "answers again": b"""UPDATE system.answers SET last_at = greatest(last_at, %(at)s), times = times + %(times)s
                         WHERE method = %(method)s AND digest = %(digest)b""",
}
"""Kind of record -> how it is written. All may be repeated; a repeated line of the transcript shows by its key."""

DURABLE = frozenset({"errors"})


class JournalUnavailableError(TransientError):
    """Neither the database nor the tenant's logs take a record. Values: `kind`, `why`."""

    code = "JOURNAL_UNAVAILABLE"
    summary = "the tenant's journal cannot be written"
    detail = "a record of kind {kind} could be kept neither in the database nor in a file: {why}"
    mend = "`ntro status` shows whether PostgreSQL is up; make room on the disk of the tenant's logs; then start the run again"


_Idle = tuple[float, psycopg.Connection[Any]]
"""A connection, and since when (`time.monotonic()`) nobody writes over it."""


@dataclass
class Journal:
    """A connection for each thread that writes, of which `MOST_IDLE` are kept for the next, and none is inherited by a fork.

    Attributes:
        url: of the tenant's database, as a role that may append.
        aside: directory for records that the database does not take; None: there is none.
    """

    url: str
    aside: Path | None = None
    _idle: list[_Idle] = field(default_factory=list)
    _pid: int = field(default_factory=os.getpid)
    _parents: list[list[_Idle]] = field(default_factory=list)
    _shut_until: float = 0.0

    def keep(self, kind: str, row: Row, *, patience: float) -> bool:
        """Write one record; a second call with the same record does no harm.

        Args:
            patience: seconds for which a database that does not answer is tried again.

        Returns:
            Whether the database has it; if not, it lies aside.

        Raises:
            JournalUnavailableError: neither would take it.
        """
        try:
            self.write(kind, row, patience=0.0 if time.monotonic() < self._shut_until else patience)
        except psycopg.Error as error:
            self._shut_until = time.monotonic() + _SHUT_S
            self.put_aside(kind, row, why=_reason(error))
            return False
        return True

    def write(self, kind: str, row: Row, *, patience: float) -> int:
        """Into the database or not at all; the number of rows it touched. Raises: psycopg.Error."""
        deadline, pause = time.monotonic() + patience, _FIRST_PAUSE_S
        while True:
            try:
                return self._write(kind, row)
            except psycopg.OperationalError as error:
                passing = error.sqlstate is None or error.sqlstate.startswith(_PASSING)
                if not passing or time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    def _write(self, kind: str, row: Row) -> int:
        with self._connection() as connection:
            if kind not in DURABLE:
                return connection.execute(STATEMENTS[kind], row, prepare=True).rowcount
            with connection.transaction():
                connection.execute("SET LOCAL synchronous_commit = on")
                return connection.execute(STATEMENTS[kind], row).rowcount

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[Any]]:
        """For one thread at a time. One with which something went wrong is not kept, and if it was lost, so are the others."""
        if self._pid != os.getpid():
            # kept, not closed: closing, or being collected, would end the parent's session
            self._parents.append(self._idle)
            self._idle, self._pid = [], os.getpid()
        try:
            _, found = self._idle.pop()
        except IndexError:
            found = self._opened()
        try:
            yield found
        except BaseException:  # also an interrupt in mid-statement: the connection's state is not known any more
            lost = found.broken
            found.close()
            if lost:
                self.close()
            raise
        self._idle.append((time.monotonic(), found))
        with suppress(IndexError):  # other threads take them meanwhile
            if len(self._idle) > MOST_IDLE:
                self._close_one()  # the newest: PostgreSQL knows the others' statements by now
            elif self._idle[0][0] < time.monotonic() - REST_S:
                self._close_one(0)

    def _opened(self) -> psycopg.Connection[Any]:
        made = psycopg.connect(
            self.url, autocommit=True, application_name="ntro journal", connect_timeout=CONNECT_S, tcp_user_timeout=SILENCE_MS
        )
        try:
            made.execute("SET synchronous_commit = off")
        except BaseException:
            made.close()
            raise
        return made

    def ping(self) -> None:
        """Whether the database answers. Raises: psycopg.Error."""
        with self._connection() as connection:
            connection.execute("SELECT")

    def close(self) -> None:
        """Close the connections that nobody writes over; the next record opens another."""
        while self._idle and self._pid == os.getpid():
            self._close_one()

    def _close_one(self, which: int = -1) -> None:
        with suppress(IndexError):  # another thread has just taken the last
            self._idle.pop(which)[1].close()

    def put_aside(self, kind: str, row: Row, *, why: str) -> None:
        """A file of its own, whole or not at all, 0600. Raises: `JournalUnavailableError`."""
        if self.aside is None:
            raise JournalUnavailableError(kind=kind, why=why)
        name = str(row.get("id") or uuid4())
        values = {field: _written(value) for field, value in row.items()}
        try:
            self.aside.mkdir(mode=0o700, parents=True, exist_ok=True)
            half = self.aside / f".{name}.half"
            with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump({"kind": kind, "why": why, "row": values}, file)
                file.flush()
                os.fsync(file.fileno())
            half.rename(self.aside / f"{name}.json")
        except OSError as error:
            raise JournalUnavailableError(kind=kind, why=f"{why}; {error.strerror}") from None

    def lies_aside(self) -> bool:
        return self.aside is not None and next(self.aside.glob("*.json"), None) is not None

    def take_back(self) -> int:
        """Write what lies aside into the database. Raises: psycopg.OperationalError.

        Call it from one process of a tenant only: two would write a line of the transcript twice.

        Returns:
            How many records. A file that holds none, or one that the database refuses, is left where it is.
        """
        taken = 0
        for path in sorted(self.aside.glob("*.json")) if self.aside else []:
            try:
                content = json.loads(path.read_text())
                kind, row = content["kind"], {field: _read(value) for field, value in content["row"].items()}
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue
            try:
                self.write(kind, row, patience=0.0)
            except psycopg.OperationalError:
                raise
            except psycopg.Error:  # this one is at fault, not the database
                continue
            path.unlink(missing_ok=True)
            taken += 1
        return taken


def storable(text: str) -> str:
    """`text` as PostgreSQL can hold it: no NUL, no half of a surrogate pair."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")


def _written(value: Value) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _read(value: Any) -> Value:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value


def _reason(error: psycopg.Error) -> str:
    return " ".join(str(error).split()) or type(error).__name__
