"""What several commands let a person choose: tenant, entity, period, status, subledger. One place that checks them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ntro_dagster.errors import UsageError

if TYPE_CHECKING:
    from ntro_dagster.subledger.registry import SubledgerType

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


def written_period(period: str | None) -> str | None:
    """A month as it is written, if one is given. Raises: `PeriodInvalidError`."""
    from ntro_dagster.boundary.periods import parse_period  # noqa: PLC0415

    return None if period is None else parse_period(period)


def known_subledger(name: str) -> SubledgerType:
    """Raises: `SubledgerNotFoundError`."""
    from ntro_dagster.bundles import platform_bundle, runbook_bundles  # noqa: PLC0415
    from ntro_dagster.subledger.registry import load_types, subledger_type, subledger_types  # noqa: PLC0415

    load_types(platform_bundle(), *runbook_bundles())
    owned = next((kind for kind in subledger_types() if kind.name == name), None)
    return owned or subledger_type(name)


def checked_status(kind: SubledgerType, status: str | None) -> str | None:
    """Raises: `StatusUnknownError`."""
    if status is None:
        return None
    lifecycle = kind.model.lifecycle
    known = list(dict.fromkeys([*lifecycle.initial, *(end for edge in lifecycle.edges for end in (edge.source, edge.target))]))
    if status.upper() not in known:
        raise StatusUnknownError(subledger=kind.name, status=status, known=", ".join(known))
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
