"""`ntro account`, `ntro dimension`: the tenant's chart. Every change is the operator's, and stays on record."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ntro_dagster.cli.invocation import command
from ntro_dagster.cli.members import operator, owner_of
from ntro_dagster.cli.output import Column, line, result, table, when
from ntro_dagster.cli.selection import TenantOption
from ntro_dagster.errors import UsageError

if TYPE_CHECKING:
    from ntro_dagster.gl.chart import AccountRole

app = typer.Typer(no_args_is_help=True, help="The tenant's chart of accounts; one for all its entities.")
dimensions = typer.Typer(no_args_is_help=True, help="Dimensions that lines of journals may name.")

CodeArgument = Annotated[str, typer.Argument(metavar="CODE")]
NONE = "none"


class AccountType(StrEnum):
    ASSET = "ASSET"
    LIABILITY = "LIABILITY"
    EQUITY = "EQUITY"
    INCOME = "INCOME"
    EXPENSE = "EXPENSE"


class RoleUnknownError(UsageError):
    code = "ACCOUNT_ROLE_UNKNOWN"
    summary = "accounts have no such role"
    detail = "accounts have no role {role!r}"
    mend = "one of: {known}; or `none`, which takes it away"


class DimensionInvalidError(UsageError):
    code = "DIMENSION_INVALID"
    summary = "that cannot be the name of a dimension"
    detail = "{name!r} cannot be the name of a dimension"
    mend = "a lower-case letter, then letters, digits and _: at most 40"


@command(app, "list")
def list_(*, tenant: TenantOption, closed: Annotated[bool, typer.Option("--all", help="Closed ones too.")] = False) -> None:
    """The chart, each account below its parent."""
    from ntro_dagster.gl.accounts import chart  # noqa: PLC0415

    found = [row for row in chart(owner_of(tenant)) if row["active"] or closed]

    def human() -> None:
        columns = [Column("Code"), Column("Name", flexible=True), Column("Type"), Column("Role"), Column("State")]
        table(columns, [_cells(row, depth) for row, depth in below(found)])

    result(found, human)


def _cells(row: dict[str, Any], depth: int) -> list[str | None]:
    return [row["code"], "  " * depth + row["name"], row["type"], row["role"], "" if row["active"] else "CLOSED"]


def below(rows: list[dict[str, Any]]) -> list[tuple[dict[str, Any], int]]:
    """Parents before their children, and how deep each stands."""
    shown = {row["code"] for row in rows}
    children: dict[str | None, list[dict[str, Any]]] = {}
    for row in rows:
        children.setdefault(row["parent"] if row["parent"] in shown else None, []).append(row)
    found: list[tuple[dict[str, Any], int]] = []
    waiting = [(row, 0) for row in reversed(children.get(None, []))]
    while waiting:
        row, depth = waiting.pop()
        found.append((row, depth))
        waiting += [(child, depth + 1) for child in reversed(children.get(row["code"], []))]
    return found


@command(app, "add")
def add(
    code: CodeArgument,
    *,
    tenant: TenantOption,
    name: Annotated[str, typer.Option(help="What it is called.")],
    kind: Annotated[AccountType, typer.Option("--type", case_sensitive=False, help="What it stands for; children have it too.")],
    parent: Annotated[str | None, typer.Option(help="The account above it.")] = None,
    role: Annotated[str | None, typer.Option(help="What programs find it by.")] = None,
) -> None:
    """Make an account."""
    from ntro_dagster.gl.accounts import add_account  # noqa: PLC0415

    if not code.strip() or not name.strip():
        raise typer.BadParameter("code and name cannot be blank")
    given = _role(role) if role else None
    add_account(owner_of(tenant), code.strip(), name=name.strip(), kind=kind, parent=parent, role=given, by=operator())
    _told(tenant, code.strip(), f"account {code.strip()} is in the chart")


@command(app, "close")
def close(code: CodeArgument, *, tenant: TenantOption) -> None:
    """Nothing is posted to it any more; what is there stays."""
    _set_active(tenant, code, active=False)


@command(app, "reopen")
def reopen(code: CodeArgument, *, tenant: TenantOption) -> None:
    """Let it be posted to again."""
    _set_active(tenant, code, active=True)


def _set_active(tenant: str, code: str, *, active: bool) -> None:
    from ntro_dagster.gl.accounts import set_active  # noqa: PLC0415

    set_active(owner_of(tenant), code, active, by=operator())
    _told(tenant, code, f"account {code} {'takes postings' if active else 'is closed'}")


@command(app, "role")
def role(
    code: CodeArgument,
    role: Annotated[
        str, typer.Argument(metavar="ROLE", help="BANK, CREDITORS, VAT, SUSPENSE, ROUNDING, RETAINED_EARNINGS; none.")
    ],
    *,
    tenant: TenantOption,
) -> None:
    """Say what programs find it by. Only BANK may be had by several."""
    from ntro_dagster.gl.accounts import set_role  # noqa: PLC0415

    given = _role(role)
    set_role(owner_of(tenant), code, given, by=operator())
    _told(tenant, code, f"account {code} has the role {given.value}" if given else f"account {code} has no role")


@command(app, "parent")
def parent(
    code: CodeArgument,
    parent: Annotated[str, typer.Argument(metavar="PARENT", help="The account above it; none.")],
    *,
    tenant: TenantOption,
) -> None:
    """Put an account below another of its type."""
    from ntro_dagster.gl.accounts import set_parent  # noqa: PLC0415

    above = None if parent == NONE else parent
    set_parent(owner_of(tenant), code, above, by=operator())
    _told(tenant, code, f"account {code} stands below {above}" if above else f"account {code} stands alone")


@command(app, "history")
def history(code: Annotated[str | None, typer.Argument(metavar="[CODE]")] = None, *, tenant: TenantOption) -> None:
    """What was changed of the chart, when and by whom."""
    from ntro_dagster.gl.accounts import changes  # noqa: PLC0415

    found = changes(owner_of(tenant), code)

    def human() -> None:
        columns = [Column("When"), Column("By"), Column("Code"), Column("Change", flexible=True)]
        table(columns, [(when(row["at"]), row["actor"], row["code"], _difference(row)) for row in found])

    result(found, human)


def _difference(row: dict[str, Any]) -> str:
    before, after = row["before"], row["after"]
    if before is None:
        return f"made: {after['name']}, {after['type']}"
    return ", ".join(f"{name} {before[name]} → {after[name]}" for name in after if before.get(name) != after[name])


@command(dimensions, "add")
def add_dimension(
    name: Annotated[str, typer.Argument(help="As lines name it: department.")],
    *,
    tenant: TenantOption,
    title: Annotated[str, typer.Option(help="As people read it.")],
) -> None:
    """Declare a dimension. It stays; its values come as they come."""
    from ntro_dagster.gl.accounts import add_dimension as declare  # noqa: PLC0415

    if not re.fullmatch("[a-z][a-z0-9_]{0,39}", name):
        raise DimensionInvalidError(name=name)
    declare(owner_of(tenant), name, title)
    result({"tenant": tenant, "name": name, "title": title}, lambda: line(f"lines may name a {name}"))


@command(dimensions, "list")
def list_dimensions(*, tenant: TenantOption) -> None:
    """Those that are declared."""
    from ntro_dagster.gl.accounts import dimensions as declared  # noqa: PLC0415

    found = declared(owner_of(tenant))
    columns = [Column("Name"), Column("Title", flexible=True)]
    result(found, lambda: table(columns, [(row["name"], row["title"]) for row in found]) if found else line("no dimensions"))


def _role(text: str) -> AccountRole | None:
    from ntro_dagster.gl.chart import AccountRole  # noqa: PLC0415

    if text.lower() == NONE:
        return None
    try:
        return AccountRole(text.upper())
    except ValueError:
        raise RoleUnknownError(role=text, known=", ".join(AccountRole)) from None


def _told(tenant: str, code: str, said: str) -> None:
    from ntro_dagster.gl.accounts import chart  # noqa: PLC0415

    (row,) = (row for row in chart(owner_of(tenant)) if row["code"] == code)
    result({"tenant": tenant, **row}, lambda: line(said))
