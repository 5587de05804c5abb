"""A tenant whose entities let property through an agent: published rents, repairs and payouts, on a real PostgreSQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import psycopg
import published

from ntro_dagster.bundles import platform_bundle, runbook_bundle
from ntro_dagster.gl.chart import install_chart
from ntro_dagster.ingest.outcome import IngestOutcome
from ntro_dagster.ingest.store import DocumentStore
from ntro_dagster.ingest.submission import submit
from ntro_dagster.orchestration.assets import SubledgerAsset, stage
from ntro_dagster.orchestration.context import EntityRef, RunbookContext
from ntro_dagster.orchestration.derived import Derivation, derivations_waiting, derive
from ntro_dagster.orchestration.runbook import read_runbook
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.subledger.registry import SubledgerType, subledger_type
from ntro_dagster.subledger.review import apply_signals, file_signal
from ntro_dagster.tenant.deployment import bring_up_to_date
from ntro_dagster.tenant.entities import Entity, create_entities, entities_by_spelling, slug_of

RUNBOOK = runbook_bundle("nav-monthly-journals")
TENANT = "rented"
FILER, REVIEWER = "user:ann", "user:bob"

SOURCES = {"rent_rows.csv": "agent-rents", "maintenance.csv": "agent-repairs", "landlord_payouts.csv": "agent-payouts"}


def folder() -> Path:
    return published.folder("rental-statements")


@dataclass
class Rented:
    """One tenant."""

    credentials: DatabaseCredentials
    store: DocumentStore

    def __post_init__(self) -> None:
        bring_up_to_date(self.credentials.owner, platform_bundle(), RUNBOOK)
        with psycopg.connect(self.credentials.owner) as owner:
            install_chart(owner)
        runbook = read_runbook(RUNBOOK)
        self.ledgers: tuple[SubledgerAsset, ...] = tuple(runbook.ledgers)
        self.derivation: Derivation = runbook.derivations[0]

    @property
    def inputs(self) -> tuple[SubledgerType, ...]:
        return self.derivation.inputs

    async def file(self, path: Path, source: str, *, period: str | None = None) -> IngestOutcome:
        async with TenantDatabase(self.credentials.app) as database:

            async def resolve(names: Iterable[str]) -> Mapping[str, Entity]:
                wanted = set(names)
                known = await entities_by_spelling(database, wanted)
                missing = {slug_of(name): name for name in sorted(wanted - known.keys())}
                made = [Entity(uuid4(), slug, name, "USD") for slug, name in missing.items()]
                create_entities(self.credentials.owner, TENANT, made)
                return await entities_by_spelling(database, wanted)

            return await submit(database, self.store, path, resolve=resolve, submitted_by=FILER, period=period, source=source)

    async def stage(self) -> Counter[str]:
        """Every partition and subledger that has documents waiting."""
        totals: Counter[str] = Counter()
        async with self.connected() as (database, reader):
            waiting = await reader.fetch(
                "SELECT DISTINCT e.id, e.slug, e.currency, i.period, i.subledger FROM ingest.intake i "
                "JOIN system.entities e ON e.id = i.entity_id WHERE i.staged_at IS NULL ORDER BY i.period, e.slug, i.subledger"
            )
            ledgers = {ledger.table: ledger for ledger in self.ledgers}
            for found in waiting:
                ledger, period = ledgers[found.pop("subledger")], found.pop("period")
                run = self.run(EntityRef(**found), period, database, reader)
                metadata = cast("Mapping[str, int]", (await stage(run, ledger)).metadata)
                totals.update({name: metadata[name] for name in ("inserted", "updated", "untouched")})
        return totals

    async def decide(self, kind: SubledgerType, signal: str, *, status: str, filed_by: str = REVIEWER, **where: Any) -> int:
        """One decision over all rows of a status, filed and applied. Returns how many rows moved."""
        async with TenantDatabase(self.credentials.desk) as desk:
            reason = None if signal == "approve" else "looked at, beside the agent's statement"
            filed = await file_signal(desk, kind, signal, filed_by=filed_by, reason=reason, status=status, **where)
        applied = 0
        async with self.connected() as (database, reader):
            for each in filed:
                run = self.run(EntityRef(each.entity_id, "", "USD"), each.period, database, reader)
                applied += (await apply_signals(run.handle(kind), period=each.period)).applied
        return applied

    async def waiting(self) -> list[tuple[str, str]]:
        async with TenantDatabase(self.credentials.app) as database:
            return [(each.entity, each.period) for each in await derivations_waiting(database, [self.derivation])]

    async def derive(self) -> Counter[str]:
        """Every partition that waits for it, as the sensor would have it done."""
        totals: Counter[str] = Counter()
        async with self.connected() as (database, reader):
            entities = {row["slug"]: row for row in await reader.fetch("SELECT id, slug, currency FROM system.entities")}
            for each in await derivations_waiting(database, [self.derivation]):
                staged = await derive(
                    self.run(EntityRef(**entities[each.entity]), each.period, database, reader), self.derivation
                )
                assert staged is not None
                totals.update(inserted=staged.inserted, updated=staged.updated, untouched=staged.untouched)
        return totals

    def run(self, entity: EntityRef, period: str, database: TenantDatabase, reader: TenantDatabase) -> RunbookContext:
        return RunbookContext(TENANT, entity, period, uuid4(), database, reader)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[TenantDatabase, TenantDatabase]]:
        async with TenantDatabase(self.credentials.app) as database, TenantDatabase(self.credentials.app) as reader:
            yield database, reader

    def fetch(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """As the auditor."""
        with psycopg.connect(self.credentials.auditor) as connection:
            return connection.execute(query, parameters).fetchall()

    @property
    def proposals(self) -> SubledgerType:
        return subledger_type("journal_proposals")
