"""What a table looks like in PostgreSQL's own catalogue, in the words of the table model."""

from __future__ import annotations

import psycopg

from ntro_dagster.platforms.tables import LogicalType

_TYPES: dict[tuple[str, int | None, int | None], LogicalType] = {
    ("uuid", None, None): LogicalType.UUID,
    ("text", None, None): LogicalType.TEXT,
    ("numeric", 38, 9): LogicalType.MONEY,
    ("numeric", 5, 4): LogicalType.RATIO,
    ("boolean", None, None): LogicalType.BOOLEAN,
    ("bigint", 64, 0): LogicalType.INTEGER,
    ("date", None, None): LogicalType.DATE,
    ("timestamp with time zone", None, None): LogicalType.INSTANT,
    ("jsonb", None, None): LogicalType.JSON,
}


def columns_of(connection: psycopg.Connection, schema: str, table: str) -> dict[str, str]:
    """Column -> logical type; a type that the model does not have goes by PostgreSQL's name."""
    found = connection.execute(
        "SELECT column_name, data_type, numeric_precision, numeric_scale FROM information_schema.columns "
        "WHERE table_schema = %s AND table_name = %s",
        [schema, table],
    )
    return {name: _named(kind, precision, scale) for name, kind, precision, scale in found}


def optional_columns(connection: psycopg.Connection, schema: str, table: str) -> frozenset[str]:
    """Columns that a row may leave out."""
    found = connection.execute(
        "SELECT column_name FROM information_schema.columns "
        "WHERE table_schema = %s AND table_name = %s AND (is_nullable = 'YES' OR column_default IS NOT NULL)",
        [schema, table],
    )
    return frozenset(name for (name,) in found)


def _named(kind: str, precision: int | None, scale: int | None) -> str:
    known = _TYPES.get((kind, precision, scale))
    return known.value if known else kind if scale is None else f"{kind}({precision},{scale})"
