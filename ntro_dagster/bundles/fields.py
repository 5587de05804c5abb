"""What each field of a runbook's head must look like. A complaint names the place below the field, so that it finds its line."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime
from functools import cache
from typing import Any

from ntro_dagster.boundary.periods import PATTERN as PERIOD
from ntro_dagster.bundles.parameters import Complaint, parameter_problems
from ntro_dagster.bundles.problems import did_you_mean

SLUG = r"[a-z][a-z0-9]*(-[a-z0-9]+)*"
LONGEST_SLUG = 30
"""Slug, two underscores and the name of a type make the name of a table, which may have 63 characters."""
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?"
)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
_SOURCE = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_JURISDICTION = re.compile(r"[A-Z][A-Za-z]*([ -][A-Z][A-Za-z]*)*")
_TAG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")

STATES = ("DRAFT", "ACTIVE", "RETIRED")


def _pattern(code: str, pattern: re.Pattern[str], wanted: str) -> Callable[[Any], list[Complaint]]:
    def check(value: Any) -> list[Complaint]:
        if isinstance(value, str) and pattern.fullmatch(value):
            return []
        return [((), code, f"{_shown(value)} is not {wanted}", f"write {wanted}")]

    return check


def _each(code: str, pattern: re.Pattern[str], wanted: str) -> Callable[[Any], list[Complaint]]:
    one = _pattern(code, pattern, wanted)

    def check(value: Any) -> list[Complaint]:
        if not isinstance(value, list):
            return [((), code, "it is not a list", "write a list: `[one, another]`")]
        return [((number, *place), *rest) for number, item in enumerate(value) for place, *rest in one(item)]  # type: ignore[misc]

    return check


def _text(value: Any) -> list[Complaint]:
    if isinstance(value, str) and "\n" not in value.strip():
        return []
    return [
        ((), "FIELD_INVALID", f"{_shown(value)} is not one line of text", "write one line; quote it where it looks like a number")
    ]


def _slug(value: Any) -> list[Complaint]:
    wanted = f"lower case letters, digits and single hyphens, a letter first, at most {LONGEST_SLUG} characters"
    return _pattern("SLUG_INVALID", re.compile(rf"(?=.{{1,{LONGEST_SLUG}}}$){SLUG}"), wanted)(value)


def _start(value: Any) -> list[Complaint]:
    said = value.isoformat() if isinstance(value, date | datetime) else value
    return _pattern("START_INVALID", re.compile(PERIOD), "a month as YYYY-MM")(said)


def _schedule(value: Any) -> list[Complaint]:
    why = cron_complaint(value) if isinstance(value, str) else "it is not text"
    mend = 'write five cron fields in quotes: `"0 8 5 * *"` is the 5th of every month at 08:00'
    return [((), "SCHEDULE_INVALID", f"{_shown(value)} is not a cron schedule: {why}", mend)] if why else []


_CRON_FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    ("day of week", 0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)


def cron_complaint(text: str) -> str | None:
    """What is wrong with five cron fields: ranges, steps and names, as every cron has them. No `L`, `W`, `#`, no sixth field.

    Here and not from Dagster's croniter, because importing that takes longer than all other checks together.
    """
    fields = text.split()
    if len(fields) != len(_CRON_FIELDS):
        return f"it has {len(fields)} fields"
    for part, (name, least, most, words) in zip(fields, _CRON_FIELDS, strict=True):
        for item in part.casefold().split(","):
            match = re.fullmatch(r"(\*|[a-z0-9]+)(?:-([a-z0-9]+))?(?:/([0-9]+))?", item)
            if match is None or (match[1] == "*" and match[2]):
                return f"{item!r} is no {name}"
            numbers = [_cron_number(word, words, least) for word in match.groups()[:2] if word not in (None, "*")]
            if any(number is None or not least <= number <= most for number in numbers):
                return f"{item!r} is no {name}: {least} to {most}"
            if match[2] and numbers[0] > numbers[1]:  # type: ignore[operator]
                return f"{item!r} runs backwards"
            if match[3] == "0":
                return f"{item!r} has a step of 0"
    return None


def _cron_number(word: str, words: tuple[str, ...], least: int) -> int | None:
    if word.isdigit():
        return int(word)
    return words.index(word) + least if word in words else None


def _timezone(value: Any) -> list[Complaint]:
    if isinstance(value, str) and value in _timezones():
        return []
    near = did_you_mean(str(value), _timezones())
    return [((), "TIMEZONE_INVALID", f"{_shown(value)} is not an IANA time zone{near}", "write one such as Europe/London")]


@cache
def _timezones() -> frozenset[str]:
    from zoneinfo import available_timezones  # noqa: PLC0415

    return frozenset(available_timezones())


def _reads(value: Any) -> list[Complaint]:
    if not isinstance(value, dict):
        return [
            (
                (),
                "READS_INVALID",
                "reads is not a list of `subledger: [source]`",
                "write `reads:` and below it `  name: [source]`",
            )
        ]
    complaints: list[Complaint] = []
    for name, sources in value.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            wanted = "use lower case letters, digits and underscores"
            complaints.append(((str(name),), "READS_INVALID", f"{_shown(name)} cannot name a subledger", wanted))
        elif not sources:
            complaints.append(((name,), "READS_INVALID", f"{name} is read from no source", f"write `{name}: [source]`"))
        else:
            check = _each("READS_INVALID", _SOURCE, "a source: lower case letters, digits, hyphens and underscores")
            complaints += [((name, *place), *rest) for place, *rest in check(sources)]  # type: ignore[misc]
    return complaints


_READERS = ("spend-return", "table")
_OF_A_SOURCE = ("reader", "entity", "period")


def _sources(value: Any) -> list[Complaint]:
    mend = f"write `name: {{reader: table, entity: column, period: column}}`; the readers are {', '.join(_READERS)}"
    if not isinstance(value, dict) or not all(isinstance(each, dict) for each in value.values()):
        return [((), "SOURCES_INVALID", "sources does not say how each source is read", mend)]
    complaints: list[Complaint] = []
    for name, said in value.items():
        if not _SOURCE.fullmatch(str(name)):
            complaints.append(
                (
                    (str(name),),
                    "SOURCES_INVALID",
                    f"{_shown(name)} cannot name a source",
                    "use lower case letters, digits and hyphens",
                )
            )
        if said.get("reader") not in _READERS:
            complaints.append(
                ((str(name), "reader"), "SOURCES_INVALID", f"{name}: there is no reader {_shown(said.get('reader'))}", mend)
            )
        for key in said.keys() - set(_OF_A_SOURCE):
            complaints.append(((str(name), str(key)), "SOURCES_INVALID", f"{name}: {key!r} has no place here", mend))
    return complaints


def _derives(value: Any) -> list[Complaint]:
    mend = "write `name: {from: [subledger], earlier_months: false}`"
    if not isinstance(value, dict):
        return [((), "DERIVES_INVALID", "derives does not say what is made of which rows", mend)]
    complaints: list[Complaint] = []
    for name, said in value.items():
        rows = said.get("from") if isinstance(said, dict) else None
        named = isinstance(rows, list) and bool(rows) and all(isinstance(row, str) and _NAME.fullmatch(row) for row in rows)
        if not _NAME.fullmatch(str(name)) or not named:
            complaints.append(((str(name),), "DERIVES_INVALID", f"{_shown(name)} is made of no subledger's rows", mend))
        elif said.keys() - {"from", "earlier_months"} or not isinstance(said.get("earlier_months", False), bool):
            complaints.append(
                ((str(name),), "DERIVES_INVALID", f"{name}: only `from` and `earlier_months` have a place here", mend)
            )
    return complaints


def _state(value: Any) -> list[Complaint]:
    return _pattern("FIELD_INVALID", re.compile("|".join(STATES)), f"one of {', '.join(STATES)}")(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004


FORMS: dict[str, Callable[[Any], list[Complaint]]] = {
    "slug": _slug,
    "name": _text,
    "description": _text,
    "version": _pattern("VERSION_INVALID", _SEMVER, "a semantic version such as 1.0.0"),
    "jurisdictions": _each("JURISDICTION_INVALID", _JURISDICTION, "a jurisdiction's name, capitalised: UK, Jersey, Luxembourg"),
    "tags": _each("TAG_INVALID", _TAG, "lower case letters, digits and single hyphens"),
    "start": _start,
    "schedule": _schedule,
    "timezone": _timezone,
    "reads": _reads,
    "sources": _sources,
    "derives": _derives,
    "parameters": parameter_problems,
    "id": _text,
    "state": _state,
    "classification": _text,
    "author": _text,
}
