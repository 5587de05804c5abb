"""Payloads become rows: validated, loaded in bulk, never lost.

A payload that satisfies its type becomes a PENDING row. One that does not, or that came with findings, becomes a
NEEDS_ATTENTION row with the findings and the raw payload. Staging the same source again updates rows that only machines
have touched, and leaves every row alone that a person has edited or decided upon.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb
from pydantic import ValidationError

from ntro_dagster.platforms.postgres.database import TenantDatabase, identifiers
from ntro_dagster.subledger.registry import SubledgerType
from ntro_dagster.subledger.row import Row, row_id

CHUNK = 10_000

T = TypeVar("T")

STAGED_FIELDS = ("id", "entity_id", "period", "task_id", "status", "source_ref", "validation_errors", "raw_payload")


@dataclass(frozen=True, slots=True)
class Payload:
    """What an author hands in for one row.

    Attributes:
        values: content fields of the row, typed or as text.
        source_ref: where it came from, `doc:<uuid>#L<line>`; the same source always makes the same row.
        findings: doubts about it, `{code, field, message}`; any finding sends the row to a person.
        raw: the record as it came in, kept with the row when it needs attention. Defaults to `values`.
    """

    values: Mapping[str, Any]
    source_ref: str
    findings: Sequence[Mapping[str, Any]] = ()
    raw: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, payload: Payload | Mapping[str, Any]) -> Payload:
        """A payload, also from a plain dict whose keys `source_ref`, `findings` and `raw` are set apart."""
        if isinstance(payload, Payload):
            return payload
        values = dict(payload)
        return cls(
            source_ref=values.pop("source_ref"),
            findings=values.pop("findings", ()),
            raw=values.pop("raw", None),
            values=values,
        )


@dataclass(slots=True)
class Staged:
    """How many payloads came, and what became of them. `untouched`: rows that were there and did not change."""

    payloads: int = 0
    needs_attention: int = 0
    inserted: int = 0
    updated: int = 0
    codes: dict[str, int] = field(default_factory=dict)

    @property
    def untouched(self) -> int:
        return self.payloads - self.inserted - self.updated

    def note(self, findings: Sequence[Mapping[str, Any]]) -> None:
        self.needs_attention += 1
        for finding in findings:
            self.codes[finding["code"]] = self.codes.get(finding["code"], 0) + 1


def findings_of(error: ValidationError) -> list[dict[str, Any]]:
    """Pydantic's errors as findings, without the input they quote."""
    return [
        {
            "code": f"INVALID_{problem['type'].upper()}",
            "field": str(problem["loc"][0]) if problem["loc"] else None,
            "message": problem["msg"],
        }
        for problem in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def jsonable(value: Any) -> Any:
    """`value` with Decimals, dates and ids as strings, the way the database keeps raw payloads."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, Decimal | UUID):
        return str(value)
    if isinstance(value, date | datetime):
        return value.isoformat()
    return value


class Stager:
    """Validates payloads of one type for one entity, period and run, and merges them into the type's table."""

    def __init__(self, database: TenantDatabase, kind: SubledgerType, *, entity_id: UUID, period: str, task_id: UUID) -> None:
        self._database = database
        self._kind = kind
        self._entity_id = entity_id
        self._period = period
        self._task_id = task_id
        self._content = kind.model.content_fields()
        self._columns = (*STAGED_FIELDS, *self._content)
        self._json = frozenset(name for name in self._content if _holds_json(kind.model, name))
        self._table = sql.Identifier("ledgers", kind.name)
        self._stage = sql.Identifier("pg_temp", f"stage_{kind.name}")

    async def stage(self, payloads: AsyncIterable[Payload | Mapping[str, Any]] | Iterable[Payload | Mapping[str, Any]]) -> Staged:
        """All payloads, in one transaction. Memory stays flat: while the server merges a chunk, the next is validated."""
        staged = Staged()
        async with self._database.transaction():
            await self._database.execute(
                sql.SQL("CREATE TEMPORARY TABLE IF NOT EXISTS {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
                    sql.Identifier(f"stage_{self._kind.name}"), identifiers(self._columns), self._table
                )
            )
            merging: asyncio.Task[tuple[int, int]] | None = None
            async for chunk in _chunks(payloads):
                rows = [self.row(payload, staged) for payload in chunk]
                if merging is not None:
                    _count(staged, await merging)
                staged.payloads += len(rows)
                await self._database.copy_in(self._stage, self._columns, rows)
                merging = asyncio.create_task(self._merge(len(rows)))
                await asyncio.sleep(0)  # lets the task send its statement before the next chunk takes the processor
            if merging is not None:
                _count(staged, await merging)
            await self._database.execute(sql.SQL("DROP TABLE {}").format(self._stage))
        return staged

    def row(self, payload: Payload | Mapping[str, Any], staged: Staged) -> list[Any]:
        """The staged columns of one payload."""
        payload = Payload.of(payload)
        standard = {
            "id": row_id(self._entity_id, self._period, self._kind.name, payload.source_ref),
            "entity_id": self._entity_id,
            "period": self._period,
            "task_id": self._task_id,
            "source_ref": payload.source_ref,
        }
        findings = list(payload.findings)
        if not findings:
            try:
                row = self._kind.model.model_validate({**payload.values, **standard})
            except ValidationError as error:
                findings = findings_of(error)
            else:
                return self._columns_of(row, "PENDING", None, None)
        staged.note(findings)
        return self._columns_of(
            self.loose(payload.values, standard, findings),
            "NEEDS_ATTENTION",
            Jsonb(jsonable(findings)),
            Jsonb(jsonable(payload.raw if payload.raw is not None else payload.values)),
        )

    def loose(self, values: Mapping[str, Any], standard: Mapping[str, Any], findings: list[dict[str, Any]]) -> Row:
        """A NEEDS_ATTENTION row with every value that stands on its own; what does not is a finding, and in the raw."""
        kept = {name: value for name, value in values.items() if name in self._content}
        findings.extend(
            {"code": "FIELD_UNKNOWN", "field": name, "message": "the type has no such field"}
            for name in values
            if name not in self._content and not any(finding.get("field") == name for finding in findings)
        )
        while True:
            try:
                return self._kind.model.model_validate({**kept, **standard, "status": "NEEDS_ATTENTION"})
            except ValidationError as error:
                broken = {str(problem["loc"][0]) for problem in error.errors() if problem["loc"]} & kept.keys()
                known = {finding.get("field") for finding in findings}
                findings.extend(found for found in findings_of(error) if found["field"] not in known)
                if not broken:
                    broken = set(kept)
                for name in broken:
                    del kept[name]
                if not kept:
                    return self._kind.model.model_validate({**standard, "status": "NEEDS_ATTENTION"})

    def _columns_of(self, row: Row, status: str, findings: Jsonb | None, raw: Jsonb | None) -> list[Any]:
        values = row.__dict__
        content = [values[name] if name not in self._json else stored(row, name) for name in self._content]
        return [row.id, self._entity_id, self._period, self._task_id, status, row.source_ref, findings, raw, *content]

    async def _merge(self, staged: int) -> tuple[int, int]:
        """(inserted, updated) of the chunk that lies in the stage, which is empty afterwards."""
        names = {"table": self._table, "stage": self._stage, "columns": identifiers(self._columns)}
        inserted = await self._database.execute(
            sql.SQL("INSERT INTO {table} ({columns}) SELECT {columns} FROM {stage} ON CONFLICT (id) DO NOTHING").format(**names)
        )
        updated = 0
        if inserted < staged:
            updated = await self._update(names)
        await self._database.execute(sql.SQL("TRUNCATE {stage}").format(**names))
        return inserted, updated

    async def _update(self, names: dict[str, sql.Composable]) -> int:
        """Rows that only machines have touched take the new reading. A PENDING row never falls back by itself: where the
        new reading is in doubt, its findings are put beside the row for the reviewer and its content stays.
        """
        content = {
            "assign": assignments(self._content, "s"),
            "old": identifiers(self._content, prefix="t"),
            "new": identifiers(self._content, prefix="s"),
            "open": sql.SQL("t.id = s.id AND t.made_by IS NULL"),
            **names,
        }
        same = await self._database.execute(
            sql.SQL(
                """UPDATE {table} t SET {assign}, task_id = s.task_id, validation_errors = s.validation_errors, updated_at = now()
                     FROM {stage} s WHERE {open} AND t.status = s.status AND t.status IN ('NEEDS_ATTENTION', 'PENDING')
                      AND (({old}) IS DISTINCT FROM ({new}) OR t.validation_errors IS DISTINCT FROM s.validation_errors)"""
            ).format(**content)
        )
        cleared = await self._database.execute(
            sql.SQL(
                """UPDATE {table} t SET {assign}, status = s.status, task_id = s.task_id, validation_errors = NULL, updated_at = now()
                     FROM {stage} s WHERE {open} AND t.status = 'NEEDS_ATTENTION' AND s.status = 'PENDING'"""
            ).format(**content)
        )
        doubted = await self._database.execute(
            sql.SQL(
                """UPDATE {table} t SET validation_errors = s.validation_errors, task_id = s.task_id, updated_at = now()
                     FROM {stage} s WHERE {open} AND t.status = 'PENDING' AND s.status = 'NEEDS_ATTENTION'
                      AND t.validation_errors IS DISTINCT FROM s.validation_errors"""
            ).format(**content)
        )
        return same + cleared + doubted


def _count(staged: Staged, merged: tuple[int, int]) -> None:
    staged.inserted += merged[0]
    staged.updated += merged[1]


def stored(row: Row, name: str) -> Any:
    """A field's value as the driver wants it: structures as JSONB, everything else as it is."""
    value = getattr(row, name)
    return Jsonb(jsonable(value)) if isinstance(value, dict | list) else value


def assignments(names: Sequence[str], source: str) -> sql.Composed:
    """`a = s.a, b = s.b` for a SET clause."""
    return sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(n), sql.Identifier(source, n)) for n in names)


def _holds_json(model: type[Row], name: str) -> bool:
    return any(word in str(model.model_fields[name].annotation) for word in ("dict", "list"))


async def _chunks(items: AsyncIterable[T] | Iterable[T]) -> AsyncIterator[list[T]]:
    chunk: list[T] = []
    async for item in _each(items):
        chunk.append(item)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


async def _each(items: AsyncIterable[T] | Iterable[T]) -> AsyncIterator[T]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
