"""Tenants and entities, created across both planes: the registry knows slugs, the tenant's database knows names.

The registry comes first, because it gives the id; every later step may be repeated, so `create` after a crash completes.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg

from ntro_dagster.boundary.names import entities_set
from ntro_dagster.bundles import platform_bundle
from ntro_dagster.bundles.active import ActiveSet
from ntro_dagster.errors import UsageError
from ntro_dagster.gl.chart import install_chart
from ntro_dagster.host.home import Role, TenantHome, write_private
from ntro_dagster.host.installation import Installation, credential
from ntro_dagster.host.launch import read_environment, write_environment
from ntro_dagster.host.surveys import survey_new_tenant, surveyed
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials, provision_database
from ntro_dagster.tenant.deployment import bring_up_to_date
from ntro_dagster.tenant.entities import Entity, close_entity, create_entities
from ntro_dagster.workspace.registry import DataPlatform, Tenant, TenantExistsError, check_entity_slug


class PlatformNotAvailableError(UsageError):
    """Values: `platform`."""

    code = "PLATFORM_NOT_AVAILABLE"
    summary = "this data platform cannot be provisioned yet"
    detail = "data platform {platform} cannot be provisioned yet"
    mend = "use --data-platform managed-postgres"


class EntityExistsError(UsageError):
    """Values: `slug`, `tenant`."""

    code = "ENTITY_EXISTS"
    summary = "an entity of that name exists"
    detail = "tenant {tenant} has an entity {slug} already"
    mend = "choose another slug, or use the one that is there"


def database_key(tenant: Tenant) -> str:
    """Opaque: every role of the cluster can list the names of databases."""
    return f"t_{tenant.id.hex[:12]}"


def create_tenant(installation: Installation, slug: str, *, name: str, platform: DataPlatform = DataPlatform.POSTGRES) -> Tenant:
    """Database, roles, schemas, process, code location. Raises `TenantExistsError`, `SlugError`, and what provisioning raises."""
    if platform is not DataPlatform.POSTGRES:
        raise PlatformNotAvailableError(platform=platform.value)
    home = installation.home.tenant(slug)
    registry = installation.registry()
    try:
        known = any(tenant.slug == slug for tenant in registry.tenants())
        if known and home.process_env.exists() and surveyed(installation.home, slug):
            _serve(installation, slug)  # where a crash came before that
            raise TenantExistsError(slug=slug)
        tenant = registry.tenant(slug) if known else registry.create_tenant(slug, platform)
    finally:
        registry.dispose()
    home.create()
    if not home.active.exists():
        write_private(home.active, ActiveSet().to_json(), readers=home.user)
    with ThreadPoolExecutor(max_workers=1) as beside:
        survey = beside.submit(survey_new_tenant, home)
        urls = _database(installation, home, tenant, name)
        before = read_environment(home.process_env) if home.process_env.exists() else {}
        write_environment(
            home.process_env,
            {
                **home.places,
                "NTRO_PLATFORM_URL": urls.app,
                "NTRO_SALT": before.get("NTRO_SALT") or secrets.token_hex(32),
            },
        )
        if _runs(installation):  # it imports what the survey imports, and nobody asks it anything before that is over
            _begin(installation, slug)
        survey.result()
    _serve(installation, slug)
    return tenant


def _database(installation: Installation, home: TenantHome, tenant: Tenant, name: str) -> DatabaseCredentials:
    urls = provision_database(installation.admin_dsn(), key=database_key(tenant))
    for role, url in {
        Role.OWNER: urls.owner,
        Role.APP: urls.app,
        Role.DESK: urls.desk,
        Role.AUDITOR: urls.auditor,
    }.items():
        write_private(home.credential(role), url + "\n")
    bring_up_to_date(urls.owner, platform_bundle())
    _introduce(urls.owner, tenant, name)
    return urls


def _serve(installation: Installation, slug: str) -> None:
    """Its code location, and its process where the others run."""
    installation.write_workspace()
    if _runs(installation):
        installation.start_services(new_tenant=slug)
        installation.reload_locations()


def _begin(installation: Installation, slug: str) -> None:
    """The tenant's process; one that a crash left behind knows a password that is no more."""
    process = installation.tenant_process(slug)
    if any(each.name == process.name for each in installation.supervisor.status()):
        installation.supervisor.restart(process.name)
    else:
        installation.supervisor.add(process)


def _runs(installation: Installation) -> bool:
    return any(process.name == "webserver" for process in installation.supervisor.status())


def _introduce(owner_dsn: str, tenant: Tenant, name: str) -> None:
    """The tenant's own name and its chart of accounts."""
    with psycopg.connect(owner_dsn) as connection:
        connection.execute(
            "INSERT INTO system.tenant (id, slug, name) VALUES (%s, %s, %s) ON CONFLICT (id) DO NOTHING",
            [tenant.id, tenant.slug, name],
        )
        install_chart(connection)


def create_entity(
    installation: Installation, tenant: str, slug: str, *, name: str, currency: str = "GBP", first_month: int = 1
) -> Entity:
    """One entity. `first_month`: of its year. Raises `EntityExistsError`, `SlugError`, `TenantNotFoundError`."""
    check_entity_slug(slug)
    with psycopg.connect(credential(installation.home, tenant, Role.OWNER)) as connection:
        if connection.execute("SELECT 1 FROM system.entities WHERE slug = %s", [slug]).fetchone():
            raise EntityExistsError(slug=slug, tenant=tenant)
    return ensure_entities(installation, tenant, {slug: name}, currency=currency, first_month=first_month)[0]


def ensure_entities(
    installation: Installation, tenant: str, names: dict[str, str], *, currency: str = "GBP", first_month: int = 1
) -> Sequence[Entity]:
    """Entities by slug and name, as many as are asked for; those that exist stay as they are."""
    registry = installation.registry()
    try:
        known = {entity.slug: entity for entity in registry.entities(tenant, closed=True)}
        entities = [
            Entity((known.get(slug) or registry.create_entity(tenant, slug)).id, slug, name, currency, first_month=first_month)
            for slug, name in names.items()
        ]
    finally:
        registry.dispose()
    _add_partitions(installation, tenant, list(names))
    # Last, because `create_entity` takes an entity that is here for complete.
    create_entities(credential(installation.home, tenant, Role.OWNER), tenant, entities)
    return entities


def _add_partitions(installation: Installation, tenant: str, slugs: list[str]) -> None:
    """As Dagster's own storage does it, which takes a second to import."""
    with psycopg.connect(installation.workspace_url(), autocommit=True) as connection:
        connection.execute(
            """INSERT INTO dynamic_partitions (partitions_def_name, partition)
            SELECT %s, slug FROM unnest(%s::text[]) slug ON CONFLICT DO NOTHING""",
            [entities_set(tenant), slugs],
        )


def retire_entity(installation: Installation, tenant: str, slug: str) -> None:
    """Close an entity in both planes. Its partitions and rows stay; nothing is posted for it any more."""
    registry = installation.registry()
    try:
        registry.close_entity(tenant, slug)
    finally:
        registry.dispose()
    close_entity(credential(installation.home, tenant, Role.OWNER), slug)
