"""What a status enum says beside its names: where a row may go, who may send it there, and what each status means.

Five kinds of signals have a meaning of the platform's own, in every lifecycle: `approve` (maker is not checker), `undo` (takes an
approval back), `accept` (the row is right, as it is or with new values) and, on no edge, `edit` (new values, same status) and
`reinstate` (a new row in the place of one that was turned down or left out). All others only move rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from ntro_dagster.errors import UsageError

E = TypeVar("E", bound=type[StrEnum])

APPROVE, UNDO, ACCEPT, EDIT, REINSTATE = "approve", "undo", "accept", "edit", "reinstate"

_STATUS = re.compile(r"[A-Z][A-Z0-9_]{0,39}")
_SIGNAL = re.compile(r"[a-z][a-z0-9_]{0,39}")
_INITIAL = ("NEEDS_ATTENTION", "PENDING")
_LOOSE = ("NEEDS_ATTENTION", "REJECTED")
_POSTED = "POSTED"


class LifecycleInvalidError(UsageError):
    code = "LIFECYCLE_INVALID"
    summary = "a status enum has a lifecycle that cannot work"
    detail = "{name}: {why}"
    mend = "docs/subledgers.md says what a lifecycle must have"


@dataclass(frozen=True, slots=True)
class Edge:
    """A legal step.

    Attributes:
        signal: the kind of signal a person must have filed for it, or None where a run may take it.
        by_machine: a run may take it without a signal as well; out of a status in which content may change, only as long as no
            person has touched the row.
    """

    source: str
    target: str
    signal: str | None = None
    by_machine: bool = False


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The statuses of a type.

    Attributes:
        initial: the two statuses a row may be born with: in doubt, and without.
        editable: statuses in which content may change.
        posted: the status that needs a journal in the general ledger, or None.
        loose: statuses in which a row may be incomplete.
    """

    edges: tuple[Edge, ...]
    initial: tuple[str, ...]
    editable: tuple[str, ...]
    posted: str | None
    loose: tuple[str, ...] = _LOOSE

    @property
    def statuses(self) -> tuple[str, ...]:
        """Every status, in the order of the steps."""
        ends = (end for edge in self.edges for end in (edge.source, edge.target))
        return tuple(dict.fromkeys([*self.initial, *ends]))

    @property
    def open(self) -> tuple[str, ...]:
        """Statuses that lead on: a month with such rows is not over."""
        sources = {edge.source for edge in self.edges}
        return tuple(status for status in self.statuses if status in sources)

    @property
    def let_through(self) -> tuple[str, ...]:
        """Statuses of rows that count: neither waiting to be looked at, nor turned down, nor left out."""
        return tuple(status for status in self.statuses if status not in self._aside and status not in self.initial)

    @property
    def set_aside(self) -> tuple[str, ...]:
        """Final statuses of rows that were turned down or left out, and have no journal: such a row can be reinstated. None where
        nobody could accept the new one.
        """
        if self.in_doubt not in self.targets(ACCEPT):
            return ()
        over = {*self.open, *self.initial, *(self.reached_from({self.posted}) if self.posted else ())}
        return tuple(status for status in self.statuses if status in self._aside and status not in over)

    @property
    def _aside(self) -> set[str]:
        return {edge.target for edge in self.edges if edge.signal in {"reject", "exclude"}}

    @property
    def in_doubt(self) -> str:
        """Where a row that something is wrong with waits for a person."""
        return next(status for status in self.initial if status in self.loose)

    @property
    def clean(self) -> str:
        """Where a row begins that nothing is wrong with."""
        return next(status for status in self.initial if status not in self.loose)

    @property
    def approved(self) -> str | None:
        """Where rows wait for the posting run; None where the type is not posted."""
        return next((edge.source for edge in self.edges if edge.target == self.posted), None)

    @property
    def signals(self) -> tuple[str, ...]:
        """Kinds of signals that people may file, `edit` and `reinstate` included."""
        named = dict.fromkeys(edge.signal for edge in self.edges if edge.signal)
        return (*named, *([EDIT] if self.editable else []), *([REINSTATE] if self.set_aside else []))

    def sources(self, signal: str) -> list[str]:
        """The statuses that a signal leads on from."""
        off_the_edges = {EDIT: self.editable, REINSTATE: self.set_aside}
        return list(off_the_edges.get(signal) or self.targets(signal))

    def targets(self, signal: str) -> dict[str, str]:
        """Where a signal sends a row, by the status it is in. `edit` and `reinstate` send it nowhere."""
        return {edge.source: edge.target for edge in self.edges if edge.signal == signal}

    def allows(self, source: str, target: str) -> bool:
        return self._edge(source, target) is not None

    def allows_a_run(self, source: str, target: str) -> bool:
        """Whether a run may take the step by itself."""
        edge = self._edge(source, target)
        return edge is not None and (edge.signal is None or edge.by_machine)

    def _edge(self, source: str, target: str) -> Edge | None:
        return next((edge for edge in self.edges if (edge.source, edge.target) == (source, target)), None)

    def reached_from(self, sources: Collection[str], edges: Iterable[Edge] | None = None) -> set[str]:
        """`sources` and every status they lead to, over `edges` where some are given."""
        steps = list(self.edges if edges is None else edges)
        reached = set(sources)
        while more := {edge.target for edge in steps if edge.source in reached} - reached:
            reached |= more
        return reached

    @classmethod
    def from_json(cls, known: Mapping[str, Any]) -> Lifecycle:
        """Reads what `as_json` wrote."""
        edges = tuple(Edge(edge["from"], edge["to"], edge["signal"], edge["by_machine"]) for edge in known["edges"])
        loose = tuple(known.get("loose", _LOOSE))
        return cls(edges, tuple(known["initial"]), tuple(known["editable"]), known["posted"], loose)

    def as_json(self) -> dict[str, Any]:
        """The form that `system.attach_subledger` reads."""
        return {
            "initial": list(self.initial),
            "editable": list(self.editable),
            "posted": self.posted,
            "loose": list(self.loose),
            "edges": [
                {"from": edge.source, "to": edge.target, "signal": edge.signal, "by_machine": edge.by_machine}
                for edge in self.edges
            ],
        }


def lifecycle(
    *edges: Edge,
    initial: Sequence[str] | None = None,
    editable: Sequence[str] | None = None,
    posted: str | None = None,
    loose: Sequence[str] | None = None,
) -> Callable[[E], E]:
    """Class decorator that gives a status enum its edges.

    What is left out follows the names of the default enum: rows begin as NEEDS_ATTENTION or PENDING, content may change there,
    POSTED is posted, NEEDS_ATTENTION and REJECTED may be incomplete.

    Raises: `LifecycleInvalidError`, with everything that is wrong.
    """

    def attach(enum: E) -> E:
        members = [member.value for member in enum]
        born = tuple(initial if initial is not None else _INITIAL)
        made = Lifecycle(
            edges,
            born,
            tuple(born if editable is None else editable),
            posted or (_POSTED if _POSTED in members else None),
            tuple(loose if loose is not None else (status for status in _LOOSE if status in members)),
        )
        check(enum.__name__, made, members)
        enum.lifecycle = made  # type: ignore[attr-defined]
        return enum

    return attach


def check(name: str, made: Lifecycle, members: Sequence[str]) -> None:
    """Raises: `LifecycleInvalidError`, with everything that is wrong."""
    wrong = [*_names(made, members), *_steps(made)] or [*_rows_in_doubt(made), *_reach(made, members), *_posting(made)]
    if wrong:
        raise LifecycleInvalidError(name=name, why="; ".join(wrong))


def _names(made: Lifecycle, members: Sequence[str]) -> list[str]:
    wrong = [
        f"{status!r} is not a status: upper-case letters, digits and _, at most 40" for status in members if not _fits(status)
    ]
    spoken = [*made.statuses, *made.editable, *made.loose, *([made.posted] if made.posted else [])]
    wrong += [f"{status} is not one of its statuses" for status in dict.fromkeys(spoken) if status not in members]
    if not made.initial:
        wrong.append("no row could ever begin: it has no initial status")
    if not made.edges:
        wrong.append("no row could ever move: it has no edges")
    return wrong + [
        f"{edge.signal!r} is not a signal: lower-case letters, digits and _, at most 40"
        for edge in made.edges
        if edge.signal is not None and not _SIGNAL.fullmatch(edge.signal)
    ]


def _fits(status: str) -> bool:
    return _STATUS.fullmatch(status) is not None


def _steps(made: Lifecycle) -> list[str]:
    wrong = [f"{edge.source} leads to itself" for edge in made.edges if edge.source == edge.target]
    wrong += [
        f"{edge.source} to {edge.target}: `{edge.signal}` moves no row" for edge in made.edges if edge.signal in {EDIT, REINSTATE}
    ]
    wrong += [
        f"{edge.source} to {edge.target}: an `approve` is a person's, so no run takes it"
        for edge in made.edges
        if edge.signal == APPROVE and edge.by_machine
    ]
    approvals = {(edge.target, edge.source) for edge in made.edges if edge.signal == APPROVE}
    wrong += [
        f"{edge.source} to {edge.target}: an `undo` leads back over an `approve`, and is a person's"
        for edge in made.edges
        if edge.signal == UNDO and (edge.by_machine or (edge.source, edge.target) not in approvals)
    ]
    left = {edge.source for edge in made.edges}
    wrong += [
        f"{status} leads nowhere, so rows in it are final and cannot be edited" for status in made.editable if status not in left
    ]
    pairs = [(edge.source, edge.target) for edge in made.edges]
    wrong += [f"{source} to {target} is there twice" for source, target in _twice(pairs)]
    said = [(edge.source, edge.signal) for edge in made.edges if edge.signal]
    return wrong + [f"{signal} leads from {source} to two statuses" for source, signal in _twice(said)]


def _twice(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [pair for pair in dict.fromkeys(pairs) if pairs.count(pair) > 1]


def _rows_in_doubt(made: Lifecycle) -> list[str]:
    loose = [status in made.loose for status in made.initial]
    if sorted(loose) != [False, True]:
        return ["rows begin in one of two statuses: one that is loose, for rows in doubt, and one that is not"]
    wrong = [
        f"{edge.source} to {edge.target}: a row that may be incomplete becomes one that may not, which takes an `accept`"
        for edge in made.edges
        if edge.source in made.loose and edge.target not in made.loose and edge.signal not in {ACCEPT, None}
    ]
    return wrong + [
        f"{edge.source} to {edge.target}: an `accept` may change content, so both must be editable"
        for edge in made.edges
        if edge.signal == ACCEPT and not {edge.source, edge.target} <= set(made.editable)
    ]


def _reach(made: Lifecycle, members: Sequence[str]) -> list[str]:
    reached = made.reached_from(made.initial)
    return [f"no row ever reaches {status}" for status in members if status not in reached]


def _posting(made: Lifecycle) -> list[str]:
    if made.posted is None:
        return []
    into = [edge for edge in made.edges if edge.target == made.posted]
    if len(into) != 1:
        return [f"exactly one edge must lead to {made.posted}, which is posted; there are {len(into)}"]
    wrong = []
    if into[0].signal is not None:
        wrong.append(f"{into[0].source} to {made.posted} is the posting run's, so it takes no signal")
    unapproved = made.reached_from({*made.initial, *made.editable}, [edge for edge in made.edges if edge.signal != APPROVE])
    if made.posted in unapproved:
        wrong.append(f"a row could become {made.posted} without an `approve` after its last change of content")
    after = made.reached_from({made.posted})
    if into[0].source in after:
        wrong.append(f"a row could become {made.posted} twice")
    elsewhere = made.reached_from(made.initial, [edge for edge in made.edges if edge.target != made.posted])
    wrong += [
        f"{status} comes after {made.posted}, but rows also get there unposted"
        for status in made.statuses
        if status in after & elsewhere
    ]
    return wrong
