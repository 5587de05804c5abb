"""What a decision costs: the digest of a row is taken once to judge it, however many outcomes there are to tell apart."""

from __future__ import annotations

import asyncio
from uuid import UUID

import psycopg
import pytest
from ledger_tenant import PERIOD, Tenant

from ntro_dagster.gl.chart import install_chart
from ntro_dagster.subledger.registry import subledger_type
from ntro_dagster.subledger.review import Applied, apply_signals, file_signal

COUNTED = """
    CREATE OR REPLACE FUNCTION ledgers.expenses_digest(new ledgers.expenses) RETURNS BYTEA LANGUAGE plpgsql STABLE AS $$
    BEGIN
        RAISE NOTICE 'digest of %', (new).id;
        RETURN ledgers.the_digest(new);
    END $$"""


@pytest.mark.parametrize("kind", ["approve", "reject"])
def test_a_row_is_digested_once_to_judge_it(another_tenant: Tenant, kind: str) -> None:
    tenant, entity = another_tenant, another_tenant.new_entity()
    rows = {tenant.new_row(entity, source_ref=f"L{n}") for n in range(5)}
    with tenant.as_owner() as owner:
        install_chart(owner)
        owner.execute("ALTER FUNCTION ledgers.expenses_digest(ledgers.expenses) RENAME TO the_digest")
        owner.execute(COUNTED)
        owner.execute("GRANT EXECUTE ON FUNCTION ledgers.expenses_digest TO ntro_app, ntro_desk, ntro_auditor")
    told: list[str] = []

    async def run() -> Applied:
        async with tenant.database() as database, tenant.database("desk") as desk:
            await file_signal(
                desk, subledger_type("expenses"), kind, filed_by="user:bob", reason="because", entity_id=entity, period=PERIOD
            )

            def note(notice: psycopg.errors.Diagnostic) -> None:
                told.append(notice.message_primary or "")

            (await database.connection()).add_notice_handler(note)
            return await apply_signals(tenant.handle(entity, database=database), period=PERIOD)

    assert asyncio.run(run()).applied == 5
    assert sorted(told) == sorted(f"digest of {row}" for row in rows)


def test_a_row_that_changed_since_is_refused_and_the_others_are_not(tenant: Tenant, entity: UUID) -> None:
    changed, *same = [tenant.new_row(entity, source_ref=f"L{n}") for n in range(3)]

    async def run() -> Applied:
        async with tenant.database() as database, tenant.database("desk") as desk:
            await file_signal(desk, subledger_type("expenses"), "approve", filed_by="user:bob", entity_id=entity, period=PERIOD)
            handle = tenant.handle(entity, database=database)
            await handle.edit([changed], {"notes": "changed meanwhile"})
            return await apply_signals(handle, period=PERIOD)

    assert asyncio.run(run()) == Applied(signals=1, applied=2, refused=1)
    outcomes = tenant.fetch("SELECT row_id, outcome, code FROM system.signal_rows WHERE row_id = ANY(%s)", [changed, *same])
    assert set(outcomes) == {(changed, "REFUSED", "CONTENT_CHANGED"), *((row, "APPLIED", None) for row in same)}
