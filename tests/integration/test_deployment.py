"""A type and its table must agree, column by column, before it is attached."""

from decimal import Decimal
from typing import Annotated

import psycopg
import pytest
from pydantic import Field

from ntro_dagster.bundles import platform_bundle
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.platforms.tables import LogicalType
from ntro_dagster.subledger.deployment import TableDriftError, deploy
from ntro_dagster.subledger.registry import SubledgerType, subledger_type
from ntro_dagster.subledger.row import Money, Row
from ntro_dagster.subledger.tables import ColumnTypeError, table_of


def types_of(model: type[Row]) -> dict[str, LogicalType]:
    return {column.name: column.type for column in table_of(SubledgerType("sample", model, None)).columns}


def test_annotations_become_column_types() -> None:
    class Sample(Row):
        price: Money | None = None
        share: Annotated[Decimal, Field(decimal_places=4, max_digits=5)] | None = None
        lines: list[dict[str, str]] | None = None

    found = types_of(Sample)
    assert (found["price"], found["share"], found["lines"]) == (LogicalType.MONEY, LogicalType.RATIO, LogicalType.JSON)


def test_a_float_is_no_column() -> None:
    class Sample(Row):
        price: float = 0.0

    with pytest.raises(ColumnTypeError):
        types_of(Sample)


def test_deploying_again_changes_nothing(tenant_credentials: DatabaseCredentials) -> None:
    assert deploy(tenant_credentials.owner, platform_bundle())
    assert deploy(tenant_credentials.owner, platform_bundle()) == []


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ("ALTER TABLE ledgers.expenses DROP COLUMN notes", "only in the type: notes text"),
        ("ALTER TABLE ledgers.expenses ADD COLUMN colour TEXT", "only in the table: colour text"),
        ("ALTER TABLE ledgers.expenses ALTER COLUMN amount_gross TYPE NUMERIC(20, 2)", "amount_gross numeric(20,2)"),
        ("ALTER TABLE ledgers.expenses ALTER COLUMN amount_gross TYPE DOUBLE PRECISION", "amount_gross double precision"),
    ],
)
def test_a_difference_stops_the_deployment(tenant_credentials: DatabaseCredentials, change: str, difference: str) -> None:
    deploy(tenant_credentials.owner, platform_bundle())
    with psycopg.connect(tenant_credentials.owner) as connection:
        for trigger in connection.execute(
            "SELECT tgname FROM pg_trigger WHERE tgrelid = 'ledgers.expenses'::regclass AND NOT tgisinternal"
        ).fetchall():
            connection.execute(f'DROP TRIGGER "{trigger[0]}" ON ledgers.expenses')
        for function in ("digest", "amount", "currency"):
            connection.execute(f"DROP FUNCTION ledgers.expenses_{function}(ledgers.expenses)")
        connection.execute(
            "ALTER TABLE ledgers.expenses DROP CONSTRAINT complete_outside_needs_attention, DROP CONSTRAINT vat_within_gross"
        )
        connection.execute(change)
    with pytest.raises(TableDriftError) as caught:
        deploy(tenant_credentials.owner, platform_bundle())
    assert difference in caught.value.explain()
    assert subledger_type("expenses").name in caught.value.explain()
