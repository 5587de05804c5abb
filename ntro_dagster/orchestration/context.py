"""What a runbook's code is given: which entity and month this is, and the way to its documents and rows."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from uuid import UUID

from psycopg.types.json import Jsonb

from ntro_dagster.boundary.names import RUN_KEY_TAG, request_of
from ntro_dagster.bundles import Bundle
from ntro_dagster.bundles.active import loaded_set
from ntro_dagster.bundles.parameter_values import Value
from ntro_dagster.errors import NtroError, TransientError
from ntro_dagster.ingest.records import SubmittedRecord, documents_to_stage, few_records, submitted_records
from ntro_dagster.orchestration.failures import Place, at_the_wall
from ntro_dagster.orchestration.parameters import as_typed, parameters_of
from ntro_dagster.orchestration.task_requests import take_up
from ntro_dagster.platforms.environment import bound_tenant, database_from_environment, kept_database
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.handle import SubledgerHandle
from ntro_dagster.subledger.handle import open as open_subledger
from ntro_dagster.subledger.registry import SubledgerType
from ntro_dagster.subledger.row import Row

if TYPE_CHECKING:
    from dagster import AssetExecutionContext

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
        subledger: the one that this step fills from documents; None where it fills none.
        bundle: the runbook's, in the version that this entity runs; None in a run of the platform's own job.
        parameters: every parameter of the version that runs, as the kind it is of: what is set for this entity, else the
            runbook's default, else None.
        derived_from: types of whose rows this step makes others; `earlier`: those of the entity's earlier months too.
    """

    salt_variable: ClassVar[str] = "NTRO_SALT"

    tenant: str
    entity: EntityRef
    period: str
    run_id: UUID
    database: TenantDatabase
    reader: TenantDatabase
    subledger: str | None = None
    bundle: Bundle | None = None
    parameters: Mapping[str, Value] = field(default_factory=dict)
    derived_from: tuple[SubledgerType, ...] = ()
    earlier: bool = False
    _documents: dict[str, tuple[UUID, ...]] = field(default_factory=dict)
    _few: dict[str, list[SubmittedRecord]] = field(default_factory=dict)

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

    async def read_ahead(self) -> tuple[UUID, ...]:
        """Before rows are staged: which documents to stage, and their records where they are few, over the connection that
        serves all else. Returns: `documents()`.
        """
        if self.subledger is None:
            return ()
        place: dict[str, Any] = {"entity_id": self.entity.id, "period": self.period}
        found = await documents_to_stage(self.database, self.subledger, **place)
        self._documents[self.subledger] = tuple(found)
        few = await few_records(self.database, documents=found, **place)
        if few is not None:
            self._few[self.subledger] = few
        return tuple(found)

    async def documents(self) -> tuple[UUID, ...]:
        """Ids of the documents to stage: the same each time this step asks, whatever comes in meanwhile."""
        if self.subledger is None:
            return ()
        if self.subledger not in self._documents:
            found = await documents_to_stage(self.reader, self.subledger, entity_id=self.entity.id, period=self.period)
            self._documents[self.subledger] = tuple(found)
        return self._documents[self.subledger]

    async def records(self) -> AsyncIterator[SubmittedRecord]:
        """The records of `documents()`. Where they are many, over a connection of their own: reading and writing overlap."""
        for record in self._few.get(self.subledger or "", ()):
            yield record
        if self.subledger not in self._few:
            documents = await self.documents()
            async for record in submitted_records(self.reader, entity_id=self.entity.id, period=self.period, documents=documents):
                yield record

    async def rows(self, subledger: str) -> AsyncIterator[Row]:
        """The rows of an input that people let through: approved, and neither rejected nor left out; those of earlier months
        too where the step looks at them. Each names its month in `period`.

        Raises: `RowsNotDeclaredError`.
        """
        kind = next((kind for kind in self.derived_from if kind.name == subledger), None)
        if kind is None:
            raise RowsNotDeclaredError(subledger=subledger)
        handle = SubledgerHandle(kind, entity_id=self.entity.id, task_id=self.run_id, database=self.reader)
        periods = await self._periods(kind) if self.earlier else [self.period]
        async for row in handle.stream(period=periods, status=kind.lifecycle.let_through):
            yield row

    async def _periods(self, kind: SubledgerType) -> list[str]:
        found = await self.reader.fetch(
            "SELECT period FROM system.partition_activity WHERE subledger = %s AND entity_id = %s AND period <= %s ORDER BY 1",
            [kind.table, self.entity.id, self.period],
        )
        return [row["period"] for row in found]


class RowsNotDeclaredError(NtroError):
    """Values: `subledger`."""

    code = "ROWS_NOT_DECLARED"
    summary = "a step asks for rows that it did not say it is made of"
    detail = "rows of {subledger} are not among those that the step is made of"
    mend = "name the subledger in `@subledger_asset(…, rows=…)` and in runbook.md: what it is made of decides when it runs again"


@asynccontextmanager
async def runbook_context(context: AssetExecutionContext) -> AsyncIterator[RunbookContext]:
    """The context of a partitioned step. Its connection serves the run's other steps as well; the reader's is opened by the
    first read, and closed when done."""
    from dagster import MultiPartitionKey  # noqa: PLC0415 - authors import this module, and may need no Dagster

    key = context.partition_key
    assert isinstance(key, MultiPartitionKey)  # noqa: S101
    entity, period = key.keys_by_dimension["entity"], key.keys_by_dimension["period"]
    tenant = bound_tenant()
    async with AsyncExitStack() as opened:
        database, reader = await opened.enter_async_context(kept_database()), database_from_environment()
        opened.push_async_callback(reader.close)
        row = await database.fetch_one("SELECT id, slug, currency FROM system.entities WHERE slug = %s", [entity])
        if row is None:
            raise UnknownPartitionEntityError(entity=entity)
        yield RunbookContext(tenant, EntityRef(**row), period, UUID(context.run.run_id), database, reader)


class PinnedVersionMissingError(TransientError):
    """Values: `version`."""

    code = "PINNED_VERSION_MISSING"
    summary = "the version that the entity is pinned to is not loaded yet"
    detail = "the entity is pinned to {version}, which this process has not loaded"
    mend = "`ntro up` completes a binding that was interrupted; the run is tried again by itself"


class UnknownPartitionEntityError(NtroError):
    code = "ENTITY_UNKNOWN"
    summary = "the partition's entity is not in the tenant's database"
    detail = "entity {entity} is not in the tenant's database"
    mend = "run `ntro entity create` for it again: it completes what is missing"


_BEGUN = """
    INSERT INTO system.runs (run_id, entity_id, period, code, runbook, version, parameters)
    VALUES (%(run)s, %(entity)s, %(period)s, %(code)s, %(runbook)s, %(version)s, %(parameters)s) ON CONFLICT DO NOTHING"""


async def _begun(context: AssetExecutionContext, run: RunbookContext) -> RunbookContext:
    """Notes by which code the run is carried out: a version, where the job is a runbook's, within the set of all; and with
    which parameters.

    Raises: `PinnedVersionMissingError`, `ParametersUnfitError`, `RequestSettledError`.
    """
    loaded = loaded_set()
    own = next((bundle for bundle in loaded.bundles if bundle.identifier == context.job_name), None)
    if own is not None:
        version = await pinned_to(run.database, str(own.slug), run.entity.slug) or own.version
        own = next((b for b in (own, *loaded.pinned) if (b.slug, b.version) == (own.slug, version)), None)
        if own is None:
            raise PinnedVersionMissingError(version=version)
    if context.run.parent_run_id is None and (request := request_of(context.run.tags.get(RUN_KEY_TAG))):
        await take_up(run.database, request, run_id=run.run_id, entity_id=run.entity.id, period=run.period)
    values = await parameters_of(run.database, own, run_id=run.run_id, entity_id=run.entity.id) if own else {}
    await run.database.execute(
        _BEGUN,
        {
            "run": run.run_id,
            "entity": run.entity.id,
            "period": run.period,
            "code": loaded.code,
            "runbook": own.slug if own else None,
            "version": own.version if own else None,
            "parameters": Jsonb(values),
        },
    )
    return replace(run, bundle=own, parameters=as_typed(own, values) if own else {})


async def pinned_to(database: TenantDatabase, runbook: str, entity: str) -> str | None:
    """The version whose functions every run of `runbook` for `entity` (slug) uses; None: the active one."""
    row = await database.fetch_one(_PINNED, {"runbook": runbook, "entity": entity})
    return row["pinned"] if row else None


_PINNED = """
    SELECT w.pinned FROM system.workflows w JOIN system.entities e ON e.id = w.entity_id
     WHERE w.runbook = %(runbook)s AND e.slug = %(entity)s AND w.closed_at IS NULL"""


def in_partition(context: AssetExecutionContext, step: Callable[[RunbookContext], Coroutine[Any, Any, T]]) -> T:
    """Run an async step in its partition's context, behind the wall."""

    async def run() -> T:
        async with runbook_context(context) as opened:
            return await step(await _begun(context, opened))

    partition = context.partition_key if context.has_partition_key else None
    with at_the_wall(Place(context.run.run_id, context.get_step_execution_context().step.key, partition)):
        return asyncio.run(run())
