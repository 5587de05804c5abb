"""Somebody's books, taken over: journals imported, approved by a second person, posted, each month closed and sealed in order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg

from ntro_dagster.bundles import platform_bundle
from ntro_dagster.gl.accounts import add_accounts
from ntro_dagster.gl.chart import install_chart
from ntro_dagster.gl.imports.importing import Imported, Order, accounts_missing, import_journals
from ntro_dagster.gl.imports.mapping import read_mapping
from ntro_dagster.gl.posting import post_approved
from ntro_dagster.ingest.store import DocumentStore
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.subledger import SubledgerHandle
from ntro_dagster.subledger import open as open_subledger
from ntro_dagster.subledger.deployment import deploy
from ntro_dagster.subledger.review import apply_signals, file_signal
from ntro_dagster.tenant.entities import Entity, create_entities

IMPORTER, APPROVER, TENANT = "user:ann", "user:bob", "taken-over"


@dataclass
class TakenOver:
    """One entity of one tenant."""

    credentials: DatabaseCredentials
    store: DocumentStore
    currency: str = "USD"

    def __post_init__(self) -> None:
        deploy(self.credentials.owner, platform_bundle())
        self.entity = Entity(uuid4(), "books", "Books", self.currency)
        create_entities(self.credentials.owner, TENANT, [self.entity])
        with psycopg.connect(self.credentials.owner) as owner:
            install_chart(owner)

    def handle(self, database: TenantDatabase, run: UUID | None = None) -> SubledgerHandle:
        return open_subledger(
            name="journal_proposals", entity_id=self.entity.id, task_id=run or uuid4(), tenant_slug=TENANT, database=database
        )

    async def bring_in(self, path: Path, mapping: Path, *, accounts: bool = True) -> Imported:
        order = Order(path, read_mapping(mapping), IMPORTER)
        app, other, desk = (TenantDatabase(url) for url in (self.credentials.app, self.credentials.app, self.credentials.desk))
        async with app, other, desk:
            if accounts:
                new = await accounts_missing(self.handle(app), self.store, order, currency=self.currency)
                add_accounts(self.credentials.owner, new, by="operator:test")
            return await import_journals(self.handle(app), other, desk, self.store, order, currency=self.currency)

    async def approve(self, period: str) -> int:
        async with TenantDatabase(self.credentials.app) as app, TenantDatabase(self.credentials.desk) as desk:
            handle = self.handle(app)
            await file_signal(
                desk, handle.kind, "approve", filed_by=APPROVER, entity_id=self.entity.id, period=period, status="PENDING"
            )
            return (await apply_signals(handle, period=period)).applied

    async def post(self, period: str) -> int:
        async with TenantDatabase(self.credentials.app) as app:
            return (await post_approved(self.handle(app), period=period, currency=self.currency)).rows

    def close(self, period: str) -> None:
        """By an approver, with a reason that answers what only a person can judge; then the seal, as a run makes it."""
        with psycopg.connect(self.credentials.desk) as desk:
            act = desk.execute(
                "INSERT INTO system.period_acts (entity_id, period, act, login, reason) "
                "VALUES (%s, %s, 'CLOSE', %s, 'net assets move as the books say') RETURNING id",
                [self.entity.id, period, APPROVER],
            ).fetchone()
        assert act is not None
        with psycopg.connect(self.credentials.app) as app:
            app.execute(
                "INSERT INTO ledgers.seals (act_id, entity_id, period, run_id) VALUES (%s, %s, %s, %s)",
                [act[0], self.entity.id, period, uuid4()],
            )

    def fetch(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """As the auditor."""
        with psycopg.connect(self.credentials.auditor) as connection:
            return connection.execute(query, parameters).fetchall()
