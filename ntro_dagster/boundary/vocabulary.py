"""All that may cross from a tenant to the workspace. What is not one of these words stays with the tenant.

Each function takes what a tenant's process offers and returns it where it is a word of its kind, else None. There is no kind for
text: whoever wants to say more says it to the tenant's own log, under an error id.

| kind | form | example |
|---|---|---|
| slug | lower-case letters, digits, `_ . -`, at most 63: the name that an operator gave to a tenant or an entity | `spv-1` |
| name | an identifier of code or SQL, at most 128 | `expenses_decisions` |
| pool | slug and name: what limits how many steps run at once | `acme/bank` |
| period | a month | `2026-10` |
| partition | slug and period | `spv-1|2026-10` |
| unit | tenant, slug and period | `acme|spv-1|2026-10` |
| id | a UUID, or the short id of a backfill | `8ddb28b2-…` |
| code | one of `ntro_dagster.boundary.codes`, or the name of an exception that Python itself defines | `ACCOUNT_UNKNOWN` |
| count | a whole number from 0 below 2^53, under one of the names in `COUNTS`, or a status of the tenant's own | `PENDING: 12` |
| status | upper-case letters, digits and `_`, at most 40: of a type that the tenant's survey has | `AWAITING_BANK` |
| digest | 32 or 64 hexadecimal digits, salted by the tenant | |
| version | of a runbook, or of all that a tenant runs: a digest of code, without data | `v_1f0c9be2a77d` |
| run key | what kind of work, the partition, and how many runs it has had, or by which version | `posting:spv-1|2026-10:3` |
| | or the id of what somebody asked for at the desk | `request:8ddb28b2-…` |
| tick | the minute at which a schedule fired, in UTC | `2026-11-05T08:00:00+00:00` |
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Collection
from typing import Any

from ntro_dagster.boundary.codes import CODES

COUNTS = frozenset(
    [
        *("NEEDS_ATTENTION", "PENDING", "APPROVED", "POSTED", "REJECTED", "EXCLUDED"),
        *("documents", "records", "inserted", "updated", "untouched"),
        *("signals", "applied", "refused", "posted", "journals"),
    ]
)
"""What may be counted for every tenant. A tenant's own statuses come from its survey, as names of code do."""

WORKS = frozenset({"intake", "review", "proposals", "posting", "close"})
UNEXPECTED = "UNEXPECTED_ERROR"
"""The code of every failure that has none of its own."""
INTERRUPTED = "RUN_INTERRUPTED"
"""The code of a step that was stopped from outside, by whoever cancelled its run or ended its process: there is no story."""

_BUILTIN = frozenset(
    name for name, known in vars(builtins).items() if isinstance(known, type) and issubclass(known, BaseException)
)
_LARGEST_COUNT = 2**53

_SLUG = r"[a-z0-9][a-z0-9_.-]{0,62}"
_PERIOD = r"\d{4}-(?:0[1-9]|1[0-2])"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

Word = Callable[[Any], str | None]


def _form(pattern: str) -> Word:
    compiled = re.compile(pattern, re.ASCII)

    def word(offered: Any) -> str | None:
        return str(offered) if isinstance(offered, str) and compiled.fullmatch(offered) else None

    return word


slug = _form(_SLUG)
name = _form(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
status = _form(r"[A-Z][A-Z0-9_]{0,39}")
period = _form(_PERIOD)
partition = _form(rf"{_SLUG}\|{_PERIOD}")
unit = _form(rf"{_SLUG}\|{_SLUG}\|{_PERIOD}")
pool = _form(rf"{_SLUG}/[A-Za-z_][A-Za-z0-9_]{{0,127}}")
uuid = _form(_UUID)
short_id = _form(r"[a-z]{8}")
digest = _form(r"[0-9a-f]{32}|[0-9a-f]{64}")
number = _form(r"-?\d{1,15}")
flag = _form(r"true|false")
run_key = _form(
    rf"(?:{'|'.join(sorted(WORKS))}):{_SLUG}\|{_PERIOD}(?::\d{{1,9}})?|monthly:{_SLUG}\|{_PERIOD}(?::v_[0-9a-f]{{12}})?"
    rf"|request:{_UUID}"
)
tick = _form(r"\d{4}-\d\d-\d\dT\d\d:\d\d:00\+00:00")
version = _form(r"[vs]_[0-9a-f]{12}")
work = _form("|".join(sorted(WORKS)))


def code(offered: Any) -> str:
    """The code, or `UNEXPECTED` where it is not one that this release knows."""
    return offered if isinstance(offered, str) and (offered in CODES or offered in _BUILTIN) else UNEXPECTED


def count(called: Any, offered: Any, statuses: Collection[str] = frozenset()) -> int | None:
    """A count under a name that may be counted. Args: `statuses`: the tenant's own, from its survey."""
    known = called in COUNTS or (called in statuses and status(called) is not None)
    right = known and type(offered) is int and 0 <= offered < _LARGEST_COUNT
    return offered if right else None


_FAILURE = re.compile(rf"\b([A-Za-z][A-Za-z0-9_]{{1,62}}) \(error ({_UUID})\)")


def failure(text: Any) -> str:
    """Code and error id, where the text holds them in the form that the tenant's boundary gives them; else the bare code."""
    if text == INTERRUPTED:
        return INTERRUPTED
    found = _FAILURE.search(text) if isinstance(text, str) else None
    return f"{code(found[1])} (error {found[2]})" if found else UNEXPECTED
