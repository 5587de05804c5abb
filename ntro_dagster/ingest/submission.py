"""A document in: stored by content, its records kept raw, its entities found. All of it or nothing."""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from psycopg import sql
from psycopg.types.json import Jsonb

from ntro_dagster.errors import UsageError
from ntro_dagster.ingest.finding import Finding, FindingCode
from ntro_dagster.ingest.outcome import IngestOutcome, IngestStatus
from ntro_dagster.ingest.returns import SpendReturn, open_return
from ntro_dagster.ingest.store import DocumentStore, Incoming
from ntro_dagster.platforms.postgres.database import Actor, TenantDatabase

DOCUMENT_NAMESPACE = uuid.UUID("5d0c3b62-0a2b-5c93-9e2b-6b6a3f6f2d31")

_IN_PATH = re.compile(r"(?:19|20)\d{2}-(?:0[1-9]|1[0-2])")


class PeriodMissingError(UsageError):
    code = "PERIOD_MISSING"
    summary = "nothing says which month the document was filed for"
    detail = "no month is given for {name}, and its path names none"
    mend = "say it with --period YYYY-MM, or keep the file in a folder named YYYY-MM"


class DocumentFiledElsewhereError(UsageError):
    code = "DOCUMENT_FILED_ELSEWHERE"
    summary = "the same bytes were filed before, for another month or entity"
    detail = "{name} is the document filed as {filed_as} for {filed_for}, now given for {asked_for}"
    mend = "a document is filed once; if the month was wrong, exclude its rows and file a corrected document"


class EntitiesUnknownError(UsageError):
    code = "ENTITY_UNKNOWN"
    summary = "the document names entities that this tenant does not have"
    detail = "{name} names {count} unknown: {names}"
    mend = "create them with `ntro entity create`, or ingest again with --create-entities"
    exit_code = 4


class EntityMissingError(UsageError):
    code = "ENTITY_MISSING"
    summary = "nothing says which entity the document belongs to"
    detail = "no row of {name} names an entity"
    mend = "say it with --entity"


class KnownEntity(Protocol):
    """What a submission needs to know of an entity."""

    @property
    def id(self) -> uuid.UUID: ...
    @property
    def slug(self) -> str: ...


Resolve = Callable[[Iterable[str]], Awaitable[Mapping[str, KnownEntity]]]
"""Names as documents spell them -> the entities that are known; may create the others first."""


def period_of(path: Path) -> str | None:
    """The month in the path: the folder nearest to the file that is named for one, else the file's own name."""
    for part in (*reversed(path.parent.parts), path.name):
        if match := _IN_PATH.search(part) if part == path.name else _IN_PATH.fullmatch(part):
            return match[0]
    return None


async def submit(
    database: TenantDatabase,
    store: DocumentStore,
    path: Path,
    *,
    resolve: Resolve,
    submitted_by: str,
    entity: KnownEntity | None = None,
    period: str | None = None,
    source: str = "spend-return",
) -> IngestOutcome:
    """File one document.

    Args:
        entity: the entity that all its rows belong to; None: each row names its own.
        period: the month it is filed for; None: from the path.
        resolve: finds the entities that rows name.

    Raises: `DocumentRefusedError` and its kinds, `PeriodMissingError`, `DocumentFiledElsewhereError`,
        `EntitiesUnknownError`, `FileUnreadableError`, `StoreFullError`. Nothing is kept then.
    """
    period = period or period_of(path.absolute())
    if period is None:
        raise PeriodMissingError(name=path.name)
    with store.receive(path) as incoming:
        known = await _known(database, incoming)
        if known is not None:
            return _duplicate(known, path.name, period)
        document = open_return(incoming.path, name=path.name)
        owners = await _owners(document, entity, resolve)
        async with database.transaction(Actor(submitted_by, "person")):
            outcome = await _write(database, incoming, document, owners, entity, period, source, submitted_by)
            # Before the commit: a row must never point at bytes that are not there. A file without a row is harmless.
            store.keep(incoming)
        return outcome


async def _known(database: TenantDatabase, incoming: Incoming) -> dict[str, Any] | None:
    return await database.fetch_one(
        "SELECT id, name, period, records FROM ingest.submitted_documents WHERE sha256 = %s", [bytes.fromhex(incoming.sha256)]
    )


def _duplicate(known: Mapping[str, Any], name: str, period: str) -> IngestOutcome:
    if known["period"] != period:
        raise DocumentFiledElsewhereError(name=name, filed_as=known["name"], filed_for=known["period"], asked_for=period)
    return IngestOutcome(
        name=name,
        status=IngestStatus.DUPLICATE,
        message="the same bytes are filed already; nothing changed",
        period=period,
        document_id=str(known["id"]),
        parsed_rows=known["records"],
    )


async def _owners(document: SpendReturn, entity: KnownEntity | None, resolve: Resolve) -> Mapping[str, KnownEntity]:
    if entity is not None:
        return {}
    names = {record.entity for record in document.records() if record.entity}
    if not names and document.record_count:
        raise EntityMissingError(name=document.name)
    owners = await resolve(names)
    unknown = sorted(names - owners.keys())
    if unknown:
        raise EntitiesUnknownError(name=document.name, count=len(unknown), names=", ".join(unknown))
    return owners


async def _write(
    database: TenantDatabase,
    incoming: Incoming,
    document: SpendReturn,
    owners: Mapping[str, KnownEntity],
    entity: KnownEntity | None,
    period: str,
    source: str,
    submitted_by: str,
) -> IngestOutcome:
    document_id = uuid.uuid5(DOCUMENT_NAMESPACE, incoming.sha256)
    await database.execute(
        "INSERT INTO ingest.submitted_documents (id, sha256, name, bytes, source, period, layout, records, findings, submitted_by) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [
            document_id,
            bytes.fromhex(incoming.sha256),
            document.name,
            incoming.size,
            source,
            period,
            Jsonb(document.layout.as_dict()),
            document.record_count,
            Jsonb([finding.as_dict() for finding in document.findings]),
            submitted_by,
        ],
    )
    missing = Jsonb([Finding.of(FindingCode.ENTITY_MISSING).as_dict()])
    rows_of: Counter[uuid.UUID] = Counter()
    homeless = 0

    def records() -> Iterable[list[Any]]:
        nonlocal homeless
        for record in document.records():
            owner = entity or owners.get(record.entity or "")
            if owner is None:
                homeless += 1
            else:
                rows_of[owner.id] += 1
            yield [
                uuid.uuid5(document_id, str(record.line)),
                document_id,
                record.line,
                owner.id if owner else None,
                period,
                Jsonb(record.raw),
                None if owner else missing,
            ]

    await database.copy_in(
        sql.Identifier("ingest", "submitted_records"),
        ("id", "document_id", "line", "entity_id", "period", "raw", "findings"),
        records(),
    )
    await database.copy_in(
        sql.Identifier("ingest", "intake"),
        ("document_id", "entity_id", "period", "records"),
        ([document_id, owner_id, period, count] for owner_id, count in rows_of.items()),
    )
    slugs = {owner.id: owner.slug for owner in (*owners.values(), *([entity] if entity else []))}
    return IngestOutcome(
        name=document.name,
        status=IngestStatus.ACCEPTED if document.record_count else IngestStatus.EMPTY,
        message="filed" if document.record_count else "the document holds no data rows",
        period=period,
        document_id=str(document_id),
        parsed_rows=document.record_count,
        rejected_rows=homeless or None,
        entities=tuple(sorted(slugs[owner_id] for owner_id in rows_of)),
    )
