"""`ntro`: one program, a file per group of commands."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ntro_dagster.cli import (
    accounts,
    approvals,
    balance,
    bindings,
    deployments,
    entities,
    errors,
    failures,
    gl,
    ingest,
    journals,
    members,
    periods,
    rates,
    relay,
    reports,
    review,
    rows,
    run_logs,
    runbooks,
    runs,
    schedules,
    services,
    tenants,
    workflows,
)
from ntro_dagster.cli.invocation import HomeOption, JsonOption, command, invocation
from ntro_dagster.startup import collect_rarely, leave_unsearched

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    name="ntro",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Month-end for fund administrators, on Dagster.",
)


@app.callback()
def options(
    home: HomeOption = None,
    json: JsonOption = False,
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    invocation.take(home, json)
    if version:
        from importlib.metadata import version as installed  # noqa: PLC0415

        sys.stdout.write(f"ntro-dagster {installed('ntro-dagster')}\n")
        raise typer.Exit


services.register(app)
app.add_typer(tenants.app, name="tenant")
app.add_typer(relay.app, name="relay")
app.add_typer(entities.app, name="entity")
app.add_typer(members.app, name="member")
app.add_typer(approvals.app, name="approval")
app.add_typer(periods.app, name="period")
ingest.register(app)
run_logs.register(runs.app)
app.add_typer(runs.app, name="run")
app.add_typer(runbooks.app, name="runbook")
app.add_typer(workflows.app, name="workflow")
app.add_typer(errors.app, name="errors")
app.add_typer(rows.app, name="rows")
app.add_typer(review.app, name="review")
balance.register(app)
app.add_typer(accounts.app, name="account")
app.add_typer(accounts.dimensions, name="dimension")
app.add_typer(rates.app, name="rate")
app.add_typer(rates.bank, name="bank")
app.add_typer(journals.app, name="journal")
app.add_typer(reports.app, name="report")
app.add_typer(gl.app, name="gl")
app.add_typer(schedules.app, name="schedule")
deployments.register(workflows.app)
bindings.register(workflows.app)


@command(app, "demo")
def demo(
    once: bool = typer.Option(False, "--once", help="Stop everything when the month is done."),
) -> Any:
    """Two clients' month-ends, from files to trial balances."""
    from importlib import import_module  # noqa: PLC0415

    run_demo: Any = import_module("ntro_dagster.cli.demo").run_demo
    return run_demo(invocation.home_option, once)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command line and exits with its code."""
    collect_rarely()
    with suppress(AttributeError, ValueError):
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    code = run(list(sys.argv[1:] if arguments is None else arguments))
    leave_unsearched()
    raise SystemExit(code)


def run(arguments: list[str]) -> int:
    """The exit code of one command line."""
    invocation.home_option, invocation.json = None, "--json" in arguments  # also for what the parser refuses
    try:
        code = app(arguments, prog_name="ntro", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        return _misunderstood(error)
    except (Exception, KeyboardInterrupt) as error:
        return failures.report(error)
    if code == failures.INTERRUPTED:  # Typer swallows the exception
        failures.tell(failures.InterruptedByUserError())
    return code if isinstance(code, int) else failures.OK


def _misunderstood(error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(error.format_message().rstrip() + "\n")
        return failures.USAGE
    path = context.command_path if context else Path(sys.argv[0]).name
    return failures.report(failures.BadCommandLineError(what=error.format_message(), help=f"{path} --help"))
