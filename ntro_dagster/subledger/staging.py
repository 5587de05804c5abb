"""Payloads become rows: validated, loaded in bulk, never lost.

A payload that satisfies its type becomes a PENDING row. One that does not, or that came with findings, becomes a
NEEDS_ATTENTION row with the findings and the raw payload. (A type with statuses of its own has two of its own for that.)
Staging the same source again updates rows that only machines have touched, and leaves every row alone that a person has
edited or decided upon.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from pydantic import ValidationError

from ntro_dagster.errors import UsageError
from ntro_dagster.platforms.ledger_store import LedgerStore, Merge, Where
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.platforms.postgres.ledger_store import PostgresLedgerStore
from ntro_dagster.platforms.tables import LogicalType
from ntro_dagster.subledger.raw import holds_escapes, jsonable, storable
from ntro_dagster.subledger.registry import SubledgerType
from ntro_dagster.subledger.row import Row, row_ids
from ntro_dagster.subledger.tables import table_of

CHUNK = 10_000
SLICE = 100
"""Rows that are validated before the connection gets a look in: fewer than the server stores in the time."""

T = TypeVar("T")

STAGED_FIELDS = ("status", "validation_errors", "raw_payload", "id", "source_ref")
"""Written for each row before its content; entity, period and task are the same for a whole batch."""


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
        return cls(values, values.pop("source_ref"), values.pop("findings", ()), values.pop("raw", None))


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

    def add(self, found: Staged) -> None:
        """What was noted of more payloads."""
        self.needs_attention += found.needs_attention
        for code, count in found.codes.items():
            self.codes[code] = self.codes.get(code, 0) + count

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
        now = datetime.now(UTC)
        # The database stamps the row; these only spare each row the making of its own.
        self._given = self._partition | {"created_at": now, "updated_at": now}
        self._id = row_ids(entity_id, period, kind.table)
        self._validate = kind.model.model_validate
        self._content = kind.model.content_fields()
        self._status: Any = kind.model.model_fields["status"].annotation
        self._lifecycle = kind.lifecycle
        self._in_doubt, self._clean = self._lifecycle.in_doubt, self._lifecycle.clean
        self._known = frozenset(self._content)
        self._columns = (*STAGED_FIELDS, *self._content)
        self._values = itemgetter("id", "source_ref", *self._content)
        self._table = table_of(kind)
        self._where = Where(entity_id=entity_id, period=period)
        self._store: LedgerStore = PostgresLedgerStore(database)
        self._json = self._table.of_type(LogicalType.JSON) & self._known
        self._text = self._table.of_type(LogicalType.TEXT) & self._known
        self._texts_at = [at for at, name in enumerate(self._columns) if name == "source_ref" or name in self._text]
        self._id_at = self._columns.index("id")
        self._filled = False

    async def stage(self, payloads: AsyncIterable[Payload | Mapping[str, Any]] | Iterable[Payload | Mapping[str, Any]]) -> Staged:
        """All payloads, in one transaction. Memory stays flat: while the server merges a chunk, the next is validated.

        Raises: `SourceRefRepeatedError`.
        """
        staged = Staged()
        merging: asyncio.Task[tuple[int, int]] | None = None
        async with self._database.transaction():
            await self._store.create_stage(self._table, self._columns)
            try:
                async for chunk in _chunks(payloads):
                    rows = await self._rows(chunk, staged)
                    if merging is not None:
                        _count(staged, await merging)
                    staged.payloads += len(rows)
                    merging = asyncio.create_task(self._merge(rows))
                    await asyncio.sleep(0)  # lets the task send its statement before the next chunk takes the processor
                if merging is not None:
                    _count(staged, await merging)
            finally:
                if merging is not None and not merging.done():  # the payloads failed: the connection must come to rest first
                    await asyncio.wait([merging])
            await self._store.clear_stage(self._table, drop=True)
        return staged

    async def _rows(self, chunk: Sequence[Payload | Mapping[str, Any]], staged: Staged) -> list[Sequence[Any]]:
        """The staged columns of each payload, by id: neighbours in the table's key and in that of its history."""
        found, rows = Staged(), []
        for begin in range(0, len(chunk), SLICE):
            rows += [self.row(payload, found, trusted=True) for payload in chunk[begin : begin + SLICE]]
            await asyncio.sleep(0)
        if not self._storable(rows):
            found = Staged()
            rows = [self.row(payload, found) for payload in chunk]
        staged.add(found)
        rows.sort(key=self._key)
        return rows

    def _key(self, row: Sequence[Any]) -> int:
        return row[self._id_at].int  # type: ignore[no-any-return]

    def _storable(self, rows: Sequence[Sequence[Any]]) -> bool:
        """Whether PostgreSQL can hold all of their text: one look at each column instead of one at each row."""
        return all(storable("".join([row[at] for row in rows if row[at]])) for at in self._texts_at)

    def row(self, payload: Payload | Mapping[str, Any], staged: Staged, *, trusted: bool = False) -> Sequence[Any]:
        """The staged columns of one payload. Args: `trusted`: that its text can be stored is looked at later."""
        values, reference, findings, raw = Payload.of(payload)
        if not findings and self._known.issuperset(values):
            found = self._validated(values, reference, self._clean)
            if isinstance(found, Row):
                unstorable = self._unstorable(found.__dict__, () if trusted else self._text)
                if not unstorable and (trusted or storable(reference)):
                    return self._columns_of(found, self._clean, None, None)
                found = unstorable
            findings = found
        doubts = [*findings, *self._strange(values, reference)]
        row = self._loose(values, reference, doubts)
        staged.note(doubts)
        try:
            kept = jsonable(raw if raw is not None else values)
        except RecursionError:
            kept = {"$repr": "nested too deeply; the document holds it"}
        return self._columns_of(row, self._in_doubt, jsonable(doubts), kept)

    def _validated(self, values: Mapping[str, Any], reference: str, status: str) -> Row | list[dict[str, Any]]:
        """The row, or why the values do not make one. A check of an author's that does not cope with a value is a finding too:
        one payload never stops a batch."""
        try:
            return self._validate({**values, **self._given, "id": self._id(reference), "source_ref": reference, "status": status})
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

    def _unstorable(self, values: Mapping[str, Any], text: Iterable[str]) -> list[dict[str, Any]]:
        """Findings for content that PostgreSQL cannot hold as it is: it is not for us to change it silently."""
        texts = [name for name in text if values[name] and not storable(values[name])]
        trees = [name for name in self._json if values[name] and holds_escapes(jsonable(values[name]))]
        return [
            _finding("TEXT_NOT_STORABLE", name, "holds what the database cannot keep; see the raw payload")
            for name in texts + trees
        ]

    def _loose(self, values: Mapping[str, Any], reference: str, findings: list[Mapping[str, Any]]) -> Row:
        """A row in doubt, with every value that stands on its own; what does not is a finding, and in the raw."""
        reference = reference if storable(reference) else _escaped(reference)
        kept = {name: value for name, value in values.items() if name in self._known}
        while True:
            found = self._validated(kept, reference, self._in_doubt)
            if isinstance(found, Row):
                found_here = self._unstorable(found.__dict__, self._text)
                if not found_here:
                    return found
                found = found_here
            known = {finding.get("field") for finding in findings}
            findings.extend(finding for finding in found if finding["field"] not in known)
            if not kept:  # not even an empty row satisfies the type: it is kept all the same
                return self._kind.model.model_construct(
                    **self._partition, id=self._id(reference), source_ref=reference, status=self._status(self._in_doubt)
                )
            broken = {finding["field"] for finding in found} & kept.keys()
            for name in broken or set(kept):
                del kept[name]

    def _columns_of(self, row: Row, status: str, findings: Any, raw: Any) -> Sequence[Any]:
        values = row.__dict__
        for name in self._json:
            if values[name] is not None:
                values[name] = jsonable(values[name])
        return (status, findings, raw, *self._values(values))

    async def _merge(self, rows: Sequence[Sequence[Any]]) -> tuple[int, int]:
        """(inserted, updated) of the chunk, which lies in the stage afterwards."""
        if self._filled:
            await self._store.clear_stage(self._table)
        self._filled = True
        await self._store.load_stage(self._table, self._columns, rows)
        inserted = await self._store.insert_missing(self._table, self._columns, self._partition)
        updated = await self._update() if inserted < len(rows) else 0
        return inserted, updated

    async def _update(self) -> int:
        """Rows that only machines have touched take the new reading. A PENDING row never falls back by itself: where the
        new reading is in doubt, its findings are put beside the row for the reviewer and its content stays.
        """
        task_id = self._partition["task_id"]
        # A second payload of the same source would silently take the first one's place.
        repeated = await self._store.repeated(self._table, self._where, task_id=task_id)
        if repeated is not None:
            raise SourceRefRepeatedError(source_ref=repeated)
        reading = (*self._content, "validation_errors")
        in_doubt, clean, editable = self._in_doubt, self._clean, set(self._lifecycle.editable)
        steps: list[tuple[Sequence[str], Merge]] = [
            ([status for status in (in_doubt, clean) if status in editable], Merge(assign=reading, if_different=reading))
        ]
        if self._lifecycle.allows_a_run(in_doubt, clean):
            steps.append(((in_doubt,), Merge(assign=(*reading, "status"), staged_status=clean)))
        if clean in editable:
            doubts = ("validation_errors",)
            steps.append(((clean,), Merge(doubts, staged_status=in_doubt, if_different=doubts)))
        updated = 0
        for statuses, how in steps:
            where = replace(self._where, status=statuses)
            updated += await self._store.merge(self._table, where, how, task_id=task_id)
        return updated


def _finding(code: str, name: str | None, message: str) -> dict[str, Any]:
    return {"code": code, "field": name, "message": message}


def _escaped(reference: str) -> str:
    return reference.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _count(staged: Staged, merged: tuple[int, int]) -> None:
    staged.inserted += merged[0]
    staged.updated += merged[1]


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
