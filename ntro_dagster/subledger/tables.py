"""A row type as a table: Python annotations become logical column types."""

from __future__ import annotations

import types
import typing
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from ntro_dagster.errors import UsageError
from ntro_dagster.platforms.tables import Column, LogicalType, Table
from ntro_dagster.subledger.registry import SubledgerType
from ntro_dagster.subledger.row import Row

_RATIO_DECIMALS = 4

_TYPES: tuple[tuple[type, LogicalType], ...] = (
    (bool, LogicalType.BOOLEAN),
    (UUID, LogicalType.UUID),
    (datetime, LogicalType.INSTANT),
    (date, LogicalType.DATE),
    (Enum, LogicalType.TEXT),
    (str, LogicalType.TEXT),
    (int, LogicalType.INTEGER),
    (Decimal, LogicalType.MONEY),
    (dict, LogicalType.JSON),
    (list, LogicalType.JSON),
)


class ColumnTypeError(UsageError):
    """Values: `model`, `field`, `annotation`."""

    code = "COLUMN_TYPE"
    summary = "a row type has a field that no column can hold"
    detail = "{model}.{field} is {annotation}"
    mend = "use str, bool, int, Decimal, date, datetime, UUID, an enum, a list or a dict; never float for money"


def table_of(kind: SubledgerType) -> Table:
    """Raises `ColumnTypeError`."""
    columns = tuple(Column(name, _logical(kind.model, name)) for name in kind.model.model_fields)
    return Table(kind.table, columns, kind.model.content_fields())


def _logical(model: type[Row], name: str) -> LogicalType:
    field = model.model_fields[name]
    annotation = _without_none(field.annotation)
    origin = typing.get_origin(annotation) or annotation
    if isinstance(origin, type):
        for known, logical in _TYPES:
            if issubclass(origin, known):
                return (
                    LogicalType.RATIO
                    if logical is LogicalType.MONEY and _decimals(field, annotation) == _RATIO_DECIMALS
                    else logical
                )
    raise ColumnTypeError(model=model.__name__, field=name, annotation=field.annotation)


def _without_none(annotation: Any) -> Any:
    """`X` of `X | None`, and the type under an `Annotated`."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        (annotation,) = (part for part in typing.get_args(annotation) if part is not type(None))
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    return annotation


def _decimals(field: Any, annotation: Any) -> int | None:
    """`decimal_places` wherever Pydantic keeps it: on the field, or inside `Annotated[...] | None`."""
    sources = list(field.metadata)
    for part in typing.get_args(field.annotation):
        for meta in getattr(part, "__metadata__", ()):
            sources.extend(getattr(meta, "metadata", [meta]))
    return next((places for source in sources if (places := getattr(source, "decimal_places", None)) is not None), None)
