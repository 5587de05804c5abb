"""`runbook.md`: its head (YAML between two lines of `---`) with the line of every field, and the sections of its prose.

Reading never throws for what an author may have got wrong: it returns what could be read, and the problems.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ntro_dagster.boundary.periods import PATTERN as PERIOD
from ntro_dagster.bundles.parameters import Place, parameter_problems
from ntro_dagster.bundles.problems import Problem, Severity, did_you_mean

FILE = "runbook.md"
LARGEST = 256 * 1024
"""Bytes. A head is a page; anchors of YAML could make a planet of less, which is why they are refused."""

SECTIONS = ("When to use", "Steps", "Edge cases")

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

REQUIRED = ("slug", "name", "description", "version", "jurisdictions", "start", "schedule", "timezone")
NEEDED = ("slug", "name", "version", "schedule", "timezone")
"""Without these a runbook cannot even be loaded; the others are asked for when it is pushed."""
OPTIONAL = ("tags", "reads", "sources", "parameters", "id", "state", "classification", "author")
STATES = ("DRAFT", "ACTIVE", "RETIRED")


@dataclass(frozen=True, slots=True)
class Frontmatter:
    """The head of `runbook.md`.

    Attributes:
        version: semantic version, as the author counts; what is deployed goes by its content.
        start: first month, `YYYY-MM`, that the runbook is for.
        schedule: five cron fields, in `timezone` (IANA name): what a binding takes that says nothing else.
        reads: for each subledger that is filled from documents, the sources of those documents.
        parameters: JSON Schema of what a binding may set; closed kinds only.
        sources: how the documents of a source are read, where they are not spending returns (`ingest.sources`).
    """

    slug: str
    name: str
    version: str
    schedule: str
    timezone: str
    reads: dict[str, tuple[str, ...]]
    description: str = ""
    start: str = ""
    jurisdictions: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunbookPage:
    """`runbook.md`, read.

    Attributes:
        head: None where a field that every runbook needs is missing or cannot be read.
        lines: line of each key, by its path: `("reads", "expenses")`.
    """

    head: Frontmatter | None
    lines: Mapping[Place, int]
    problems: tuple[Problem, ...]

    def line(self, *place: str | int) -> int:
        """The line of a key, or of the nearest one above it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)


def read_page(root: Path) -> RunbookPage:
    """The page of the bundle in `root`."""
    path = root / FILE
    try:
        if path.stat().st_size > LARGEST:
            return _unread("RUNBOOK_TOO_LARGE", f"{FILE} has more than {LARGEST // 1024} kB", "keep it to a page or two")
        text = path.read_text(encoding="utf-8").removeprefix("\ufeff").replace("\r\n", "\n")
    except FileNotFoundError:
        return _unread("RUNBOOK_MISSING", f"there is no {FILE}", "`ntro runbook new SLUG` makes a bundle with one")
    except (OSError, UnicodeDecodeError) as error:
        return _unread("RUNBOOK_UNREADABLE", f"{FILE} cannot be read as UTF-8 text: {error}", "save it as UTF-8")
    match = re.match(r"---[ \t]*\n(.*?)^---[ \t]*$\n?", text, re.DOTALL | re.MULTILINE)
    if match is None:
        return _unread(
            "FRONTMATTER_MISSING",
            f"{FILE} does not begin with a head between two lines of `---`",
            "begin it with `---`, the fields, and `---` (docs/runbooks.md)",
        )
    reader = _Reader()
    reader.read(match[1])
    body_line = text[: match.end()].count("\n") + 1
    return RunbookPage(reader.head(), reader.lines, (*reader.problems, *_sections(text[match.end() :], body_line)))


def _unread(code: str, message: str, mend: str) -> RunbookPage:
    return RunbookPage(None, {}, (Problem(FILE, 1, code, message, mend),))


def _sections(body: str, first_line: int) -> list[Problem]:
    found = {match[1].strip().casefold() for match in re.finditer(r"^##\s+(.+?)\s*#*$", body, re.MULTILINE)}
    return [
        Problem(
            FILE,
            first_line,
            "SECTION_MISSING",
            f"the prose has no section {title!r}",
            f"add `## {title}`: it is what the next person reads",
            Severity.WARNING,
        )
        for title in SECTIONS
        if title.casefold() not in found
    ]


class _Reader:
    """One head. `lines` and `problems` grow while it is read."""

    def __init__(self) -> None:
        self.lines: dict[Place, int] = {}
        self.problems: list[Problem] = []
        self.values: dict[str, Any] = {}
        self._broken: set[str] = set()

    def read(self, head: str) -> None:
        try:
            for event in yaml.parse(head, Loader=yaml.SafeLoader):
                # An alias makes a planet of a page, so it is refused before anything is built.
                if getattr(event, "anchor", None) is not None:
                    line = event.start_mark.line + 2
                    self._problem(line, "FRONTMATTER_UNREADABLE", "the head uses an anchor or alias", "write the value out each time")
                    return
            node = yaml.compose(head, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            said = getattr(error, "problem", None) or "not YAML"
            self._problem(mark.line + 2 if mark else 2, "FRONTMATTER_UNREADABLE", f"the head is not YAML: {said}", _PLAIN)
            return
        if not isinstance(node, yaml.MappingNode):
            self._problem(2, "FRONTMATTER_UNREADABLE", "the head is not a list of `field: value`", _PLAIN)
            return
        self._note(node, ())
        try:
            self.values = yaml.safe_load(head)
        except (yaml.YAMLError, ValueError) as error:
            self._problem(2, "FRONTMATTER_UNREADABLE", f"the head is not YAML: {error}", _PLAIN)
            return
        self._check()

    def head(self) -> Frontmatter | None:
        if self._broken & {*NEEDED, "reads"} or not self.values:
            return None
        values = {name: value for name, value in self.values.items() if name not in self._broken}
        return Frontmatter(
            **{name: str(values[name]) for name in NEEDED},
            description=str(values.get("description", "")),
            start=str(values.get("start", "")),
            reads={name: tuple(sources) for name, sources in (values.get("reads") or {}).items()},
            jurisdictions=tuple(values.get("jurisdictions") or ()),
            tags=tuple(values.get("tags") or ()),
            parameters=values.get("parameters") or {},
            sources=values.get("sources") or {},
        )

    def _note(self, node: yaml.Node, place: Place) -> None:
        """Lines of keys and items; a key written twice is a problem, for YAML silently takes the last."""
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                name = (*place, str(key.value))
                line = key.start_mark.line + 2
                if name in self.lines:
                    self._problem(line, "FIELD_REPEATED", f"{key.value!r} stands there twice", "keep one of them")
                    self._broken.add(str(name[0]))
                self.lines[name] = line
                self._note(value, name)
        elif isinstance(node, yaml.SequenceNode):
            for number, item in enumerate(node.value):
                self.lines[(*place, number)] = item.start_mark.line + 2
                self._note(item, (*place, number))

    def _check(self) -> None:
        known = (*REQUIRED, *OPTIONAL)
        for name in self.values:
            if name not in known:
                line = self.lines.get((str(name),), 2)
                said = f"{name!r} is not a field of {FILE}{did_you_mean(str(name), known)}"
                self._problem(line, "FIELD_UNKNOWN", said, f"correct or remove it; the fields are {', '.join(known)}")
        for name in REQUIRED:
            if self.values.get(name) in (None, "", []):
                self._broken.add(name)
                self._problem(self.lines.get((name,), 1), "FIELD_MISSING", f"{name} is missing", f"add `{name}: {_EXAMPLES[name]}`")
        for name, value in self.values.items():
            if name in _FORMS and name not in self._broken and value is not None:
                self._judge(name, value)

    def _judge(self, name: str, value: Any) -> None:
        for place, code, said, mend in _FORMS[name](value):
            self._broken.add(name)
            self._problem(self._line(name, *place), code, said, mend)

    def _line(self, *place: str | int) -> int:
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 2)

    def _problem(self, line: int, code: str, message: str, mend: str) -> None:
        self.problems.append(Problem(FILE, line, code, message, mend))


_PLAIN = "write `field: value`, one a line; quote a value that holds `: ` or ` #`"

_EXAMPLES = {
    "slug": "rent-roll",
    "name": "Rent roll",
    "description": "one sentence",
    "version": "1.0.0",
    "jurisdictions": "[UK]",
    "start": "2025-01",
    "schedule": '"0 8 5 * *"',
    "timezone": "Europe/London",
}

Complaint = tuple[Place, str, str, str]
"""Place below the field, code, sentence, what to do."""


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
    return [((), "FIELD_INVALID", f"{_shown(value)} is not one line of text", "write one line; quote it where it looks like a number")]


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
        return [((), "READS_INVALID", "reads is not a list of `subledger: [source]`", "write `reads:` and below it `  name: [source]`")]
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
            complaints.append(((str(name),), "SOURCES_INVALID", f"{_shown(name)} cannot name a source", "use lower case letters, digits and hyphens"))
        if said.get("reader") not in _READERS:
            complaints.append(((str(name), "reader"), "SOURCES_INVALID", f"{name}: there is no reader {_shown(said.get('reader'))}", mend))
        for key in said.keys() - set(_OF_A_SOURCE):
            complaints.append(((str(name), str(key)), "SOURCES_INVALID", f"{name}: {key!r} has no place here", mend))
    return complaints


def _state(value: Any) -> list[Complaint]:
    return _pattern("FIELD_INVALID", re.compile("|".join(STATES)), f"one of {', '.join(STATES)}")(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004


_FORMS: dict[str, Callable[[Any], list[Complaint]]] = {
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
    "parameters": parameter_problems,
    "id": _text,
    "state": _state,
    "classification": _text,
    "author": _text,
}
