"""What the API answers with, as models: the document at /v1/openapi.json is made of them, and answers are held against them.

What a model does not name travels too: a shape says what a caller may rely on.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field


class Shape(BaseModel):
    model_config = ConfigDict(extra="allow", populate_by_name=True)


class Me(Shape):
    login: str
    name: str
    role: str
    kind: str


class Column(Shape):
    name: str
    type: str
    editable: bool


class SignalKind(Shape):
    kind: str
    sources: list[str]
    targets: dict[str, str]
    needs_reason: bool
    takes_values: bool
    allowed: bool


class Ledger(Shape):
    """A row type."""

    name: str
    title: str
    owner_runbook: str | None
    columns: list[Column]
    statuses: list[str]
    initial: list[str]
    open: list[str]
    approved: str | None
    posted: str | None
    signals: list[SignalKind]


class Waiting(Shape):
    """A decision that no run has applied yet."""

    signal_id: UUID
    kind: str
    filed_by: str
    filed_at: str


class Held(Shape):
    """Why an approved row is not posted, and since when."""

    code: str
    detail: str
    at: str


class RowShown(Shape):
    """Money is a decimal string. `changed`: by others, since who asks has looked; said where rows are listed. `successor`: the
    row that was made of it when it was reinstated.
    """

    id: UUID
    entity: str
    period: str
    status: str
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    values: dict[str, Any]
    findings: list[dict[str, Any]]
    source_ref: str | None
    made_by: str | None
    approved_by: str | None
    waiting: Waiting | None
    duplicate_of: int
    signed_by: list[str]
    assigned_to: str | None
    successor: UUID | None
    held: Held | None
    changed: bool
    updated_at: str


class Rows(Shape):
    rows: list[RowShown]


class Source(Shape):
    document_id: UUID
    name: str
    line: int | None
    media_type: str
    page: int | None


class Step(Shape):
    """`row`: where a row was reinstated, the other of the two."""

    at: str
    actor: str
    actor_kind: str
    action: str
    from_: str | None = Field(alias="from")
    to: str | None
    reason: str | None
    code: str | None
    run_id: UUID | None
    signal_id: UUID | None
    row: UUID | None


class NewValuesFiled(Shape):
    at: str
    by: str
    signal_id: UUID
    kind: str
    outcome: str | None
    values: dict[str, Any]


class CommentSaid(Shape):
    id: UUID
    at: str
    by: str
    text: str


class Alike(Shape):
    id: UUID
    period: str
    status: str
    source_ref: str | None
    posted_journal_ref: str | None


class RowStory(RowShown):
    raw_payload: dict[str, Any] | None
    source: Source | None
    timeline: list[Step]
    edits: list[NewValuesFiled]
    comments: list[CommentSaid]
    duplicates: list[Alike]


class Changed(Shape):
    id: UUID
    status: str


class Changes(Shape):
    change: int
    more: bool
    rows: list[Changed]


class Heap(Shape):
    count: int
    oldest: str | None


class Heaps(Shape):
    """`assigned`: to who asks; `changed`: since who asks has looked. Such rows are in one of the three others, too."""

    ready: Heap
    mine: Heap
    waiting: Heap
    assigned: Heap
    changed: Heap


class Assignable(Shape):
    login: str
    name: str
    role: str


class AssignmentSummary(Shape):
    count: int
    seen: str


class AssignedRows(Shape):
    assigned: int
    assignee: str | None


class DocumentKnown(Shape):
    id: UUID
    name: str
    media_type: str
    bytes: int
    sha256: str
    submitted_by: str
    submitted_at: str
    lines: int


class Line(Shape):
    line: int
    cells: list[Any]


class Lines(Shape):
    header: list[str]
    lines: list[Line]


class ViewKept(Shape):
    name: str
    subledger: str
    query: dict[str, Any]
    updated_at: str


class Skipped(Shape):
    code: str
    count: int


class SummaryFound(Shape):
    count: int
    totals: dict[str, str]
    skipped: list[Skipped]
    findings: int
    seen: str


class FiledSignal(Shape):
    id: UUID
    entity: str
    period: str
    rows: int


class Receipt(Shape):
    filed: int
    signals: list[FiledSignal]


class Fields(Shape):
    """By column what is wrong with it; under the empty name what is wrong with the row."""

    fields_: dict[str, str] = Field(alias="fields")


class RefusedRow(Shape):
    row_id: UUID
    code: str | None


class SignalBecame(Shape):
    id: UUID
    kind: str
    filed_by: str
    filed_at: str
    applied_at: str | None
    withdrawn_at: str | None
    rows: int
    applied: int
    refused: list[RefusedRow]


class Withdrawn(Shape):
    id: UUID
    withdrawn: bool
