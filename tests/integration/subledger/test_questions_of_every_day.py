"""What is asked every few seconds, or with every page, reads what is open or new: years that are done cost it nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import psycopg
import pytest
from ledger_tenant import Tenant
from reading import rows_read

from ntro_dagster.desk.groups import count_groups
from ntro_dagster.desk.month import board
from ntro_dagster.desk.sittings import Sitting
from ntro_dagster.orchestration.work import Work, waiting
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.platforms.postgres.server import PostgresServer
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.registry import subledger_type
from ntro_dagster.subledger.selection import Filter

ENTITIES, MONTHS, WITH_ROWS, ROWS = 900, 60, 60, 5
MOST = 1_000
"""Rows read of one table or index. There are 54,000 months; 18,000 rows, with history, at `WITH_ROWS` entities."""
WAITING = 20
BOB = Sitting("user:bob", "Bob", "approver", "person", stands_in=False, token="")
# By SQL without triggers: history is nobody's to write otherwise.
YEARS = """
SET session_replication_role = replica;
INSERT INTO system.entities (id, slug, name, currency, schema_name)
SELECT md5('e' || e)::uuid, 'spv-' || e, 'SPV ' || lpad(e::text, 4, '0'), 'GBP', 'spv_' || e
  FROM generate_series(1, {entities}) e;
CREATE TEMPORARY TABLE month AS
SELECT md5('e' || e)::uuid AS entity, to_char(date '2020-01-01' + make_interval(months => m), 'YYYY-MM') AS period,
       e * 1000 + m AS number
  FROM generate_series(1, {entities}) e, generate_series(0, {months} - 1) m;
INSERT INTO system.partition_activity (subledger, entity_id, period, last_change, closed_change)
SELECT 'expenses', entity, period, 1, 1 FROM month;
DELETE FROM month WHERE number >= ({with_rows} + 1) * 1000;
INSERT INTO ledgers.expenses (id, entity_id, period, task_id, status, source_ref, vendor, amount_gross, currency, posted_to_gl)
SELECT md5(number || '/' || n)::uuid, entity, period, md5('r' || number)::uuid, 'POSTED', 'doc:' || number || '#L' || n, 'Smith',
       9, 'GBP', TRUE FROM month, generate_series(1, {rows}) n;
INSERT INTO system.changes (id, subledger, actor, actor_kind, txid) OVERRIDING SYSTEM VALUE
SELECT number, 'expenses', 'run', 'run', '3'::xid8 FROM month;
INSERT INTO system.history (change_id, row_id, action)
SELECT number, md5(number || '/' || n)::uuid, 'POSTED' FROM month, generate_series(1, {rows}) n ORDER BY 1;
SELECT setval(pg_get_serial_sequence('system.changes', 'id'), 1000000);
DROP TABLE month;
RESET session_replication_role;
"""


@pytest.fixture
def years(another_tenant: Tenant, postgres_server: PostgresServer) -> Tenant:
    """Months that are done and one that is not, whose rows came after Bob's look at everything."""
    tenant = another_tenant
    tenant.add_members({BOB.login: "approver"})
    entity = tenant.new_entity()
    admin = postgres_server.admin_dsn(tenant.credentials.database)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(YEARS.format(entities=ENTITIES, months=MONTHS, with_rows=WITH_ROWS, rows=ROWS).encode())
        connection.execute(
            "INSERT INTO system.looks (login, subledger, change) VALUES (%s, 'expenses', pg_current_xact_id())", [BOB.login]
        )
        for _ in range(WAITING):
            tenant.new_row(entity)
        connection.execute("VACUUM ANALYZE")
    return tenant


Ask = Callable[[TenantDatabase], Awaitable[object]]


def questions() -> dict[str, tuple[str, Ask]]:
    kind = subledger_type("expenses")
    described = TypeDescription.of(kind)
    sensors: dict[str, tuple[str, Ask]] = {
        work.value: ("app", lambda app, work=work: waiting(app, work, {"expenses": kind.lifecycle}))  # type: ignore[misc]
        for work in (Work.INTAKE, Work.REVIEW, Work.POSTING, Work.CLOSE)
    }
    return sensors | {
        "what waits": ("desk", lambda desk: count_groups(desk, described, Filter(), BOB)),
        "board": ("desk", lambda desk: board(desk, {"expenses": described}, None, find="SPV 0007")),
    }


@pytest.mark.parametrize("question", ["intake", "review", "posting", "close", "what waits", "board"])
def test_what_is_done_is_not_read(years: Tenant, question: str) -> None:
    role, ask = questions()[question]

    async def run() -> tuple[object, Counter[str]]:
        async with years.database(role) as database:
            await ask(database)
            before = await rows_read(database)
            answer = await ask(database)
            return answer, await rows_read(database) - before

    answer, read = asyncio.run(run())
    if question == "what waits":
        assert answer["changed"]["count"] == WAITING  # type: ignore[index]
    assert {name: rows for name, rows in read.items() if rows > MOST} == {}


def test_the_count_sees_a_walk(years: Tenant) -> None:
    async def run() -> Counter[str]:
        async with years.database("app") as app:
            before = await rows_read(app)
            await app.fetch("SELECT count(*) FROM system.partition_activity WHERE last_change > closed_change + 1")
            return await rows_read(app) - before

    assert asyncio.run(run())["system.partition_activity"] > MOST
