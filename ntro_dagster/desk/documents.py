"""Documents as they came in: what is known of one, its bytes, the lines of a table."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

from ntro_dagster.desk.rows import plain, plain_row
from ntro_dagster.errors import NotFoundError
from ntro_dagster.ingest.store import DocumentDamagedError, DocumentStore
from ntro_dagster.platforms.postgres.database import TenantDatabase

INLINE = {".pdf": "application/pdf", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
TEXT = {".csv", ".txt", ".tsv", ".json", ".xml", ".md", ".eml"}
MOST_LINES = 500


class DocumentUnknownError(NotFoundError):
    """Values: `document`."""

    code = "DOCUMENT_NOT_FOUND"
    summary = "no such document"
    detail = "there is no document {document} here"
    mend = "follow the link from a row"


class ContentLostError(DocumentDamagedError):
    """Without the directory, which is nothing to whoever looks at a page."""

    detail = "document {sha256} is gone or was changed"
    mend = "tell whoever runs this desk: the documents have to come back from a backup"


def media_type(name: str) -> str:
    """By the name's ending; text of any kind as plain text, so that no browser runs it."""
    ending = Path(name).suffix.lower()
    return INLINE.get(ending) or ("text/plain" if ending in TEXT else "application/octet-stream")


async def document(database: TenantDatabase, document_id: UUID) -> dict[str, Any]:
    """Raises: `DocumentUnknownError`."""
    found = await database.fetch_one(
        """SELECT id, name, bytes, encode(sha256, 'hex') AS sha256, source, period, submitted_by, submitted_at, records AS lines
             FROM ingest.submitted_documents WHERE id = %s""",
        [document_id],
    )
    if found is None:
        raise DocumentUnknownError(document=document_id)
    return plain_row(found) | {"media_type": media_type(found["name"])}


async def content(database: TenantDatabase, store: DocumentStore, document_id: UUID) -> tuple[Path, dict[str, Any]]:
    """The stored file, whose content was checked. Raises: `DocumentUnknownError`, `ContentLostError`."""
    found = await document(database, document_id)
    try:
        return await asyncio.to_thread(store.verify, found["sha256"]), found
    except DocumentDamagedError:
        raise ContentLostError(sha256=found["sha256"]) from None


async def lines(database: TenantDatabase, document_id: UUID, first: int, last: int) -> dict[str, Any]:
    """The records of a table, from line to line (both included), at most `MOST_LINES` of them."""
    await document(database, document_id)
    rows = await database.fetch(
        """SELECT line, raw FROM ingest.submitted_records WHERE document_id = %s AND line BETWEEN %s AND %s
            ORDER BY line LIMIT %s""",
        [document_id, first, last, MOST_LINES],
    )
    header = list(dict.fromkeys(name for row in rows for name in row["raw"]))
    return {
        "header": header,
        "lines": [{"line": row["line"], "cells": [plain(row["raw"].get(name)) for name in header]} for row in rows],
    }
