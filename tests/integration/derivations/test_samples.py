"""The samples that come with nav-monthly-journals, filed as tables and taken as far as its proposals."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from let_flat import RUNBOOK, LetFlat

from ntro_dagster.errors import NtroError
from ntro_dagster.ingest.outcome import IngestOutcome, IngestStatus
from ntro_dagster.ingest.store import DocumentStore
from ntro_dagster.ingest.submission import submit
from ntro_dagster.orchestration.assets import stage
from ntro_dagster.orchestration.runbook import read_runbook
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.tenant.entities import Entity, create_entities, entities_by_spelling

SAMPLES = RUNBOOK.root / "samples"
A, B = (Entity(uuid4(), f"landlord-{each}", f"Landlord {each.upper()}", "GBP") for each in "ab")


@pytest.fixture
def agent(flat: LetFlat) -> LetFlat:
    create_entities(flat.credentials.owner, "acme", [A, B])
    return flat


def file(flat: LetFlat, path: Path, source: str, *, store: Path, period: str | None = None) -> IngestOutcome:
    async def run() -> IngestOutcome:
        async with TenantDatabase(flat.credentials.app) as database:

            async def resolve(names: Iterable[str]) -> Mapping[str, Entity]:
                return await entities_by_spelling(database, names)

            return await submit(
                database, DocumentStore(store), path, resolve=resolve, submitted_by="user:ann", source=source, period=period
            )

    return asyncio.run(run())


def file_all(flat: LetFlat, store: Path) -> None:
    for name in ("rents", "repairs", "payouts"):
        outcome = file(flat, SAMPLES / f"agent-{name}" / "2025-01" / f"agent_{name}.csv", f"agent-{name}", store=store)
        assert (outcome.status, outcome.period, outcome.rejected_rows) == (IngestStatus.ACCEPTED, None, None)


def stage_all(flat: LetFlat) -> None:
    ledgers = {ledger.table: ledger for ledger in read_runbook(RUNBOOK).ledgers}
    for entity, period, table in flat.fetch("SELECT entity_id, period, subledger FROM ingest.intake WHERE staged_at IS NULL"):
        of(flat, entity).in_month(period, lambda run, table=table: stage(run, ledgers[table]))


def of(flat: LetFlat, entity: UUID) -> LetFlat:
    flat.entity, flat.currency = entity, "GBP"
    return flat


def test_one_file_holds_many_landlords_and_months(agent: LetFlat, tmp_path: Path) -> None:
    file_all(agent, tmp_path)
    partitions = agent.fetch(
        "SELECT e.slug, i.period, i.records FROM ingest.intake i JOIN system.entities e ON e.id = i.entity_id "
        "WHERE i.subledger LIKE '%%rental_statement' ORDER BY 1, 2"
    )
    assert partitions == [
        ("landlord-a", "2025-01", 2),
        ("landlord-a", "2025-02", 2),
        ("landlord-a", "2025-03", 2),
        ("landlord-b", "2025-02", 1),
        ("landlord-b", "2025-03", 1),
    ]
    again = file(agent, SAMPLES / "agent-rents" / "2025-01" / "agent_rents.csv", "agent-rents", store=tmp_path)
    assert again.status is IngestStatus.DUPLICATE


def test_a_record_without_entity_or_month_is_kept_with_a_finding_and_holds_up_nothing(agent: LetFlat, tmp_path: Path) -> None:
    path = tmp_path / "rents.csv"
    path.write_text("landlord_id,month,rent\nLandlord A,2025-01,1\nLandlord A,soon,2\n,2025-01,3\n,,4\nLandlord A,2009-01,5\n")
    outcome = file(agent, path, "agent-rents", store=tmp_path / "store")
    assert (outcome.parsed_rows, outcome.rejected_rows, outcome.period, outcome.entities) == (5, 4, "2025-01", ("landlord-a",))
    kept = agent.fetch(
        "SELECT line, period, jsonb_path_query_array(findings, '$[*].code') FROM ingest.submitted_records ORDER BY 1"
    )
    assert kept == [
        (2, "2025-01", None),
        (3, None, ["PERIOD_MISSING"]),
        (4, "2025-01", ["ENTITY_MISSING"]),
        (5, None, ["ENTITY_MISSING", "PERIOD_MISSING"]),
        (6, None, ["PERIOD_OUT_OF_RANGE"]),
    ]
    with psycopg.connect(agent.credentials.app) as app, pytest.raises(psycopg.errors.CheckViolation):
        app.execute(
            "INSERT INTO ingest.submitted_records (id, document_id, line, entity_id, raw) "
            "SELECT gen_random_uuid(), document_id, 99, entity_id, '{}' FROM ingest.submitted_records WHERE line = 2"
        )


@pytest.mark.parametrize(
    ("content", "period", "code"),
    [
        ("landlord_id,month\nLandlord A,2025-01\nLandlord A,2025-02\n", "2025-01", "DOCUMENT_NAMES_OTHER_MONTHS"),
        ("landlord_id,month\nLandlord X,2025-01\n", None, "ENTITY_UNKNOWN"),
        ("landlord_id,month\n,2025-01\n", None, "ENTITY_MISSING"),
        ("owner,month\nLandlord A,2025-01\n", None, "DOCUMENT_NOT_A_TABLE"),
    ],
)
def test_what_is_refused_leaves_nothing(agent: LetFlat, tmp_path: Path, content: str, period: str | None, code: str) -> None:
    path = tmp_path / "rents.csv"
    path.write_text(content)
    with pytest.raises(NtroError) as refused:
        file(agent, path, "agent-rents", store=tmp_path / "store", period=period)
    assert refused.value.code == code
    assert agent.fetch("SELECT count(*) FROM ingest.submitted_documents") == [(0,)]


def test_a_month_that_is_given_is_that_of_records_which_name_none(agent: LetFlat, tmp_path: Path) -> None:
    path = tmp_path / "rents.csv"
    path.write_text("landlord_id,month,rent\nLandlord A,2025-01,1\nLandlord A,,2\n")
    outcome = file(agent, path, "agent-rents", store=tmp_path / "store", period="2025-01")
    assert (outcome.rejected_rows, outcome.period) == (None, "2025-01")


def test_the_samples_become_journals(agent: LetFlat, tmp_path: Path) -> None:
    file_all(agent, tmp_path)
    stage_all(agent)
    _, repairs, _ = agent.derivation.inputs
    for landlord in (A, B):
        tenant = of(agent, landlord.id)
        tenant.decide(repairs, "reject", status="NEEDS_ATTENTION")
        for kind in tenant.derivation.inputs:
            tenant.decide(kind, "approve", status="PENDING")
        for period in sorted({period for (period,) in tenant.fetch("SELECT DISTINCT period FROM ingest.intake")}):
            tenant.derive(period)
    said = agent.fetch(
        "SELECT e.slug, p.period, f ->> 'code', f ->> 'amount' FROM ledgers.journal_proposals p "
        "JOIN system.entities e ON e.id = p.entity_id CROSS JOIN jsonb_array_elements(p.validation_errors) f ORDER BY 1, 2, 3"
    )
    assert said == [("landlord-a", "2025-02", "PAYOUT_MISSING", "1110.00"), ("landlord-a", "2025-03", "PAYOUT_LATE", "1110.00")]
    control = agent.fetch(
        "SELECT p.entity_id, sum((l ->> 'debit')::numeric - (l ->> 'credit')::numeric) FROM ledgers.journal_proposals p "
        "CROSS JOIN jsonb_array_elements(p.lines) l WHERE l ->> 'account_code' = '1200' GROUP BY 1"
    )
    assert {amount for _, amount in control} == {0}
