"""Applies `NNN_name.sql` files, in filename order, one transaction each, exactly once.

Refused: a file that changed after it ran, one that vanished, a number below the last one applied, two files of one
number. Why our own: the libraries for it do not notice an edited file (docs/decisions/003-migrations.md).
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import LiteralString

import psycopg

from ntro_dagster.bundles import Bundle
from ntro_dagster.bundles.sql_files import statements
from ntro_dagster.errors import TransientError, UsageError

_FILE = re.compile(r"^(\d{3})_[a-z0-9_]+\.sql$")
_LOCK = 0x6E74726F
_LOCK_PATIENCE_S = 60.0
_LOCK_POLL_S = 0.1


class MigrationRefusedError(UsageError):
    code = "MIGRATION_REFUSED"
    summary = "the migrations do not fit what the database has seen"
    detail = "migration {file}: {why}"
    mend = "restore the file as it was; put changes into a new file with the next number"


class MigrationFailedError(UsageError):
    code = "MIGRATION_FAILED"
    summary = "a migration failed and was rolled back"
    detail = "migration {file}, line {line}, failed: {why}"
    mend = "correct the file and deploy again; the database is as it was before this file"


class MigrationsBusyError(TransientError):
    code = "MIGRATIONS_BUSY"
    summary = "another process is migrating this database"
    mend = "wait for it to end and try again"


def checksum(text: str) -> str:
    """SHA-256 over the text with LF line ends."""
    return hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()


def migration_files(folder: Path) -> list[Path]:
    """The folder's migrations in order. Raises `MigrationRefusedError` for a bad name or a number used twice."""
    files = sorted(folder.glob("*.sql"))
    numbers: dict[str, str] = {}
    for file in files:
        match = _FILE.match(file.name)
        if not match:
            raise MigrationRefusedError(file=file.name, why="the name must look like 007_what_it_does.sql")
        if match[1] in numbers:
            raise MigrationRefusedError(file=file.name, why=f"the number is also that of {numbers[match[1]]}")
        numbers[match[1]] = file.name
    return files


@contextmanager
def _exclusive(connection: psycopg.Connection) -> Iterator[None]:
    _await(connection, "SELECT pg_try_advisory_lock(%s)")
    try:
        yield
    finally:
        connection.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])


def hold_migrations(connection: psycopg.Connection) -> None:
    """Nobody else migrates this database until the transaction ends. Raises `MigrationsBusyError`."""
    _await(connection, "SELECT pg_try_advisory_xact_lock(%s)")


def _await(connection: psycopg.Connection, lock: LiteralString) -> None:
    # Polling, not waiting: a waiting lock would deadlock with CREATE INDEX CONCURRENTLY in the holder.
    deadline = time.monotonic() + _LOCK_PATIENCE_S
    while not connection.execute(lock, [_LOCK]).fetchone()[0]:  # type: ignore[index]
        if time.monotonic() > deadline:
            raise MigrationsBusyError
        time.sleep(_LOCK_POLL_S)


def migrate(dsn: str, bundle: Bundle) -> list[str]:
    """Apply what is missing of a bundle's migrations, one transaction each; returns the names of the files applied.

    Args:
        dsn: libpq URL of the database, as its owner.

    Raises: `MigrationRefusedError`, `MigrationFailedError`, `MigrationsBusyError`.
    """
    files = migration_files(bundle.migrations)
    owner = bundle.slug or "platform"
    with psycopg.connect(dsn, autocommit=True) as connection, _exclusive(connection):
        connection.execute("CREATE SCHEMA IF NOT EXISTS system")
        connection.execute(
            """CREATE TABLE IF NOT EXISTS system.schema_migrations (
                   bundle TEXT, name TEXT, checksum TEXT NOT NULL, applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
                   milliseconds BIGINT NOT NULL, PRIMARY KEY (bundle, name))"""
        )
        applied = _applied(connection, owner)
        _check(files, applied)
        return [_apply(connection, owner, file) for file in files if file.name not in applied]


def migrate_within(connection: psycopg.Connection, owner: str, folder: Path) -> list[str]:
    """As `migrate`, within the caller's transaction: all files or none. `hold_migrations` comes first.

    An earlier version of the bundle may come back: its files must then be the first of those that ran.

    Raises: `MigrationRefusedError`, `MigrationFailedError`.
    """
    missing = lacking(connection, owner, folder)
    # from within a function, where nothing can end the transaction
    return [_apply(connection, owner, file, "SELECT system.run_migration(%s)") for file in missing]


def lacking(connection: psycopg.Connection, owner: str, folder: Path) -> list[Path]:
    """The files that have not run yet. Raises: `MigrationRefusedError`."""
    files, applied = migration_files(folder), _applied(connection, owner)
    names = [file.name for file in files]
    for number, file in enumerate(files, 1):
        if int(file.name[:3]) != number:
            raise MigrationRefusedError(file=file.name, why=f"there is no file with the number {number:03d} before it")
    if len(names) < len(applied) and names == sorted(applied)[: len(names)]:
        applied = {name: applied[name] for name in names}
    _check(files, applied)
    return [file for file in files if file.name not in applied]


def _applied(connection: psycopg.Connection, owner: str) -> dict[str, str]:
    """Checksum by file."""
    query = "SELECT name, checksum FROM system.schema_migrations WHERE bundle = %s ORDER BY name"
    return dict(connection.execute(query, [owner]).fetchall())


def _check(files: list[Path], applied: dict[str, str]) -> None:
    names = {file.name for file in files}
    for name in applied:
        if name not in names:
            raise MigrationRefusedError(file=name, why="it ran on this database but is gone")
    for file in files:
        if file.name in applied and applied[file.name] != checksum(_text(file)):
            raise MigrationRefusedError(file=file.name, why="it was edited after it ran")
        if file.name not in applied and applied and file.name < max(applied):
            raise MigrationRefusedError(file=file.name, why=f"it comes before {max(applied)}, which already ran")


def _apply(connection: psycopg.Connection, owner: str, file: Path, through: LiteralString | None = None) -> str:
    text = _text(file)
    started = time.monotonic()
    try:
        with connection.transaction():
            if through:
                connection.execute(through, [text])
            else:
                connection.execute(text)
            connection.execute(
                "INSERT INTO system.schema_migrations (bundle, name, checksum, milliseconds) VALUES (%s, %s, %s, %s)",
                [owner, file.name, checksum(text), round((time.monotonic() - started) * 1000)],
            )
    except psycopg.errors.LockNotAvailable:
        raise
    except psycopg.Error as error:
        if connection.closed:
            raise
        raise MigrationFailedError(file=file.name, line=_line(connection, text, error, through), why=_why(error)) from error
    return file.name


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise MigrationRefusedError(file=file.name, why=f"its byte {error.start:,} is not UTF-8") from None


def _why(error: psycopg.Error) -> str:
    """Without PostgreSQL's own count of lines, which is of the piece that it was given."""
    said = [error.diag.message_primary or str(error), error.diag.message_detail, error.diag.message_hint]
    return ". ".join(part.rstrip(".") for part in said if part)


def _line(connection: psycopg.Connection, text: str, error: psycopg.Error, through: LiteralString | None) -> int:
    """Where in the file: as PostgreSQL says; else of the statement that fails alike when they are tried one by one; else 1."""
    position = error.diag.internal_position or error.diag.statement_position
    if position:
        return text.count("\n", 0, int(position) - 1) + 1
    if through is None:
        return 1
    with connection.transaction(force_rollback=True):
        for statement in statements(text):
            try:
                connection.execute(through, [statement.text])
            except psycopg.Error as again:
                return statement.line if again.sqlstate == error.sqlstate else 1
    return 1
