"""A desk as it is served, over a tenant's database; an entity of its own per test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from ntro_dagster.gl.chart import install_chart
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials

sys.path.append(str(Path(__file__).parent.parent / "subledger"))  # `ledger_tenant`: rows by raw SQL

from desk_at_work import Browser, DeskAtWork
from ledger_tenant import PERIOD, Tenant


@pytest.fixture(scope="module")
def desk(deployed: DatabaseCredentials, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeskAtWork]:
    with psycopg.connect(deployed.owner) as owner:
        install_chart(owner)
    with DeskAtWork.served(Tenant(deployed), tmp_path_factory.mktemp("documents")) as desk:
        yield desk


@pytest.fixture
def entity(desk: DeskAtWork) -> UUID:
    return desk.tenant.new_entity()


@pytest.fixture(scope="module")
def ann(desk: DeskAtWork) -> Browser:
    """Approves."""
    return desk.logged_in("ann")


@pytest.fixture(scope="module")
def bob(desk: DeskAtWork) -> Browser:
    """Approves too."""
    return desk.logged_in("bob")


@pytest.fixture(scope="module")
def pat(desk: DeskAtWork) -> Browser:
    """Prepares."""
    return desk.logged_in("pat")


@pytest.fixture(scope="module")
def eve(desk: DeskAtWork) -> Browser:
    """Looks."""
    return desk.logged_in("eve")


@pytest.fixture
def task(desk: DeskAtWork, entity: UUID) -> UUID:
    """A run that began for the entity's month."""
    run = uuid4()
    with psycopg.connect(desk.tenant.credentials.app) as app:
        app.execute(
            "INSERT INTO system.runs (run_id, entity_id, period, code, runbook, version) "
            "VALUES (%s, %s, %s, 's_0123456789ab', 'expense-processor', 'v_0123456789ab')",
            [run, entity, PERIOD],
        )
    return run
