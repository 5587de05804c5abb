"""A row type as data: what a process that must not import a runbook's code may know of it, and what its deployment needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ntro_dagster.errors import UsageError
from ntro_dagster.platforms.tables import LogicalType
from ntro_dagster.subledger.lifecycle import Lifecycle
from ntro_dagster.subledger.registry import SubledgerType
from ntro_dagster.subledger.tables import table_of

ALIKE = (LogicalType.TEXT, LogicalType.DATE, LogicalType.MONEY)


class AmountInvalidError(UsageError):
    code = "AMOUNT_INVALID"
    summary = "a row type does not say rightly where its amount is"
    detail = "{name}: {path!r} is neither a money column nor a key of the items of a list"
    mend = "for instance amount_at = 'amount_gross', or amount_at = 'lines[].debit'"


@dataclass(frozen=True, slots=True)
class TypeDescription:
    """Attributes:
    columns: logical type of each column, in the order of the model's fields.
    content: columns that people review; `editable`: those they may change.
    proposes: whether it says how its rows are posted.
    amount: where a row has its amount, see `Row.amount_at`; `currency`: the column with its currency, if there is one.
    control: role of its control account.
    """

    name: str
    owner_runbook: str | None
    table: str
    columns: Mapping[str, str]
    content: tuple[str, ...]
    editable: tuple[str, ...]
    lifecycle: Lifecycle
    proposes: bool
    amount: str | None = None
    currency: str | None = None
    control: str | None = None

    @classmethod
    def of(cls, kind: SubledgerType) -> TypeDescription:
        """Raises: `ColumnTypeError`, `AmountInvalidError`."""
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
            _amount(kind, columns),
            kind.model.currency_at if columns.get(kind.model.currency_at) == LogicalType.TEXT else None,
            kind.model.control,
        )

    @property
    def alike_by(self) -> tuple[str, str, str] | None:
        """The columns that say who, when and how much: rows that agree in them are probably one thing entered twice. None where
        a type has not all three.
        """
        of = {wanted: next((name for name in self.content if self.columns[name] == wanted), None) for wanted in ALIKE}
        who, when, how_much = (of[wanted] for wanted in ALIKE)
        return (who, when, how_much) if who and when and how_much else None

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


def _amount(kind: SubledgerType, columns: Mapping[str, str]) -> str | None:
    path = kind.model.amount_at
    if path is None:
        return None
    column, listed, key = path.partition("[].")
    if columns.get(column) != (LogicalType.JSON if listed else LogicalType.MONEY) or bool(listed) != bool(key):
        raise AmountInvalidError(name=kind.table, path=path)
    return path
