"""The registry on a real database."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest

from ntro_dagster.platforms.postgres.server import PostgresServer
from ntro_dagster.workspace.registry import (
    DataPlatform,
    EntityExistsError,
    EntityNotFoundError,
    Registry,
    Status,
    TenantExistsError,
    TenantNotFoundError,
)


@pytest.fixture
def registry(postgres_server: PostgresServer) -> Iterator[Registry]:
    name = f"registry_{uuid4().hex[:8]}"
    with psycopg.connect(postgres_server.admin_dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        registry = Registry(postgres_server.admin_dsn(name))
        with ThreadPoolExecutor(4) as threads:  # several processes start at once
            list(threads.map(lambda _: registry.prepare(), range(4)))
        yield registry
        registry.dispose()
        admin.execute(f"DROP DATABASE {name}")


def test_tenants_and_entities(registry: Registry) -> None:
    beta = registry.create_tenant("beta")
    acme = registry.create_tenant("acme", DataPlatform.FABRIC)
    assert [tenant.slug for tenant in registry.tenants()] == ["acme", "beta"]
    assert registry.tenant("acme").id == acme.id
    assert registry.tenant("acme").data_platform == "fabric"
    assert registry.tenant("acme").created_at.tzinfo

    spv = registry.create_entity("acme", "spv-1")
    assert registry.create_entity("beta", "spv-1").tenant_id == beta.id
    assert registry.entity("acme", "spv-1").id == spv.id

    assert registry.close_entity("acme", "spv-1").status == Status.CLOSED
    assert registry.close_entity("acme", "spv-1").status == Status.CLOSED
    assert registry.entities("acme") == []
    assert [entity.slug for entity in registry.entities("acme", closed=True)] == ["spv-1"]
    assert [entity.slug for entity in registry.entities("beta")] == ["spv-1"]

    assert registry.close_tenant("acme").status == Status.CLOSED
    assert [tenant.slug for tenant in registry.tenants()] == ["beta"]
    assert [tenant.slug for tenant in registry.tenants(closed=True)] == ["acme", "beta"]


def test_refusals_are_typed(registry: Registry) -> None:
    registry.create_tenant("acme")
    registry.create_entity("acme", "spv")
    with pytest.raises(TenantExistsError):
        registry.create_tenant("acme")
    with pytest.raises(EntityExistsError):
        registry.create_entity("acme", "spv")
    for call in (registry.tenant, registry.close_tenant, registry.entities):
        with pytest.raises(TenantNotFoundError):
            call("nobody")
    with pytest.raises(EntityNotFoundError):
        registry.close_entity("acme", "nothing")
    assert len(registry.tenants()) == 1
