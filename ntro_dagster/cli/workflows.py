"""`ntro workflow`: a runbook's bundle, looked over and tried out before it goes anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ntro_dagster.cli import failures
from ntro_dagster.cli.invocation import command, invocation
from ntro_dagster.cli.output import Column, count, duration, line, money, note, result, table
from ntro_dagster.errors import NtroError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ntro_dagster.bundles.check import Checked
    from ntro_dagster.bundles.problems import Problem
    from ntro_dagster.testing.rehearsal import Rehearsal

app = typer.Typer(no_args_is_help=True, help="Runbooks as bundles: look one over, try it out.")

BundleArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The bundle's folder, with runbook.md.")]


@app.callback()
def group() -> None:
    """Runbooks as bundles: look one over, try it out."""


@command(app, "check")
def check(
    bundle: BundleArgument,
    *,
    tenant: Annotated[
        str | None, typer.Option("--tenant", "-t", help="Against this tenant's environment, not this program's.")
    ] = None,
    no_database: Annotated[bool, typer.Option("--no-database", help="Leave migrations and tables untried.")] = False,
) -> int:
    """Everything that is wrong with a bundle, at once. Exit code 1: it could not be deployed."""
    checked, problems = _examine(bundle, tenant, database=not no_database)
    wrong = [problem for problem in problems if problem.is_error]
    value = {
        "bundle": bundle,
        "slug": checked.page.head.slug if checked.page.head else None,
        "errors": len(wrong),
        "warnings": len(problems) - len(wrong),
        "problems": problems,
    }
    result(value, lambda: _show(bundle, problems, len(wrong)))
    return failures.FAILED if wrong else failures.OK


@command(app, "test")
def test(
    bundle: BundleArgument,
    *,
    scenario: Annotated[
        str, typer.Option("--scenario", "-s", metavar="happy|reject_all|FILE", help="What people decide.")
    ] = "happy",
) -> int:
    """Run a bundle's samples through a month-end, in this process, on a throw-away database. Exit code 1: it did not pass."""
    from importlib import import_module  # noqa: PLC0415

    _, problems = _examine(bundle, None, database=False)
    wrong = [problem for problem in problems if problem.is_error]
    if wrong:
        value = {"bundle": bundle, "passed": False, "problems": wrong}
        result(value, lambda: _show(bundle, wrong, len(wrong)))
        return failures.FAILED
    testing: Any = import_module("ntro_dagster.testing")
    say = None if invocation.json else lambda at, what: line(f"[{at:5.1f} s] {what}")
    try:
        report: Rehearsal = testing.rehearse(bundle, scenario, say=say)
    except NtroError as error:
        if error.code in {"SCENARIO_INVALID", "POSTGRES_START_FAILED", "POSTGRES_NOT_FOUND"}:
            raise
        failures.tell(error)
        return failures.FAILED
    result(_told(bundle, report), lambda: _summary(report))
    return failures.OK if report.passed else failures.FAILED


def _examine(bundle: Path, tenant: str | None, *, database: bool) -> tuple[Checked, list[Problem]]:
    from ntro_dagster.bundles.check import examine  # noqa: PLC0415

    checked = examine(bundle, search_path=_search_path(tenant))
    problems = list(checked.problems)
    if database:
        from ntro_dagster.testing.tables import table_problems  # noqa: PLC0415

        problems = sorted({*problems, *table_problems(bundle, checked)})
    return checked, problems


def _search_path(tenant: str | None) -> tuple[str, ...]:
    """PYTHONPATH of the tenant's own processes."""
    if tenant is None:
        return ()
    from os import pathsep  # noqa: PLC0415

    from ntro_dagster.cli.connections import tenant_home  # noqa: PLC0415
    from ntro_dagster.host.launch import read_environment  # noqa: PLC0415

    environment = read_environment(tenant_home(tenant).process_env)
    return tuple(entry for entry in environment.get("PYTHONPATH", "").split(pathsep) if entry)


def _show(bundle: Path, problems: Sequence[Problem], wrong: int) -> None:
    for problem in problems:
        style = "bold red" if problem.is_error else "yellow"
        line(f"{problem.file}:{problem.line}: {problem.severity} {problem.code}: {problem.message}", style)
        line(f"  → {problem.mend}", "dim")
    if problems:
        line(f"{count(wrong, 'error')}, {count(len(problems) - wrong, 'warning')} in {bundle}")
    else:
        line(f"{bundle}: nothing to complain of")


def _told(bundle: Path, report: Rehearsal) -> dict[str, Any]:
    return {
        "bundle": bundle,
        "runbook": report.runbook,
        "scenario": report.scenario,
        "passed": report.passed,
        "reasons": report.reasons,
        "seconds": round(report.seconds, 3),
        "timeline": [{"at": round(step.at, 3), "what": step.what} for step in report.steps],
        "counts": report.counts,
        "refused": report.refused,
        "findings": report.findings,
        "trial_balance": report.balances,
    }


def _summary(report: Rehearsal) -> None:
    line()
    if report.counts:
        statuses = sorted({status for found in report.counts.values() for status in found})
        columns = [Column("Subledger"), *(Column(status, right=True) for status in statuses)]
        table(columns, [[name, *(str(found.get(status, 0)) for status in statuses)] for name, found in report.counts.items()])
    for currency, accounts in report.balances.items():
        table(
            [Column("Account"), Column(f"Balance {currency}", right=True)],
            [[account, money(balance)] for account, balance in sorted(accounts.items())],
        )
    for kind, codes in (("refused", report.refused), ("left in doubt", report.findings)):
        if codes:
            line(f"{kind}: {', '.join(f'{code} {rows}' for code, rows in codes.items())}")
    for reason in report.reasons:
        line(f"✗ {reason}", "bold red")
    verdict = "passed" if report.passed else "did not pass"
    line(
        f"{report.runbook}: scenario {report.scenario!r} {verdict} in {duration(report.seconds)}",
        "green" if report.passed else "bold red",
    )
    if not report.passed:
        note("a scenario is a YAML file; docs/runbooks.md lists what it may hold")
