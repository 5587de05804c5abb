"""What the spec's endpoints answer with (section 7), under the spec's names."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from ntro_dagster.desk.shapes import FiledSignal, Shape, Skipped


class EntitySummary(Shape):
    id: UUID
    tenantId: UUID | None  # noqa: N815 - the spec's name
    slug: str
    name: str


class TaskSummary(Shape):
    id: UUID
    title: str
    status: str
    priority: str
    awaiting: str | None
    entityId: UUID  # noqa: N815
    workflowId: UUID | None  # noqa: N815
    createdAt: str  # noqa: N815


class StartParam(Shape):
    key: str
    type: str
    required: bool
    description: str | None = None
    pattern: str | None = None
    enum: list[Any] | None = None
    default: Any = None


class WorkflowListed(Shape):
    id: UUID
    name: str
    startParams: list[StartParam] | None  # noqa: N815


class DisplayHint(Shape):
    component: str
    config: dict[str, Any]


class StepShown(Shape):
    id: str
    title: str
    displayHint: DisplayHint  # noqa: N815
    args: dict[str, Any]


class StepState(Shape):
    id: str
    status: str


class TaskRequested(Shape):
    """`state`: REQUESTED; STARTED, with the task; REFUSED, with a code."""

    id: UUID
    state: str
    entityId: UUID  # noqa: N815
    workflowId: UUID  # noqa: N815
    workflow: str
    period: str
    taskId: UUID | None  # noqa: N815
    code: str | None
    filedBy: str  # noqa: N815
    filedAt: str  # noqa: N815
    settledAt: str | None  # noqa: N815


class UIState(Shape):
    task: TaskSummary
    step: StepShown
    steps: list[StepState]


class StepSnapshot(Shape):
    """What was shown and what was decided."""

    shown: dict[str, Any]
    decided: list[dict[str, Any]]


class Event(Shape):
    at: str
    type: str
    data: dict[str, Any]


class File(Shape):
    id: UUID
    name: str
    source: str
    period: str
    bytes: int
    submittedAt: str  # noqa: N815
    mediaType: str  # noqa: N815


class FileTaken(Shape):
    """`status`: accepted; duplicate, where the same bytes are filed already; empty, where they hold no rows."""

    name: str
    status: str
    message: str
    period: str | None
    document_id: UUID | None
    parsed_rows: int
    rejected_rows: int | None
    entities: list[str]


class TaskDecided(Shape):
    """That it was filed, which a run applies, and which of the task's rows could not take it."""

    ok: bool
    filed: int
    skipped: list[Skipped]
    signals: list[FiledSignal]


class RowDecided(Shape):
    """`status`: FILED, since a run applies it. `newStatus`: where it leads."""

    status: str
    rowId: UUID  # noqa: N815
    signalId: UUID  # noqa: N815
    newStatus: str | None = None  # noqa: N815
    field: str | None = None
    value: Any = None
