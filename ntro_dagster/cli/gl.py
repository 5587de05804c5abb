"""`ntro gl`: which general ledger an entity has, what is on its way there, and what it says."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ntro_dagster.cli.connections import as_role, entity_of, tenant_home
from ntro_dagster.cli.invocation import command
from ntro_dagster.cli.members import operator, owner_of
from ntro_dagster.cli.output import Column, line, note, result, table, when
from ntro_dagster.cli.selection import EntityFilter, TenantOption
from ntro_dagster.errors import UsageError

if TYPE_CHECKING:
    from uuid import UUID

    from ntro_dagster.platforms.postgres.database import TenantDatabase

app = typer.Typer(no_args_is_help=True, help="General ledgers of others: which one an entity has, and what is on its way there.")

OptionsOption = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", metavar="NAME=VALUE", help="An option of the provider; JSON where it is not a plain word."),
]


class OptionUnreadableError(UsageError):
    """Values: `given`."""

    code = "GL_OPTION_UNREADABLE"
    summary = "an option is written as NAME=VALUE"
    detail = "{given!r} is not written as NAME=VALUE"
    mend = "for instance `--option company=Acme`; docs/general-ledger.md lists the options"


@command(app, "set")
def set_(
    provider: Annotated[str, typer.Argument(help="native, beancount, hledger, erpnext, xero; `tenant`: as the whole tenant.")],
    *,
    tenant: TenantOption,
    entity: EntityFilter = None,
    option: OptionsOption = None,
) -> None:
    """Say which general ledger an entity has, or every entity without one of its own. No secrets: see `ntro gl secret`."""
    from ntro_dagster.gl.settings import record  # noqa: PLC0415

    options = dict(map(_option, option or ()))
    known = _entity(tenant, entity)
    place = record(
        owner_of(tenant), provider=None if provider == "tenant" else provider, options=options, entity_id=known, by=operator()
    )
    value = {"tenant": tenant, "entity": entity, "provider": provider, "place": place, "options": options}
    result(value, lambda: line(f"{entity or 'every entity without its own'}: {provider} {place}".rstrip()))


@command(app, "secret")
def secret(
    name: Annotated[str, typer.Argument(help="As the provider's option `secret` names it.")], *, tenant: TenantOption
) -> None:
    """Keep a secret for the tenant's processes, 0600. It is asked for, or is the first line of standard input."""
    import getpass  # noqa: PLC0415

    from ntro_dagster.gl.providers.secrets import NAME  # noqa: PLC0415
    from ntro_dagster.host.home import write_private  # noqa: PLC0415

    if not NAME.fullmatch(name):
        raise typer.BadParameter("small letters, digits, - and _", param_hint="NAME")
    home = tenant_home(tenant)
    home.create()
    given = getpass.getpass("Secret: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    write_private(home.secrets / name, given + "\n", readers=home.user)
    result({"tenant": tenant, "secret": name}, lambda: line(f"{tenant} has the secret {name}"))


@command(app, "retry")
def retry(*, tenant: TenantOption, entity: EntityFilter = None) -> None:
    """Try again what was refused and is held back, and wait no longer: something has changed there, or here."""
    from ntro_dagster.gl.settings import repeat  # noqa: PLC0415

    again = repeat(owner_of(tenant), entity_id=_entity(tenant, entity), by=operator())
    result({"tenant": tenant, "entity": entity, "again": again}, lambda: line("what was refused is tried again"))


@command(app, "give-up")
def give_up(
    *,
    tenant: TenantOption,
    entity: Annotated[str, typer.Option("--entity", "-e", help="The entity's slug.")],
    reason: Annotated[str, typer.Option("--reason", help="Why its ledger will not answer again; kept.")],
) -> None:
    """Wait no longer for a ledger that will not answer again; its rows are held back until the entity has another one."""
    from ntro_dagster.gl.settings import give_up as abandon  # noqa: PLC0415

    known = _entity(tenant, entity)
    assert known is not None  # noqa: S101
    doubtful = abandon(owner_of(tenant), entity_id=known, by=operator(), reason=reason)

    def human() -> None:
        line(f"{entity} waits for its ledger no longer; `ntro gl set PROVIDER --tenant {tenant} --entity {entity}` names another")
        if doubtful:
            note(f"nobody knows whether that ledger has these {len(doubtful)}: look there before they are posted again")
            for each in doubtful:
                line(each)

    result({"tenant": tenant, "entity": entity, "in_doubt": doubtful}, human)


@command(app, "status")
def status(*, tenant: TenantOption, entity: EntityFilter = None) -> None:
    """What is on its way, what was refused, and what later looks found, by entity and month."""
    from ntro_dagster.gl.settings import status as read  # noqa: PLC0415
    from ntro_dagster.host.home import Role  # noqa: PLC0415

    known = _entity(tenant, entity)
    found = as_role(tenant, Role.AUDITOR, lambda database: read(database, entity_id=known))

    def human() -> None:
        if found["held"]:
            columns = [Column("Entity"), Column("Month"), Column("Subledger"), Column("Held back", right=True), Column("Because")]
            table(columns, [(x["entity"], x["period"], x["subledger"], str(x["rows"]), x["code"]) for x in found["held"]])
        if not found["ledgers"]:
            line(f"{tenant} keeps its own books: `ntro gl set PROVIDER --tenant {tenant}` says otherwise")
            return
        columns = [Column("Entity"), Column("Ledger"), Column("Place", flexible=True), Column("Waits until")]
        table(columns, [(x["entity"], x["provider"], x["place"], when(x["until"])) for x in found["ledgers"]])
        if found["deliveries"]:
            counted = ("under_way", "in_doubt", "confirmed", "refused")
            columns = [
                Column("Entity"),
                Column("Month"),
                *(Column(name.replace("_", " ").capitalize(), right=True) for name in counted),
            ]
            table(columns, [(x["entity"], x["period"], *(str(x[name] or "") for name in counted)) for x in found["deliveries"]])
        for x in found["given_up"]:
            note(f"{x['entity']} {x['period']}: {x['external_id']} may be in {x['provider']} {x['place']}, which was given up")
        for x in found["findings"]:
            note(f"{x['entity']} {x['period']}: {x['code']} {x['provider_ref']} ({x['external_id']})")

    result(found, human)


@command(app, "accounts")
def accounts(*, tenant: TenantOption, entity: Annotated[str, typer.Option("--entity", "-e", help="The entity's slug.")]) -> None:
    """Accounts as the entity's ledger has them, and those of the chart that it does not have."""
    import os  # noqa: PLC0415

    from ntro_dagster.boundary.names import BOOKS, SECRETS  # noqa: PLC0415
    from ntro_dagster.gl.settings import accounts_beside  # noqa: PLC0415
    from ntro_dagster.host.home import Role  # noqa: PLC0415

    home, known = tenant_home(tenant), _entity(tenant, entity)
    os.environ |= {BOOKS: str(home.books), SECRETS: str(home.secrets)}

    async def look(database: TenantDatabase) -> list[dict[str, Any]]:
        assert known is not None  # noqa: S101
        with home.acting():  # files of the tenant's are read with the tenant's rights
            return await accounts_beside(database, known)

    found = as_role(tenant, Role.AUDITOR, look)
    columns = [Column("Code"), Column("Name", flexible=True), Column("There", flexible=True)]
    result(found, lambda: table(columns, [(x["code"], x["name"] or "", x["there"] or "missing") for x in found]))


def _entity(tenant: str, slug: str | None) -> UUID | None:
    from ntro_dagster.host.home import Role  # noqa: PLC0415

    if slug is None:
        tenant_home(tenant)
        return None
    return as_role(tenant, Role.AUDITOR, lambda database: entity_of(database, slug, tenant=tenant)).id


def _option(given: str) -> tuple[str, Any]:
    import json  # noqa: PLC0415

    name, sign, text = given.partition("=")
    if not sign or not name:
        raise OptionUnreadableError(given=given)
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    return name, value
