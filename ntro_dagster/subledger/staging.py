"""Payloads become rows: validated, loaded in bulk, never lost.

A payload that satisfies its type becomes a PENDING row. One that does not, or that came with findings, becomes a
NEEDS_ATTENTION row with the findings and the raw payload. Staging the same source again updates rows that only machines
have touched, and leaves every row alone that a person has edited or decided upon.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb
from pydantic import ValidationError

from ntro_dagster.errors import UsageError
from ntro_dagster.platforms.postgres.database import TenantDatabase, identifiers
from ntro_dagster.subledger.raw import holds_escapes, jsonable, storable
from ntro_dagster.subledger.registry import SubledgerType
from ntro_dagster.subledger.row import Row, row_ids
from ntro_dagster.subledger.status import SubledgerStatus

CHUNK = 10_000

T = TypeVar("T")

PARTITION_FIELDS = ("entity_id", "period", "task_id")
"""The same for every row of a batch."""

STAGED_FIELDS = ("status", "validation_errors", "raw_payload", "id", "source_ref")
"""Written for each row before its content."""


class SourceRefRepeatedError(UsageError):
    code = "SOURCE_REF_REPEATED"
    summary = "two payloads of one batch name the same source and differ"
    detail = "two payloads of one batch name the same source and differ: {source_ref}"
    mend = "give every payload a source_ref of its own, for instance with its line; nothing of this batch was staged"


class Payload(NamedTuple):
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
            code = str(finding.get("code"))
            self.codes[code] = self.codes.get(code, 0) + 1


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


class Stager:
    """Validates payloads of one type for one entity, period and run, and merges them into the type's table."""

    def __init__(self, database: TenantDatabase, kind: SubledgerType, *, entity_id: UUID, period: str, task_id: UUID) -> None:
        self._database = database
        self._kind = kind
        self._partition: dict[str, Any] = {"entity_id": entity_id, "period": period, "task_id": task_id}
        self._id = row_ids(entity_id, period, kind.name)
        self._content = kind.model.content_fields()
        self._known = frozenset(self._content)
        self._columns = (*STAGED_FIELDS, *self._content)
        self._values = itemgetter("id", "source_ref", *self._content)
        self._json = tuple(name for name in self._content if _holds(kind.model, name, "dict", "list"))
        self._text = tuple(name for name in self._content if name not in self._json and _holds(kind.model, name, "str"))
        self._table = sql.Identifier("ledgers", kind.name)
        self._stage = sql.Identifier("pg_temp", f"stage_{kind.name}")

    async def stage(self, payloads: AsyncIterable[Payload | Mapping[str, Any]] | Iterable[Payload | Mapping[str, Any]]) -> Staged:
        """All payloads, in one transaction. Memory stays flat: while the server merges a chunk, the next is validated.

        Raises: `SourceRefRepeatedError`.
        """
        staged = Staged()
        merging: asyncio.Task[tuple[int, int]] | None = None
        async with self._database.transaction():
            await self._database.execute(
                sql.SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
                    sql.Identifier(f"stage_{self._kind.name}"), identifiers(self._columns), self._table
                )
            )
            try:
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
            finally:
                if merging is not None and not merging.done():  # the payloads failed: the connection must come to rest first
                    await asyncio.wait([merging])
            await self._database.execute(sql.SQL("DROP TABLE {}").format(self._stage))
        return staged

    def row(self, payload: Payload | Mapping[str, Any], staged: Staged) -> Sequence[Any]:
        """The staged columns of one payload."""
        values, reference, findings, raw = Payload.of(payload)
        if not findings and values.keys() <= self._known and storable(reference):
            found = self._validated(values, reference, "PENDING")
            if isinstance(found, Row):
                unstorable = self._unstorable(found.__dict__)
                if not unstorable:
                    return self._columns_of(found, "PENDING", None, None)
                found = unstorable
            findings = found
        doubts = [*findings, *self._strange(values, reference)]
        row = self._loose(values, reference, doubts)
        staged.note(doubts)
        try:
            kept = jsonable(raw if raw is not None else values)
        except RecursionError:
            kept = {"$repr": "nested too deeply; the document holds it"}
        return self._columns_of(row, "NEEDS_ATTENTION", Jsonb(jsonable(doubts)), Jsonb(kept))

    def _validated(self, values: Mapping[str, Any], reference: str, status: str) -> Row | list[dict[str, Any]]:
        """The row, or why the values do not make one. A check of an author's that does not cope with a value is a finding too:
        one payload never stops a batch."""
        try:
            return self._kind.model.model_validate(
                {**values, **self._partition, "id": self._id(reference), "source_ref": reference, "status": status}
            )
        except ValidationError as error:
            return findings_of(error)
        except Exception as error:
            return [_finding("VALIDATION_CRASHED", None, f"the type's own check failed with {type(error).__name__}")]

    def _strange(self, values: Mapping[str, Any], reference: str) -> list[dict[str, Any]]:
        """Findings about names: fields that are not the author's to fill, and a source that cannot be written down."""
        strange = [
            _finding("FIELD_UNKNOWN", str(name), "not a content field of the type") for name in values if name not in self._known
        ]
        if not storable(reference):
            strange.append(
                _finding("TEXT_NOT_STORABLE", "source_ref", "holds a NUL or half a surrogate pair; written with escapes")
            )
        return strange

    def _unstorable(self, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Findings for content that PostgreSQL cannot hold as it is: it is not for us to change it silently."""
        texts = [name for name in self._text if values[name] and not storable(values[name])]
        trees = [name for name in self._json if values[name] and holds_escapes(jsonable(values[name]))]
        return [
            _finding("TEXT_NOT_STORABLE", name, "holds what the database cannot keep; see the raw payload")
            for name in texts + trees
        ]

    def _loose(self, values: Mapping[str, Any], reference: str, findings: list[Mapping[str, Any]]) -> Row:
        """A NEEDS_ATTENTION row with every value that stands on its own; what does not is a finding, and in the raw."""
        reference = reference if storable(reference) else _escaped(reference)
        kept = {name: value for name, value in values.items() if name in self._known}
        while True:
            found = self._validated(kept, reference, "NEEDS_ATTENTION")
            if isinstance(found, Row):
                found_here = self._unstorable(found.__dict__)
                if not found_here:
                    return found
                found = found_here
            known = {finding.get("field") for finding in findings}
            findings.extend(finding for finding in found if finding["field"] not in known)
            if not kept:  # not even an empty row satisfies the type: it is kept all the same
                return self._kind.model.model_construct(
                    **self._partition, id=self._id(reference), source_ref=reference, status=SubledgerStatus.NEEDS_ATTENTION
                )
            broken = {finding["field"] for finding in found} & kept.keys()
            for name in broken or set(kept):
                del kept[name]

    def _columns_of(self, row: Row, status: str, findings: Jsonb | None, raw: Jsonb | None) -> Sequence[Any]:
        values = row.__dict__
        for name in self._json:
            if values[name] is not None:
                values[name] = Jsonb(jsonable(values[name]))
        return (status, findings, raw, *self._values(values))

    async def _merge(self, staged: int) -> tuple[int, int]:
        """(inserted, updated) of the chunk that lies in the stage, which is empty afterwards."""
        names = {
            "table": self._table,
            "stage": self._stage,
            "columns": identifiers(self._columns),
            "partition": identifiers(PARTITION_FIELDS),
        }
        inserted = await self._database.execute(
            sql.SQL(
                "INSERT INTO {table} ({columns}, {partition}) "
                "SELECT {columns}, %(entity_id)s, %(period)s, %(task_id)s FROM {stage} ON CONFLICT (id) DO NOTHING"
            ).format(**names),
            self._partition,
        )
        updated = 0
        if inserted < staged:
            await self._database.execute(sql.SQL("ANALYZE {stage}").format(**names))
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
            "stamp": sql.SQL("task_id = %(task_id)s, updated_at = now()"),
            "open": sql.SQL("t.id = s.id AND t.made_by IS NULL"),
            **names,
        }
        await self._refuse_repeated(content)
        same = await self._database.execute(
            sql.SQL(
                """UPDATE {table} t SET {assign}, {stamp}, validation_errors = s.validation_errors
                     FROM {stage} s WHERE {open} AND t.status = s.status AND t.status IN ('NEEDS_ATTENTION', 'PENDING')
                      AND (({old}) IS DISTINCT FROM ({new}) OR t.validation_errors IS DISTINCT FROM s.validation_errors)"""
            ).format(**content),
            self._partition,
        )
        cleared = await self._database.execute(
            sql.SQL(
                """UPDATE {table} t SET {assign}, {stamp}, validation_errors = NULL, status = s.status
                     FROM {stage} s WHERE {open} AND t.status = 'NEEDS_ATTENTION' AND s.status = 'PENDING'"""
            ).format(**content),
            self._partition,
        )
        doubted = await self._database.execute(
            sql.SQL(
                """UPDATE {table} t SET {stamp}, validation_errors = s.validation_errors
                     FROM {stage} s WHERE {open} AND t.status = 'PENDING' AND s.status = 'NEEDS_ATTENTION'
                      AND t.validation_errors IS DISTINCT FROM s.validation_errors"""
            ).format(**content),
            self._partition,
        )
        return same + cleared + doubted

    async def _refuse_repeated(self, names: dict[str, sql.Composable]) -> None:
        """A second payload of the same source would silently take the first one's place: within this chunk, or of a row that
        this very batch has written."""
        repeated = await self._database.fetch_one(
            sql.SQL(
                """SELECT min(s.source_ref) AS source_ref FROM {stage} s
                    GROUP BY s.id HAVING count(DISTINCT ROW(s.status, {new}, s.raw_payload)::TEXT) > 1
                    UNION ALL
                   SELECT s.source_ref FROM {stage} s JOIN {table} t ON t.id = s.id
                    WHERE t.task_id = %(task_id)s AND t.updated_at = now()
                      AND (t.status <> s.status OR ({old}) IS DISTINCT FROM ({new})
                           OR t.raw_payload IS DISTINCT FROM s.raw_payload AND t.created_at = now())
                    LIMIT 1"""
            ).format(**names),
            self._partition,
        )
        if repeated is not None:
            raise SourceRefRepeatedError(source_ref=repeated["source_ref"])


def _finding(code: str, name: str | None, message: str) -> dict[str, Any]:
    return {"code": code, "field": name, "message": message}


def _escaped(reference: str) -> str:
    return reference.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


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


def _holds(model: type[Row], name: str, *words: str) -> bool:
    return any(word in str(model.model_fields[name].annotation) for word in words)


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
