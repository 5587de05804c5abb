"""Staging beside raw COPY: what validation, merge, rules and history cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
from psycopg import sql

from benchmarks.measure import Comparison, alternate, processor_of
from benchmarks.tenant import RUN, Tenant, payloads, period
from ntro_dagster.platforms.postgres.database import identifiers
from ntro_dagster.subledger.registry import subledger_type
from ntro_dagster.subledger.row import row_id
from ntro_dagster.subledger.staging import STAGED_FIELDS


def compare(tenant: Tenant, rows: int) -> list[Comparison]:
    """Staging typed payloads through the handle, and the same rows by COPY into a table with the same columns: with every index
    of ours, with the primary key and the one by partition, without any."""
    tenant.make_like_ours("like_ours")
    tenant.make_bare_table("indexed", indexed=True)
    tenant.make_bare_table("unindexed", indexed=False)
    ours, like_ours, indexed, unindexed = alternate(
        partial(_stage, tenant, rows),
        *(partial(_copy, tenant, rows, table) for table in ("like_ours", "indexed", "unindexed")),
        used=processor_of(tenant.admin),
    )
    return [
        Comparison("staging", "COPY, same primary key and index", rows, ours, indexed, aim=0.5),
        Comparison("staging", "COPY, every index of ours", rows, ours, like_ours),
        Comparison("staging", "COPY, no index", rows, ours, unindexed),
    ]


def _stage(tenant: Tenant, rows: int, repeat: int) -> Callable[[], object]:
    batch = list(payloads(rows, repeat))
    tenant.settle()

    async def run() -> None:
        async with tenant.handle() as handle:
            staged = await handle.stage(batch, period=period(repeat))
        assert staged.inserted == rows

    return lambda: asyncio.run(run())


def _copy(tenant: Tenant, rows: int, table: str, repeat: int) -> Callable[[], object]:
    names = ("entity_id", "period", "task_id", *STAGED_FIELDS, *subledger_type("expenses").model.content_fields())
    batch = [_complete(tenant, payload, period(repeat)) for payload in payloads(rows, repeat)]
    tuples = [tuple(row.get(name) for name in names) for row in batch]
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier("public", table), identifiers(names))
    tenant.settle()

    def run() -> None:
        with (
            psycopg.connect(tenant.credentials.owner) as connection,
            connection.cursor() as cursor,
            cursor.copy(statement) as copy,
        ):
            for row in tuples:
                copy.write_row(row)

    return run


def _complete(tenant: Tenant, payload: dict[str, Any], month: str) -> dict[str, Any]:
    return payload | {
        "id": row_id(tenant.entity, month, "expenses", payload["source_ref"]),
        "entity_id": tenant.entity,
        "period": month,
        "task_id": RUN,
        "status": "PENDING",
    }
