"""One tenant's database, as seen by one program: a connection, transactions with an actor, bulk in and streams out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Self
from uuid import UUID, uuid4

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from ntro_dagster.errors import NtroError, TransientError, UsageError

REFUSED = "NT001"
"""SQLSTATE of every refusal raised by migrations/*.sql; the message is the refusal's code."""


class RefusedByDatabaseError(UsageError):
    """A rule of the database said no; `code` is the rule's own, for instance MAKER_IS_NOT_CHECKER."""

    summary = "the database refused it"
    detail = "the database refused it: {what}"
    mend = "nothing was changed; docs/subledgers.md lists the rules"

    def __init__(self, code: str, **values: Any) -> None:
        self.code = code  # type: ignore[misc]
        super().__init__(**values)


class DatabaseUnreachableError(TransientError):
    code = "DATABASE_UNREACHABLE"
    summary = "the tenant's database does not answer"
    detail = "the tenant's database does not answer: {why}"
    mend = "`ntro status` shows whether PostgreSQL is up; `ntro up` starts it"


class DatabaseLoginError(UsageError):
    code = "DATABASE_LOGIN_REFUSED"
    summary = "the database refused the role or its password"
    detail = "the database refused the login: {why}"
    mend = "`ntro doctor` checks the home's credentials"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, for the history. `kind`: person, run or program."""

    name: str
    kind: str = "program"
    run_id: UUID | None = None
    reason: str | None = None

    @classmethod
    def run(cls, run_id: UUID) -> Actor:
        return cls(f"run:{run_id}", "run", run_id)


def translate(error: psycopg.Error) -> NtroError | None:
    """Our error for one of the driver's, None where there is none."""
    if error.sqlstate == REFUSED:
        return RefusedByDatabaseError(str(error.diag.message_primary), what=error.diag.message_detail or "")
    if error.sqlstate in {"28P01", "28000"} or "password authentication failed" in str(error):
        return DatabaseLoginError(why=str(error).strip())
    if isinstance(error, psycopg.OperationalError) and (error.sqlstate is None or error.sqlstate[:2] in {"08", "57"}):
        return DatabaseUnreachableError(why=str(error).strip())
    return None


class TenantDatabase:
    """`async with TenantDatabase(url) as database: async with database.transaction(actor): ...`

    One connection, used by one task at a time. Statements outside a transaction commit by themselves.
    """

    max_batch: ClassVar[int] = 10_000
    """Rows held in memory at a time by `stream` and by bulk loads."""

    def __init__(self, url: str, *, application: str = "ntro") -> None:
        self._url = url
        self._application = application
        self._connection: psycopg.AsyncConnection[tuple[Any, ...]] | None = None
        self._depth = 0

    @classmethod
    def over(cls, connection: psycopg.AsyncConnection[tuple[Any, ...]]) -> Self:
        """On a connection of somebody else's, who closes it; it must be in autocommit."""
        database = cls("")
        database._connection = connection
        return database

    async def __aenter__(self) -> Self:
        await self.connection()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def connection(self) -> psycopg.AsyncConnection[tuple[Any, ...]]:
        if self._connection is None:
            try:
                self._connection = await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, application_name=self._application, connect_timeout=10
                )
            except psycopg.Error as error:
                raise translate(error) or error from None
        return self._connection

    @asynccontextmanager
    async def transaction(
        self, actor: Actor | None = None, *, signal: UUID | None = None, one_instant: bool = False
    ) -> AsyncIterator[None]:
        """All or nothing. Inside an open transaction it joins that one and leaves its actor as it is.

        Args:
            actor: recorded in the history for every change made in here.
            signal: the person's decision that the changes carry out; the history then names the person.
            one_instant: for reading alone: every statement sees what was there when the first began.
        """
        if self._depth:
            yield
            return
        connection = await self.connection()
        self._depth += 1
        try:
            async with connection.transaction():
                if one_instant:  # before any query; and of this transaction, so that nothing of it is left to the next one
                    await self.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                await self._introduce(actor, signal)
                yield
        except psycopg.Error as error:
            translated = translate(error)
            if translated is None:
                raise
            raise translated from None
        finally:
            self._depth -= 1

    @asynccontextmanager
    async def attempt(self, *, keep: bool = True) -> AsyncIterator[None]:
        """In an open transaction, which goes on: all of this or nothing. What is checked at its end is checked now.

        Args: `keep`: False leaves nothing of it; whether it would be let through is all that is asked.
        """
        connection = await self.connection()
        try:
            async with connection.transaction(force_rollback=not keep):
                yield
                await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
                await connection.execute("SET CONSTRAINTS ALL DEFERRED")
        except psycopg.Error as error:
            raise translate(error) or error from None

    async def _introduce(self, actor: Actor | None, signal: UUID | None) -> None:
        settings = {"signal_id": str(signal or "")}
        if actor is not None:
            settings |= {
                "actor": actor.name,
                "actor_kind": actor.kind,
                "run_id": str(actor.run_id or ""),
                "reason": actor.reason or "",
            }
        calls = ", ".join(f"set_config('ntro.{name}', %({name})s, TRUE)" for name in settings)
        await self.execute(f"SELECT {calls}", settings)

    async def execute(self, statement: str | sql.Composable, parameters: Any = None) -> int:
        """Run one statement; returns the number of rows it touched."""
        connection = await self.connection()
        try:
            cursor = await connection.execute(statement, parameters)  # type: ignore[arg-type]
        except psycopg.Error as error:
            raise translate(error) or error from None
        return int(cursor.rowcount)

    async def fetch(self, statement: str | sql.Composable, parameters: Any = None) -> list[dict[str, Any]]:
        """All rows of a query that is known to be small."""
        connection = await self.connection()
        try:
            async with connection.cursor(row_factory=dict_row) as cursor:
                await cursor.execute(statement, parameters)  # type: ignore[arg-type]
                return await cursor.fetchall()
        except psycopg.Error as error:
            raise translate(error) or error from None

    async def fetch_one(self, statement: str | sql.Composable, parameters: Any = None) -> dict[str, Any] | None:
        rows = await self.fetch(statement, parameters)
        return rows[0] if rows else None

    async def fetch_single(self, statement: str | sql.Composable, parameters: Any = None) -> dict[str, Any]:
        """The one row of a query that always has one: an aggregate, an INSERT that returns it. Raises ValueError otherwise."""
        (row,) = await self.fetch(statement, parameters)
        return row

    async def stream(self, statement: str | sql.Composable, parameters: Any = None) -> AsyncIterator[list[dict[str, Any]]]:
        """The rows of a query of any size, in batches, from a cursor on the server."""
        async with self.transaction():
            connection = await self.connection()
            async with connection.cursor(name=f"stream_{uuid4().hex}", row_factory=dict_row) as cursor:
                await cursor.execute(statement, parameters)  # type: ignore[arg-type]
                while batch := await cursor.fetchmany(self.max_batch):
                    yield batch

    async def copy_in(self, table: sql.Composable, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """COPY rows into a table; one statement however many rows."""
        connection = await self.connection()
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(table, identifiers(columns))
        try:
            async with connection.cursor() as cursor, cursor.copy(statement) as copy:
                for row in rows:
                    await copy.write_row(row)
        except psycopg.Error as error:
            raise translate(error) or error from None


def identifiers(names: Sequence[str], *, prefix: str | None = None) -> sql.Composed:
    """`a, b, c`, or `t.a, t.b, t.c` with a prefix."""
    return sql.SQL(", ").join(sql.Identifier(prefix, name) if prefix else sql.Identifier(name) for name in names)


def conditions(equal: Mapping[str, Any], *, prefix: str | None = None) -> tuple[sql.Composable, list[Any]]:
    """`a = %s AND b = ANY(%s)` for the values that are not None; a list means any of its values."""
    parts: list[sql.Composable] = [sql.SQL("TRUE")]
    values: list[Any] = []
    for name, value in equal.items():
        if value is None:
            continue
        several = isinstance(value, list | tuple | set | frozenset)
        parts.append(sql.SQL("{} = ANY(%s)" if several else "{} = %s").format(identifiers([name], prefix=prefix)))
        values.append(list(value) if several else value)
    return sql.SQL(" AND ").join(parts), values
