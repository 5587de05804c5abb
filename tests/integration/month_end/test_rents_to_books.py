"""Rents to net asset value through real processes: tables in, reviewed rows, proposals, journals, closed months."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from installed import APPROVER, PREPARER, Client, add_tenant, eventually, installed

from ntro_dagster.bundles import runbook_bundle
from ntro_dagster.gl.net_assets import net_assets
from ntro_dagster.host.deployments import Runbooks
from ntro_dagster.host.home import Role
from ntro_dagster.host.installation import credential
from ntro_dagster.ingest.store import DocumentStore
from ntro_dagster.ingest.submission import submit
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.review import file_signal
from ntro_dagster.tenant.entities import entities_by_spelling

RUNBOOK = runbook_bundle("nav-monthly-journals")
ENTITIES = {"landlord-a": "Landlord A", "landlord-b": "Landlord B"}
INPUTS = [f"nav_monthly_journals__{name}" for name in ("rental_statement", "repairs", "landlord_statement")]
PATIENCE_S = 240


def file(client: Client, name: str) -> None:
    async def run() -> None:
        async with TenantDatabase(credential(client.home, client.slug, Role.APP)) as database:
            await submit(
                database,
                DocumentStore(client.home.tenant(client.slug).documents),
                RUNBOOK.root / "samples" / f"agent-{name}" / "2025-01" / f"agent_{name}.csv",
                resolve=lambda names: entities_by_spelling(database, names),
                submitted_by=PREPARER,
                source=f"agent-{name}",
            )

    asyncio.run(run())


def decide(client: Client, table: str, signal: str, *, by: str = APPROVER, **where: Any) -> int:
    """As the desk does, from the type as data: the runbook's code is not imported here."""
    (found,) = client.ask("SELECT description FROM system.subledger_types WHERE table_name = %s", [table])
    known: Mapping[str, Any] = found["description"]

    async def run() -> int:
        async with TenantDatabase(credential(client.home, client.slug, Role.DESK)) as desk:
            reason = None if signal == "approve" else "looked at"
            filed = await file_signal(desk, TypeDescription.from_json(known), signal, filed_by=by, reason=reason, **where)
            return sum(each.rows for each in filed)

    return asyncio.run(run())


@pytest.mark.long
def test_from_the_agents_tables_to_the_net_asset_value() -> None:
    with installed() as site:
        client = add_tenant(site, "harbour", "Harbour", ENTITIES)
        Runbooks(site.installation).push(RUNBOOK.root)
        Runbooks(site.installation).deploy("nav-monthly-journals", "harbour")
        site.installation.up()
        for name in ("rents", "repairs", "payouts"):
            file(client, name)
        staged = "SELECT count(*) > 0 AND bool_and(staged_at IS NOT NULL) FROM ingest.intake"
        eventually(lambda: client.holds(staged), "the tables are staged", PATIENCE_S)
        assert client.value("SELECT count(*) FROM ledgers.journal_proposals") == 0
        assert decide(client, "nav_monthly_journals__repairs", "reject", status="NEEDS_ATTENTION") == 1
        for table in INPUTS:
            assert decide(client, table, "approve", status="PENDING") > 0
        derived = "SELECT count(*) = 5 AND bool_and(wanted = done) FROM system.derivations"
        eventually(lambda: client.decided() and client.holds(derived), "proposals of five months", PATIENCE_S)
        assert site.runs("harbour", work="proposals")
        assert decide(client, "journal_proposals", "accept", by=PREPARER, status="NEEDS_ATTENTION") == 2
        eventually(client.decided, "the doubtful ones are accepted", PATIENCE_S)
        assert decide(client, "journal_proposals", "approve", status="PENDING") > 2
        for period in ("2025-01", "2025-02", "2025-03"):
            eventually(lambda period=period: client.closed(period), f"{period} is closed", PATIENCE_S)  # type: ignore[misc]
        assert client.value("SELECT count(*) FROM ledgers.closes") >= 5
        for entity, cash, owed in (("landlord-a", "5039.50", "975.00"), ("landlord-b", "2937.12", "0")):
            balance = client.balance(entity, "2025-03")
            accounts = {line.account_code: line.balance for line in balance.lines}
            assert (accounts["1000"], accounts["1200"]) == (Decimal(cash), 0)
            (worth,) = net_assets(balance)
            assert worth.value == Decimal(cash) + Decimal(owed)
