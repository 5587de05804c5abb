"""The documents of a month-end: one for each entity, whose rows need nobody's attention."""

from __future__ import annotations

import csv
from collections.abc import Sequence

from benchmarks.subject import PERIOD, SLUG, SUBMITTER
from ntro_dagster.host.home import Role
from ntro_dagster.host.installation import Installation, credential
from ntro_dagster.ingest.store import DocumentStore
from ntro_dagster.ingest.submission import submit
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.tenant.entities import entities_by_spelling, entity_by_slug

_TYPES = ("Legal fees", "Audit fee", "Bank charges", "Insurance", "Consultancy")


async def submit_documents(installation: Installation, entities: Sequence[str], *, rows: int) -> None:
    tenant = installation.home.tenant(SLUG)
    store = DocumentStore(tenant.documents)
    async with TenantDatabase(credential(installation.home, SLUG, Role.APP)) as database:
        for slug in entities:
            path = installation.home.root / f"{slug}.csv"
            with path.open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["Date", "Expense Type", "Supplier", "Transaction Number", "Amount", "VAT Amount"])
                for row in range(rows):
                    written = f"{1 + row % 28:02}/03/2026", _TYPES[row % len(_TYPES)], f"Supplier {row % 40} Ltd"
                    writer.writerow([*written, f"{slug}-{row}", f"{100 + row}.{row % 100:02}", ""])
            await submit(
                database, store, path, submitted_by=SUBMITTER, period=PERIOD,
                entity=await entity_by_slug(database, slug, tenant=SLUG),
                resolve=lambda names: entities_by_spelling(database, names),
            )  # fmt: skip
            path.unlink()
