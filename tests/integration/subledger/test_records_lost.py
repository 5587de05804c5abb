"""Records read back: few at once, many as a stream; and whether every one became a row, by reading each side once."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from ledger_tenant import PERIOD, Tenant

from ntro_dagster.ingest import records
from ntro_dagster.ingest.records import few_records, records_without_row, submitted_records
from ntro_dagster.ingest.returns import Layout
from ntro_dagster.platforms.postgres.database import Actor

READ = """SELECT coalesce(idx_tup_fetch, 0) + seq_tup_read AS rows
            FROM pg_stat_xact_user_tables WHERE relid = 'ledgers.expenses'::regclass"""

LAYOUT = Layout("csv", "utf-8", ",", 1, ("amount",), 1, {}, {})


def submit(tenant: Tenant, entity: UUID, lines: int) -> UUID:
    document = uuid4()
    with tenant.as_owner() as owner, owner.transaction():
        owner.execute(
            "INSERT INTO ingest.submitted_documents (id, sha256, name, bytes, source, period, layout, records, submitted_by) "
            "VALUES (%s, sha256(%s), 'a.csv', 1, 'spend_return', %s, %s, %s, 'test')",
            [document, document.bytes, PERIOD, json.dumps(LAYOUT.as_dict()), lines],
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


@pytest.mark.parametrize(("few", "are_few"), [(5, True), (4, False)])
def test_few_are_those_that_a_stream_would_bring(
    tenant: Tenant, entity: UUID, few: int, are_few: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "FEW", few)
    where: dict[str, Any] = {
        "entity_id": entity,
        "period": PERIOD,
        "documents": [submit(tenant, entity, 2), submit(tenant, entity, 3)],
    }

    async def run() -> None:
        async with tenant.database() as database:
            streamed = [each async for each in submitted_records(database, **where)]
            assert len(streamed) == 5
            assert await few_records(database, **where) == (streamed if are_few else None)

    asyncio.run(run())
