"""The raise-time boundary: whatever fails in a tenant's code leaves it as a code and an error id, and stays with it in full."""

from __future__ import annotations

import json
import math
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg

from ntro_dagster.boundary import vocabulary as words
from ntro_dagster.errors import NtroError
from ntro_dagster.platforms.environment import bound_tenant, journal_from_environment
from ntro_dagster.platforms.postgres.journal import Row, storable

RUN_PATIENCE_S = 10.0
"""How long a failing step waits for the database to take its story: long enough for a restart of PostgreSQL."""

TICK_PATIENCE_S = 2.0
"""The same for sensors and schedules, which hold up an answer meanwhile."""

_DEEPEST = 12
_ALL = 1_000_000


class StepFailedError(Exception):
    """What the workspace gets to see of any failure: a code and the id of the full story, which stays with the tenant."""

    def __init__(self, code: str, error_id: UUID) -> None:
        self.code = words.code(code)  # a runbook may call its exceptions anything
        self.error_id = error_id
        super().__init__(f"{self.code} (error {error_id})")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something failed. `step`: the step's key, or the name of the sensor or schedule."""

    run_id: str | None = None
    step: str | None = None
    partition: str | None = None


@contextmanager
def at_the_wall(place: Place) -> Iterator[None]:
    """Around everything a tenant's code does: any exception leaves as a code and an error id; the full story goes to the
    tenant's journal.

    Interruptions stay what they are, because Dagster tells a cancelled run by them, and lose their text.

    Raises:
        StepFailedError: for whatever was raised.
        KeyboardInterrupt, DagsterExecutionInterruptedError: where that was raised.
    """
    from dagster import DagsterExecutionInterruptedError  # noqa: PLC0415 - authors import this module, and may need no Dagster

    try:
        yield
    except GeneratorExit:
        raise
    except DagsterExecutionInterruptedError as error:
        if error.args:  # Dagster's own has none
            keep(error, place)
        raise DagsterExecutionInterruptedError from None
    except KeyboardInterrupt as error:
        if not error.args:
            raise KeyboardInterrupt from None
        raise KeyboardInterrupt(f"KeyboardInterrupt (error {keep(error, place)})") from None
    except BaseException as error:
        raise StepFailedError(code_of(error), keep(error, place)) from None


class OutOfMemoryError(NtroError):
    """Stands for Python's own."""

    code = "OUT_OF_MEMORY"
    summary = "a run needed more memory than it may have, or than there is"
    mend = "read in smaller parts; or raise NTRO_RUN_MEMORY_MB in the tenant's process.env.json and start its processes anew"


def code_of(error: BaseException) -> str:
    """The tenant's word for it, which need not be one that may cross."""
    if isinstance(error, MemoryError):
        return OutOfMemoryError.code
    return str(error.code) if isinstance(error, NtroError) else type(error).__name__


def keep(error: BaseException, place: Place) -> UUID:
    """Put the whole story into the tenant's journal; into its log where that cannot be written.

    Returns:
        The error id.
    """
    return kept(error, place)[0]


def kept(error: BaseException, place: Place) -> tuple[UUID, bool]:
    """As `keep`; and whether the story can be found by its id, which in the log it cannot."""
    error_id = uuid4()
    record = story(error, place, error_id)
    head = f"error {error_id} {record['code']!s}"
    try:
        tenant = bound_tenant()
        patience = RUN_PATIENCE_S if place.run_id else TICK_PATIENCE_S
        taken = journal_from_environment().keep("errors", record, patience=patience)
        where = "kept" if taken else "kept in a file, because the database does not answer"
        _log(f"{head}: {where}; `ntro errors show {error_id} --tenant {tenant}` tells all of it")
        return error_id, True
    except (NtroError, psycopg.Error) as trouble:
        _log(f"{head}: not in the database ({_safely(trouble)}); all of it follows")
        _log("\n".join(text for part in ("story", "advice", "values", "traceback") if isinstance(text := record[part], str)))
        return error_id, False


def story(error: BaseException, place: Place, error_id: UUID) -> Row:
    """One failure as a record of the journal."""
    own = isinstance(error, NtroError)
    return {
        "id": str(error_id),
        "at": datetime.now(UTC).isoformat(),
        "run_id": words.uuid(place.run_id),
        "step": storable(place.step) if place.step else None,
        "partition": storable(place.partition) if place.partition else None,
        "code": storable(code_of(error)),
        "story": storable(_safely(error, "explain") if own else _safely(error) or type(error).__name__),
        "advice": storable(_safely(error, "advice") if own else ""),
        "traceback": storable(complete_traceback(error)),
        "values": json.dumps(_plain(getattr(error, "values", {}) if own else {})),
    }


def complete_traceback(error: BaseException) -> str:
    """With causes, contexts (also those that `from None` hides), notes and every member of a group."""
    whole = traceback.TracebackException.from_exception(error, max_group_width=_ALL, max_group_depth=_ALL)
    parts, besides, waiting = [""], [], [whole]
    while waiting:
        each = waiting.pop()
        each.__suppress_context__ = False
        if each.__cause__ is not None and each.__context__ is not None:  # printed with the cause alone
            besides.append(each.__context__)
        waiting += [other for other in (each.__cause__, each.__context__, *(each.exceptions or ())) if other is not None]
    parts[0] = "".join(whole.format())
    parts += ["".join(each.format()) for each in besides]
    return "\nRaised while this was being handled:\n\n".join(parts)


def _safely(error: BaseException, method: str = "__str__") -> str:
    """What an error says of itself, if it can."""
    try:
        return str(getattr(error, method)())
    except Exception as trouble:
        return f"{type(error).__name__} cannot say what it is: {type(trouble).__name__}"


def _plain(value: Any, depth: int = 0) -> Any:
    """`value` as JSONB can hold it: decimals as strings."""
    if value is None or isinstance(value, bool) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, Mapping) and depth < _DEEPEST:
        return {_text(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth < _DEEPEST:
        return [_plain(item, depth + 1) for item in value]
    return _text(value)


def _text(value: object) -> str:
    try:
        return storable(value.isoformat() if isinstance(value, datetime) else str(value))
    except Exception:
        return f"<{type(value).__name__}>"


def _log(text: str) -> None:
    sys.stderr.write(storable(text) + "\n")
    sys.stderr.flush()
