"""How many connections a run opens: it has a process of its own, and a new connection costs more than most statements."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from dagster import AssetKey, DagsterInstance, Definitions

from ntro_dagster.boundary.names import entities_set
from ntro_dagster.bundles import runbook_bundle
from ntro_dagster.bundles.active import ActiveSet, with_platform
from ntro_dagster.ingest import records
from ntro_dagster.orchestration.month_end import tenant_definitions
from ntro_dagster.platforms import environment
from ntro_dagster.platforms.environment import kept_database
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.subledger.registry import load_types

RUNBOOK = runbook_bundle("expense-processor")


@pytest.fixture
def definitions(deployed: DatabaseCredentials, monkeypatch: pytest.MonkeyPatch) -> Definitions:
    monkeypatch.setenv("NTRO_TENANT", "acme")
    monkeypatch.setenv("NTRO_PLATFORM_URL", deployed.app)
    monkeypatch.setenv("NTRO_SALT", "00" * 32)
    with psycopg.connect(deployed.owner) as owner:
        owner.execute(
            "INSERT INTO system.entities (id, slug, name, currency, schema_name) "
            "VALUES (%s, 'spv-1', 'One', 'GBP', 'acme_spv_1') ON CONFLICT DO NOTHING",
            [uuid4()],
        )
    active = ActiveSet((RUNBOOK,))
    load_types(*with_platform(active.bundles))
    return tenant_definitions(active)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    environment._kept.clear()
    made: list[str] = []
    connect: Callable[..., Any] = psycopg.AsyncConnection.connect

    async def counted(conninfo: str, **more: Any) -> Any:
        made.append(more["application_name"])
        return await connect(conninfo, **more)

    monkeypatch.setattr(psycopg.AsyncConnection, "connect", counted)
    return made


REVIEW, JOURNALS, BALANCE = ["review", "expenses_decisions"], ["ledgers", "journals"], ["ledgers", "trial_balance"]
RECORDS, ROWS = ["ingest", "submitted_records"], ["ledgers", "expenses"]
NOT_EVEN_NONE = -1


@pytest.mark.parametrize(
    ("job", "assets", "few", "connections"),
    [
        ("month_end", [REVIEW], records.FEW, 1),
        ("month_end", [REVIEW, JOURNALS, BALANCE], records.FEW, 1),
        ("expense_processor", [RECORDS], records.FEW, 1),
        ("expense_processor", [RECORDS, ROWS], records.FEW, 1),
        ("expense_processor", [RECORDS, ROWS], NOT_EVEN_NONE, 2),
    ],
)
def test_one_for_all_steps_and_another_where_many_records_are_read_while_rows_are_written(
    definitions: Definitions,
    opened: list[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    job: str,
    assets: list[list[str]],
    few: int,
    connections: int,
) -> None:
    monkeypatch.setattr(records, "FEW", few)
    with DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(entities_set("acme"), ["spv-1"])
        run = definitions.resolve_job_def(job).execute_in_process(
            partition_key="spv-1|2026-03", asset_selection=[AssetKey(["acme", *asset]) for asset in assets], instance=instance
        )
        assert run.success
    assert len(opened) == connections


async def backend(*statements: str) -> int:
    """Its process id, after it was told something."""
    async with kept_database() as database:
        for statement in statements:
            await database.execute(statement)
        found = await database.fetch_single("SELECT pg_backend_pid() AS pid, current_setting('lock_timeout') AS patience")
        assert statements or found["patience"] == "0"
        return int(found["pid"])


@pytest.mark.usefixtures("definitions", "opened")
def test_a_connection_is_used_again_as_it_was_opened() -> None:
    assert asyncio.run(backend("SET lock_timeout = '1s'")) == asyncio.run(backend())


@pytest.mark.usefixtures("definitions")
def test_one_that_was_lost_is_replaced(opened: list[str], deployed: DatabaseCredentials) -> None:
    lost = asyncio.run(backend())
    with psycopg.connect(deployed.app, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 10000)", [lost])
    assert asyncio.run(backend()) != lost
    assert len(opened) == 2


@pytest.mark.usefixtures("definitions")
def test_one_over_which_something_failed_is_not_kept(opened: list[str]) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable):
        asyncio.run(backend("SELECT FROM nowhere"))
    asyncio.run(backend())
    assert len(opened) == 2


@pytest.mark.usefixtures("definitions")
def test_two_at_once_have_one_each() -> None:
    async def both() -> set[int]:
        async with kept_database() as one, kept_database() as other:
            return {(await each.fetch_single("SELECT pg_backend_pid() AS pid"))["pid"] for each in (one, other)}

    assert len(asyncio.run(both())) == 2
    assert [len(kept) for kept in environment._kept.values() if kept] == [1], "one is kept"
