"""A bundle's migrations, run on a throw-away database, and its row types compared with the tables that come of them.

The bundle's own code is not imported here: its types come as data from a process that could do no harm (`bundles.load`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg

from ntro_dagster.bundles import Bundle
from ntro_dagster.bundles.check import Checked
from ntro_dagster.bundles.load import LoadedType
from ntro_dagster.bundles.problems import Problem, errors
from ntro_dagster.bundles.sql_files import statements
from ntro_dagster.platforms.migrations import MigrationFailedError, MigrationRefusedError, migrate
from ntro_dagster.platforms.postgres.catalogue import columns_of
from ntro_dagster.platforms.postgres.ledger_store import SCHEMA
from ntro_dagster.subledger.deployment import attach
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.testing.scratch import scratch_database

_COLUMNS = {
    "uuid": "UUID",
    "text": "TEXT",
    "money": "NUMERIC(38, 9)",
    "ratio": "NUMERIC(5, 4)",
    "boolean": "BOOLEAN",
    "integer": "BIGINT",
    "date": "DATE",
    "instant": "TIMESTAMPTZ",
    "json": "JSONB",
}
"""Logical type -> how a migration writes it."""

_UNREADABLE_SQL = frozenset({"SQL_UNREADABLE", "MIGRATION_NAME", "MIGRATION_REPEATED", "SYMLINK", "NOT_A_FILE"})


def table_problems(root: Path, checked: Checked) -> list[Problem]:
    """What the database says: statements that fail, and columns that a type and its table do not share."""
    forbidden = any(problem.code.startswith("SQL_") or problem.code in _UNREADABLE_SQL for problem in errors(checked.problems))
    if checked.page.head is None or forbidden or not (root / "migrations").is_dir():
        return sorted(_without_migrations(root, checked)) if not forbidden else []
    bundle = Bundle(checked.page.head.slug, root)
    with scratch_database() as database:
        try:
            migrate(database.owner, bundle)
        except MigrationFailedError as error:
            return [_failed(root, error)]
        except MigrationRefusedError as error:
            file = f"migrations/{error.values['file']}"
            return [Problem(file, 1, error.code, error.explain(), error.advice())]
        with psycopg.connect(database.owner) as connection:
            return sorted(problem for kind in checked.loaded.types for problem in _compared(root, connection, kind))


def _without_migrations(root: Path, checked: Checked) -> Iterator[Problem]:
    if (root / "migrations").is_dir():
        return
    for kind in checked.loaded.types:
        table = kind.description["table"]
        yield Problem(
            kind.file, kind.line, "TABLE_MISSING", f"no migration creates ledgers.{table}", "add migrations/001_*.sql that does"
        )


def _failed(root: Path, error: MigrationFailedError) -> Problem:
    """At the statement that PostgreSQL points to, or the one that fails when nothing is pointed to."""
    file = f"migrations/{error.values['file']}"
    cause = error.__cause__
    line = 1
    said = str(error.values["why"]).splitlines()[0]
    if isinstance(cause, psycopg.Error):
        said = cause.diag.message_primary or said
        text = (root / file).read_text()
        if cause.diag.statement_position:
            line = text.count("\n", 0, int(cause.diag.statement_position) - 1) + 1
        else:
            line = _named(text, cause.diag)
        if cause.diag.message_hint:
            said += f" ({cause.diag.message_hint})"
    return Problem(
        file, line, "SQL_FAILS", f"PostgreSQL refuses it: {said}", "correct the statement; nothing of the file was kept"
    )


def _named(text: str, diag: psycopg.errors.Diagnostic) -> int:
    """The last statement that names what the complaint is about."""
    names = {diag.table_name, diag.constraint_name, diag.column_name, *re.findall(r'"([^"]+)"', diag.message_primary or "")} - {
        None
    }
    fitting = [each.line for each in statements(text) if any(str(name) in each.text for name in names)]
    return fitting[-1] if fitting else 1


def _compared(root: Path, connection: psycopg.Connection, kind: LoadedType) -> Iterator[Problem]:
    description = TypeDescription.from_json(kind.description)
    table, declared = description.table, description.columns
    found = columns_of(connection, SCHEMA, table)
    if not found:
        mend = "add a migration that creates it; the platform's 004_expenses.sql and `ntro runbook new-type` show the columns"
        yield Problem(kind.file, kind.line, "TABLE_MISSING", f"no migration creates ledgers.{table}", mend)
        return
    for name in sorted(declared.keys() - found.keys()):
        said = f"{name} is in the type, but not in ledgers.{table}"
        mend = "add a migration: ALTER TABLE ledgers.{table} ADD COLUMN {name} {_COLUMNS[declared[name]]}"
        yield Problem(kind.file, kind.lines.get(name, kind.line), "TABLE_DRIFT", said, mend)
    for name in sorted(declared.keys() & found.keys()):
        if declared[name] != found[name]:
            said = f"{name} is {declared[name]} in the type, but {found[name]} in ledgers.{table}"
            mend = f"make the column {_COLUMNS[declared[name]]} in a migration, or correct the field"
            yield Problem(kind.file, kind.lines.get(name, kind.line), "TABLE_DRIFT", said, mend)
    for name in sorted(found.keys() - declared.keys()):
        file, line = _column(root, table, name) or (kind.file, kind.line)
        said = f"ledgers.{table} has {name} ({found[name]}), but the type has not"
        yield Problem(file, line, "TABLE_DRIFT", said, "add the field to the type, or take the column out")
    if declared == found:
        yield from _attached(connection, kind, description)


def _attached(connection: psycopg.Connection, kind: LoadedType, description: TypeDescription) -> Iterator[Problem]:
    """Whether the database takes the type's lifecycle: asked as a deployment does."""
    try:
        with connection.transaction():
            attach(connection, [description])
    except psycopg.Error as error:
        said = f"the database does not take the type: {error.diag.message_primary}"
        yield Problem(kind.file, kind.line, "TYPE_REFUSED", said, "correct its lifecycle or its table")


def _column(root: Path, table: str, name: str) -> tuple[str, int] | None:
    """Where the last migration that names the table and the column names the column."""
    place = None
    for path in sorted((root / "migrations").glob("*.sql")):
        for statement in statements(path.read_text()):
            match = re.search(rf"\b{re.escape(name)}\b", statement.text)
            if match and table in statement.text:
                place = f"migrations/{path.name}", statement.line + statement.text.count("\n", 0, match.start())
    return place
