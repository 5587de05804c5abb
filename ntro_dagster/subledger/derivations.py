"""Rows made of other rows: what a derivation says now, beside what it said before and what people decided since.

What no person has touched takes the new reading. What a person decided stays, and where the derivation now says something
else, that becomes a row of its own, which waits for a person: a journal is never silently out of date.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql

from ntro_dagster.errors import UsageError
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.handle import SubledgerHandle
from ntro_dagster.subledger.raw import jsonable
from ntro_dagster.subledger.registry import SubledgerType
from ntro_dagster.subledger.row import Row
from ntro_dagster.subledger.staging import Payload, Staged
from ntro_dagster.subledger.tables import table_of

_SET_ASIDE = frozenset({"REJECTED", "EXCLUDED"})
_DIGITS = 12


class DerivedRefError(UsageError):
    """Values: `ref`."""

    code = "DERIVED_REF"
    summary = "a derived payload has no proper source_ref, or one that was given before"
    detail = "source_ref {ref!r}"
    mend = "give every payload a short source_ref of its own, without `~`: the same for the same row at every run"


@dataclass(frozen=True, slots=True)
class Partition:
    """One derivation, entity and month."""

    derivation: str
    entity_id: uuid.UUID
    period: str

    @property
    def values(self) -> list[Any]:
        return [self.derivation, self.entity_id, self.period]

    def source_ref(self, ref: str) -> str:
        return f"rows:{self.derivation}/{ref}"


@dataclass(slots=True)
class _Known:
    """What this derivation said before: source_ref -> digest, by the author's ref; the rows as they stand; and the rows that
    people put in the place of some of them by reinstating, by the source_ref of the first.
    """

    said: defaultdict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    rows: dict[str, Row] = field(default_factory=dict)
    reinstated: dict[str, Row] = field(default_factory=dict)

    def stands(self, source_ref: str) -> Row | None:
        """The row that says it, whatever became of the one it was said in first."""
        return self.reinstated.get(source_ref) or self.rows.get(source_ref)

    def open(self, source_ref: str, *, doubtful: bool = False) -> bool:
        """Whether the row is still the machine's to change. A PENDING row would keep its content beside a reading in doubt."""
        row = self.rows.get(source_ref)
        if row is None:
            return True
        return row.made_by is None and row.status in (row.lifecycle.editable[:1] if doubtful else row.lifecycle.editable)


async def wanted(database: TenantDatabase, partition: Partition) -> int:
    """How far the inputs have come. To be read before they are."""
    found = await database.fetch_one(
        "SELECT wanted FROM system.derivations WHERE (derivation, entity_id, period) = (%s, %s, %s)", partition.values
    )
    return int(found["wanted"]) if found else 0


async def mark_derived(database: TenantDatabase, partition: Partition, reached: int, *, run_id: uuid.UUID) -> None:
    """Part of the transaction that stages: either rows and note are there, or neither."""
    await database.execute(
        "UPDATE system.derivations SET done = %s, run_id = %s WHERE (derivation, entity_id, period) = (%s, %s, %s) AND done < %s",
        [reached, run_id, *partition.values, reached],
    )


def still_open(inputs: Sequence[SubledgerType], *, earlier: bool, entity: str, period: str) -> sql.Composed:
    """SQL condition: whether rows of the inputs wait for a person, or records of theirs for a run.

    Args: `entity`, `period`: SQL expressions of the partition; `earlier`: its months before count too.
    """
    at = sql.SQL(f"t.entity_id = {entity} AND t.period {'<=' if earlier else '='} {period}")
    names = [table_of(kind).name for kind in inputs]
    waiting = sql.SQL("EXISTS (SELECT FROM ingest.intake t WHERE {} AND t.staged_at IS NULL AND t.subledger = ANY({}))").format(
        at, sql.Literal(names)
    )
    unseen = [
        sql.SQL("EXISTS (SELECT FROM {} t WHERE {} AND t.status = ANY({}))").format(
            sql.Identifier("ledgers", name), at, sql.Literal(list(kind.model.lifecycle.initial))
        )
        for name, kind in zip(names, inputs, strict=True)
    ]
    return sql.SQL("({})").format(sql.SQL(" OR ").join([waiting, *unseen]))


async def stage_derived(
    handle: SubledgerHandle, partition: Partition, payloads: AsyncIterator[Payload | Mapping[str, Any]]
) -> Staged:
    """Stage what the derivation says now. Within the caller's transaction.

    Raises: `DerivedRefError`.
    """
    known = await _known(handle, partition)
    said: dict[str, tuple[str, str]] = {}
    staged = await handle.stage(_reconciled(partition, known, payloads, said), period=partition.period)
    await handle.database.execute(
        "INSERT INTO system.derived_rows (derivation, entity_id, period, source_ref, ref, digest) "
        "SELECT %s, %s, %s, * FROM unnest(%s::text[], %s::text[], %s::text[]) "
        "ON CONFLICT (derivation, entity_id, period, source_ref) DO UPDATE SET digest = EXCLUDED.digest "
        "WHERE derived_rows.digest <> EXCLUDED.digest",
        [*partition.values, list(said), *map(list, zip(*said.values(), strict=True))]
        if said
        else [*partition.values, [], [], []],
    )
    return staged


async def _known(handle: SubledgerHandle, partition: Partition) -> _Known:
    known = _Known()
    for row in await handle.database.fetch(
        "SELECT source_ref, ref, digest FROM system.derived_rows "
        "WHERE (derivation, entity_id, period) = (%s, %s, %s) ORDER BY source_ref",
        partition.values,
    ):
        known.said[row["ref"]][row["source_ref"]] = row["digest"]
    ours = partition.source_ref("")
    async for stored in handle.stream(period=partition.period):
        if stored.source_ref and stored.source_ref.startswith(ours):
            known.rows[stored.source_ref] = stored
    known.reinstated = await _reinstated(handle.database, known.rows)
    return known


async def _reinstated(database: TenantDatabase, rows: Mapping[str, Row]) -> dict[str, Row]:
    by_id = {row.id: row for row in rows.values()}
    found = await database.fetch(
        "SELECT row_id, successor_id FROM system.reinstatements WHERE row_id = ANY(%s) AND successor_id = ANY(%s)",
        [list(by_id), list(by_id)],
    )
    successors = {row["row_id"]: row["successor_id"] for row in found}

    def last(row_id: uuid.UUID) -> Row:
        while row_id in successors:
            row_id = successors[row_id]
        return by_id[row_id]

    return {source_ref: last(row.id) for source_ref, row in rows.items() if row.id in successors}


async def _reconciled(
    partition: Partition,
    known: _Known,
    payloads: AsyncIterator[Payload | Mapping[str, Any]],
    said: dict[str, tuple[str, str]],
) -> AsyncIterator[Payload]:
    refs: set[str] = set()
    async for each in payloads:
        payload = Payload.of(each)
        ref = payload.source_ref
        if not ref or "~" in ref or ref in refs:
            raise DerivedRefError(ref=ref)
        refs.add(ref)
        digest = _digest(payload)
        source_ref = _place(partition, known, ref, digest, doubtful=bool(payload.findings))
        said[source_ref] = (ref, digest)
        decided = known.stands(partition.source_ref(ref))
        findings = list(payload.findings)
        if decided is not None and source_ref != partition.source_ref(ref):
            what = "what was decided before is not what the rows say now; this is what they say"
            findings.append({"code": "CHANGED_AFTER_DECISION", "field": None, "message": what, "row": str(decided.id)})
        yield payload._replace(source_ref=source_ref, findings=findings)
    for gone in _gone(known, refs, said):
        yield gone


def _place(partition: Partition, known: _Known, ref: str, digest: str, *, doubtful: bool) -> str:
    """The row to say it in: the one that says it already, else one that is still the machine's, else a new one."""
    first, before = partition.source_ref(ref), known.said[ref]
    if not before:
        return first
    same = [source_ref for source_ref, known_digest in before.items() if known_digest == digest]
    still_ours = [source_ref for source_ref in before if known.open(source_ref, doubtful=doubtful)]
    return next(iter([*same, *still_ours]), f"{first}~{digest[:_DIGITS]}")


def _gone(known: _Known, refs: set[str], said: Mapping[str, tuple[str, str]]) -> Iterator[Payload]:
    """What the rows say no longer. A row that is still the machine's is marked; for one that a person decided, another row
    says so.
    """
    what = "the rows it was made of no longer say so"
    for ref, before in known.said.items():
        for source_ref in before.keys() - said.keys():
            row = known.stands(source_ref)
            if row is None or row.status in _SET_ASIDE:
                continue
            finding = {"code": "NO_LONGER_PROPOSED", "field": None, "message": what, "row": str(row.id)}
            if known.open(source_ref):
                content = {name: getattr(row, name) for name in row.content_fields()}
                yield Payload(content, source_ref, findings=[finding], raw=row.raw_payload or {})
            elif ref not in refs:
                yield Payload({}, f"{source_ref}~gone", findings=[finding], raw={"row": str(row.id)})


def _digest(payload: Payload) -> str:
    said = [jsonable(payload.values), jsonable(list(payload.findings))]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
