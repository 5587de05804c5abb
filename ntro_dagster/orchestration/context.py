"""What a runbook's code is given: which entity and month this is, and the way to its documents and rows."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from dagster import AssetExecutionContext, MultiPartitionKey

from ntro_dagster.bundles.active import loaded_set
from ntro_dagster.errors import NtroError
from ntro_dagster.ingest.records import SubmittedRecord, documents_to_stage, submitted_records
from ntro_dagster.orchestration.failures import Place, at_the_wall
from ntro_dagster.platforms.environment import bound_tenant, database_from_environment
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.handle import SubledgerHandle
from ntro_dagster.subledger.handle import open as open_subledger
from ntro_dagster.subledger.registry import SubledgerType

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EntityRef:
    id: UUID
    slug: str
    currency: str


@dataclass(frozen=True, slots=True)
class RunbookContext:
    """One run's view of one partition.

    Attributes:
        tenant: slug.
        period: `YYYY-MM`.
        run_id: the Dagster run's id, written on every row that the run touches.
        subledger: the one that this step fills; None where it fills none.
    """

    salt_variable: ClassVar[str] = "NTRO_SALT"

    tenant: str
    entity: EntityRef
    period: str
    run_id: UUID
    database: TenantDatabase
    reader: TenantDatabase
    subledger: str | None = None
    _documents: dict[str, tuple[UUID, ...]] = field(default_factory=dict)

    @property
    def salt(self) -> bytes:
        """The tenant's secret for fingerprints that cross the wall."""
        return bytes.fromhex(os.environ[self.salt_variable])

    def handle(self, kind: SubledgerType) -> SubledgerHandle:
        return SubledgerHandle(kind, entity_id=self.entity.id, task_id=self.run_id, database=self.database)

    def open(self, subledger: str, *, owner_runbook: str | None = None) -> SubledgerHandle:
        return open_subledger(
            name=subledger,
            entity_id=self.entity.id,
            task_id=self.run_id,
            tenant_slug=self.tenant,
            owner_runbook=owner_runbook,
            database=self.database,
        )

    async def documents(self) -> tuple[UUID, ...]:
        """Ids of the documents to stage: the same each time this step asks, whatever comes in meanwhile."""
        if self.subledger is None:
            return ()
        if self.subledger not in self._documents:
            found = await documents_to_stage(self.reader, self.subledger, entity_id=self.entity.id, period=self.period)
            self._documents[self.subledger] = tuple(found)
        return self._documents[self.subledger]

    async def records(self) -> AsyncIterator[SubmittedRecord]:
        """The records of `documents()`, read over a connection of their own, so that reading and writing overlap."""
        documents = await self.documents()
        async for record in submitted_records(self.reader, entity_id=self.entity.id, documents=documents):
            yield record


@asynccontextmanager
async def runbook_context(context: AssetExecutionContext) -> AsyncIterator[RunbookContext]:
    """The context of a partitioned step. Closes its connections when done."""
    key = context.partition_key
    assert isinstance(key, MultiPartitionKey)  # noqa: S101
    entity, period = key.keys_by_dimension["entity"], key.keys_by_dimension["period"]
    tenant = bound_tenant()
    async with database_from_environment() as database, database_from_environment() as reader:
        row = await database.fetch_one("SELECT id, slug, currency FROM system.entities WHERE slug = %s", [entity])
        if row is None:
            raise UnknownPartitionEntityError(entity=entity)
        yield RunbookContext(tenant, EntityRef(**row), period, UUID(context.run_id), database, reader)


class UnknownPartitionEntityError(NtroError):
    code = "ENTITY_UNKNOWN"
    summary = "the partition's entity is not in the tenant's database"
    detail = "entity {entity} is not in the tenant's database"
    mend = "run `ntro entity create` for it again: it completes what is missing"


_BEGUN = """
    INSERT INTO system.runs (run_id, entity_id, period, code, runbook, version)
    VALUES (%(run)s, %(entity)s, %(period)s, %(code)s, %(runbook)s, %(version)s) ON CONFLICT DO NOTHING"""


def _code(context: AssetExecutionContext, run: RunbookContext) -> dict[str, Any]:
    """By which code the run is carried out: a runbook's version, where the job is a runbook's, within the set of all.

    As this process has loaded it: the run's tag was given when the run was asked for, and it may have waited in the queue since.
    """
    loaded = loaded_set()
    bundle = next((each for each in loaded.bundles if each.identifier == context.job_name), None)
    return {
        "run": run.run_id,
        "entity": run.entity.id,
        "period": run.period,
        "code": loaded.code,
        "runbook": bundle.slug if bundle else None,
        "version": bundle.version if bundle else None,
    }


def in_partition(context: AssetExecutionContext, step: Callable[[RunbookContext], Coroutine[Any, Any, T]]) -> T:
    """Run an async step in its partition's context, behind the wall."""

    async def run() -> T:
        async with runbook_context(context) as opened:
            await opened.database.execute(_BEGUN, _code(context, opened))
            return await step(opened)

    partition = context.partition_key if context.has_partition_key else None
    with at_the_wall(Place(context.run_id, context.get_step_execution_context().step.key, partition)):
        return asyncio.run(run())
