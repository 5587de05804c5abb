"""Books of the release before, taken over: its journals, posted rows and waiting decisions are posted to and closed."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from ledger_tenant import PERIOD, Tenant
from psycopg.types.json import Jsonb
from raw_journals import attempt

from ntro_dagster.bundles import Bundle, platform_bundle
from ntro_dagster.gl.periods import close_period, period_state, seal_closing
from ntro_dagster.gl.posting import post_approved
from ntro_dagster.gl.trial_balance import trial_balance
from ntro_dagster.platforms.migrations import migrate, migration_files
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.subledger.deployment import attach
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.registry import load_types, subledger_types
from ntro_dagster.subledger.review import apply_signals
from ntro_dagster.tenant.deployment import bring_up_to_date

LAST = "021"
"""The last migration of the release before: 022 is about the books."""

CHART = {"1000": "ASSET", "1400": "ASSET", "2000": "LIABILITY", "3000": "EQUITY", "5000": "EXPENSE", "5999": "EXPENSE"}
JOURNAL = (
    "INSERT INTO ledgers.journals (id, entity_id, period, external_id, posting_date, description, currency, run_id) "
    "VALUES (%(id)s, %(entity)s, %(period)s, %(id)s, %(date)s, 'x', %(currency)s, gen_random_uuid())"
)
LINES = (
    "INSERT INTO ledgers.journal_lines (journal_id, line_no, account_code, debit, credit) "
    "VALUES (%(id)s, 1, '5000', 7, 0), (%(id)s, 2, '2000', 0, 7)"
)


def rules_then(connection: psycopg.Connection, kind: TypeDescription) -> None:
    """What that release attached to a table."""
    edges = Jsonb(kind.lifecycle.as_json())
    connection.execute("SELECT system.attach_subledger(%s, %s, %s)", [kind.table, list(kind.content), edges])
    connection.execute("SELECT system.declare_amount(%s, %s, %s)", [kind.table, kind.amount, kind.currency])
    connection.execute("SELECT system.attach_approvals(%s, %s)", [kind.table, edges])


@pytest.fixture
def before(make_database: Callable[[], DatabaseCredentials], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tenant:
    """As the release before left it."""
    tenant, folder = Tenant(make_database()), tmp_path / "before" / "migrations"
    folder.mkdir(parents=True)
    for file in migration_files(platform_bundle().migrations):
        if file.name[:3] <= LAST:
            shutil.copy(file, folder)
    owner = tenant.credentials.owner
    migrate(owner, Bundle(None, folder.parent))
    load_types(platform_bundle())
    kinds = [kind for kind in map(TypeDescription.of, subledger_types(platform_bundle())) if kind.table == "expenses"]
    with psycopg.connect(owner) as connection:
        with monkeypatch.context() as then:
            then.setattr("ntro_dagster.subledger.deployment._give_rules", rules_then)
            attach(connection, kinds)
        connection.cursor().executemany(
            "INSERT INTO ledgers.accounts (code, name, type) VALUES (%s, %s, %s)",
            [(code, f"Account {code}", kind) for code, kind in CHART.items()],
        )
    return tenant


def test_books_of_the_release_before_are_posted_to_and_closed(before: Tenant) -> None:
    tenant, entity, foreign = before, before.new_entity(), uuid4()
    with tenant.as_owner() as owner:
        owner.execute(f'CREATE SCHEMA "s{entity.hex[:12]}"')
    tenant.row_in("POSTED", entity)
    approved = tenant.row_in("APPROVED", entity)
    pending = tenant.new_row(entity)
    tenant.file("approve", [pending])
    with psycopg.connect(tenant.credentials.app) as app:
        assert attempt(app, entity, JOURNAL, LINES, id=foreign, currency="USD") is None

    bring_up_to_date(tenant.credentials.owner, platform_bundle())

    async def go_on() -> tuple[int, dict[str, int]]:
        async with tenant.database() as database:
            handle = tenant.handle(entity, database=database)
            await apply_signals(handle, period=PERIOD)
            posted = (await post_approved(handle, period=PERIOD, currency="GBP")).rows
            drawn = await trial_balance(database, entity_id=entity, period=PERIOD)
            assert {(x.currency, x.account_code): x.balance for x in drawn.lines if x.account_code == "2000"} == {
                ("GBP", "2000"): Decimal(-360), ("USD", "2000"): Decimal(-7)}  # fmt: skip
            state = await period_state(database, entity_id=entity, period=PERIOD)
            return posted, {finding.code: finding.things for finding in state.findings}

    assert asyncio.run(go_on()) == (2, {"NOT_TRANSLATED": 1})
    numbers = tenant.fetch("SELECT number FROM ledgers.journal_numbers WHERE entity_id = %s ORDER BY 1", entity)
    assert numbers == [(1,), (2,), (3,), (4,)]
    undo = JOURNAL.replace("run_id)", "run_id, kind, reverses)").replace("uuid())", "uuid(), 'REVERSAL', %(o)s)")
    with psycopg.connect(tenant.credentials.app) as app:
        mirrored = LINES.replace("'5000', 7, 0", "'5000', 0, 7").replace("'2000', 0, 7", "'2000', 7, 0")
        assert attempt(app, entity, undo, mirrored, o=foreign, currency="USD") is None

    async def close() -> bool:
        async with tenant.database("desk") as desk, tenant.database() as app:
            await close_period(desk, entity_id=entity, period=PERIOD, by="user:bob")
            await seal_closing(app, entity_id=entity, period=PERIOD, run_id=uuid4())
            seal = (await period_state(app, entity_id=entity, period=PERIOD)).seal
            return seal is not None and seal.holds and seal.journals == 5

    assert asyncio.run(close())
    assert {str(row) for row in (approved, pending)} <= {
        str(row) for (row,) in tenant.fetch("SELECT row_id FROM ledgers.journal_rows")
    }


def test_the_chart_of_the_release_before_has_its_roles(before: Tenant) -> None:
    bring_up_to_date(before.credentials.owner, platform_bundle())
    roles = dict(before.fetch("SELECT role, code FROM ledgers.accounts WHERE role IS NOT NULL"))
    assert roles == {
        "BANK": "1000", "VAT": "1400", "CREDITORS": "2000", "RETAINED_EARNINGS": "3000", "SUSPENSE": "5999", "ROUNDING": "5950",
    }  # fmt: skip
