"""`open(...)` and the handle on one subledger, for one entity and one run (spec 8.2)."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb

from ntro_dagster.bundles import platform_bundle
from ntro_dagster.errors import NotFoundError
from ntro_dagster.platforms.environment import database_from_environment
from ntro_dagster.platforms.postgres.database import Actor, TenantDatabase, conditions, identifiers
from ntro_dagster.subledger.raw import jsonable
from ntro_dagster.subledger.registry import SubledgerType, load_types, subledger_type
from ntro_dagster.subledger.row import Row
from ntro_dagster.subledger.staging import Payload, Staged, Stager, stored
from ntro_dagster.subledger.status import IllegalTransitionError


class RowNotFoundError(NotFoundError):
    code = "ROW_NOT_FOUND"
    summary = "no such row under this entity"
    detail = "there is no row {row_id} in {subledger} under this entity"
    mend = "`ntro rows` lists what there is"


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
        self._table = sql.Identifier("ledgers", kind.name)

    async def stream(
        self, *, period: str | None = None, status: str | Sequence[str] | None = None, ids: Sequence[UUID] | None = None
    ) -> AsyncIterator[Row]:
        """Rows in the order they came, however many."""
        where, values = conditions({"entity_id": self.entity_id, "period": period, "status": status, "id": ids})
        query = sql.SQL("SELECT * FROM {} WHERE {} ORDER BY created_at, source_ref, id").format(self._table, where)
        async for batch in self.database.stream(query, values):
            for values_of_row in batch:
                yield self.model(values_of_row)

    async def query(
        self, *, period: str | None = None, status: str | Sequence[str] | None = None, ids: Sequence[UUID] | None = None
    ) -> list[Row]:
        """As `stream`, collected: for results known to be small."""
        return [row async for row in self.stream(period=period, status=status, ids=ids)]

    async def get(self, row_id: UUID) -> Row:
        """Raises `RowNotFoundError`."""
        rows = await self.query(ids=[row_id])
        if not rows:
            raise RowNotFoundError(row_id=row_id, subledger=self.kind.name)
        return rows[0]

    async def stage(
        self, payloads: AsyncIterable[Payload | Mapping[str, Any]] | Iterable[Payload | Mapping[str, Any]], *, period: str
    ) -> Staged:
        """Validate and merge payloads: see `ntro_dagster.subledger.staging`."""
        stager = Stager(self.database, self.kind, entity_id=self.entity_id, period=period, task_id=self.task_id)
        async with self.database.transaction(self._actor):
            return await stager.stage(payloads)

    async def insert(self, rows: Row | Iterable[Row]) -> int:
        """Store complete rows under their own ids; a row that is there already stays as it is. Returns how many are new."""
        several = [rows] if isinstance(rows, Row) else list(rows)
        content = self.kind.model.content_fields()
        columns = ("id", "entity_id", "period", "task_id", "status", "source_ref", "validation_errors", "raw_payload", *content)
        stage = sql.Identifier("pg_temp", f"insert_{self.kind.name}")
        names = identifiers(columns)
        async with self.database.transaction(self._actor):
            await self.database.execute(
                sql.SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
                    sql.Identifier(f"insert_{self.kind.name}"), names, self._table
                )
            )
            await self.database.copy_in(stage, columns, ([stored(row, name) for name in columns] for row in several))
            inserted = await self.database.execute(
                sql.SQL("INSERT INTO {} ({names}) SELECT {names} FROM {} ON CONFLICT (id) DO NOTHING").format(
                    self._table, stage, names=names
                )
            )
            await self.database.execute(sql.SQL("DROP TABLE {}").format(stage))
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
        """Set content fields of rows that no person has touched. What people edit goes through signals instead."""
        unknown = [name for name in values if name not in self.kind.model.content_fields()]
        if unknown:
            raise RowNotFoundError(row_id=", ".join(unknown), subledger=self.kind.name)
        assign = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in values)
        async with self.database.transaction(self._actor):
            for row in await self.query(ids=ids):
                type(row).model_validate({**row.model_dump(), **values})
            return await self.database.execute(
                sql.SQL("UPDATE {} SET {}, task_id = %s, updated_at = now() WHERE entity_id = %s AND id = ANY(%s)").format(
                    self._table, assign
                ),
                [
                    *(Jsonb(jsonable(value)) if isinstance(value, dict | list) else value for value in values.values()),
                    self.task_id,
                    self.entity_id,
                    list(ids),
                ],
            )

    async def transition(
        self, ids: Sequence[UUID], to_status: str, *, from_status: str, signal: UUID | None = None, approved_by: str | None = None
    ) -> int:
        """Move rows along one edge: one guarded UPDATE. Rows that are not in `from_status` stay where they are and are
        not counted.
        """
        if not self.kind.model.lifecycle.allows(from_status, to_status):
            raise IllegalTransitionError(from_status=from_status, to_status=to_status)
        stamp = sql.SQL(", approved_by = %(by)s, approved_at = now()") if approved_by else sql.SQL("")
        async with self.database.transaction(self._actor, signal=signal):
            return await self.database.execute(
                sql.SQL(
                    "UPDATE {} SET status = %(to)s, task_id = %(task)s, updated_at = now(){} "
                    "WHERE entity_id = %(entity)s AND status = %(from)s AND id = ANY(%(ids)s)"
                ).format(self._table, stamp),
                {
                    "to": to_status,
                    "from": from_status,
                    "task": self.task_id,
                    "entity": self.entity_id,
                    "ids": list(ids),
                    "by": approved_by,
                },
            )

    async def counts(self, *, period: str | None = None) -> dict[str, int]:
        """Rows by status; statuses without rows are left out."""
        where, values = conditions({"entity_id": self.entity_id, "period": period})
        rows = await self.database.fetch(
            sql.SQL("SELECT status, count(*) AS rows FROM {} WHERE {} GROUP BY status ORDER BY status").format(
                self._table, where
            ),
            values,
        )
        return {row["status"]: row["rows"] for row in rows}

    async def digest(self, *, period: str, salt: bytes) -> str:
        """Fingerprint of the period's rows and statuses, keyed with a secret of the tenant, so that it tells an outsider
        nothing: 32 hex digits.
        """
        found = await self.database.fetch_one(
            sql.SQL(
                "SELECT sha256(%s || coalesce(string_agg(uuid_send(id) || convert_to(status, 'UTF8') || {digest}(t), NULL ORDER BY id), '')) "
                "AS digest FROM {table} t WHERE entity_id = %s AND period = %s"
            ).format(digest=sql.Identifier("ledgers", f"{self.kind.name}_digest"), table=self._table),
            [salt, self.entity_id, period],
        )
        assert found is not None  # noqa: S101
        return bytes(found["digest"]).hex()[:32]

    def model(self, values: Mapping[str, Any]) -> Row:
        """A row as the database holds it: checked when it was written, so not checked again."""
        return self.kind.model.model_construct(**values)


def open(  # noqa: A001
    *,
    name: str,
    entity_id: UUID,
    task_id: UUID,
    tenant_slug: str,
    owner_runbook: str | None = None,
    database: TenantDatabase | None = None,
    actor: Actor | None = None,
) -> SubledgerHandle:
    """A handle on subledger `name`. The database is the one this process is bound to, unless one is given."""
    load_types(platform_bundle())
    return SubledgerHandle(
        subledger_type(name, owner_runbook),
        entity_id=entity_id,
        task_id=task_id,
        database=database or database_from_environment(tenant_slug),
        actor=actor,
    )
