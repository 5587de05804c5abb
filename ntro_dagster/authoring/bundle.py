"""`ntro runbook new`: a bundle that passes its check and its tests as it is written."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from string import Template

from ntro_dagster.boundary.periods import last_day, shifted
from ntro_dagster.bundles.fields import LONGEST_SLUG, SLUG
from ntro_dagster.errors import UsageError

SOURCE = "supplier-statement"
TYPE = "statement_lines"

_COLUMNS = (
    "    supplier            TEXT,\n"
    "    amount              NUMERIC(38, 9),\n"
    "    currency            TEXT,\n"
    "    line_date           DATE,\n"
    "    description         TEXT,\n"
    "    category            TEXT,\n"
)
_CONSTRAINTS = (
    "    CONSTRAINT complete_outside_needs_attention CHECK (\n"
    "        status IN ('NEEDS_ATTENTION', 'REJECTED')\n"
    "        OR (supplier IS NOT NULL AND amount IS NOT NULL AND amount > 0 AND currency IS NOT NULL)),\n"
    "    -- NaN is a value of NUMERIC, and greater than every number.\n"
    "    CONSTRAINT amounts_are_numbers CHECK (amount <> 'NaN')\n"
)


class SlugInvalidError(UsageError):
    """Values: `slug`."""

    code = "RUNBOOK_SLUG_INVALID"
    summary = "a runbook cannot have that slug"
    detail = "{slug!r} cannot be the slug of a runbook"
    mend = "use lower case letters, digits and single hyphens, a letter first, at most 30 characters: rent-roll"


class FolderTakenError(UsageError):
    """Values: `folder`."""

    code = "FOLDER_TAKEN"
    summary = "there is something in that folder already"
    detail = "{folder} is there already, and not empty"
    mend = "name another folder with --dir; nothing was written"


def new_bundle(slug: str, parent: Path) -> list[Path]:
    """Writes `parent/slug`; returns the files. Raises `SlugInvalidError`, `FolderTakenError`."""
    if not re.fullmatch(SLUG, slug) or len(slug) > LONGEST_SLUG:
        raise SlugInvalidError(slug=slug)
    root = parent / slug
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise FolderTakenError(folder=root)
    period = shifted(f"{datetime.now(UTC):%Y-%m}", -1)
    last = last_day(period)
    values = {
        "slug": slug,
        "title": slug.replace("-", " ").capitalize(),
        "source": SOURCE,
        "start": period,
        "first_day": f"{last.replace(day=1):%d/%m/%Y}",
        "last_day": last.isoformat(),
    }
    written = {
        "runbook.md": template("runbook.md", values),
        "assets.py": template("assets.py", values),
        "requirements.txt": "# Exact pins of what is needed beside ntro itself: name==version\n",
        "subledgers/__init__.py": template("subledgers_init.py", values),
        f"subledgers/{TYPE}.py": template("statement_lines.py", values),
        f"migrations/001_subledger_{TYPE}.sql": table_sql(
            slug, TYPE, _COLUMNS, _CONSTRAINTS, "One line of a supplier's statement a row."
        ),
        f"samples/{SOURCE}/{period}/statement.csv": template("statement.csv", values),
        "tests/test_scenarios.py": template("test_scenarios.py", values),
        "tests/one_rejected.yaml": template("one_rejected.yaml", values),
    }
    for name, text in written.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return [root / name for name in written]


def table_sql(slug: str, name: str, columns: str, constraints: str, what: str) -> str:
    """The migration that creates a type's table, with the standard columns (spec 8.3)."""
    table = f"{slug.replace('-', '_')}__{name}"
    body = template("standard_columns.sql", {}) + columns + constraints
    return f"-- {what}\n\nCREATE TABLE ledgers.{table} (\n{body.rstrip().rstrip(',')}\n);\n"


def template(name: str, values: dict[str, str]) -> str:
    text = (files("ntro_dagster.authoring") / "templates" / f"{name}.txt").read_text(encoding="utf-8")
    return Template(text).substitute(values)
