"""Where a row stands, and where it may go (spec 8.4).

    NEEDS_ATTENTION ──> PENDING <─> APPROVED ──> POSTED
           │               ├──────> EXCLUDED
           └───────────────┴──────────┴───────> REJECTED

Until a row is posted its approval can be taken back, which the spec's table does not have: see docs/decisions/022-approvals.md.
REJECTED and EXCLUDED are final; a new row takes the place of one that is reinstated: docs/decisions/029-reinstating.md.

The database enforces the edges of each type's enum for its table (migrations/007_lifecycle.sql, 011_status_enums.sql).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

from ntro_dagster.errors import UsageError
from ntro_dagster.subledger.lifecycle import Edge, Lifecycle, lifecycle


class IllegalTransitionError(UsageError):
    """The lifecycle has no such edge. Staying where one is counts as illegal too: callers check first."""

    code = "ILLEGAL_TRANSITION"
    summary = "the lifecycle does not allow this step"
    detail = "a row cannot go from {from_status} to {to_status}"
    mend = "look at the row's status first; the legal steps are listed in docs/subledgers.md"


class StatusEnum(StrEnum):
    """Base of every status enum: `@lifecycle(Edge(…), …) class CallStatus(StatusEnum): PENDING = auto()`."""

    lifecycle: ClassVar[Lifecycle]

    @staticmethod
    def _generate_next_value_(name: str, *_: Any) -> str:
        """`auto()` is the name as it stands."""
        return name

    @property
    def terminal(self) -> bool:
        return self not in self.lifecycle.open


REVIEW = (
    Edge("NEEDS_ATTENTION", "PENDING", "accept", by_machine=True),
    Edge("NEEDS_ATTENTION", "REJECTED", "reject"),
    Edge("PENDING", "APPROVED", "approve"),
    Edge("PENDING", "REJECTED", "reject"),
    Edge("PENDING", "EXCLUDED", "exclude"),
)
"""The steps up to an approval."""


@lifecycle(*REVIEW, Edge("APPROVED", "POSTED"), Edge("APPROVED", "REJECTED", "reject"), Edge("APPROVED", "PENDING", "undo"))
class SubledgerStatus(StatusEnum):
    NEEDS_ATTENTION = "NEEDS_ATTENTION"
    PENDING = "PENDING"
    APPROVED = "APPROVED"
    POSTED = "POSTED"
    REJECTED = "REJECTED"
    EXCLUDED = "EXCLUDED"


def transition(from_status: StatusEnum, to_status: StatusEnum) -> StatusEnum:
    """`to_status`, if a row may go there from `from_status`; else raises `IllegalTransitionError`."""
    if not from_status.lifecycle.allows(from_status, to_status):
        raise IllegalTransitionError(from_status=from_status, to_status=to_status)
    return to_status
