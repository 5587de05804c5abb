"""A document in: stored by content, its records kept raw, its entities found. All of it or nothing."""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from ntro_dagster.boundary.periods import PeriodOutOfRangeError, open_period
from ntro_dagster.errors import UsageError
from ntro_dagster.ingest.finding import Finding, FindingCode
from ntro_dagster.ingest.outcome import IngestOutcome, IngestStatus
from ntro_dagster.ingest.returns import Layout, ReturnRecord, open_return
from ntro_dagster.ingest.sources import Reader, Source
from ntro_dagster.ingest.store import DocumentStore, Incoming
from ntro_dagster.ingest.tables import open_table
from ntro_dagster.platforms.postgres.database import Actor, TenantDatabase, identifiers

DOCUMENT_NAMESPACE = uuid.UUID("5d0c3b62-0a2b-5c93-9e2b-6b6a3f6f2d31")

_MONTH = re.compile(r"(?:19|20)\d{2}-(?:0[1-9]|1[0-2])")


class PeriodMissingError(UsageError):
    code = "PERIOD_MISSING"
    summary = "nothing says which month the document was filed for"
    detail = "no month is given for {name}, and its folders name none, or several"
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


class EntityClosedError(UsageError):
    code = "ENTITY_CLOSED"
    summary = "the entity is closed"
    detail = "closed: {names}"
    mend = "nothing is filed, run or posted for a closed entity; name another one"


class DocumentNamesOthersError(UsageError):
    code = "DOCUMENT_NAMES_OTHERS"
    summary = "the document's rows name other entities than the one given"
    detail = "{name} is given for {entity}, but rows of it name {others}"
    mend = "leave out --entity: each row then goes to the entity that it names"


class DocumentNamesOtherMonthsError(UsageError):
    code = "DOCUMENT_NAMES_OTHER_MONTHS"
    summary = "the document's rows name other months than the one given"
    detail = "{name} is given for {period}, but rows of it name {others}"
    mend = "leave out --period: each row then goes to the month that it names"


class EntityMissingError(UsageError):
    code = "ENTITY_MISSING"
    summary = "nothing says which entity the document belongs to"
    detail = "no row of {name} names an entity"
    mend = "say it with --entity"


class SourceUnknownError(UsageError):
    code = "SOURCE_UNKNOWN"
    summary = "no runbook reads documents of this source"
    detail = "no runbook reads documents of source {source!r}; these are read: {known}"
    mend = "name one of them with --source, or deploy a runbook that reads it"


class Document(Protocol):
    """What a reader makes of a file: spending returns and plain tables alike."""

    @property
    def name(self) -> str: ...
    @property
    def layout(self) -> Layout: ...
    @property
    def record_count(self) -> int: ...
    @property
    def findings(self) -> tuple[Finding, ...]: ...
    def records(self) -> Iterator[ReturnRecord]: ...


class KnownEntity(Protocol):
    """What a submission needs to know of an entity."""

    @property
    def id(self) -> uuid.UUID: ...
    @property
    def slug(self) -> str: ...
    @property
    def status(self) -> str: ...


Resolve = Callable[[Iterable[str]], Awaitable[Mapping[str, KnownEntity]]]
"""Names as documents spell them -> the entities that are known; may create the others first."""


def period_of(path: Path) -> str | None:
    """The month that a folder of the path, or the file, is named for and nothing else; None where none is, or two disagree.

    A month within a longer name is no evidence: `spend-2011-12.csv` may be December or a financial year.
    """
    parts = path.absolute().with_suffix("").parts
    named = {part for part in parts if _MONTH.fullmatch(part)}
    return named.pop() if len(named) == 1 else None


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
        entity: the entity that all its rows belong to, whatever unknown names they bear; None: each row names its own.
        period: the month that all its rows are filed for; None: each row names its own where the source says how, else
            from the path.
        resolve: finds the entities that rows name.

    Raises: `DocumentRefusedError` and its kinds, `PeriodMissingError`, `PeriodInvalidError`, `PeriodOutOfRangeError`,
        `DocumentFiledElsewhereError`, `EntitiesUnknownError`, `EntityMissingError`, `EntityClosedError`,
        `DocumentNamesOthersError`, `DocumentNamesOtherMonthsError`, `SourceUnknownError`, `FileUnreadableError`,
        `StoreFullError`. Nothing is kept then.
    """
    how = await _declared(database, source)
    named = period or (None if how.period else period_of(path))
    if named is None and not how.period:
        raise PeriodMissingError(name=path.name)
    order = _Order(path.name, entity, open_period(named) if named else None, source, submitted_by, how)
    with store.receive(path) as incoming:
        return await _file(database, store, incoming, order, resolve)


async def submit_stream(
    database: TenantDatabase,
    store: DocumentStore,
    content: IO[bytes],
    name: str,
    *,
    resolve: Resolve,
    submitted_by: str,
    entity: KnownEntity,
    period: str,
    source: str,
) -> IngestOutcome:
    """The same of what has no path: one entity's, for one month. Raises: as `submit`."""
    order = _Order(name, entity, open_period(period), source, submitted_by, await _declared(database, source))
    with store.receive_stream(content, name) as incoming:
        return await _file(database, store, incoming, order, resolve)


class _Order(NamedTuple):
    """What is to be filed how."""

    name: str
    entity: KnownEntity | None
    period: str | None
    source: str
    submitted_by: str
    how: Source


async def _file(
    database: TenantDatabase, store: DocumentStore, incoming: Incoming, order: _Order, resolve: Resolve
) -> IngestOutcome:
    name, entity, period, source, submitted_by, how = order
    known = await _known(database, incoming)
    if known is not None:
        outcome = _duplicate(known, name, period, entity)
        store.keep(incoming)  # mends a stored file that is damaged
        return outcome
    readers = await _readers(database, source)
    document = _open(incoming.path, name, how)
    _check_months(document, period)
    owners = await _owners(document, entity, resolve)
    submission = _Submission(incoming, document, entity, owners, period, source, readers, submitted_by)
    try:
        async with database.transaction(Actor(submitted_by, "person")):
            outcome = await submission.write(database)
            # Before the commit: a row must never point at bytes that are not there. A file without a row is harmless.
            store.keep(incoming)
    except psycopg.errors.UniqueViolation:  # someone filed the same bytes meanwhile
        known = await _known(database, incoming)
        if known is None:
            raise
        return _duplicate(known, name, period, entity)
    return outcome


async def _declared(database: TenantDatabase, source: str) -> Source:
    found = await database.fetch_one("SELECT declared FROM ingest.sources WHERE source = %s", [source])
    return Source.of(source, found["declared"]) if found else Source()


def _open(content: Path, name: str, how: Source) -> Document:
    return open_table(content, name=name, source=how) if how.reader is Reader.TABLE else open_return(content, name=name)


def _check_months(document: Document, period: str | None) -> None:
    if period is None:
        return
    others = sorted({record.period for record in document.records() if record.period} - {period})
    if others:
        raise DocumentNamesOtherMonthsError(name=document.name, period=period, others=", ".join(others))


async def _known(database: TenantDatabase, incoming: Incoming) -> dict[str, Any] | None:
    return await database.fetch_one(
        "SELECT d.id, d.name, d.period, d.records, array_agg(DISTINCT e.slug ORDER BY e.slug) AS entities "
        "FROM ingest.submitted_documents d LEFT JOIN ingest.intake i ON i.document_id = d.id "
        "LEFT JOIN system.entities e ON e.id = i.entity_id WHERE d.sha256 = %s GROUP BY d.id",
        [bytes.fromhex(incoming.sha256)],
    )


async def _readers(database: TenantDatabase, source: str) -> list[str]:
    """The subledgers that are read from documents of this source."""
    found = await database.fetch("SELECT source, subledger FROM ingest.readers ORDER BY 1, 2")
    readers = [row["subledger"] for row in found if row["source"] == source]
    if not readers:
        raise SourceUnknownError(source=source, known=", ".join(sorted({row["source"] for row in found})) or "none")
    return readers


def _duplicate(known: Mapping[str, Any], name: str, period: str | None, entity: KnownEntity | None) -> IngestOutcome:
    of_one_entity = known["entities"] in ([None], [entity.slug]) if entity else True
    if known["period"] != period or not of_one_entity:
        filed_for = f"{known['period'] or 'its own months'}, {', '.join(slug or 'no entity' for slug in known['entities'])}"
        asked_for = ", ".join([period or "its own months", *([entity.slug] if entity else [])])
        raise DocumentFiledElsewhereError(name=name, filed_as=known["name"], filed_for=filed_for, asked_for=asked_for)
    return IngestOutcome(
        name=name,
        status=IngestStatus.DUPLICATE,
        message="the same bytes are filed already; nothing changed",
        period=period,
        document_id=str(known["id"]),
        parsed_rows=known["records"],
    )


async def _owners(document: Document, entity: KnownEntity | None, resolve: Resolve) -> Mapping[str, KnownEntity]:
    names = {record.entity for record in document.records() if record.entity}
    if entity is not None:
        _check_open([entity])
        others = sorted(other.slug for other in (await resolve(names)).values() if other.id != entity.id)
        if others:
            raise DocumentNamesOthersError(name=document.name, entity=entity.slug, others=", ".join(others))
        return {}
    if not names and document.record_count:
        raise EntityMissingError(name=document.name)
    owners = await resolve(names)
    unknown = sorted(names - owners.keys())
    if unknown:
        raise EntitiesUnknownError(name=document.name, count=len(unknown), names=", ".join(unknown))
    _check_open(owners.values())
    return owners


def _check_open(owners: Iterable[KnownEntity]) -> None:
    closed = sorted({owner.slug for owner in owners if owner.status == "CLOSED"})
    if closed:
        raise EntityClosedError(names=", ".join(closed))


@dataclass(frozen=True, slots=True)
class _Submission:
    """A document that passed, on its way into the database."""

    incoming: Incoming
    document: Document
    entity: KnownEntity | None
    owners: Mapping[str, KnownEntity]
    period: str | None
    source: str
    readers: Sequence[str]
    submitted_by: str

    @property
    def id(self) -> uuid.UUID:
        return uuid.uuid5(DOCUMENT_NAMESPACE, self.incoming.sha256)

    def owner(self, record: ReturnRecord) -> KnownEntity | None:
        return self.entity or self.owners.get(record.entity or "")

    def month(self, record: ReturnRecord) -> tuple[str | None, FindingCode | None]:
        """Of a record that names a month without a partition, no month: it is kept with the finding."""
        if self.period:
            return self.period, None
        if record.period is None:
            return None, FindingCode.PERIOD_MISSING
        try:
            return open_period(record.period), None
        except PeriodOutOfRangeError:
            return None, FindingCode.PERIOD_OUT_OF_RANGE

    async def write(self, database: TenantDatabase) -> IngestOutcome:
        await self._write_document(database)
        rows_of: Counter[tuple[KnownEntity, str] | None] = Counter()
        await database.copy_in(
            sql.Identifier("ingest", "submitted_records"),
            ("id", "document_id", "line", "entity_id", "period", "raw", "findings"),
            self._records(rows_of),
        )
        homeless = rows_of.pop(None, 0)
        filed = {partition: rows for partition, rows in rows_of.items() if partition}
        months = {period for _, period in filed}
        await database.copy_in(
            sql.Identifier("ingest", "intake"),
            ("document_id", "entity_id", "subledger", "period", "records"),
            (
                [self.id, entity.id, subledger, period, rows]
                for (entity, period), rows in filed.items()
                for subledger in self.readers
            ),
        )
        found = self.document.record_count
        return IngestOutcome(
            name=self.document.name,
            status=IngestStatus.ACCEPTED if found else IngestStatus.EMPTY,
            message="filed" if found else "the document holds no data rows",
            period=self.period or (months.pop() if len(months) == 1 else None),
            document_id=str(self.id),
            parsed_rows=found,
            rejected_rows=homeless or None,
            entities=tuple(sorted({entity.slug for entity, _ in filed})),
        )

    async def _write_document(self, database: TenantDatabase) -> None:
        values = {
            "id": self.id,
            "sha256": bytes.fromhex(self.incoming.sha256),
            "name": self.document.name,
            "bytes": self.incoming.size,
            "source": self.source,
            "period": self.period,
            "layout": Jsonb(self.document.layout.as_dict()),
            "records": self.document.record_count,
            "findings": Jsonb([finding.as_dict() for finding in self.document.findings]),
            "submitted_by": self.submitted_by,
        }
        await database.execute(
            sql.SQL("INSERT INTO ingest.submitted_documents ({}) VALUES ({})").format(
                identifiers(list(values)), sql.SQL(", ").join(map(sql.Placeholder, values))
            ),
            values,
        )

    def _records(self, rows_of: Counter[tuple[KnownEntity, str] | None]) -> Iterator[list[Any]]:
        """Counts the rows of each partition as they pass by; None: rows without entity or month, which keep that as findings."""
        for record in self.document.records():
            owner = self.owner(record)
            period, doubt = self.month(record)
            codes = [code for code in (None if owner else FindingCode.ENTITY_MISSING, doubt) if code]
            rows_of[(owner, period) if owner and period else None] += 1
            yield [
                uuid.uuid5(self.id, str(record.line)),
                self.id,
                record.line,
                owner.id if owner else None,
                period,
                Jsonb(record.raw),
                Jsonb([Finding.of(code).as_dict() for code in codes]) if codes else None,
            ]
