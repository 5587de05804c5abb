"""`ntro member`: who may sit at a tenant's desk, and with which keys programs come."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated
from uuid import UUID

import typer

from ntro_dagster.cli.connections import tenant_home
from ntro_dagster.cli.invocation import command, invocation
from ntro_dagster.cli.output import Column, line, note, result, table, when
from ntro_dagster.cli.selection import TenantOption
from ntro_dagster.desk.roles import MemberRole, full_login
from ntro_dagster.errors import NtroError, UsageError

app = typer.Typer(no_args_is_help=True, help="Who may sit at a tenant's desk, and the keys of programs.")
keys = typer.Typer(no_args_is_help=True, help="Keys with which programs reach the desk's API.")
app.add_typer(keys, name="key")

LoginArgument = Annotated[str, typer.Argument(metavar="LOGIN", help="ann, or whole: user:ann, agent:reader.")]


class PasswordsDifferError(UsageError):
    code = "PASSWORDS_DIFFER"
    summary = "the two passwords are not the same"
    mend = "type the same one twice; nothing was changed"


class NotAMemberError(UsageError):
    code = "NOT_A_MEMBER"
    summary = "only members decide at this tenant"
    detail = "{login} is no active member of {tenant}, and from the first member on only members decide"
    mend = "name one with --as: `ntro member list --tenant {tenant}` shows them; nothing was filed"


class RoleMayNotError(UsageError):
    code = "ROLE_MAY_NOT"
    summary = "the member's role may not file this decision"
    detail = "the role of {login} may not file {decision!r}"
    mend = (
        "preparers may do all but approve, agents edit and accept; `ntro approval delegate` lets a preparer approve for a while"
    )


def about_author(refused: NtroError, login: str, *, tenant: str, decision: str) -> NtroError:
    """What the database refuses because of who files it, in words that say what to do; anything else as it is."""
    for kind in (NotAMemberError, RoleMayNotError):
        if refused.code == kind.code:
            return kind(login=login, tenant=tenant, decision=decision)
    return refused


@command(app, "add")
def add(
    login: LoginArgument,
    *,
    tenant: TenantOption,
    name: Annotated[str, typer.Option(help="The person's or program's name; stays in the tenant's database.")],
    role: Annotated[MemberRole, typer.Option(help="approver: decides all; preparer: all but approve; agent: edits and accepts.")],
) -> None:
    """Make a member. A password is asked for, or read from standard input; an agent has none, it gets a key.

    From the first member on, only members decide at this tenant.
    """
    from ntro_dagster.desk.members import add_member, make_key  # noqa: PLC0415

    whole, owner = full_login(login, role), owner_of(tenant)
    agent = role is MemberRole.AGENT
    add_member(owner, whole, name=name, role=role, password=None if agent else _password(), by=operator())
    value: dict[str, object] = {"login": whole, "name": name, "role": role, "tenant": tenant}
    if agent:
        key, secret = make_key(owner, whole, "first")
        result(value | {"key_id": key, "key": secret}, lambda: _tell_key(whole, secret))
    else:
        result(value, lambda: line(f"{whole} is a member of {tenant}: {role.value}"))


@command(app, "list")
def list_(*, tenant: TenantOption) -> None:
    """The members, former ones too."""
    from ntro_dagster.desk.members import members  # noqa: PLC0415

    found = members(owner_of(tenant))

    def human() -> None:
        if not found:
            line(f"no members: whoever runs `ntro review --tenant {tenant}` is taken at their word")
            note(f"→ `ntro member add LOGIN --tenant {tenant} --name … --role approver` ends that")
            return
        columns = [Column("Login"), Column("Name", flexible=True), Column("Role"), Column("State"), Column("Keys", right=True)]
        table(columns, [_member_cells(m["login"], m["name"], m["role"], active=m["active"], keys=m["keys"]) for m in found])

    result(found, human)


def _member_cells(login: str, name: str, role: str, *, active: bool, keys: int) -> list[str]:
    return [login, name, role, "active" if active else "left", str(keys or "")]


@command(app, "password")
def password(login: LoginArgument, *, tenant: TenantOption) -> None:
    """Set a member's password; its log-ins end, its keys stay."""
    from ntro_dagster.desk.members import set_password  # noqa: PLC0415

    whole = full_login(login)
    set_password(owner_of(tenant), whole, _password())
    result({"login": whole, "tenant": tenant}, lambda: line(f"{whole} has a new password"))


@command(app, "deactivate")
def leave(login: LoginArgument, *, tenant: TenantOption) -> None:
    """Let a member go: log-ins and keys end at once. What it decided stays."""
    from ntro_dagster.desk.members import deactivate  # noqa: PLC0415

    whole = full_login(login)
    deactivate(owner_of(tenant), whole)
    result({"login": whole, "tenant": tenant, "active": False}, lambda: line(f"{whole} is a member of {tenant} no more"))


@command(keys, "create")
def create_key(
    login: LoginArgument,
    *,
    tenant: TenantOption,
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
) -> None:
    """Make a key for an agent, or with `--label ops` for an operator. It is shown once, and is nowhere else."""
    from ntro_dagster.desk.members import check_key_holder, make_key  # noqa: PLC0415

    whole, owner = full_login(login), owner_of(tenant)
    check_key_holder(owner, whole, label)
    key, secret = make_key(owner, whole, label)
    result({"id": key, "login": whole, "tenant": tenant, "key": secret}, lambda: _tell_key(whole, secret))


@command(keys, "list")
def list_keys(*, tenant: TenantOption) -> None:
    """Keys, ended ones too. Never the keys themselves."""
    from ntro_dagster.desk.members import keys as kept  # noqa: PLC0415

    found = kept(owner_of(tenant))
    columns = [Column("Key"), Column("Login"), Column("Label", flexible=True), Column("Made"), Column("Ended")]
    cells = [(str(k["id"]), k["login"], k["label"], when(k["made_at"]), when(k["ended_at"])) for k in found]
    result(found, lambda: table(columns, cells) if found else line("no keys"))


@command(keys, "revoke")
def revoke(key: Annotated[UUID, typer.Argument(metavar="ID")], *, tenant: TenantOption) -> None:
    """Take a key back, at once and for ever."""
    from ntro_dagster.desk.members import revoke_key  # noqa: PLC0415

    revoke_key(owner_of(tenant), key)
    result({"id": key, "tenant": tenant}, lambda: line(f"key {key} is revoked"))


def _tell_key(login: str, secret: str) -> None:
    line(secret)
    note(f"the key of {login}: it is shown this once")


def owner_of(tenant: str) -> str:
    from ntro_dagster.host.home import Role  # noqa: PLC0415
    from ntro_dagster.host.installation import credential  # noqa: PLC0415

    tenant_home(tenant)
    return credential(invocation.home, tenant, Role.OWNER)


def operator() -> str:
    return f"operator:{getpass.getuser()}"


def _password() -> str:
    """Typed twice without an echo, or the first line of standard input: never an argument, which everybody can read."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != first:
        raise PasswordsDifferError
    return first
