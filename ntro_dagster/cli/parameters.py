"""`ntro workflow set`, and `--set` of `bind` and `create`: a runbook's parameters for one entity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ntro_dagster.cli.connections import installation
from ntro_dagster.cli.output import line, note, pairs, result
from ntro_dagster.cli.selection import AsOption, checked_user

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the runbook; may be repeated [default: the runbook's]"),
]


def written(settings: Sequence[str] | None) -> dict[str, str]:
    """Values by name, as they were typed."""
    found: dict[str, str] = {}
    for each in settings or ():
        name, equals, value = each.partition("=")
        if not (name and equals):
            raise typer.BadParameter("write NAME=VALUE")
        if name in found:
            raise typer.BadParameter(f"{name} is set twice")
        found[name] = value
    return found


def shown(values: Mapping[str, Any]) -> str:
    """On one line, for people."""
    return " ".join(f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in values.items()) or "–"


def set_(
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW", help="The workflow's id, or the first characters of it.")],
    settings: Annotated[list[str], typer.Argument(metavar="NAME=VALUE…", help="`NAME=` takes the runbook's default again.")],
    *,
    version: Annotated[
        str | None,
        typer.Option("--for", metavar="VERSION", help="For this version alone, deployed or not [default: the one it runs]"),
    ] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="Only this tenant's workflows.")] = None,
    as_: AsOption = None,
) -> None:
    """Change parameters of a workflow, from its next run on. Who set what and when is kept with the tenant."""
    from ntro_dagster.cli.bindings import shape, the_workflow  # noqa: PLC0415
    from ntro_dagster.host.parameters import set_parameters  # noqa: PLC0415

    found = installation()
    meant = the_workflow(found, workflow, tenant=tenant, runbook=None, entity=None)
    of, values = set_parameters(found, meant, written(settings), by=checked_user(as_), wanted=version)

    def human() -> None:
        pairs([("workflow", str(of.id)), ("runbook", of.binding.runbook), ("entity", f"{of.binding.tenant}/{of.binding.entity}")])
        line(f"set: {shown(values)}" + (f", for {version} alone" if version else ""))
        note("runs that begin from now on take them; what was staged stays until it is staged again")

    result({**shape(of), "for": version, "parameters": values}, human)
