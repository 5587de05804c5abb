"""A deployed tenant per test module; an entity of its own per test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import UUID

import psycopg
import pytest
from ledger_tenant import Connection, Tenant

from ntro_dagster.bundles import platform_bundle
from ntro_dagster.gl.chart import install_chart
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.subledger.deployment import deploy


@pytest.fixture(scope="module")
def deployed(make_database: Callable[[], DatabaseCredentials]) -> DatabaseCredentials:
    credentials = make_database()
    deploy(credentials.owner, platform_bundle())
    with psycopg.connect(credentials.owner) as owner:
        install_chart(owner)
    return credentials


@pytest.fixture
def another_tenant(make_database: Callable[[], DatabaseCredentials]) -> Iterator[Tenant]:
    """A tenant of this test's own: for what holds for all entities alike, such as members."""
    credentials = make_database()
    deploy(credentials.owner, platform_bundle())
    yield from _opened(credentials)


@pytest.fixture
def tenant(deployed: DatabaseCredentials) -> Iterator[Tenant]:
    yield from _opened(deployed)


def _opened(credentials: DatabaseCredentials) -> Iterator[Tenant]:
    tenant = Tenant(credentials)
    yield tenant
    for connection in tenant.open_connections:
        connection.close()


@pytest.fixture
def entity(tenant: Tenant) -> UUID:
    """An entity of this test's own: tests of one module do not see each other's rows."""
    return tenant.new_entity()


@pytest.fixture
def app(tenant: Tenant) -> Connection:
    return tenant.connect("app")


@pytest.fixture
def desk(tenant: Tenant) -> Connection:
    return tenant.connect("desk")


@pytest.fixture
def auditor(tenant: Tenant) -> Connection:
    return tenant.connect("auditor")
