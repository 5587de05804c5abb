"""The typed table model: what a subledger's table is, before any platform's SQL.

Each data platform writes its own DDL and types from this (`facts`: one SQL text cannot serve them all; a bare NUMERIC loses
its cents on two of three).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class LogicalType(StrEnum):
    """What a column holds. Instants are UTC; JSON is text where a platform has no such type."""

    UUID = "uuid"
    TEXT = "text"
    MONEY = "money"
    """38 digits, 9 of them decimals: NUMERIC(38, 9), never bare."""
    RATIO = "ratio"
    """0 to 1, four decimals."""
    BOOLEAN = "boolean"
    INTEGER = "integer"
    DATE = "date"
    INSTANT = "instant"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: LogicalType


@dataclass(frozen=True, slots=True)
class Table:
    """A table of subledger rows. The key is always `id`.

    Attributes:
        name: without the schema, which is `ledgers`.
        content: names of the columns that people review and that the row's digest covers.
    """

    name: str
    columns: tuple[Column, ...]
    content: tuple[str, ...]

    def of_type(self, logical: LogicalType) -> frozenset[str]:
        """Names of the columns of one type."""
        return frozenset(column.name for column in self.columns if column.type is logical)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)
