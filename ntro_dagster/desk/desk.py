"""What a desk has: connections as the desk's role, the row types of its tenant, its documents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool

from ntro_dagster.desk.counter import Counter
from ntro_dagster.desk.row_models import RowModels
from ntro_dagster.desk.settings import Settings
from ntro_dagster.errors import NotFoundError
from ntro_dagster.ingest.store import DocumentStore
from ntro_dagster.platforms.postgres.database import DatabaseUnreachableError, TenantDatabase, translate
from ntro_dagster.subledger.description import TypeDescription

CONNECTIONS = 8
PATIENCE_S = 10.0
EXPORTS_AT_ONCE = 2
INTAKE_AT_ONCE = 2


class LedgerUnknownError(NotFoundError):
    """Values: `ledger`."""

    code = "SUBLEDGER_NOT_FOUND"
    summary = "no subledger goes by that name"
    detail = "there is no subledger {ledger!r} here"
    mend = "GET /v1/subledgers lists them"


class Desk:
    """One for each process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.documents = DocumentStore(settings.documents, settings.uploads)
        self.models = RowModels()
        self.counter = Counter()
        self.exports = asyncio.Semaphore(EXPORTS_AT_ONCE)
        self.intake = asyncio.Semaphore(INTAKE_AT_ONCE)
        self._pool: AsyncConnectionPool[psycopg.AsyncConnection[tuple[Any, ...]]] = AsyncConnectionPool(
            settings.database,
            min_size=1,
            max_size=CONNECTIONS,
            open=False,
            timeout=PATIENCE_S,
            kwargs={"autocommit": True, "application_name": "ntro desk"},
            check=AsyncConnectionPool.check_connection,
        )

    async def open(self) -> None:
        await self._pool.open()

    async def close(self) -> None:
        await self.models.close()
        await self._pool.close()

    @asynccontextmanager
    async def database(self) -> AsyncIterator[TenantDatabase]:
        """Raises: `DatabaseUnreachableError`."""
        try:
            async with self._pool.connection() as connection:
                yield TenantDatabase.over(connection)
        except psycopg.Error as error:
            if ours := translate(error):
                raise ours from None
            if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):  # PoolTimeout is one
                raise DatabaseUnreachableError(why=type(error).__name__) from None
            raise

    async def ledgers(self, database: TenantDatabase) -> Mapping[str, TypeDescription]:
        """By the name of their table. Asked anew each time: a deployment may have brought one."""
        rows = await database.fetch(
            "SELECT table_name, description FROM system.subledger_types WHERE active ORDER BY owner_runbook NULLS LAST, name"
        )
        return {row["table_name"]: TypeDescription.from_json(row["description"]) for row in rows}

    async def ledger(self, database: TenantDatabase, name: str) -> TypeDescription:
        """Raises: `LedgerUnknownError`."""
        row = await database.fetch_one("SELECT description FROM system.subledger_types WHERE table_name = %s", [name])
        if row is None:
            raise LedgerUnknownError(ledger=name)
        return TypeDescription.from_json(row["description"])
