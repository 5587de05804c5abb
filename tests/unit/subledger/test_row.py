"""Periods, row ids, and what a row must have."""

from __future__ import annotations

import uuid
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ntro_dagster.boundary.periods import PeriodInvalidError, last_day, parse_period
from ntro_dagster.bundles import platform_bundle
from ntro_dagster.subledger.registry import load_types, subledger_type
from ntro_dagster.subledger.row import ROW_NAMESPACE, row_id, row_ids
from ntro_dagster.subledger.status import SubledgerStatus

ENTITY = uuid.UUID(int=7)
load_types(platform_bundle())
Expense: Any = subledger_type("expenses").model
STANDARD = {"entity_id": ENTITY, "period": "2025-01", "task_id": uuid.UUID(int=8)}
GOOD = STANDARD | {"vendor": "Smith", "amount_gross": "120", "currency": "GBP"}


@pytest.mark.parametrize("text", ["2025-01", "1999-12", "1000-01"])
def test_a_month(text: str) -> None:
    assert parse_period(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "2025-13",
        "2025-00",
        "2025-1",
        "25-01",
        "2025/01",
        "2025-01-01",
        "",
        " 2025-01",
        "2025-01\n",
        "２０２５-01",
        "0000-01",
        "0999-12",
    ],
)
def test_not_a_month(text: str) -> None:
    with pytest.raises(PeriodInvalidError) as refused:
        parse_period(text)
    assert text.strip() not in str(refused.value) or not text.strip()
    with pytest.raises(ValidationError):
        Expense.model_validate(GOOD | {"period": text})


@pytest.mark.parametrize(("month", "day"), [("2025-01", 31), ("2025-02", 28), ("2024-02", 29), ("2025-04", 30), ("2025-12", 31)])
def test_the_last_day_of_a_month(month: str, day: int) -> None:
    assert last_day(month) == date.fromisoformat(f"{month}-{day}")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_row_id_is_the_uuid5_of_its_source(source: str) -> None:
    expected = uuid.uuid5(ROW_NAMESPACE, f"{ENTITY}/2025-01/expenses/{source}")
    assert row_id(ENTITY, "2025-01", "expenses", source) == expected


def test_a_row_id_depends_on_every_part() -> None:
    ids = {
        row_id(entity, month, name, source)
        for entity in (ENTITY, uuid.UUID(int=9))
        for month in ("2025-01", "2025-02")
        for name in ("expenses", "journal_proposals")
        for source in ("a", "b")
    }
    assert len(ids) == 16


def test_ids_of_a_partition_do_not_depend_on_those_before() -> None:
    make = row_ids(ENTITY, "2025-01", "expenses")
    assert [make("a"), make("b"), make("a")] == [row_id(ENTITY, "2025-01", "expenses", name) for name in "aba"]


@pytest.mark.parametrize("status", SubledgerStatus)
@pytest.mark.parametrize("gap", [{"vendor": None}, {"vendor": ""}, {"amount_gross": None}, {"currency": None}], ids=str)
def test_a_row_may_be_incomplete_only_while_it_waits_or_was_turned_down(status: str, gap: dict[str, Any]) -> None:
    values = GOOD | gap | {"status": status}
    if status in {"NEEDS_ATTENTION", "REJECTED"}:
        assert Expense.model_validate(values).loose
    else:
        with pytest.raises(ValidationError, match="missing"):
            Expense.model_validate(values)


@pytest.mark.parametrize("amount", ["0.0000000001", "1" * 30, "NaN", "-Infinity", "1,5", "", True])
def test_what_is_not_an_amount(amount: Any) -> None:
    with pytest.raises(ValidationError):
        Expense.model_validate(GOOD | {"amount_gross": amount})


@given(st.decimals(min_value="0.000000001", max_value="9" * 29, places=9))
def test_an_amount_is_kept_exactly(amount: Decimal) -> None:
    assert Expense.model_validate(GOOD | {"amount_gross": str(amount)}).amount_gross == amount


def test_what_the_digest_covers_is_neither_the_platforms_nor_forgotten() -> None:
    content = set(Expense.content_fields())
    assert {"vendor", "amount_gross", "currency", "line_items", "confidence"} <= content
    assert not content & {
        "id",
        "status",
        "made_by",
        "approved_by",
        "approved_at",
        "posted_to_gl",
        "posted_journal_ref",
        "raw_payload",
    }
