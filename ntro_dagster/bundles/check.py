"""Everything that can be said of a bundle without a database, all at once: for `ntro workflow check`, push and deploy."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ntro_dagster.bundles.layout import layout_problems
from ntro_dagster.bundles.load import Loaded, load
from ntro_dagster.bundles.problems import Problem, Severity, errors
from ntro_dagster.bundles.python_files import Surroundings, python_problems
from ntro_dagster.bundles.requirements import installed_versions, requirement_problems
from ntro_dagster.bundles.runbook_md import RunbookPage, read_page
from ntro_dagster.bundles.sql_files import migration_problems
from ntro_dagster.errors import UsageError

_STOPS_LOADING = frozenset(
    {"SYNTAX_ERROR", "SYMLINK", "NOT_A_FILE", "BUNDLE_TOO_LARGE", "IMPORTS_ANOTHER_BUNDLE", "IMPORT_FORBIDDEN"}
)
"""With these the code is not even imported: it would fail the same way, or worse."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found. `loaded` is empty where the code could not be imported."""

    page: RunbookPage
    loaded: Loaded
    problems: list[Problem]


class BundleProblemsError(UsageError):
    """Values: `problems` (a list of `Problem`), `first`, `others`."""

    code = "BUNDLE_HAS_PROBLEMS"
    summary = "the bundle has problems that a deployment would founder on"
    detail = "{first}{others}"
    mend = "`ntro workflow check` lists them all; nothing was stored"


def must_pass(root: Path) -> None:
    """For push and deploy. Raises `BundleProblemsError`."""
    wrong = errors(check(root))
    if wrong:
        first = f"{wrong[0].file}:{wrong[0].line}: {wrong[0].code}: {wrong[0].message}"
        others = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise BundleProblemsError(problems=wrong, first=first, others=others)


def check(root: Path) -> list[Problem]:
    """Every problem of the bundle in `root`, by file and line. None of severity error: it can be pushed."""
    return examine(root).problems


def examine(root: Path, *, search_path: Sequence[str] = ()) -> Checked:
    """As `check`, with what the code defines.

    Args: `search_path`: PYTHONPATH of the tenant that it is for; its packages count as installed.
    """
    page, problems = static(root, search_path=search_path)
    stops = any(problem.code in _STOPS_LOADING for problem in problems)
    loaded = Loaded() if stops or page.head is None else load(root, page.head.slug, search_path=search_path)
    known = {(problem.file, problem.line) for problem in errors(problems)}
    problems += [problem for problem in loaded.problems if (problem.file, problem.line) not in known]
    if loaded.fills:
        problems += _unfilled_reads(page, loaded.fills)
    return Checked(page, loaded, sorted(set(problems)))


def static(root: Path, *, search_path: Sequence[str] = ()) -> tuple[RunbookPage, list[Problem]]:
    """What can be told without importing the bundle's code."""
    if not root.is_dir():
        gone = Problem(".", 1, "NOT_A_BUNDLE", "there is no such folder", "name the folder that holds runbook.md")
        return RunbookPage(None, {}, ()), [gone]
    page = read_page(root)
    slug = page.head.slug if page.head else None
    environment = (*search_path, *sys.path)
    pins, wrong_pins = requirement_problems(root, installed_versions(environment))
    around = Surroundings(root, environment, tuple(pins), Path(__file__).parents[1])
    return page, [
        *layout_problems(root),
        *_missing(root),
        *page.problems,
        *wrong_pins,
        *migration_problems(root, slug),
        *python_problems(around),
    ]


def _missing(root: Path) -> Iterable[Problem]:
    if not (root / "assets.py").is_file():
        said = "there is no assets.py, so the runbook does nothing"
        yield Problem("assets.py", 1, "ASSETS_MISSING", said, "add one with a @subledger_asset (docs/runbooks.md)")
    if not (root / "tests").is_dir():
        yield Problem("tests", 1, "TESTS_MISSING", "there are no tests", "add a scenario (docs/runbooks.md)", Severity.WARNING)


def _unfilled_reads(page: RunbookPage, fills: Sequence[str]) -> Iterable[Problem]:
    for name in page.head.reads if page.head else ():
        if name not in fills:
            said = f"reads names {name}, but assets.py fills {', '.join(fills)}"
            yield Problem(
                "runbook.md",
                page.line("reads", name),
                "READS_UNFILLED",
                said,
                "correct the name, or add a @subledger_asset for it",
            )
