"""An import in a process of its own, to be killed: APP_URL, DESK_URL, ENTITY, FILE, MAPPING and STORE come by environment."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from uuid import UUID, uuid4

from ntro_dagster.gl.imports.importing import Order, import_journals
from ntro_dagster.gl.imports.mapping import read_mapping
from ntro_dagster.ingest.store import DocumentStore
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger import open as open_subledger


async def main() -> None:
    """Says `begin` when everything is loaded, `done` when it is through."""
    said = os.environ
    order = Order(Path(said["FILE"]), read_mapping(Path(said["MAPPING"])), "user:ann")
    app, other, desk = (TenantDatabase(said[name]) for name in ("APP_URL", "APP_URL", "DESK_URL"))
    async with app, other, desk:
        handle = open_subledger(
            name="journal_proposals", entity_id=UUID(said["ENTITY"]), task_id=uuid4(), tenant_slug="acme", database=app
        )
        sys.stdout.write("begin\n")
        sys.stdout.flush()
        await import_journals(handle, other, desk, DocumentStore(Path(said["STORE"])), order, currency="GBP")
    sys.stdout.write("done\n")


if __name__ == "__main__":
    asyncio.run(main())
