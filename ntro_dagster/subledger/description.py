"""A row type as data: what a process that must not import a runbook's code may know of it, and what its deployment needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ntro_dagster.subledger.registry import SubledgerType
from ntro_dagster.subledger.status import Lifecycle
from ntro_dagster.subledger.tables import table_of


@dataclass(frozen=True, slots=True)
class TypeDescription:
    """Attributes:
    columns: logical type of each column, in the order of the model's fields.
    content: columns that people review; `editable`: those they may change.
    proposes: whether it says how its rows are posted.
    """

    name: str
    owner_runbook: str | None
    table: str
    columns: Mapping[str, str]
    content: tuple[str, ...]
    editable: tuple[str, ...]
    lifecycle: Lifecycle
    proposes: bool

    @classmethod
    def of(cls, kind: SubledgerType) -> TypeDescription:
        """Raises: `ColumnTypeError`."""
        columns = {column.name: column.type.value for column in table_of(kind).columns}
        return cls(
            kind.name,
            kind.owner_runbook,
            kind.table,
            columns,
            kind.content,
            kind.editable,
            kind.lifecycle,
            hasattr(kind.model, "propose_for_gl"),
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"lifecycle": self.lifecycle.as_json()}

    @classmethod
    def from_json(cls, known: Mapping[str, Any]) -> TypeDescription:
        """Raises: KeyError, TypeError where `known` is none."""
        return cls(
            **{
                **known,
                "content": tuple(known["content"]),
                "editable": tuple(known["editable"]),
                "lifecycle": Lifecycle.from_json(known["lifecycle"]),
            }
        )
