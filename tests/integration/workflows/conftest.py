"""A world of its own for each test: two databases, a home without processes."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from bound_tenant import RUNBOOK, TENANT, VERSIONS, World, list_active
from dagster import DagsterInstance

from ntro_dagster.boundary.pool import pooled_engine
from ntro_dagster.boundary.storage import prepare_instance
from ntro_dagster.bundles import platform_bundle, runbook_bundle
from ntro_dagster.host import bindings
from ntro_dagster.host.dagster_instance import write_instance
from ntro_dagster.host.home import Home, Role, private_directory, write_private
from ntro_dagster.host.installation import Installation
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.platforms.postgres.server import PostgresServer
from ntro_dagster.subledger.deployment import deploy
from ntro_dagster.workspace.deployments import Act, Deployments, Version


@pytest.fixture
def world(
    postgres_server: PostgresServer,
    tenant_credentials: DatabaseCredentials,
    tmp_path: Path,
    as_workspace: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    deploy(tenant_credentials.owner, platform_bundle())
    name = f"workflows_{secrets.token_hex(4)}"
    with psycopg.connect(postgres_server.admin_dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        url = postgres_server.admin_dsn(name)
        prepare_instance(url)
        home = Home(tmp_path)
        home.create()
        write_instance(home)
        installation = Installation(home)
        private_directory(home.root / "credentials")
        write_private(installation.home.workspace_credential, url)
        home.tenant(TENANT).create()
        write_private(home.tenant(TENANT).credential(Role.OWNER), tenant_credentials.owner)
        registry = installation.registry()
        registry.prepare()
        registry.create_tenant(TENANT)
        known = Deployments(registry)
        for version in VERSIONS:
            known.add_version(Version(RUNBOOK, version, version.removeprefix("v_") * 5, "1.0.0", 1, 1))
            known.end(known.start(TENANT, RUNBOOK, version, Act.DEPLOY).id)
            unpacked = home.tenant(TENANT).bundles / RUNBOOK / version
            unpacked.mkdir(parents=True)
            shutil.copy(runbook_bundle(RUNBOOK).root / "runbook.md", unpacked)
        registry.dispose()
        as_workspace(url)
        monkeypatch.setenv("NTRO_TENANT", TENANT)
        monkeypatch.setenv("NTRO_PLATFORM_URL", tenant_credentials.app)
        monkeypatch.setenv("NTRO_ACTIVE", str(home.tenant(TENANT).active))
        monkeypatch.setenv("NTRO_SALT", "00" * 32)
        monkeypatch.setattr(bindings.Runbooks, "settle", lambda runbooks, _tenant: list_active(runbooks._installation))
        with DagsterInstance.from_config(str(home.dagster)) as instance:
            made = World(installation, instance, tenant_credentials.owner, tenant_credentials.app)
            list_active(installation)
            made.add_entity("spv-1")
            made.add_entity("spv-2")
            yield made
        pooled_engine(url).dispose()
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
