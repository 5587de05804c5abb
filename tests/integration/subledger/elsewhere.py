"""Entities whose general ledger is somebody else's: settings, rows to be posted, runs, and what must hold afterwards."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from ledger_tenant import PERIOD, Tenant
from misbehaving_ledger import Elsewhere
from psycopg.types.json import Jsonb

from ntro_dagster.gl.post import post
from ntro_dagster.gl.posting import Posted
from ntro_dagster.gl.providers.resolve import GLSetting, provider_of


def keep_at(tenant: Tenant, entity: UUID | None, provider: str | None, options: Mapping[str, Any] | None = None) -> None:
    """The entity's ledger (or everybody's) is that one from now on, as the operator says it."""
    place = provider_of(GLSetting(provider, "", options or {}), entity="x").place if provider not in {None, "native"} else ""
    with tenant.as_owner() as owner:
        owner.execute(
            "INSERT INTO ledgers.gl_settings (entity_id, provider, place, options, recorded_by) "
            "VALUES (%s, %s, %s, %s, 'operator')",
            [entity, provider, place, Jsonb(dict(options or {}))],
        )


def run(tenant: Tenant, entity: UUID, *, name: str = "expenses") -> Posted:
    """One run of posting."""

    async def one() -> Posted:
        async with tenant.database() as database:
            return await post(tenant.handle(entity, name=name, database=database), period=PERIOD, currency="GBP")

    return asyncio.run(one())


def statuses(tenant: Tenant, entity: UUID) -> dict[str, int]:
    rows = tenant.fetch("SELECT status, count(*) FROM ledgers.expenses WHERE entity_id = %s GROUP BY 1", entity)
    return {status: int(count) for status, count in rows}


def run_until_posted(tenant: Tenant, entity: UUID, rows: int, *, within_s: float = 60) -> float:
    """Runs as the sensor would start them, one after the other, until every row is posted. Returns the seconds it took."""
    begun = time.monotonic()
    while statuses(tenant, entity) != {"POSTED": rows}:
        assert time.monotonic() - begun < within_s, (statuses(tenant, entity), deliveries(tenant, entity))
        posted = run(tenant, entity)
        if not posted.rows:
            time.sleep(0.1)  # a tick
    return time.monotonic() - begun


def deliveries(tenant: Tenant, entity: UUID) -> list[tuple[Any, ...]]:
    return tenant.fetch(
        "SELECT outcome, code, attempts, wait_until > now() FROM ledgers.deliveries WHERE entity_id = %s "
        "ORDER BY created_at, external_id",
        entity,
    )


def findings(tenant: Tenant, entity: UUID) -> list[str]:
    rows = tenant.fetch(
        "SELECT f.code FROM ledgers.delivery_findings f JOIN ledgers.deliveries d ON d.id = f.delivery_id WHERE d.entity_id = %s",
        entity,
    )
    return [code for (code,) in rows]


def assert_in_both(tenant: Tenant, entity: UUID, elsewhere: Elsewhere, place: str, rows: int) -> None:
    """Every row is posted once there and once here, for the same; nothing else is there."""
    assert_nothing_half(tenant, entity)
    assert statuses(tenant, entity) == {"POSTED": rows}
    there = elsewhere.standing(place)
    counted = Counter(each["external_id"] for each in there)
    assert {name: times for name, times in counted.items() if times > 1} == {}
    here = dict(
        tenant.fetch(
            "SELECT j.external_id, array_agg(l.account_code || ' ' || trim_scale(l.debit - l.credit)::text ORDER BY 1) "
            "FROM ledgers.journals j JOIN ledgers.journal_lines l ON l.journal_id = j.id WHERE j.entity_id = %s GROUP BY 1",
            entity,
        )
    )
    assert len(here) == rows
    said = {
        each["external_id"]: sorted((account.split(" - ")[0], Decimal(amount)) for account, amount in each["lines"])
        for each in there
    }
    meant = {name: sorted((x.split()[0], Decimal(x.split()[1])) for x in lines) for name, lines in here.items()}
    assert said == meant
    references = dict(
        tenant.fetch(
            "SELECT external_id, provider_ref FROM ledgers.deliveries WHERE entity_id = %s AND outcome = 'CONFIRMED'", entity
        )
    )
    assert references == {each["external_id"]: each["reference"] for each in there}


def assert_nothing_half(tenant: Tenant, entity: UUID) -> None:
    """At whatever moment: a row is posted, has its journal and a confirmed delivery, or none of these."""
    (wrong,) = tenant.fetch(
        """SELECT count(*) FILTER (WHERE (t.status = 'POSTED') <> (j.id IS NOT NULL)),
                  count(*) FILTER (WHERE (t.status = 'POSTED') <> (d.outcome IS NOT DISTINCT FROM 'CONFIRMED')),
                  count(*) FILTER (WHERE d.id IS NOT NULL AND t.status NOT IN ('APPROVED', 'POSTED')),
                  count(*) FILTER (WHERE j.id IS NOT NULL
                                     AND (SELECT sum(debit - credit) FROM ledgers.journal_lines WHERE journal_id = j.id) <> 0)
             FROM ledgers.expenses t
             LEFT JOIN ledgers.journals j ON j.external_id = 'expenses:' || t.id
             LEFT JOIN ledgers.delivery_rows r ON r.row_id = t.id AND NOT r.refused
             LEFT JOIN ledgers.deliveries d ON d.id = r.delivery_id
            WHERE t.entity_id = %s""",
        entity,
    )
    assert wrong == (0, 0, 0, 0)


def place_for(provider: str) -> str:
    """An organisation or company of its own."""
    return str(uuid4()) if provider == "xero" else f"Company {uuid4().hex[:8]}"


def options_for(provider: str, elsewhere: Elsewhere, place: str, **more: Any) -> dict[str, Any]:
    return (elsewhere.xero if provider == "xero" else elsewhere.erpnext)(place, **more)
