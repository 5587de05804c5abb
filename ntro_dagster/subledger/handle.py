"""`open(...)` and the handle on one subledger, for one entity and one run (spec 8.2)."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from ntro_dagster.bundles import platform_bundle
from ntro_dagster.errors import NotFoundError, UsageError
from ntro_dagster.platforms.environment import database_from_environment
from ntro_dagster.platforms.ledger_store import LedgerStore, Where
from ntro_dagster.platforms.postgres.database import Actor, TenantDatabase
from ntro_dagster.platforms.postgres.ledger_store import PostgresLedgerStore
from ntro_dagster.subledger.raw import jsonable
from ntro_dagster.subledger.registry import SubledgerType, load_types, subledger_type
from ntro_dagster.subledger.row import Row
from ntro_dagster.subledger.staging import Payload, Staged, Stager
from ntro_dagster.subledger.status import IllegalTransitionError
from ntro_dagster.subledger.tables import table_of


class RowNotFoundError(NotFoundError):
    code = "ROW_NOT_FOUND"
    summary = "no such row under this entity"
    detail = "there is no row {row_id} in {subledger} under this entity"
    mend = "`ntro rows` lists what there is"


class FieldUnknownError(UsageError):
    """Values: `fields`, `subledger`."""

    code = "FIELD_UNKNOWN"
    summary = "the type has no such content field"
    detail = "{subledger} has no content field {fields}"
    mend = "name fields that the row type declares; the platform's own are not to be set"


class RowElsewhereError(UsageError):
    """Values: `row_id`, `subledger`."""

    code = "ROW_ELSEWHERE"
    summary = "a row is another entity's than the handle it was given to"
    detail = "row {row_id} of {subledger} belongs to another entity; nothing was stored"
    mend = "open a handle for that entity"


class SubledgerHandle:
    """Rows of one subledger, one entity, on behalf of one run. Nothing is opened before the first await.

    Every method is one or a few set-based statements in one transaction. Illegal steps raise
    `IllegalTransitionError`; what the database refuses raises `RefusedByDatabaseError` with the rule's code.
    """

    def __init__(
        self, kind: SubledgerType, *, entity_id: UUID, task_id: UUID, database: TenantDatabase, actor: Actor | None = None
    ) -> None:
        self.kind = kind
        self.entity_id = entity_id
        self.task_id = task_id
        self.database = database
        self._actor = actor or Actor.run(task_id)
        self.table = table_of(kind)
        self._store: LedgerStore = PostgresLedgerStore(database)

    async def stream(
        self,
        *,
        period: str | Sequence[str] | None = None,
        status: str | Sequence[str] | None = None,
        ids: Sequence[UUID] | None = None,
    ) -> AsyncIterator[Row]:
        """Rows in the order they came, however many."""
        where = Where(entity_id=self.entity_id, period=period, status=status, ids=ids)
        async for batch in self._store.select(self.table, where):
            for values in batch:
                yield self.model(values)

    async def query(
        self, *, period: str | None = None, status: str | Sequence[str] | None = None, ids: Sequence[UUID] | None = None
    ) -> list[Row]:
        """As `stream`, collected: for results known to be small."""
        return [row async for row in self.stream(period=period, status=status, ids=ids)]

    async def get(self, row_id: UUID) -> Row:
        """Raises `RowNotFoundError`."""
        rows = await self.query(ids=[row_id])
        if not rows:
            raise RowNotFoundError(row_id=row_id, subledger=self.kind.table)
        return rows[0]

    async def stage(
        self, payloads: AsyncIterable[Payload | Mapping[str, Any]] | Iterable[Payload | Mapping[str, Any]], *, period: str
    ) -> Staged:
        """Validate and merge payloads: see `ntro_dagster.subledger.staging`."""
        stager = Stager(self.database, self.kind, entity_id=self.entity_id, period=period, task_id=self.task_id)
        async with self.database.transaction(self._actor):
            return await stager.stage(payloads)

    async def insert(self, rows: Row | Iterable[Row]) -> int:
        """Store complete rows under their own ids; a row that is there already stays as it is. Returns how many are new.

        Raises: `RowElsewhereError`.
        """
        several = [rows] if isinstance(rows, Row) else list(rows)
        for row in several:
            if row.entity_id != self.entity_id:
                raise RowElsewhereError(row_id=row.id, subledger=self.kind.table)
        columns = [name for name in self.table.names if name not in SET_BY_THE_DATABASE]
        async with self.database.transaction(self._actor):
            await self._store.create_stage(self.table, columns)
            await self._store.load_stage(
                self.table, columns, ([_plain(getattr(row, name)) for name in columns] for row in several)
            )
            inserted = await self._store.insert_missing(self.table, columns)
            await self._store.clear_stage(self.table, drop=True)
        return inserted

    async def insert_needs_attention(
        self,
        *,
        period: str,
        raw_payload: Mapping[str, Any],
        validation_errors: Sequence[Mapping[str, Any]],
        source_ref: str,
        values: Mapping[str, Any] | None = None,
    ) -> Staged:
        """Keep a broken payload for a person: whatever of `values` stands on its own is filled in."""
        payload = Payload(values or {}, source_ref, findings=validation_errors, raw=raw_payload)
        return await self.stage([payload], period=period)

    async def edit(self, ids: Sequence[UUID], values: Mapping[str, Any]) -> int:
        """Set content fields of rows that no person has touched. What people edit goes through signals instead.

        Raises: `FieldUnknownError`.
        """
        unknown = [name for name in values if name not in self.kind.model.content_fields()]
        if unknown:
            raise FieldUnknownError(fields=", ".join(unknown), subledger=self.kind.table)
        async with self.database.transaction(self._actor):
            checked = dict(values)
            for row in await self.query(ids=ids):
                new = type(row).model_validate({**row.model_dump(), **values})
                checked = {name: getattr(new, name) for name in values}
            return await self._store.set_values(
                self.table,
                Where(entity_id=self.entity_id, ids=ids),
                {name: _plain(value) for name, value in checked.items()},
                task_id=self.task_id,
            )

    async def transition(
        self, ids: Sequence[UUID], to_status: str, *, from_status: str, signal: UUID | None = None, approved_by: str | None = None
    ) -> int:
        """Move rows along one edge: one guarded UPDATE. Rows that are not in `from_status` stay where they are and are
        not counted.
        """
        if not self.kind.lifecycle.allows(from_status, to_status):
            raise IllegalTransitionError(from_status=from_status, to_status=to_status)
        async with self.database.transaction(self._actor, signal=signal):
            return await self._store.set_status(
                self.table,
                Where(entity_id=self.entity_id, status=from_status, ids=ids),
                to_status,
                task_id=self.task_id,
                approved_by=approved_by,
            )

    async def counts(self, *, period: str | None = None) -> dict[str, int]:
        """Rows by status; statuses without rows are left out."""
        found = await self._store.count_by(self.table, Where(entity_id=self.entity_id, period=period), ["status"])
        return {row["status"]: row["rows"] for row in found}

    async def digest(self, *, period: str, salt: bytes) -> str:
        """Fingerprint of the period's rows and statuses, keyed with a secret of the tenant, so that it tells an outsider
        nothing: 32 hex digits.
        """
        digest = await self._store.digest(self.table, Where(entity_id=self.entity_id, period=period), salt=salt)
        return digest.hex()[:32]

    def model(self, values: Mapping[str, Any]) -> Row:
        """A row as the database holds it: checked when it was written, so not checked again."""
        status: Any = self.kind.model.model_fields["status"].annotation
        return self.kind.model.model_construct(**{**values, "status": status(values["status"])})


SET_BY_THE_DATABASE = frozenset({"created_at", "updated_at", "approved_by", "approved_at", "posted_to_gl", "posted_journal_ref"})
"""Columns of a new row that are not for its author to fill."""


def _plain(value: Any) -> Any:
    return jsonable(value) if isinstance(value, dict | list) else value


def open(
    *,
    name: str,
    entity_id: UUID,
    task_id: UUID,
    tenant_slug: str,
    owner_runbook: str | None = None,
    version: str | None = None,
    database: TenantDatabase | None = None,
    actor: Actor | None = None,
) -> SubledgerHandle:
    """A handle on subledger `name`: the runbook's own, else the platform's; `registry.subledger_type` has the rules.

    The database is the one this process is bound to, unless one is given.
    """
    load_types(platform_bundle())
    return SubledgerHandle(
        subledger_type(name, owner_runbook, version),
        entity_id=entity_id,
        task_id=task_id,
        database=database or database_from_environment(tenant_slug),
        actor=actor,
    )
