"""`ntro errors`: what failed, in full, from the tenant's own database as the auditor."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from ntro_dagster.cli.connections import as_role, tenant_home
from ntro_dagster.cli.invocation import command
from ntro_dagster.cli.output import Column, clean, line, note, pairs, result, table, when
from ntro_dagster.cli.selection import TenantOption
from ntro_dagster.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from ntro_dagster.platforms.postgres.database import TenantDatabase

app = typer.Typer(no_args_is_help=True, help="Failures of a tenant, by the error id that runs and Dagster's pages show.")

SHORT_ID = 8
_ID = re.compile(r"[0-9a-f-]{8,36}")
_RUN = re.compile(r"[0-9a-f-]{4,36}")
_COLUMNS = "id, at, code, run_id, step, partition"


class ErrorNotFoundError(NotFoundError):
    """Values: `error`, `tenant`."""

    code = "ERROR_NOT_FOUND"
    summary = "no error of that id"
    detail = "tenant {tenant} has no error {error!r}"
    mend = "`ntro errors list --tenant {tenant}` shows the latest; an id belongs to one tenant; its first 8 characters will do"


class ErrorAmbiguousError(UsageError):
    """Values: `error`."""

    code = "ERROR_AMBIGUOUS"
    summary = "several errors have ids that begin so"
    detail = "several errors have ids that begin with {error!r}"
    mend = "give more characters of the id"


@command(app, "list")
def list_(
    *,
    tenant: TenantOption,
    run: Annotated[str | None, typer.Option("--run", "-r", help="Only of this run; the beginning of its id is enough.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 20,
) -> None:
    """The latest failures, newest first."""
    prefix = None if run is None else run.strip().lower()
    if prefix is not None and not _RUN.fullmatch(prefix):
        raise typer.BadParameter("a run's id, or at least 4 characters of it", param_hint="--run")

    async def look(database: TenantDatabase) -> list[dict[str, Any]]:
        where = "TRUE" if prefix is None else "run_id BETWEEN %s AND %s"
        return await database.fetch(
            f"SELECT {_COLUMNS} FROM system.errors WHERE {where} ORDER BY at DESC, id LIMIT %s",
            [*([] if prefix is None else _between(prefix)), limit],
        )

    found = as_role(tenant, _auditor(), look)

    def human() -> None:
        if not found:
            line("no errors")
            return
        columns = [Column("Error"), Column("When"), Column("Code", flexible=True), Column("Step", flexible=True)]
        columns += [Column("Partition", flexible=True, spare=True), Column("Run", spare=True)]
        table(
            columns,
            [
                [
                    str(each["id"])[:SHORT_ID],
                    when(each["at"]),
                    each["code"],
                    each["step"],
                    each["partition"],
                    str(each["run_id"] or "")[:SHORT_ID],
                ]
                for each in found
            ],
        )
        note(f"`ntro errors show {str(found[0]['id'])[:SHORT_ID]} --tenant {tenant}` tells the whole story of one")

    result(found, human)


@command(app, "show")
def show(
    error: Annotated[str, typer.Argument(metavar="ID", help="The error id, or its first 8 characters or more.")],
    *,
    tenant: TenantOption,
) -> None:
    """The whole story of one failure, and what to do next."""
    prefix = error.strip().lower()
    home = tenant_home(tenant)
    if not _ID.fullmatch(prefix):
        raise ErrorNotFoundError(error=error, tenant=tenant)

    async def look(database: TenantDatabase) -> list[dict[str, Any]]:
        return await database.fetch(
            f"SELECT {_COLUMNS}, story, advice, traceback, values FROM system.errors WHERE id BETWEEN %s AND %s LIMIT 2",
            _between(prefix),
        )

    with home.acting():
        waiting = _aside(home.logs, prefix)
    found = waiting or as_role(tenant, _auditor(), look)
    if not found:
        raise ErrorNotFoundError(error=error, tenant=tenant)
    if len(found) > 1:
        raise ErrorAmbiguousError(error=error)
    (whole,) = found

    def human() -> None:
        shown = [
            ("error", str(whole["id"])),
            ("code", whole["code"]),
            ("when", when(whole["at"]) if not isinstance(whole["at"], str) else whole["at"]),
            ("run", str(whole["run_id"] or "–")),
            ("step", whole["step"] or "–"),
            ("partition", whole["partition"] or "–"),
            ("story", whole["story"]),
            ("what to do", whole["advice"] or "–"),
        ]
        pairs((name, value) for name, value in shown)
        if whole["run_id"]:
            pairs([("its output", f"ntro run logs {str(whole['run_id'])[:SHORT_ID]} --tenant {tenant}")])
        line()
        for each in whole["traceback"].splitlines():
            line(clean(each))

    result(whole, human)


def _between(prefix: str) -> list[UUID]:
    """The first and the last id that begin so."""
    digits = prefix.replace("-", "")[:32]
    return [UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))]


def _aside(logs: Path, prefix: str) -> list[dict[str, Any]]:
    """Errors that the database has not taken yet."""
    from ntro_dagster.boundary.tenant_logs import aside  # noqa: PLC0415

    found = []
    for path in sorted(aside(logs).glob(f"{prefix}*.json")):
        try:
            content = json.loads(path.read_text())
        except FileNotFoundError:  # the database has just taken it
            continue
        if content["kind"] == "errors":
            found.append({**content["row"], "values": json.loads(content["row"]["values"])})
    return found


def _auditor() -> Any:
    from ntro_dagster.host.home import Role  # noqa: PLC0415

    return Role.AUDITOR
