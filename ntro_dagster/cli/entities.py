"""`ntro entity`: what a tenant keeps books for."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from ntro_dagster.cli.connections import as_role, entity_of, installation, registry, tenant_home
from ntro_dagster.cli.invocation import command
from ntro_dagster.cli.output import Column, line, result, table
from ntro_dagster.cli.selection import TenantOption
from ntro_dagster.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="What a tenant keeps books for: SPVs, cells, funds.")


class CurrencyInvalidError(UsageError):
    code = "CURRENCY_INVALID"
    summary = "that is not a currency code"
    detail = "{currency!r} is not a currency code"
    mend = "write it as ISO 4217 has it: GBP, EUR, USD"


@command(app, "create")
def create(
    slug: Annotated[str, typer.Argument(help="Short, for ever: a-z, 0-9, _ . and -.")],
    tenant: TenantOption,
    name: Annotated[str, typer.Option(help="As documents spell it.")],
    currency: Annotated[str, typer.Option(help="ISO 4217: what its documents are in unless they say otherwise.")] = "GBP",
    first_month: Annotated[int, typer.Option("--first-month", min=1, max=12, help="With which its year begins.")] = 1,
) -> None:
    """Make an entity: its schema and views, its partitions in Dagster."""
    from ntro_dagster.host.tenancy import create_entity  # noqa: PLC0415

    if not re.fullmatch("[A-Z]{3}", currency):
        raise CurrencyInvalidError(currency=currency)
    if not name.strip():
        raise typer.BadParameter("a name cannot be blank", param_hint="--name")
    tenant_home(tenant)
    found = installation()
    with registry(found) as known:
        known.tenant(tenant)
        entity = create_entity(found, tenant, slug, name=name.strip(), currency=currency, first_month=first_month)
    result({"tenant": tenant, **_shape(entity)}, lambda: line(f"entity {slug} is there, in tenant {tenant}"))


@command(app, "list")
def list_(
    tenant: TenantOption,
    closed: Annotated[bool, typer.Option("--all", help="Closed ones too.")] = False,
) -> None:
    """A tenant's entities."""
    from ntro_dagster.host.home import Role  # noqa: PLC0415

    rows = as_role(
        tenant,
        Role.AUDITOR,
        lambda database: database.fetch(
            "SELECT slug, name, currency, status, id, schema_name, first_month, created_at FROM system.entities "
            "WHERE status = 'ACTIVE' OR %s ORDER BY slug",
            [closed],
        ),
    )

    def human() -> None:
        if not rows:
            line(f"no entities yet: `ntro entity create SLUG --tenant {tenant} --name …` makes one")
            return
        table(
            [Column("Entity"), Column("Status"), Column("Currency"), Column("Name", flexible=True)],
            [(row["slug"], row["status"], row["currency"], row["name"]) for row in rows],
        )

    result(rows, human)


@command(app, "close")
def close(slug: Annotated[str, typer.Argument()], tenant: TenantOption) -> None:
    """Close an entity: nothing is posted for it any more; what is there stays. Cannot be undone."""
    from ntro_dagster.host.home import Role  # noqa: PLC0415
    from ntro_dagster.host.tenancy import retire_entity  # noqa: PLC0415

    as_role(tenant, Role.AUDITOR, lambda database: entity_of(database, slug, tenant=tenant))
    found = installation()
    with registry(found):
        retire_entity(found, tenant, slug)
    result({"tenant": tenant, "slug": slug, "status": "CLOSED"}, lambda: line(f"entity {slug} is closed"))


def _shape(entity: Any) -> dict[str, Any]:
    names = ("slug", "name", "currency", "first_month", "id", "status")
    return {name: getattr(entity, name) for name in names}
