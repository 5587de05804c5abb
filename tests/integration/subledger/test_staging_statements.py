"""How often staging asks the database: by chunk, never by row."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
from ledger_tenant import PERIOD, Tenant
from psycopg import sql

from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger import staging

FIRST = ["CREATE", "COPY", "INSERT"]
"""Of the first chunk; `DROP` follows the last."""


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The first word of every statement about the stage and the table, in order."""
    words: list[str] = []
    execute, copy_in = TenantDatabase.execute, TenantDatabase.copy_in

    async def noted(self: TenantDatabase, statement: str | sql.Composable, parameters: Any = None) -> int:
        words.append((statement if isinstance(statement, str) else statement.as_string()).split()[0])
        return await execute(self, statement, parameters)

    async def copied(self: TenantDatabase, *arguments: Any) -> None:
        words.append("COPY")
        await copy_in(self, *arguments)

    monkeypatch.setattr(TenantDatabase, "execute", noted)
    monkeypatch.setattr(TenantDatabase, "copy_in", copied)
    monkeypatch.setattr(staging, "CHUNK", 10)
    return words


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (1, [*FIRST, "DROP"]),
        (10, [*FIRST, "DROP"]),
        (25, [*FIRST, *["TRUNCATE", "COPY", "INSERT"] * 2, "DROP"]),
    ],
)
def test_statements_of_staging(tenant: Tenant, entity: UUID, said: list[str], rows: int, expected: list[str]) -> None:
    batch = [{"source_ref": f"L{n}", "vendor": "Smith", "amount_gross": n + 1, "currency": "GBP"} for n in range(rows)]

    async def run() -> staging.Staged:
        async with tenant.database() as database:
            return await tenant.handle(entity, database=database).stage(batch, period=PERIOD)

    assert asyncio.run(run()).inserted == rows
    assert [word for word in said if word != "SELECT"] == expected
