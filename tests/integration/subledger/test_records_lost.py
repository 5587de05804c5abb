"""Whether every record became a row is found out by reading each side once, however many there are."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from ledger_tenant import PERIOD, Tenant

from ntro_dagster.ingest.records import records_without_row
from ntro_dagster.platforms.postgres.database import Actor

READ = """SELECT coalesce(idx_tup_fetch, 0) + seq_tup_read AS rows
            FROM pg_stat_xact_user_tables WHERE relid = 'ledgers.expenses'::regclass"""


def submit(tenant: Tenant, entity: UUID, lines: int) -> UUID:
    document = uuid4()
    with tenant.as_owner() as owner, owner.transaction():
        owner.execute(
            "INSERT INTO ingest.submitted_documents (id, sha256, name, bytes, source, period, layout, records, submitted_by) "
            "VALUES (%s, sha256(%s), 'a.csv', 1, 'spend_return', %s, '{}', %s, 'test')",
            [document, document.bytes, PERIOD, lines],
        )
        owner.execute(
            "INSERT INTO ingest.submitted_records (id, document_id, line, entity_id, period, raw) "
            "SELECT gen_random_uuid(), %s, n, %s, %s, %s FROM generate_series(1, %s) n",
            [document, entity, PERIOD, json.dumps({}), lines],
        )
    return document


@pytest.mark.parametrize("left_out", [0, 3])
def test_rows_are_read_once_not_once_for_each_record(tenant: Tenant, entity: UUID, left_out: int) -> None:
    lines = 1_500
    document = submit(tenant, entity, lines)
    batch = [
        {"source_ref": f"doc:{document}#L{line}", "vendor": "Smith", "amount_gross": line, "currency": "GBP"}
        for line in range(1, lines + 1 - left_out)
    ]

    async def run() -> tuple[int, int]:
        async with tenant.database() as database, database.transaction(Actor.run(uuid4())):
            await tenant.handle(entity, database=database).stage(batch, period=PERIOD)
            before: dict[str, Any] = await database.fetch_single(READ)
            lost = await records_without_row(database, "expenses", entity_id=entity, period=PERIOD, documents=[document])
            after = await database.fetch_single(READ)
            return lost, int(after["rows"] - before["rows"])

    lost, read = asyncio.run(run())
    assert lost == left_out
    assert read <= 2 * lines
