"""`ntro tenant`: clients, one database and one process each."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from ntro_dagster.cli.connections import as_role, installation, registry, tenant_home
from ntro_dagster.cli.invocation import command
from ntro_dagster.cli.output import Column, line, pairs, result, table, when

app = typer.Typer(no_args_is_help=True, help="Clients: one database and one process each.")


class Platform(StrEnum):
    """`--data-platform`."""

    MANAGED_POSTGRES = "managed-postgres"
    SNOWFLAKE = "snowflake"
    FABRIC = "fabric"


@command(app, "create")
def create(
    slug: Annotated[str, typer.Argument(help="Short, opaque, for ever: a-z, 0-9 and _, no client's name.")],
    name: Annotated[str, typer.Option(help="The client's name; stays in its own database.")],
    data_platform: Annotated[Platform, typer.Option(help="Where its data lives.")] = Platform.MANAGED_POSTGRES,
) -> None:
    """Make a tenant: database, roles, schemas, process, code location. After a crash, the same command completes it."""
    from ntro_dagster.host.tenancy import create_tenant  # noqa: PLC0415
    from ntro_dagster.workspace.registry import DataPlatform, check_tenant_slug  # noqa: PLC0415

    check_tenant_slug(slug)
    found = installation()
    platform = DataPlatform.POSTGRES if data_platform is Platform.MANAGED_POSTGRES else DataPlatform(data_platform.value)
    with registry(found), found.home.lock():
        tenant = create_tenant(found, slug, name=_name(name), platform=platform)
    value = {"slug": slug, "name": name, "id": tenant.id, "data_platform": data_platform, "status": tenant.status}
    result(value, lambda: line(f"tenant {slug} is there: `ntro entity create … --tenant {slug}` adds its entities"))


@command(app, "list")
def list_(closed: Annotated[bool, typer.Option("--all", help="Closed ones too.")] = False) -> None:
    """The tenants."""
    with registry(installation()) as known:
        tenants = known.tenants(closed=closed)
        counts = {tenant.slug: len(known.entities(tenant.slug)) for tenant in tenants}
    value: list[dict[str, Any]] = [
        {
            "slug": tenant.slug,
            "id": tenant.id,
            "data_platform": platform_word(tenant.data_platform),
            "status": tenant.status,
            "entities": counts[tenant.slug],
            "created_at": tenant.created_at,
        }
        for tenant in tenants
    ]

    def human() -> None:
        if not value:
            line("no tenants yet: `ntro tenant create SLUG --name …` makes one")
            return
        table(
            [Column("Tenant"), Column("Status"), Column("Entities", right=True), Column("Data platform"), Column("Created")],
            [(t["slug"], t["status"], str(t["entities"]), t["data_platform"], when(t["created_at"])) for t in value],
        )

    result(value, human)


@command(app, "show")
def show(slug: Annotated[str, typer.Argument()]) -> None:
    """One tenant, from the registry and from its own database."""
    from ntro_dagster.host.home import Role  # noqa: PLC0415
    from ntro_dagster.host.supervision import Supervisor  # noqa: PLC0415
    from ntro_dagster.host.tenancy import database_key  # noqa: PLC0415
    from ntro_dagster.platforms.postgres.database import TenantDatabase  # noqa: PLC0415

    found = installation()
    with registry(found) as known:
        tenant = known.tenant(slug)
    home = tenant_home(slug)

    async def look(database: TenantDatabase) -> dict[str, Any]:
        row = await database.fetch_one(
            """SELECT (SELECT name FROM system.tenant) AS name,
                      (SELECT count(*) FROM system.entities WHERE status = 'ACTIVE') AS entities,
                      (SELECT count(*) FROM ingest.submitted_documents) AS documents"""
        )
        return row or {}

    inside = as_role(slug, Role.AUDITOR, look)
    process = next((p.state for p in Supervisor(home.home).status() if p.name == f"tenant-{slug}"), "STOPPED")
    value = {
        "slug": slug,
        "name": inside["name"],
        "id": tenant.id,
        "status": tenant.status,
        "process": process,
        "data_platform": platform_word(tenant.data_platform),
        "database": database_key(tenant),
        "entities": inside["entities"],
        "documents": inside["documents"],
        "directory": home.root,
        "created_at": tenant.created_at,
    }
    result(
        value,
        lambda: pairs(
            (name.replace("_", " "), when(item) if name == "created_at" else str(item)) for name, item in value.items()
        ),
    )


def platform_word(platform: str) -> str:
    """The registry's `postgres` is `managed-postgres` on the command line."""
    return Platform.MANAGED_POSTGRES.value if platform == "postgres" else platform


def _name(name: str) -> str:
    if not name.strip():
        raise typer.BadParameter("a name cannot be blank", param_hint="--name")
    return name.strip()
