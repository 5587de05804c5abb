"""The database says that there may be work, to whoever listens, and says nothing else; runs do not say it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID, uuid4

import psycopg
import pytest
from ledger_tenant import PERIOD, Connection, Tenant

from ntro_dagster.subledger.review import apply_signals

CHANNEL = "ntro_work"
ENOUGH = "enough"
DEADLINE_S = 30.0


@pytest.fixture
def said(tenant: Tenant) -> Callable[[], list[tuple[str, str]]]:
    """What was said on any channel since the last time that one asked."""
    listener = tenant.connect("auditor")  # whoever may log in may listen
    listener.autocommit = True
    listener.execute(f"LISTEN {CHANNEL}".encode())

    def ask() -> list[tuple[str, str]]:
        with psycopg.connect(tenant.credentials.owner) as owner:
            owner.execute("SELECT pg_notify(%s, %s)", [CHANNEL, ENOUGH])
        heard = []
        for each in listener.notifies(timeout=DEADLINE_S):
            if each.payload == ENOUGH:
                return heard
            heard.append((each.channel, each.payload))
        raise TimeoutError

    return ask


def test_a_decision_says_that_there_is_work_and_no_more(
    tenant: Tenant, entity: UUID, said: Callable[[], list[tuple[str, str]]]
) -> None:
    rows = [tenant.new_row(entity) for _ in range(3)]
    said()
    tenant.file("reject", rows)
    assert said() == [(CHANNEL, "")]


def test_a_run_says_nothing(tenant: Tenant, entity: UUID, said: Callable[[], list[tuple[str, str]]]) -> None:
    row = tenant.new_row(entity)
    tenant.file("approve", [row])
    said()

    async def run() -> None:
        async with tenant.database() as database:
            await apply_signals(tenant.handle(entity, database=database), period=PERIOD)

    asyncio.run(run())
    assert tenant.fetch("SELECT status FROM ledgers.expenses WHERE id = %s", row) == [("APPROVED",)]
    assert said() == []


def test_a_program_that_changes_rows_says_it(tenant: Tenant, entity: UUID, said: Callable[[], list[tuple[str, str]]]) -> None:
    tenant.new_row(entity)
    assert said() == [(CHANNEL, "")]


def test_a_document_says_it(tenant: Tenant, entity: UUID, app: Connection, said: Callable[[], list[tuple[str, str]]]) -> None:
    document = uuid4()
    app.execute(
        "INSERT INTO ingest.submitted_documents "
        "(id, sha256, name, bytes, source, period, layout, records, findings, submitted_by) "
        "VALUES (%s, %s, 'x', 1, 'spend-return', %s, '{}', 1, '[]', 'user:ann')",
        [document, uuid4().bytes * 2, PERIOD],
    )
    assert said() == []
    app.execute(
        "INSERT INTO ingest.intake (document_id, entity_id, subledger, period, records) VALUES (%s, %s, 'expenses', %s, 1)",
        [document, entity, PERIOD],
    )
    assert said() == []  # not committed
    app.commit()
    assert said() == [(CHANNEL, "")]


def test_a_decision_that_is_refused_says_nothing(tenant: Tenant, entity: UUID, said: Callable[[], list[tuple[str, str]]]) -> None:
    row = tenant.new_row(entity)
    said()
    with pytest.raises(psycopg.Error):
        tenant.file("reject", [row], by="")
    assert said() == []
