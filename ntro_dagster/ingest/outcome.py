"""What became of a submission (spec 11)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class IngestStatus(StrEnum):
    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REFUSED = "refused"
    EMPTY = "empty"
    STAGED = "staged"


@dataclass(frozen=True, slots=True)
class IngestIssueSummary:
    """How many rows need attention for one reason."""

    code: str
    rows: int


@dataclass(frozen=True, slots=True)
class IngestOutcome:
    """One file's fate.

    Attributes:
        parsed_rows: data rows found in the document.
        accepted_rows: rows that went on without a finding; known once a run has staged them.
        rejected_rows: rows that wait for a person, or cannot become rows at all.
        entities: slugs of the entities that the document feeds.
    """

    name: str
    status: IngestStatus
    message: str
    period: str | None = None
    document_id: str | None = None
    parsed_rows: int = 0
    accepted_rows: int | None = None
    rejected_rows: int | None = None
    entities: tuple[str, ...] = ()
    issues: tuple[IngestIssueSummary, ...] = field(default_factory=tuple)
    code: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
