"""The file of an import as a document: kept by content, its lines as they came."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from ntro_dagster.gl.imports.cells import UnreadableError, read_month
from ntro_dagster.gl.imports.mapping import Mapping
from ntro_dagster.ingest.finding import Finding
from ntro_dagster.ingest.returns import Layout
from ntro_dagster.ingest.returns.delimited import delimited_records
from ntro_dagster.ingest.returns.errors import DocumentRefusedError
from ntro_dagster.ingest.store import DocumentStore, Incoming
from ntro_dagster.ingest.submission import DOCUMENT_NAMESPACE, DocumentFiledElsewhereError
from ntro_dagster.ingest.tables import NotATableError, find_layout
from ntro_dagster.platforms.postgres.database import Actor, TenantDatabase, identifiers

SOURCE = "journal-import"


class ColumnsMissingError(DocumentRefusedError):
    """Values: `name`, `columns`."""

    code = "IMPORT_COLUMNS_MISSING"
    summary = "the file has no header with the columns that the mapping names"
    detail = "{name} has no row that names each of these columns once: {columns}"
    mend = "compare the mapping with the file's header row; nothing was imported"


@dataclass(frozen=True, slots=True)
class Filed:
    """`new`: false where the same bytes were filed before."""

    id: uuid.UUID
    columns: tuple[str, ...]
    new: bool


async def file_document(
    database: TenantDatabase,
    store: DocumentStore,
    path: Path,
    *,
    mapping: Mapping,
    entity_id: uuid.UUID,
    by: str,
    keep: bool = True,
) -> Filed:
    """The document and its lines, in one transaction; the same bytes again change nothing.

    Args: `keep`: whether the bytes are kept; False for a look that is undone.

    Raises: `DocumentRefusedError` and its kinds, `DocumentFiledElsewhereError`, `FileUnreadableError`, `StoreFullError`.
    """
    wanted = {column: column for column in mapping.columns}
    with store.receive(path) as incoming:
        try:
            layout = find_layout(incoming.path, name=path.name, wanted=wanted)
        except NotATableError:
            raise ColumnsMissingError(name=path.name, columns=", ".join(mapping.columns)) from None
        filed = uuid.uuid5(DOCUMENT_NAMESPACE, incoming.sha256)
        async with database.transaction(Actor(by, "person")):
            # Of two who hand in the same bytes at one time, the second finds them filed.
            await database.execute("SELECT pg_advisory_xact_lock(hashtextextended('ntro document ' || %s, 0))", [incoming.sha256])
            known = await _known(database, incoming, entity_id, path.name)
            if not known:
                await _write(database, filed, incoming, layout, path.name, mapping=mapping, entity_id=entity_id, by=by)
            if keep:
                store.keep(incoming)
    return Filed(filed, layout.columns, not known)


async def _known(database: TenantDatabase, incoming: Incoming, entity_id: uuid.UUID, name: str) -> bool:
    found = await database.fetch_one(
        "SELECT d.name, d.source, e.slug, e.id FROM ingest.submitted_documents d "
        "LEFT JOIN LATERAL (SELECT entity_id FROM ingest.submitted_records WHERE document_id = d.id LIMIT 1) r ON TRUE "
        "LEFT JOIN system.entities e ON e.id = r.entity_id WHERE d.sha256 = %s",
        [bytes.fromhex(incoming.sha256)],
    )
    if found is None:
        return False
    if found["source"] != SOURCE or found["id"] not in {None, entity_id}:
        raise DocumentFiledElsewhereError(
            name=name,
            filed_as=found["name"],
            filed_for=f"{found['source']}, {found['slug'] or 'no entity'}",
            asked_for=f"{SOURCE}, another entity" if found["source"] == SOURCE else SOURCE,
        )
    return True


async def _write(
    database: TenantDatabase,
    filed: uuid.UUID,
    incoming: Incoming,
    layout: Layout,
    name: str,
    *,
    mapping: Mapping,
    entity_id: uuid.UUID,
    by: str,
) -> None:
    values: dict[str, Any] = {
        "id": filed,
        "sha256": bytes.fromhex(incoming.sha256),
        "name": name,
        "bytes": incoming.size,
        "source": SOURCE,
        "period": None,
        "layout": Jsonb(layout.as_dict() | {"import": mapping.model_dump(mode="json")}),
        "records": sum(1 for _ in delimited_records(incoming.path, layout, name=name)),
        "findings": Jsonb([]),
        "submitted_by": by,
    }
    await database.execute(
        sql.SQL("INSERT INTO ingest.submitted_documents ({}) VALUES ({})").format(
            identifiers(list(values)), sql.SQL(", ").join(map(sql.Placeholder, values))
        ),
        values,
    )

    def records() -> Iterator[list[Any]]:
        for line, raw in delimited_records(incoming.path, layout, name=name):
            month, doubt = None, None
            try:
                month = read_month(mapping.period, mapping.date, raw)
            except UnreadableError as error:
                doubt = Jsonb([Finding.of(error.code, "period").as_dict()])
            yield [uuid.uuid5(filed, str(line)), filed, line, entity_id, month, Jsonb(raw), doubt]

    columns = ("id", "document_id", "line", "entity_id", "period", "raw", "findings")
    await database.copy_in(sql.Identifier("ingest", "submitted_records"), columns, records())
