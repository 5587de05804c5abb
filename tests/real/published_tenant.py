"""A tenant whose month-ends are made of published returns: the tenant plane on a real PostgreSQL, without Dagster's runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import psycopg
from published import folder, index_of

from ntro_dagster.bundles import platform_bundle, runbook_bundle
from ntro_dagster.gl.chart import install_chart
from ntro_dagster.ingest.outcome import IngestOutcome
from ntro_dagster.ingest.returns import DocumentRefusedError
from ntro_dagster.ingest.store import DocumentStore
from ntro_dagster.ingest.submission import EntityMissingError, submit
from ntro_dagster.orchestration.assets import SubledgerAsset, stage
from ntro_dagster.orchestration.context import EntityRef, RunbookContext
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.tenant.deployment import bring_up_to_date
from ntro_dagster.tenant.entities import Entity, create_entities, entities_by_spelling, slug_of

RUNBOOK = runbook_bundle("expense-processor")
TENANT = "published"
FILER = "user:ann"

FILERS = {"health/": "Department of Health", "/nfc-": "NFC", "/ccwater-": "Consumer Council for Water"}
"""Part of a path, and the body that files the returns below it which do not say whose they are."""

NAMES_ITS_BODY_ON_FEW_ROWS = {
    "health/2013-10/CSV__25K_Nov_Returns_October_Data.csv",
    "health/2013-12/_25K_December_2013_Data.csv",
    "health/2014-03/_25k_March_Data.csv",
}
"""Nearly every row is without a body: whoever files it says whose it is."""


@dataclass(frozen=True, slots=True)
class Return:
    """A file to be filed. `period`: None where the path says it."""

    dataset: str
    name: str
    period: str | None = None
    entity: str | None = None

    @property
    def path(self) -> Path:
        return folder(self.dataset) / self.name

    @property
    def filer(self) -> str:
        return next(body for part, body in FILERS.items() if part in f"{self.dataset}/{self.name}")


def published_returns() -> list[Return]:
    """Everything at hand, in the order of the index files."""
    spending = [
        Return("uk-spend-25k", name, entity="Department of Health" if name in NAMES_ITS_BODY_ON_FEW_ROWS else None)
        for name in index_of("uk-spend-25k")
    ]
    months = {"April": "2015-04", "May": "2015-05", "June": "2015-06"}
    council = [
        Return("epsrc-spend", name, period)
        for name in index_of("epsrc-spend")
        for month, period in months.items()
        if month in name
    ]
    treasury = [Return("hmt-spend-json", path.name) for path in sorted(folder("hmt-spend-json").glob("*.json"))]
    return [*spending, *council, *treasury]


@dataclass
class MonthEnd:
    """One tenant. `documents` and `refused` are by return, as of the latest `file`."""

    credentials: DatabaseCredentials
    store: DocumentStore
    outcomes: dict[Return, IngestOutcome] = field(default_factory=dict)
    refused: dict[Return, DocumentRefusedError] = field(default_factory=dict)

    def __post_init__(self) -> None:
        bring_up_to_date(self.credentials.owner, platform_bundle(), RUNBOOK)
        with psycopg.connect(self.credentials.owner) as owner:
            install_chart(owner)

    async def file(self, returns: Iterable[Return]) -> None:
        """Hand them in as `ntro ingest --create-entities` does; those that name nobody are handed in again for their filer."""
        self.outcomes.clear()
        self.refused.clear()
        async with TenantDatabase(self.credentials.app) as database:
            for each in returns:
                try:
                    self.outcomes[each] = await self._file(database, each)
                except EntityMissingError:
                    self.outcomes[each] = await self._file(database, replace(each, entity=each.filer))
                except DocumentRefusedError as error:
                    self.refused[each] = error

    async def _file(self, database: TenantDatabase, each: Return) -> IngestOutcome:
        async def resolve(names: Iterable[str]) -> Mapping[str, Entity]:
            wanted = set(names)
            known = await entities_by_spelling(database, wanted)
            missing = {slug_of(name): name for name in sorted(wanted - known.keys())}
            create_entities(
                self.credentials.owner, TENANT, [Entity(uuid4(), slug, name, "GBP") for slug, name in missing.items()]
            )
            return await entities_by_spelling(database, wanted)

        return await submit(
            database,
            self.store,
            each.path,
            resolve=resolve,
            submitted_by=FILER,
            entity=(await resolve([each.entity]))[each.entity] if each.entity else None,
            period=each.period,
        )

    async def stage(self, ledger: SubledgerAsset | None = None) -> Counter[str]:
        """Stage every partition that has documents. Returns how many rows were inserted, updated, untouched."""
        totals: Counter[str] = Counter()
        async for run in self.partitions():
            metadata = cast("Mapping[str, int]", (await stage(run, ledger or self.expenses)).metadata)
            totals.update({name: metadata[name] for name in ("inserted", "updated", "untouched")})
        return totals

    @property
    def expenses(self) -> SubledgerAsset:
        module = RUNBOOK.load("assets")
        assert module is not None
        ledger = module.expenses
        assert isinstance(ledger, SubledgerAsset)
        return ledger

    async def partitions(self) -> AsyncIterator[RunbookContext]:
        """A run's view of each partition, as `runbook_context` makes it for a Dagster run."""
        async with self.connected() as (database, reader):
            partitions = await reader.fetch(
                "SELECT DISTINCT e.id, e.slug, e.currency, i.period "
                "FROM ingest.intake i JOIN system.entities e ON e.id = i.entity_id ORDER BY i.period, e.slug"
            )
            for found in partitions:
                period = found.pop("period")
                yield RunbookContext(
                    tenant=TENANT, entity=EntityRef(**found), period=period, run_id=uuid4(), database=database, reader=reader
                )

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[TenantDatabase, TenantDatabase]]:
        async with TenantDatabase(self.credentials.app) as database, TenantDatabase(self.credentials.app) as reader:
            yield database, reader

    def document(self, each: Return) -> UUID:
        document = self.outcomes[each].document_id
        assert document is not None
        return UUID(document)

    def fetch(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """As the auditor."""
        return list(self.stream(query, *parameters))

    def stream(self, query: str, *parameters: Any) -> Iterator[tuple[Any, ...]]:
        with psycopg.connect(self.credentials.auditor) as connection:
            yield from connection.execute(query, parameters)

    def fingerprint(self) -> dict[str, tuple[Any, ...]]:
        """Number and content of everything the tenant keeps, table by table."""
        tables = self.fetch(
            "SELECT table_schema || '.' || table_name FROM information_schema.tables "
            "WHERE table_schema IN ('system', 'ingest', 'ledgers') AND table_type = 'BASE TABLE' "
            "AND has_table_privilege(format('%%I.%%I', table_schema, table_name), 'SELECT') ORDER BY 1"
        )
        return {
            table: self.fetch(f"SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM {table} t")[0]
            for (table,) in tables
        }
