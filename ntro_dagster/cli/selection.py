"""What several commands let a person choose: tenant, entity, period, status, subledger. One place that checks them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ntro_dagster.errors import UsageError

if TYPE_CHECKING:
    from ntro_dagster.subledger.description import TypeDescription

TenantOption = Annotated[str, typer.Option("--tenant", "-t", help="The tenant's slug.")]
EntityFilter = Annotated[str | None, typer.Option("--entity", "-e", help="Only this entity.")]
PeriodFilter = Annotated[str | None, typer.Option("--period", "-p", metavar="YYYY-MM", help="Only this month.")]
StatusFilter = Annotated[str | None, typer.Option("--status", "-s", help="Only rows of this status.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=1, metavar="SECONDS", help="How long --wait waits.")]
AsOption = Annotated[
    str | None, typer.Option("--as", metavar="USER", help="Who acts [default: user:<login of the operating system>].")
]


class StatusUnknownError(UsageError):
    code = "STATUS_UNKNOWN"
    summary = "the subledger has no such status"
    detail = "{subledger} has no status {status!r}"
    mend = "one of: {known}"


class SubledgerAmbiguousError(UsageError):
    code = "SUBLEDGER_AMBIGUOUS"
    summary = "several runbooks have a subledger of that name"
    detail = "several subledgers are called {name!r}: {tables}"
    mend = "name one by its table"


def written_period(period: str | None) -> str | None:
    """A month as it is written, if one is given. Raises: `PeriodInvalidError`."""
    from ntro_dagster.boundary.periods import parse_period  # noqa: PLC0415

    return None if period is None else parse_period(period)


def known_subledger(name: str, tenant: str) -> TypeDescription:
    """By the name of its table, or by the name its author gave it where only one has that.

    Raises: `SubledgerNotFoundError`, `SubledgerAmbiguousError`, and what `as_role` raises.
    """
    from ntro_dagster.cli.connections import as_role  # noqa: PLC0415
    from ntro_dagster.host.home import Role  # noqa: PLC0415
    from ntro_dagster.subledger.description import TypeDescription  # noqa: PLC0415
    from ntro_dagster.subledger.registry import SubledgerNotFoundError  # noqa: PLC0415

    rows = as_role(
        tenant, Role.AUDITOR, lambda database: database.fetch("SELECT name, table_name, description FROM system.subledger_types")
    )
    found = [row for row in rows if row["table_name"] == name] or [row for row in rows if row["name"] == name]
    if not found:
        raise SubledgerNotFoundError(name=name, known=", ".join(sorted(row["table_name"] for row in rows)))
    if len(found) > 1:
        raise SubledgerAmbiguousError(name=name, tables=", ".join(sorted(row["table_name"] for row in found)))
    return TypeDescription.from_json(found[0]["description"])


def checked_status(kind: TypeDescription, status: str | None) -> str | None:
    """Raises: `StatusUnknownError`."""
    if status is None:
        return None
    lifecycle = kind.lifecycle
    known = list(dict.fromkeys([*lifecycle.initial, *(end for edge in lifecycle.edges for end in (edge.source, edge.target))]))
    if status.upper() not in known:
        raise StatusUnknownError(subledger=kind.table, status=status, known=", ".join(known))
    return status.upper()


def checked_user(user: str | None) -> str:
    """`user:ann` for `ann`; the operating system's login for None."""
    if user is None:
        import os  # noqa: PLC0415
        import pwd  # noqa: PLC0415

        user = pwd.getpwuid(os.getuid()).pw_name
    if not user.strip() or user.strip().endswith(":"):
        raise typer.BadParameter("a user needs a name", param_hint="--as")
    return user.strip() if ":" in user else f"user:{user.strip()}"
