"""The one place where a failure becomes what a person reads and a script tests: a line, a mend, an exit code.

Exit codes are listed in docs/cli.md. Standard error, human: `error CODE: what happened` and `→ what to do`; with `--json` one
object `{code, message, mend}`.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import tempfile
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from ntro_dagster.cli.invocation import invocation
from ntro_dagster.errors import NtroError, TransientError, UsageError

OK, FAILED, USAGE, NOT_RUNNING, NOT_FOUND, PARTIAL = 0, 1, 2, 3, 4, 5
INTERNAL, INTERRUPTED = 70, 130


class BadCommandLineError(UsageError):
    """What the parser did not understand. Values: `what`, `help`."""

    summary = "the command line cannot be understood"
    detail = "{what}"
    mend = "see `{help}`"


class DiskFullError(NtroError):
    code = "DISK_FULL"
    summary = "the disk is full"
    detail = "no space left to write {what}"
    mend = "make room on that disk, then run the command again; nothing was left half-written"


class FileAccessError(NtroError):
    code = "FILE_ACCESS"
    summary = "a file or directory cannot be used"
    detail = "{what}: {why}"
    mend = "check the path, its owner and its permissions; `ntro doctor` checks those of a home"


class DatabaseTroubleError(TransientError):
    code = "DATABASE_TROUBLE"
    summary = "the database could not do it"
    detail = "the database could not do it: {why}"
    mend = "run the command again; if it stays, see `ntro status` and the logs of the home"


class InterruptedByUserError(NtroError):
    code = "INTERRUPTED"
    summary = "interrupted"
    exit_code = INTERRUPTED


class InternalError(NtroError):
    """A defect of ours: the story lies in a file."""

    code = "INTERNAL_ERROR"
    summary = "ntro did not expect this"
    detail = "ntro did not expect this: {kind}; the traceback is in {where}"
    mend = "this is a defect: please report it with that file"
    exit_code = INTERNAL


def report(error: BaseException) -> int:
    """Tells the user, and returns the exit code."""
    known = named(error)
    tell(known)
    return known.exit_code


def named(error: BaseException) -> NtroError:
    """Any failure as one of ours; what is not known leaves its traceback in a file."""
    known = error if isinstance(error, NtroError) else familiar(error)
    return known or InternalError(kind=type(error).__name__, where=_write_traceback(error))


def tell(error: NtroError, *, with_mend: bool = True) -> None:
    """One failure on standard error."""
    message, mend = one_line(error.explain()), one_line(error.advice()) if with_mend else ""
    if invocation.json:
        _write(json.dumps({"code": error.code, "message": message, "mend": mend}, ensure_ascii=False) + "\n")
        return
    from ntro_dagster.cli.output import clean  # noqa: PLC0415

    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    head = f"\033[1;31merror {error.code}\033[0m" if colour else f"error {error.code}"
    _write(f"{head}: {clean(message)}\n" + (f"→ {clean(mend)}\n" if mend else ""))


def familiar(error: BaseException) -> NtroError | None:  # noqa: PLR0911 - one line per kind
    """Our error for one of the system's or a library's that needs no traceback."""
    if isinstance(error, KeyboardInterrupt):
        return InterruptedByUserError()
    if isinstance(error, OSError):
        what = str(error.filename or "a file")
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return DiskFullError(what=what)
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.ENAMETOOLONG}:
            return FileAccessError(what=what, why=error.strerror)
        return None
    if "sqlalchemy" in sys.modules:
        from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

        if isinstance(error, DBAPIError) and error.orig is not None:
            return familiar(error.orig)
    if "psycopg" in sys.modules:
        return _familiar_to_postgres(error)
    return None


def one_line(text: str) -> str:
    return re.sub(r"\s*\n\s*", "; ", text.strip())


def _familiar_to_postgres(error: BaseException) -> NtroError | None:
    import psycopg  # noqa: PLC0415

    from ntro_dagster.platforms.postgres.database import DatabaseUnreachableError, translate  # noqa: PLC0415

    if isinstance(error, psycopg.errors.DiskFull):
        return DiskFullError(what="the database")
    if isinstance(error, psycopg.Error) and (known := translate(error)):
        return known
    if isinstance(error, psycopg.OperationalError):
        return DatabaseTroubleError(why=one_line(str(error)))
    if type(error).__module__.startswith("psycopg2") and type(error).__name__ == "OperationalError":
        return DatabaseUnreachableError(why=one_line(str(error)))
    return None


def _write_traceback(error: BaseException) -> str:
    """Tracebacks may hold a tenant's values: 0600, in the home's logs, else in a private temporary file."""
    story = "".join(traceback.format_exception(error))
    name = f"cli-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}-"
    with suppress(Exception):
        logs = invocation.home.logs
        return _keep(story, name, logs if logs.is_dir() else None)
    with suppress(OSError):
        return _keep(story, name, None)
    _write(story)
    return "the lines above"


def _keep(story: str, name: str, directory: Path | None) -> str:
    handle, path = tempfile.mkstemp(prefix=name, suffix=".log", dir=directory)  # 0600
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(story)
    return path


def _write(text: str) -> None:
    with suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()
