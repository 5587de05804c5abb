"""Where a row stands, and where it may go (spec 8.4).

    NEEDS_ATTENTION ──> PENDING ──> APPROVED ──> POSTED
           │               ├──────> EXCLUDED
           └───────────────┴──────────┴───────> REJECTED

The database enforces the same edges for every subledger table (migrations/007_lifecycle.sql).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, ClassVar

from ntro_dagster.errors import UsageError


class IllegalTransitionError(UsageError):
    """The lifecycle has no such edge. Staying where one is counts as illegal too: callers check first."""

    code = "ILLEGAL_TRANSITION"
    summary = "the lifecycle does not allow this step"
    detail = "a row cannot go from {from_status} to {to_status}"
    mend = "look at the row's status first; the legal steps are listed in docs/subledgers.md"


@dataclass(frozen=True, slots=True)
class Edge:
    """A legal step.

    Attributes:
        signal: the kind of signal a person must have filed for it, or None where a run may take it.
        by_machine: a run may take it without a signal as long as no person has touched the row.
    """

    source: str
    target: str
    signal: str | None = None
    by_machine: bool = False


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The statuses of a type.

    Attributes:
        initial: statuses a row may be born with.
        editable: statuses in which content may change.
        posted: the status that needs a journal in the general ledger, or None.
    """

    edges: tuple[Edge, ...]
    initial: tuple[str, ...]
    editable: tuple[str, ...]
    posted: str | None

    def as_json(self) -> dict[str, Any]:
        """The form that `system.attach_subledger` reads."""
        edges = [asdict(edge) for edge in self.edges]
        return {
            "initial": list(self.initial),
            "editable": list(self.editable),
            "posted": self.posted,
            "edges": [
                {"from": e["source"], "to": e["target"], "signal": e["signal"], "by_machine": e["by_machine"]} for e in edges
            ],
        }

    @classmethod
    def from_json(cls, known: Mapping[str, Any]) -> Lifecycle:
        """Reads what `as_json` wrote."""
        edges = (Edge(e["from"], e["to"], e["signal"], e["by_machine"]) for e in known["edges"])
        return cls(tuple(edges), tuple(known["initial"]), tuple(known["editable"]), known["posted"])

    @property
    def open(self) -> tuple[str, ...]:
        """Statuses that a row does not stay in: it waits for a person or for its posting."""
        return tuple(dict.fromkeys(edge.source for edge in self.edges))

    @property
    def let_through(self) -> tuple[str, ...]:
        """Statuses of rows that count: neither waiting to be looked at, nor turned down, nor left out."""
        aside = {edge.target for edge in self.edges if edge.signal in {"reject", "exclude"}}
        return tuple(dict.fromkeys(e.target for e in self.edges if e.target not in aside and e.target not in self.initial))

    def allows(self, source: str, target: str) -> bool:
        return any(edge.source == source and edge.target == target for edge in self.edges)


class SubledgerStatus(StrEnum):
    NEEDS_ATTENTION = "NEEDS_ATTENTION"
    PENDING = "PENDING"
    APPROVED = "APPROVED"
    POSTED = "POSTED"
    REJECTED = "REJECTED"
    EXCLUDED = "EXCLUDED"

    lifecycle: ClassVar[Lifecycle]

    @property
    def terminal(self) -> bool:
        return not any(edge.source == self for edge in self.lifecycle.edges)


SubledgerStatus.lifecycle = Lifecycle(
    edges=(
        Edge("NEEDS_ATTENTION", "PENDING", signal="accept", by_machine=True),
        Edge("NEEDS_ATTENTION", "REJECTED", signal="reject"),
        Edge("PENDING", "APPROVED", signal="approve"),
        Edge("PENDING", "REJECTED", signal="reject"),
        Edge("PENDING", "EXCLUDED", signal="exclude"),
        Edge("APPROVED", "POSTED"),
        Edge("APPROVED", "REJECTED", signal="reject"),
    ),
    initial=("NEEDS_ATTENTION", "PENDING"),
    editable=("NEEDS_ATTENTION", "PENDING"),
    posted="POSTED",
)


def transition(from_status: SubledgerStatus, to_status: SubledgerStatus) -> SubledgerStatus:
    """`to_status`, if a row may go there from `from_status`; else raises `IllegalTransitionError`."""
    if not from_status.lifecycle.allows(from_status, to_status):
        raise IllegalTransitionError(from_status=from_status, to_status=to_status)
    return to_status
