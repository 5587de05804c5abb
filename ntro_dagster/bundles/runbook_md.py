"""`runbook.md`: its head (YAML between two lines of `---`) with the line of every field, and the sections of its prose.

Reading never throws for what an author may have got wrong: it returns what could be read, and the problems.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ntro_dagster.bundles.fields import FORMS
from ntro_dagster.bundles.parameters import Place
from ntro_dagster.bundles.problems import Problem, Severity, did_you_mean

FILE = "runbook.md"
LARGEST = 256 * 1024
"""Bytes. A head is a page; anchors of YAML could make a planet of less, which is why they are refused."""

SECTIONS = ("When to use", "Steps", "Edge cases")

REQUIRED = ("slug", "name", "description", "version", "jurisdictions", "start", "schedule", "timezone")
NEEDED = ("slug", "name", "version", "schedule", "timezone")
"""Without these a runbook cannot even be loaded; the others are asked for when it is pushed."""
OPTIONAL = ("tags", "reads", "sources", "derives", "parameters", "id", "state", "classification", "author")


@dataclass(frozen=True, slots=True)
class Derived:
    """Of which subledgers' rows another's are made; `earlier`: of those of the entity's earlier months too."""

    rows: tuple[str, ...]
    earlier: bool = False


@dataclass(frozen=True, slots=True)
class Frontmatter:
    """The head of `runbook.md`.

    Attributes:
        version: semantic version, as the author counts; what is deployed goes by its content.
        start: first month, `YYYY-MM`, that the runbook is for.
        schedule: five cron fields, in `timezone` (IANA name): what its author proposes to whoever binds it.
        reads: for each subledger that is filled from documents, the sources of those documents.
        parameters: JSON Schema of what a binding may set; closed kinds only.
        derives: for each subledger that is filled from other rows, from which.
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
    derives: dict[str, Derived] = field(default_factory=dict)


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


def _line_of(event: yaml.Event) -> int:
    """In the file: the head's first line is the second there."""
    return event.start_mark.line + 2 if event.start_mark else 2


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
                    line = _line_of(event)
                    self._problem(
                        line, "FRONTMATTER_UNREADABLE", "the head uses an anchor or alias", "write the value out each time"
                    )
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
        if self._broken & {*NEEDED, "reads", "sources", "derives"} or not self.values:
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
            derives={
                name: Derived(tuple(said["from"]), said.get("earlier_months", False))
                for name, said in (values.get("derives") or {}).items()
            },
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
                self._problem(
                    self.lines.get((name,), 1), "FIELD_MISSING", f"{name} is missing", f"add `{name}: {_EXAMPLES[name]}`"
                )
        for name, value in self.values.items():
            if name in FORMS and name not in self._broken and value is not None:
                self._judge(name, value)

    def _judge(self, name: str, value: Any) -> None:
        for place, code, said, mend in FORMS[name](value):
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
