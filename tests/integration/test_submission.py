"""Filing a document: all of it or nothing, once, for one month."""

import asyncio
import dataclasses
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

import psycopg
import pytest

from ntro_dagster.bundles import Bundle, platform_bundle, runbook_bundle
from ntro_dagster.errors import NtroError
from ntro_dagster.ingest.outcome import IngestOutcome, IngestStatus
from ntro_dagster.ingest.store import DocumentStore
from ntro_dagster.ingest.submission import submit
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.tenant.deployment import bring_up_to_date
from ntro_dagster.tenant.entities import Entity, create_entities, entities_by_spelling

QUAY = Entity(uuid.uuid4(), "quay", "Quay Limited", "GBP")
PIER = Entity(uuid.uuid4(), "pier", "Pier Limited", "GBP")
TWO_BODIES = "Entity,Date,Supplier,Amount\nQuay Limited,01/10/2026,A Ltd,10.00\nPIER LIMITED,02/10/2026,B Ltd,20.00\n"
NO_BODY = "Date,Supplier,Amount\n01/10/2026,A Ltd,10.00\n02/10/2026,B Ltd,20.00\n"


LATE_RUNBOOK = """---
slug: late
name: Late
version: 1.0.0
schedule: "0 8 5 * *"
timezone: Europe/London
reads:
  journal_proposals: [spend-return]
---
"""


class Desk:
    """A tenant's database and store, and the one call under test."""

    def __init__(self, credentials: DatabaseCredentials, directory: Path) -> None:
        self.url, self.directory = credentials.app, directory
        self.store = DocumentStore(directory / "store")

    def file(
        self,
        text: str,
        *,
        name: str = "return.csv",
        entity: Entity | None = None,
        period: str = "2026-10",
        source: str = "spend-return",
    ) -> IngestOutcome:
        path = self.directory / name
        path.write_text(text)

        async def run() -> IngestOutcome:
            async with TenantDatabase(self.url) as database:

                async def resolve(names: Iterable[str]) -> Mapping[str, Entity]:
                    return await entities_by_spelling(database, names)

                return await submit(
                    database,
                    self.store,
                    path,
                    resolve=resolve,
                    submitted_by="user:paula",
                    entity=entity,
                    period=period,
                    source=source,
                )

        return asyncio.run(run())

    def count(self, table: str) -> int:
        async def run() -> int:
            async with TenantDatabase(self.url) as database:
                return int((await database.fetch(f"SELECT count(*) AS rows FROM ingest.{table}"))[0]["rows"])

        return asyncio.run(run())

    def kept(self) -> int:
        return sum(path.is_file() for path in self.store.directory.rglob("*")) if self.store.directory.exists() else 0

    def holds(self) -> tuple[int, int, int, int]:
        return self.count("submitted_documents"), self.count("submitted_records"), self.count("intake"), self.kept()


@pytest.fixture
def desk(tenant_credentials: DatabaseCredentials, tmp_path: Path) -> Desk:
    bring_up_to_date(tenant_credentials.owner, platform_bundle(), runbook_bundle("expense-processor"))
    create_entities(tenant_credentials.owner, "acme", [QUAY, PIER])
    return Desk(tenant_credentials, tmp_path)


def test_rows_find_their_entities(desk: Desk) -> None:
    outcome = desk.file(TWO_BODIES)
    assert (outcome.status, outcome.parsed_rows, outcome.entities) == (IngestStatus.ACCEPTED, 2, ("pier", "quay"))
    assert desk.holds() == (1, 2, 2, 1)


def test_same_bytes_again_change_nothing(desk: Desk) -> None:
    desk.file(TWO_BODIES)
    assert desk.file(TWO_BODIES, name="copy.csv").status is IngestStatus.DUPLICATE
    assert desk.holds() == (1, 2, 2, 1)


@pytest.mark.parametrize(
    ("text", "entity", "period", "code"),
    [
        (TWO_BODIES.replace("Quay", "Buoy"), None, "2026-10", "ENTITY_UNKNOWN"),
        (NO_BODY, None, "2026-10", "ENTITY_MISSING"),
        ("", None, "2026-10", "DOCUMENT_EMPTY"),
        ("a poem\nabout nothing\n", None, "2026-10", "DOCUMENT_NOT_A_RETURN"),
        (TWO_BODIES, None, "2026-13", "PERIOD_INVALID"),
        (TWO_BODIES, None, "2009-12", "PERIOD_OUT_OF_RANGE"),
        (TWO_BODIES, None, "2999-01", "PERIOD_OUT_OF_RANGE"),
        (NO_BODY, dataclasses.replace(QUAY, status="CLOSED"), "2026-10", "ENTITY_CLOSED"),
    ],
)
def test_what_is_refused_leaves_nothing(desk: Desk, text: str, entity: Entity | None, period: str, code: str) -> None:
    with pytest.raises(NtroError) as caught:
        desk.file(text, entity=entity, period=period)
    assert caught.value.code == code
    assert desk.holds() == (0, 0, 0, 0)


@pytest.mark.parametrize(("entity", "period"), [(QUAY, "2026-09"), (PIER, "2026-10")])
def test_same_bytes_for_another_month_or_entity_are_refused(desk: Desk, entity: Entity, period: str) -> None:
    desk.file(NO_BODY, entity=QUAY)
    with pytest.raises(NtroError) as caught:
        desk.file(NO_BODY, entity=entity, period=period)
    assert caught.value.code == "DOCUMENT_FILED_ELSEWHERE"
    assert desk.holds() == (1, 2, 1, 1)


def test_a_row_that_names_nobody_is_kept_with_a_finding(desk: Desk) -> None:
    outcome = desk.file(TWO_BODIES + ",03/10/2026,C Ltd,30.00\n")
    assert (outcome.parsed_rows, outcome.rejected_rows) == (3, 1)
    assert desk.holds() == (1, 3, 2, 1)


def test_a_document_that_names_another_entity_is_not_filed_for_one(desk: Desk) -> None:
    with pytest.raises(NtroError) as caught:
        desk.file(TWO_BODIES, entity=QUAY)
    assert caught.value.code == "DOCUMENT_NAMES_OTHERS"
    assert desk.holds() == (0, 0, 0, 0)


@pytest.mark.parametrize("name", ["Quay Limited.", "QUAY"])
def test_two_entities_never_share_a_spelling(tenant_credentials: DatabaseCredentials, desk: Desk, name: str) -> None:
    """Neither with another's name nor with its slug: documents could not tell them apart."""
    with pytest.raises(NtroError) as caught:
        create_entities(tenant_credentials.owner, "acme", [Entity(uuid.uuid4(), "other", name, "GBP")])
    assert caught.value.code == "SPELLING_TAKEN"


def test_a_source_that_no_runbook_reads_is_refused(desk: Desk) -> None:
    with pytest.raises(NtroError) as caught:
        desk.file(TWO_BODIES, source="weather-report")
    assert caught.value.code == "SOURCE_UNKNOWN"
    assert "spend-return" in caught.value.explain()
    assert desk.holds() == (0, 0, 0, 0)


def test_a_runbook_that_comes_later_reads_what_was_filed_before(
    desk: Desk, tenant_credentials: DatabaseCredentials, tmp_path: Path
) -> None:
    desk.file(TWO_BODIES)
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "runbook.md").write_text(LATE_RUNBOOK)
    for _ in range(2):
        bring_up_to_date(tenant_credentials.owner, Bundle("late", tmp_path / "late"))
        assert desk.count("intake") == 4
    desk.file(NO_BODY, entity=QUAY, name="more.csv")
    assert desk.count("intake") == 6


def test_nobody_adds_a_line_to_a_document_later(desk: Desk) -> None:
    document = desk.file(TWO_BODIES).document_id
    with psycopg.connect(desk.url) as app, pytest.raises(psycopg.Error, match="DOCUMENTS_ARE_IMMUTABLE"):
        app.execute(
            "INSERT INTO ingest.submitted_records (id, document_id, line, period, raw, findings) "
            "VALUES (gen_random_uuid(), %s, 99, '2026-10', '{}', '[]')",
            [document],
        )
