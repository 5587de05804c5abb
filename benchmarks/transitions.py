"""Bulk transitions beside a raw guarded UPDATE: what signals, rules and history cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import psycopg

from benchmarks.measure import REPEATS, Comparison, alternate, processor_of
from benchmarks.tenant import RUN, Tenant, payloads, period
from ntro_dagster.subledger.registry import subledger_type
from ntro_dagster.subledger.review import apply_signals, file_signal

POST = (
    "UPDATE {} SET status = 'POSTED', posted_to_gl = TRUE, posted_journal_ref = 'bench:' || id, task_id = %s, updated_at = now() "
    "WHERE entity_id = %s AND period = %s AND status = 'APPROVED'"
)
APPROVE = (
    "UPDATE {} SET status = 'APPROVED', approved_by = 'user:bob', approved_at = now(), task_id = %s, updated_at = now() "
    "WHERE entity_id = %s AND period = %s AND status = 'PENDING'"
)


def compare(tenant: Tenant, rows: int) -> list[Comparison]:
    """Approval of all rows of a month by one signal, then their posting, beside the same UPDATE on copies of the table without
    rules: one with the primary key and the index by partition, one with every index of ours."""
    for repeat in range(REPEATS):
        asyncio.run(_stage(tenant, rows, repeat))
    tenant.make_bare_table("copy", indexed=True)
    tenant.make_like_ours("like_ours")
    for table in ("copy", "like_ours"):
        tenant.execute(f"INSERT INTO public.{table} SELECT * FROM ledgers.expenses", f"ANALYZE public.{table}")
    used = processor_of(tenant.admin)
    found = []
    for name, ours, statement in (("approve by one signal", _approve, APPROVE), ("mark as posted", _post, POST)):
        mine, bare, like_ours = alternate(
            partial(ours, tenant, rows),
            *(partial(_raw, tenant, rows, statement, table) for table in ("copy", "like_ours")),
            used=used,
        )
        found += [
            Comparison(name, "guarded UPDATE", rows, mine, bare, aim=0.5),
            Comparison(name, "guarded UPDATE, every index of ours", rows, mine, like_ours),
        ]
    return found


async def _stage(tenant: Tenant, rows: int, repeat: int) -> None:
    async with tenant.handle() as handle:
        await handle.stage(payloads(rows, repeat), period=period(repeat))


def _approve(tenant: Tenant, rows: int, repeat: int) -> Callable[[], object]:
    """The signal is filed beforehand: that is the reviewer's time, not the run's."""

    async def file() -> None:
        async with tenant.handle(role="desk") as desk:
            await file_signal(
                desk.database,
                subledger_type("expenses"),
                "approve",
                filed_by="user:bob",
                entity_id=tenant.entity,
                period=period(repeat),
            )

    async def run() -> None:
        async with tenant.handle() as handle:
            assert (await apply_signals(handle, period=period(repeat))).applied == rows

    asyncio.run(file())
    tenant.settle()
    return lambda: asyncio.run(run())


def _post(tenant: Tenant, rows: int, repeat: int) -> Callable[[], object]:
    """The journals are there already: their cost is the ledger's, not the transition's."""
    parameters = {"entity": tenant.entity, "period": period(repeat), "date": f"{period(repeat)}-15", "run": RUN}
    with psycopg.connect(tenant.credentials.app) as app:
        app.execute(
            "INSERT INTO ledgers.journals "
            "(id, entity_id, period, external_id, posting_date, description, currency, run_id, row_id) "
            "SELECT id, entity_id, period, 'bench:' || id, %(date)s, 'x', 'GBP', %(run)s, id "
            "FROM ledgers.expenses WHERE entity_id = %(entity)s AND period = %(period)s",
            parameters,
        )
        app.execute(
            "INSERT INTO ledgers.journal_lines (journal_id, line_no, account_code, debit, credit, row_id) "
            "SELECT t.id, v.n, v.account, amount_gross * (2 - v.n), amount_gross * (v.n - 1), t.id "
            "FROM ledgers.expenses t, (VALUES (1, '5999'), (2, '2000')) v (n, account) "
            "WHERE entity_id = %(entity)s AND period = %(period)s",
            parameters,
        )
    tenant.settle()

    def run() -> None:
        with psycopg.connect(tenant.credentials.app) as app:
            statement = POST.format("ledgers.expenses")
            assert app.execute(statement.encode(), [RUN, tenant.entity, period(repeat)]).rowcount == rows

    return run


def _raw(tenant: Tenant, rows: int, statement: str, table: str, repeat: int) -> Callable[[], object]:
    tenant.settle()

    def run() -> None:
        with psycopg.connect(tenant.credentials.owner) as owner:
            done = owner.execute(statement.format(f"public.{table}").encode(), [RUN, tenant.entity, period(repeat)])
            assert done.rowcount == rows

    return run
