"""What an entity's month reads is its own rows: not those of the entities before it, of which the planner knows nothing yet."""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from ledger_tenant import PERIOD, Tenant
from reading import rows_read

from ntro_dagster.gl.chart import install_chart
from ntro_dagster.gl.periods import find
from ntro_dagster.gl.posting import post_approved
from ntro_dagster.gl.trial_balance import draw_up
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.handle import SubledgerHandle
from ntro_dagster.subledger.registry import subledger_type
from ntro_dagster.subledger.review import apply_signals, file_signal

ROWS, BEHIND = 50, 36
EARLY = 24
MOST = 3
"""Times a month's rows, of one table or index, that a late month may read more than an early one. Whoever reads all that is
behind once reads 11 times as many."""

SMALL = """
    WITH small AS (SELECT * FROM pg_stat_user_tables WHERE pg_relation_size(relid) <= 4 * 8192)
    SELECT schemaname || '.' || relname AS name FROM small
     UNION ALL SELECT i.schemaname || '.' || i.indexrelname FROM pg_stat_user_indexes i JOIN small USING (relid)"""
"""A table of a few pages is read whole, and rightly."""


async def month(tenant: Tenant, entity: UUID, app: TenantDatabase, desk: TenantDatabase) -> Counter[str]:
    """From its rows to the look before its close. Returns: rows that it read."""
    before = await rows_read(app, desk)
    handle = await approved(tenant, entity, app, desk)
    assert (await post_approved(handle, period=PERIOD, currency="GBP")).rows == ROWS
    await draw_up(app, entity_id=entity, period=PERIOD, run_id=uuid4(), salt=b"salt")
    assert not await find(app, entity_id=entity, period=PERIOD)
    return await rows_read(app, desk) - before


async def approved(tenant: Tenant, entity: UUID, app: TenantDatabase, desk: TenantDatabase) -> SubledgerHandle:
    """Of a month whose rows have come in and been approved."""
    batch = [
        {"source_ref": f"doc:1#L{line}", "vendor": f"Vendor {line}", "amount_gross": Decimal(line), "currency": "GBP"}
        for line in range(1, ROWS + 1)
    ]
    handle, kind = tenant.handle(entity, database=app), subledger_type("expenses")
    await handle.stage(batch, period=PERIOD)
    await file_signal(desk, kind, "approve", filed_by="user:bob", entity_id=entity, period=PERIOD, status="PENDING")
    assert (await apply_signals(handle, period=PERIOD)).applied == ROWS
    return handle


@pytest.fixture
def unseen(another_tenant: Tenant) -> Tenant:
    """Whose tables nobody analyses but the test: autovacuum comes when it likes."""
    with another_tenant.as_owner() as connection:
        install_chart(connection)
        for (table,) in connection.execute("SELECT relid::regclass::text FROM pg_stat_user_tables").fetchall():
            connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
    another_tenant.add_members({"user:bob": "approver"})
    return another_tenant


# `most`: times a month's rows, however many there are behind: with statistics PostgreSQL looks rows up by another index.
@pytest.mark.parametrize(("analysed", "most"), [(None, 25), (20, 40)], ids=["never", "with months behind"])
def test_a_month_reads_its_own_rows(unseen: Tenant, analysed: int | None, most: int) -> None:
    async def run() -> tuple[list[Counter[str]], set[str]]:
        read = []
        async with unseen.database() as app, unseen.database("desk") as desk, unseen.database("owner") as owner:
            for behind in range(BEHIND):
                if behind == analysed:
                    await owner.execute("ANALYZE")
                read.append(await month(unseen, unseen.new_entity(), app, desk))
            return read, {each["name"] for each in await owner.fetch(SMALL)}

    read, small = asyncio.run(run())
    early, late = read[EARLY], read[-1]
    assert late["ledgers.expenses"] >= ROWS, "it is counted"
    grown = {name: (early[name], rows) for name, rows in late.items() if rows > early[name] + MOST * ROWS and name not in small}
    assert not grown
    assert {name: rows for name, rows in late.items() if rows > most * ROWS and name not in small} == {}


def test_a_posting_reads_no_rows_that_others_have_approved(unseen: Tenant) -> None:
    """Not even where the planner remembers a time at which hardly a row was approved."""

    async def run() -> Counter[str]:
        async with unseen.database() as app, unseen.database("desk") as desk, unseen.database("owner") as owner:
            for _ in range(EARLY):
                await month(unseen, unseen.new_entity(), app, desk)
            await owner.execute("ANALYZE")
            waiting = [await approved(unseen, unseen.new_entity(), app, desk) for _ in range(BEHIND)]
            before = await rows_read(app)
            assert (await post_approved(waiting[0], period=PERIOD, currency="GBP")).rows == ROWS
            return await rows_read(app) - before

    read = asyncio.run(run())
    assert 0 < read["ledgers.expenses_postable_idx"] <= MOST * ROWS
    assert read["ledgers.expenses"] <= 12 * ROWS, "a posting looks at its rows for several reasons, and at no others"
