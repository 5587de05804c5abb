"""One entity, one flat: rows of nav-monthly-journals put in by hand, and its derivation carried out as the sensor would."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import uuid4

import psycopg

from ntro_dagster.bundles import platform_bundle, runbook_bundle
from ntro_dagster.orchestration.context import EntityRef, RunbookContext
from ntro_dagster.orchestration.derived import Derivation, derivations_waiting, derive
from ntro_dagster.orchestration.runbook import read_runbook
from ntro_dagster.orchestration.work import Work, waiting
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.subledger.registry import SubledgerType, subledger_type, subledger_types
from ntro_dagster.subledger.review import apply_signals, file_signal
from ntro_dagster.subledger.staging import Payload, Staged
from ntro_dagster.tenant.deployment import bring_up_to_date

RUNBOOK = runbook_bundle("nav-monthly-journals")
RENT = {"property_ref": "P1", "unit": "Unit 2A", "tenant_name": "Tenant 1", "currency": "USD", "monthly_rent": "1000.00"}


class LetFlat:
    def __init__(self, credentials: DatabaseCredentials) -> None:
        self.credentials = credentials
        bring_up_to_date(credentials.owner, platform_bundle(), RUNBOOK)
        self.entity, self.currency = uuid4(), "USD"
        with psycopg.connect(credentials.owner) as owner:
            owner.execute(
                "INSERT INTO system.entities (id, slug, name, currency, schema_name) VALUES (%s, 'flat', 'Flat', 'USD', 'flat')",
                [self.entity],
            )
            owner.execute("INSERT INTO ledgers.accounts (code, name, type) VALUES ('1000', 'Cash', 'ASSET')")
        self.derivation: Derivation = read_runbook(RUNBOOK).derivations[0]
        self.rental: SubledgerType = self.derivation.inputs[0]
        self.proposals = subledger_type("journal_proposals")

    def rent(self, period: str, ref: str = "doc:1#L1", **values: str) -> None:
        """A row of the rental statement, as a run stages it."""

        async def stage(run: RunbookContext) -> Staged:
            return await run.handle(self.rental).stage([Payload(RENT | values, ref)], period=period)

        self.in_month(period, stage)

    def decide(self, kind: SubledgerType, signal: str, *, by: str = "user:bob", **where: Any) -> int:
        """Filed and applied; returns how many rows moved."""

        async def file() -> list[Any]:
            async with TenantDatabase(self.credentials.desk) as desk:
                reason = None if signal == "approve" else "looked at"
                return await file_signal(desk, kind, signal, filed_by=by, reason=reason, entity_id=self.entity, **where)

        applied = 0
        for filed in asyncio.run(file()):

            async def apply(run: RunbookContext) -> int:
                return (await apply_signals(run.handle(kind), period=run.period)).applied

            applied += self.in_month(filed.period, apply)
        return applied

    def derive(self, period: str, derivation: Derivation | None = None) -> Staged | None:
        return self.in_month(period, lambda run: derive(run, derivation or self.derivation))

    def waiting(self) -> list[str]:
        """Months for which the sensor would start a run."""

        async def ask() -> list[str]:
            async with TenantDatabase(self.credentials.app) as database:
                return [each.period for each in await derivations_waiting(database, [self.derivation])]

        return asyncio.run(ask())

    def closing(self) -> list[str]:
        async def ask() -> list[str]:
            async with TenantDatabase(self.credentials.app) as database:
                tables = {kind.table: kind.lifecycle for kind in subledger_types(platform_bundle(), RUNBOOK)}
                return [each.period for each in await waiting(database, Work.CLOSE, tables)]

        return asyncio.run(ask())

    def in_month(self, period: str, step: Any) -> Any:
        async def run() -> Any:
            async with TenantDatabase(self.credentials.app) as database, TenantDatabase(self.credentials.app) as reader:
                return await step(
                    RunbookContext("acme", EntityRef(self.entity, "flat", self.currency), period, uuid4(), database, reader)
                )

        return asyncio.run(run())

    def proposed(self, period: str) -> dict[str, dict[str, Any]]:
        """By the author's name of the row."""
        found = self.fetch(
            "SELECT split_part(source_ref, '/', 2), id, status, lines, coalesce(validation_errors, '[]') "
            "FROM ledgers.journal_proposals WHERE period = %s ORDER BY 1",
            period,
        )
        return {
            ref: {
                "id": row,
                "status": status,
                "debit": lines[0]["debit"] if lines else None,
                "codes": [f["code"] for f in findings],
            }
            for ref, row, status, lines, findings in found
        }

    def note(self, period: str) -> tuple[int, int]:
        """(wanted, done)"""
        ((wanted, done),) = self.fetch("SELECT wanted, done FROM system.derivations WHERE period = %s", period)
        return wanted, done

    def fetch(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.credentials.auditor) as connection:
            return connection.execute(query, parameters).fetchall()

    def with_author(self, author: Any) -> Derivation:
        """The same derivation with another author."""
        author.__module__ = self.derivation.ledger.author.__module__  # by which its bundle is known
        return replace(self.derivation, ledger=replace(self.derivation.ledger, author=author))
