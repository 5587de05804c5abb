"""Records of a partition, read back for staging, and the note that they were staged."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from ntro_dagster.ingest.returns import Layout
from ntro_dagster.platforms.postgres.database import TenantDatabase


@dataclass(frozen=True, slots=True)
class SubmittedRecord:
    """One data row as it came in. `ref` is what a subledger row keeps as its `source_ref`."""

    id: uuid.UUID
    document_id: uuid.UUID
    line: int
    raw: Mapping[str, str]
    layout: Layout

    @property
    def ref(self) -> str:
        return f"doc:{self.document_id}#L{self.line}"


async def documents_to_stage(database: TenantDatabase, subledger: str, *, entity_id: uuid.UUID, period: str) -> list[uuid.UUID]:
    """Documents of the partition that no run has staged for the subledger yet; all of them where there is none, for a run
    that someone asked for.
    """
    rows = await database.fetch(
        "SELECT document_id, staged_at IS NULL AS waiting FROM ingest.intake "
        "WHERE subledger = %s AND entity_id = %s AND period = %s ORDER BY 1",
        [subledger, entity_id, period],
    )
    waiting = [row["document_id"] for row in rows if row["waiting"]]
    return waiting or [row["document_id"] for row in rows]


FEW = 1_000

_RECORDS = """
    SELECT id, document_id, line, raw FROM ingest.submitted_records
     WHERE entity_id = %s AND period = %s AND document_id = ANY(%s) ORDER BY document_id, line"""


async def few_records(
    database: TenantDatabase, *, entity_id: uuid.UUID, period: str, documents: Sequence[uuid.UUID]
) -> list[SubmittedRecord] | None:
    """What `submitted_records` streams, where that is no more than `FEW`; else None."""
    rows = await database.fetch(f"{_RECORDS} LIMIT {FEW + 1}", [entity_id, period, list(documents)])
    if len(rows) > FEW:
        return None
    layouts = await _layouts(database, documents)
    return [SubmittedRecord(**row, layout=layouts[row["document_id"]]) for row in rows]


async def submitted_records(
    database: TenantDatabase, *, entity_id: uuid.UUID, period: str, documents: Sequence[uuid.UUID]
) -> AsyncIterator[SubmittedRecord]:
    """The partition's records of these documents, in document and line order, streamed."""
    layouts = await _layouts(database, documents)
    async for batch in database.stream(_RECORDS, [entity_id, period, list(documents)]):
        for row in batch:
            yield SubmittedRecord(**row, layout=layouts[row["document_id"]])


async def _layouts(database: TenantDatabase, documents: Sequence[uuid.UUID]) -> dict[uuid.UUID, Layout]:
    stored = await database.fetch("SELECT id, layout FROM ingest.submitted_documents WHERE id = ANY(%s)", [list(documents)])
    return {row["id"]: Layout.from_dict(row["layout"]) for row in stored}


async def records_without_row(
    database: TenantDatabase, subledger: str, *, entity_id: uuid.UUID, period: str, documents: Sequence[uuid.UUID]
) -> int:
    """How many of the partition's records in these documents no row of the subledger came from.

    By EXCEPT, which reads each side once: of rows just inserted PostgreSQL has no statistics, and would look for each record
    among all of them.
    """
    found = await database.fetch_one(
        sql.SQL(
            "SELECT count(*) AS records FROM ("
            "SELECT 'doc:' || document_id || '#L' || line FROM ingest.submitted_records "
            "WHERE entity_id = %(entity)s AND period = %(period)s AND document_id = ANY(%(documents)s) EXCEPT "
            "SELECT source_ref FROM {} WHERE entity_id = %(entity)s AND period = %(period)s) without"
        ).format(sql.Identifier("ledgers", subledger)),
        {"entity": entity_id, "period": period, "documents": list(documents)},
    )
    return int(found["records"]) if found else 0


async def mark_staged(
    database: TenantDatabase,
    subledger: str,
    *,
    entity_id: uuid.UUID,
    period: str,
    documents: Sequence[uuid.UUID],
    run_id: uuid.UUID,
) -> None:
    """Part of the staging transaction: either rows and note are there, or neither."""
    await database.execute(
        "UPDATE ingest.intake SET staged_at = now(), run_id = %s "
        "WHERE subledger = %s AND entity_id = %s AND period = %s AND document_id = ANY(%s) AND staged_at IS NULL",
        [run_id, subledger, entity_id, period, list(documents)],
    )


async def record_counts(database: TenantDatabase, *, entity_id: uuid.UUID, period: str) -> dict[str, Any]:
    """How many documents and records the partition has."""
    found = await database.fetch_one(
        "SELECT count(*) AS documents, coalesce(sum(records), 0)::bigint AS records FROM "
        "(SELECT DISTINCT document_id, records FROM ingest.intake WHERE entity_id = %s AND period = %s) d",
        [entity_id, period],
    )
    return found or {"documents": 0, "records": 0}
