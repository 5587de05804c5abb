"""`ntro run logs`: what a run printed, from the tenant's own files. Needs no credential of the workspace."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import typer

from ntro_dagster.cli.connections import tenant_home
from ntro_dagster.cli.invocation import command, invocation
from ntro_dagster.cli.output import clean, result
from ntro_dagster.cli.runs import RunArgument
from ntro_dagster.cli.selection import TenantOption
from ntro_dagster.errors import NotFoundError

_RUN = re.compile(r"[0-9a-f-]{4,36}")


class RunLogNotFoundError(NotFoundError):
    """Values: `run`, `tenant`."""

    code = "RUN_LOG_NOT_FOUND"
    summary = "there is no output of that run"
    detail = "tenant {tenant} has no output of a run {run!r}"
    mend = "`ntro run list --tenant {tenant}` shows its runs; one whose steps have not begun has printed nothing"


def register(app: typer.Typer) -> None:
    command(app, "logs")(logs)


def logs(run: RunArgument, *, tenant: TenantOption) -> None:
    """What a run printed and logged: standard output, standard error, every logger."""
    home = tenant_home(tenant)
    with home.acting():
        _tell(_log_of(home.logs, run, tenant), tenant)


def _tell(path: Path, tenant: str) -> None:
    if invocation.json:
        text = path.read_bytes().decode(errors="backslashreplace")
        result({"run_id": path.stem, "tenant": tenant, "path": path, "text": text}, lambda: None)
    elif sys.stdout.isatty():
        with path.open(errors="backslashreplace") as lines:
            for each in lines:
                sys.stdout.write(clean(each, keep_lines=True))
    else:  # a pipe gets the bytes as they are
        with path.open("rb") as content:
            shutil.copyfileobj(content, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _log_of(directory: Path, run: str, tenant: str) -> Path:
    from ntro_dagster.boundary.tenant_logs import run_log  # noqa: PLC0415

    prefix = run.strip().lower()
    found = []
    if _RUN.fullmatch(prefix):
        pattern = run_log(directory, f"{prefix}*")
        found = sorted(pattern.parent.glob(pattern.name))
    if not found:
        raise RunLogNotFoundError(run=run, tenant=tenant)
    if len(found) > 1:
        from ntro_dagster.workspace.feed import RunAmbiguousError  # noqa: PLC0415

        raise RunAmbiguousError(run=run)
    return found[0]
