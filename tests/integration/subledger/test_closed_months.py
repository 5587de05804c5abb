"""Closed months and what runs do about them: nothing is asked for that would be refused, locks come in one order."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import psycopg
import pytest
from ledger_tenant import PERIOD, Tenant, use_signal
from psycopg.errors import LockNotAvailable
from psycopg.types.json import Jsonb

from ntro_dagster.boundary.periods import shifted
from ntro_dagster.gl.periods import PeriodNotReadyError, close_period
from ntro_dagster.gl.posting import post_approved
from ntro_dagster.gl.trial_balance import draw_up
from ntro_dagster.orchestration.work import Work, waiting
from ntro_dagster.subledger.registry import subledger_type

BEFORE = shifted(PERIOD, -1)


def closed(tenant: Tenant, entity: UUID, period: str) -> None:
    with tenant.as_owner() as owner:
        owner.execute("INSERT INTO ledgers.periods VALUES (%s, %s, 'CLOSED')", [entity, period])


@pytest.mark.parametrize(("period", "waits"), [(BEFORE, True), (PERIOD, False), (shifted(PERIOD, 1), False)])
def test_no_run_is_asked_for_where_nothing_can_be_posted(tenant: Tenant, entity: UUID, period: str, waits: bool) -> None:
    """Else every tick would start a run that fails."""
    tenant.row_in("APPROVED", entity)
    closed(tenant, entity, period)

    async def ask() -> set[tuple[str, str]]:
        async with tenant.database() as database:
            kind = subledger_type("expenses", None)
            found = await waiting(database, Work.POSTING, {kind.table: kind.lifecycle})
            return {(each.entity, each.period) for each in found}

    assert ((f"e{entity.hex[:12]}", PERIOD) in asyncio.run(ask())) is waits


def test_a_trial_balance_and_a_close_take_their_locks_in_one_order(tenant: Tenant, entity: UUID) -> None:
    with tenant.as_owner() as owner:
        for name in ("zoo", "expenses"):  # where rows lie on disk is not their order
            owner.execute("INSERT INTO system.partition_activity VALUES (%s, %s, %s, 1)", [name, entity, PERIOD])
    holder = tenant.connect("owner")
    lock = "SELECT FROM system.partition_activity WHERE entity_id = %s AND subledger = %s FOR UPDATE NOWAIT"
    holder.execute(lock, [entity, "expenses"])

    async def draw() -> None:
        async with tenant.database() as database:
            for plan in ("indexscan", "bitmapscan"):
                await database.execute(f"SET enable_{plan} = off")
            await draw_up(database, entity_id=entity, period=PERIOD, run_id=uuid4(), salt=b"salt")

    with ThreadPoolExecutor(1) as pool:
        drawing = pool.submit(asyncio.run, draw())
        try:
            assert tenant.waits()
            with tenant.as_owner() as other:
                assert other.execute(lock, [entity, "zoo"]).rowcount == 1
        except LockNotAvailable:
            pytest.fail("it holds the later one while it waits for the earlier one")
        finally:
            holder.rollback()
            with pytest.raises(psycopg.errors.UndefinedTable):  # there is no such subledger: how far it came is all that is asked
                drawing.result(20)


def test_a_month_that_has_not_begun_is_not_closed(tenant: Tenant, entity: UUID) -> None:
    async def run() -> None:
        async with tenant.database("desk") as database:
            await close_period(database, entity_id=entity, period="2205-01", by="user:bob", reason="a slip")

    with pytest.raises(PeriodNotReadyError) as refused:
        asyncio.run(run())
    assert refused.value.explain() == "2205-01 cannot be closed yet: it has not begun"


def test_a_reversal_is_posted_although_its_account_was_closed_since(tenant: Tenant, entity: UUID) -> None:
    with tenant.as_owner() as owner:
        owner.execute("INSERT INTO ledgers.accounts (code, name, type) VALUES ('6400', 'Old', 'EXPENSE')")
    original, row, signal = uuid4(), uuid4(), uuid4()
    with psycopg.connect(tenant.credentials.app) as app:
        app.execute(
            "INSERT INTO ledgers.journals (id, entity_id, period, external_id, posting_date, description, currency, run_id) "
            "VALUES (%s, %s, %s, %s, %s, 'x', 'GBP', %s)",
            [original, entity, PERIOD, str(original), f"{PERIOD}-15", uuid4()],
        )
        app.execute(
            "INSERT INTO ledgers.journal_lines (journal_id, line_no, account_code, debit, credit) "
            "VALUES (%s, 1, '6400', 10, 0), (%s, 2, '2000', 0, 10)",
            [original, original],
        )
    with tenant.as_owner() as owner:
        owner.execute("UPDATE ledgers.accounts SET active = FALSE WHERE code = '6400'")
    mirror = [{"account_code": "6400", "credit": "10"}, {"account_code": "2000", "debit": "10"}]
    with psycopg.connect(tenant.credentials.app) as app:
        app.execute(
            "INSERT INTO ledgers.journal_proposals (id, entity_id, period, task_id, status, lines, kind, reverses) "
            "VALUES (%s, %s, %s, %s, 'PENDING', %s, 'REVERSAL', %s)",
            [row, entity, PERIOD, uuid4(), Jsonb(mirror), original],
        )
    with psycopg.connect(tenant.credentials.desk) as desk:
        desk.execute(
            "INSERT INTO system.signals (id, subledger, entity_id, period, kind, filed_by) "
            "VALUES (%s, 'journal_proposals', %s, %s, 'approve', 'user:bob')",
            [signal, entity, PERIOD],
        )
        desk.execute(
            "INSERT INTO system.signal_rows (signal_id, row_id, content_digest) "
            "SELECT %s, id, ledgers.journal_proposals_digest(t) FROM ledgers.journal_proposals t WHERE id = %s",
            [signal, row],
        )
    with psycopg.connect(tenant.credentials.app) as app:
        use_signal(app, signal)
        app.execute(
            "UPDATE ledgers.journal_proposals SET status = 'APPROVED', approved_by = 'user:bob', approved_at = now() "
            "WHERE id = %s",
            [row],
        )

    async def post() -> int:
        async with tenant.database() as database:
            handle = tenant.handle(entity, name="journal_proposals", database=database)
            return (await post_approved(handle, period=PERIOD, currency="GBP")).rows

    assert asyncio.run(post()) == 1
    assert tenant.fetch("SELECT count(*) FROM ledgers.journals WHERE reverses = %s", original) == [(1,)]
