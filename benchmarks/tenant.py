"""A tenant of the benchmarks' own on an embedded server of their own, and the rows they all use."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg

from ntro_dagster.bundles import platform_bundle
from ntro_dagster.gl.chart import install_chart
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials, provision_database
from ntro_dagster.platforms.postgres.server import PostgresServer
from ntro_dagster.subledger import SubledgerHandle
from ntro_dagster.subledger import open as open_subledger
from ntro_dagster.subledger.deployment import deploy

RUN = uuid4()


@dataclass(frozen=True)
class Tenant:
    """A deployed tenant with one entity and the chart of accounts."""

    credentials: DatabaseCredentials
    admin: str
    entity: UUID

    @asynccontextmanager
    async def handle(self, *, role: str = "app") -> AsyncIterator[SubledgerHandle]:
        async with TenantDatabase(getattr(self.credentials, role)) as database:
            yield open_subledger(name="expenses", entity_id=self.entity, task_id=RUN, tenant_slug="bench", database=database)

    def settle(self) -> None:
        """Let the server finish what the last measurement left behind, so that the next one does not pay for it."""
        with psycopg.connect(self.admin, autocommit=True) as admin:
            admin.execute("CHECKPOINT")

    def execute(self, *statements: str, parameters: Any = None) -> None:
        """As the owner, each statement by itself."""
        with psycopg.connect(self.credentials.owner, autocommit=True) as owner:
            for statement in statements:
                owner.execute(statement, parameters)

    def make_bare_table(self, name: str, *, indexed: bool) -> None:
        """`public.<name>`, with the columns of expenses and none of its rules."""
        self.execute(
            f"DROP TABLE IF EXISTS public.{name}", f"CREATE TABLE public.{name} (LIKE ledgers.expenses INCLUDING DEFAULTS)"
        )
        if indexed:
            self.execute(
                f"ALTER TABLE public.{name} ADD PRIMARY KEY (id)", f"CREATE INDEX ON public.{name} (entity_id, period, status)"
            )

    def make_like_ours(self, name: str) -> None:
        """`public.<name>`, with the columns and the indexes of expenses and none of its rules."""
        columns = "LIKE ledgers.expenses INCLUDING DEFAULTS INCLUDING INDEXES"
        self.execute(f"DROP TABLE IF EXISTS public.{name}", f"CREATE TABLE public.{name} ({columns})")


@contextmanager
def tenant() -> Iterator[Tenant]:
    """The server keeps its settings as shipped, durability included."""
    directory = Path(tempfile.mkdtemp(prefix="ntro-bench-"))
    directory.chmod(0o755)  # else, as root, the data would go to /var/lib/ntro
    server = PostgresServer(directory)
    try:
        server.start()
        credentials = provision_database(server.admin_dsn(), key="bench")
        deploy(credentials.owner, platform_bundle())
        entity = uuid4()
        with psycopg.connect(credentials.owner) as owner:
            owner.execute(
                "INSERT INTO system.entities (id, slug, name, currency, schema_name) "
                "VALUES (%s, 'bench', 'Bench', 'GBP', 'bench')",
                [entity],
            )
            install_chart(owner)
        yield Tenant(credentials, server.admin_dsn("bench"), entity)
    finally:
        server.stop()
        shutil.rmtree(directory)


def period(repeat: int) -> str:
    """A month of its own for each repeat, so that every repeat stages new rows into a table that holds the earlier ones."""
    return f"20{25 + repeat // 12}-{repeat % 12 + 1:02d}"


def payloads(rows: int, repeat: int = 0) -> Iterator[dict[str, Any]]:
    """Typed expenses as a runbook's reader yields them."""
    chance = random.Random(repeat)  # noqa: S311
    document = UUID(int=repeat)
    for line in range(rows):
        gross = Decimal(chance.randrange(100, 5_000_000)) / 100
        yield {
            "source_ref": f"doc:{document}#L{line}",
            "event_id": UUID(int=chance.getrandbits(128)),
            "vendor": f"Supplier {chance.randrange(400)} Ltd",
            "amount_gross": gross,
            "currency": "GBP",
            "expense_date": date(2025, 1, 1 + line % 28),
            "payment_method": "bank_transfer",
            "vat_amount": (gross / 6).quantize(Decimal("0.01")),
            "notes": f"Invoice {chance.randrange(10**6)}",
            "category": "5000",
            "category_source": "vendor_lookup",
            "confidence": Decimal("0.9750"),
        }
