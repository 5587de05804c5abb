"""Sample documents, filed as `ntro ingest` files them, for entities that are made as they are named."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ntro_dagster.bundles.layout import bundle_files
from ntro_dagster.bundles.runbook_md import Frontmatter
from ntro_dagster.errors import UsageError
from ntro_dagster.ingest.store import DocumentStore
from ntro_dagster.ingest.submission import EntityMissingError, period_of, submit
from ntro_dagster.orchestration.context import EntityRef
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.tenant.entities import Entity, create_entities, entities_by_spelling, slug_of
from ntro_dagster.testing.scenario import PREPARER, Document
from ntro_dagster.testing.scratch import TENANT

FOLDER = "samples"
ENTITY = "sample"
CURRENCY = "GBP"


class SampleMissingError(UsageError):
    """Values: `path`."""

    code = "SAMPLE_MISSING"
    summary = "a scenario names a document that is not there"
    detail = "there is no {path}"
    mend = "put it there, or correct the scenario's documents"


class SampleSourceError(UsageError):
    """Values: `path`, `sources`."""

    code = "SAMPLE_SOURCE"
    summary = "nothing says of which source a sample is"
    detail = "{path} may be of any of these sources: {sources}"
    mend = "keep it in a folder named after its source (samples/<source>/<YYYY-MM>/), or say `source` in the scenario"


@dataclass
class SampleDesk:
    """Files the samples of one bundle."""

    root: Path
    head: Frontmatter
    owner_url: str
    database: TenantDatabase
    store: Path
    _entities: dict[str, Entity] = field(default_factory=dict)

    async def file(self, documents: Sequence[Document] | None) -> list[str]:
        """One line for each document. None: every file below `samples/`.

        Raises: `SampleMissingError`, `SampleSourceError`, and what filing a document raises.
        """
        return [await self._submit(document) for document in (self._all() if documents is None else documents)]

    def _all(self) -> list[Document]:
        folder = self.root / FOLDER
        if not folder.is_dir():
            return []
        return [Document(path.relative_to(self.root).as_posix()) for path in bundle_files(folder) if path.suffix != ".md"]

    async def _submit(self, document: Document) -> str:
        path = self.root / document.path
        if not path.is_file():
            raise SampleMissingError(path=document.path)
        named = self._entity(document.entity) if document.entity else None
        source = document.source or self._source(document.path)
        # A table may name the month of each record: then no folder does.
        named_by_rows = "period" in self.head.sources.get(source, {})
        period = document.period or (None if named_by_rows else period_of(Path("/") / document.path))
        try:
            outcome = await self._of(path, named, period, source)
        except EntityMissingError:
            outcome = await self._of(path, self._entity(ENTITY), period, source)
        return f"filed {document.path}  {outcome.parsed_rows} records for {len(outcome.entities)} entities"

    async def _of(self, path: Path, entity: Entity | None, period: str | None, source: str):  # type: ignore[no-untyped-def]
        return await submit(
            self.database,
            DocumentStore(self.store),
            path,
            resolve=self._resolve,
            submitted_by=PREPARER,
            entity=entity,
            period=period,
            source=source,
        )

    def _source(self, path: str) -> str:
        known = sorted({source for sources in self.head.reads.values() for source in sources})
        named = [part for part in Path(path).parts if part in known]
        if len(known) != 1 and len(named) != 1:
            raise SampleSourceError(path=path, sources=", ".join(known) or "none, for runbook.md reads nothing")
        return named[0] if len(named) == 1 else known[0]

    async def _resolve(self, names: Iterable[str]) -> Mapping[str, Entity]:
        wanted = list(names)
        known = await entities_by_spelling(self.database, wanted)
        for name in wanted:
            if name not in known:
                self._entity(slug_of(name), name)
        return await entities_by_spelling(self.database, wanted)

    def _entity(self, slug: str, name: str | None = None) -> Entity:
        if slug not in self._entities:
            entity = Entity(uuid.uuid5(uuid.NAMESPACE_OID, slug), slug, name or slug, CURRENCY)
            create_entities(self.owner_url, TENANT, [entity])
            self._entities[slug] = entity
        return self._entities[slug]

    async def partitions(self) -> list[tuple[EntityRef, str]]:
        """Entities and months that documents were filed for; where none was, one entity in the runbook's first month."""
        rows = await self.database.fetch(
            "SELECT DISTINCT e.id, e.slug, e.currency, i.period "
            "FROM ingest.intake i JOIN system.entities e ON e.id = i.entity_id ORDER BY i.period, e.slug"
        )
        found = [(EntityRef(row["id"], row["slug"], row["currency"]), row["period"]) for row in rows]
        if not found:
            entity = self._entity(ENTITY)
            found = [(EntityRef(entity.id, entity.slug, entity.currency), self.head.start)]
        return found
