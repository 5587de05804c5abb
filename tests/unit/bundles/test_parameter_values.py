"""Values of parameters: what is one, what it becomes, and what is said of what is none."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest

from ntro_dagster.bundles.parameter_values import ParameterInvalidError, effective, misfits, read, typed

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["opening"],
    "properties": {
        "basis": {"type": "string", "enum": ["accrual", "cash"], "default": "accrual"},
        "grace_days": {"type": "integer", "minimum": 0, "maximum": 60},
        "rate": {"type": "string", "format": "decimal", "pattern": r"^[0-9]{1,2}(\.[0-9]{1,4})?$"},
        "strict": {"type": "boolean", "default": True},
        "opening": {"type": "string", "format": "period"},
        "valued_on": {"type": "string", "format": "date", "default": datetime.date(2026, 1, 31)},  # as YAML reads a bare day
    },
}


@pytest.mark.parametrize(
    ("name", "text", "stored", "value"),
    [
        ("basis", "cash", "cash", "cash"),
        ("grace_days", "0", 0, 0),
        ("grace_days", "60", 60, 60),
        ("rate", "8.25", "8.25", Decimal("8.25")),
        ("rate", "08", "08", Decimal(8)),
        ("strict", "false", False, False),
        ("opening", "2026-01", "2026-01", "2026-01"),
        ("valued_on", "2024-02-29", "2024-02-29", datetime.date(2024, 2, 29)),
    ],
)
def test_what_was_written_becomes_a_value_of_its_kind(name: str, text: str, stored: object, value: object) -> None:
    found = read(SCHEMA, name, text)
    assert (found, type(found)) == (stored, type(stored))
    given = typed(SCHEMA, {"opening": "2026-01", name: found})[name]
    assert (given, type(given)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("basis", "Cash", "is none of its choices"),
        ("grace_days", "-1", "is below its minimum"),
        ("grace_days", "61", "is above its maximum"),
        ("grace_days", "1.0", "is no whole number"),
        ("grace_days", "true", "is no whole number"),
        ("rate", "8.25\n", "does not fit its pattern"),
        ("rate", "٨", "does not fit its pattern"),
        ("rate", "NaN", "does not fit its pattern"),
        ("strict", "yes", "is neither true nor false"),
        ("strict", "1", "is neither true nor false"),
        ("opening", "2026-13", "is no month"),
        ("valued_on", "2026-02-30", "is no day"),
        ("valued_on", "20260228", "is no day"),
        ("basiss", "cash", "is none of the runbook's; did you mean 'basis'?"),
    ],
)
def test_what_is_none_is_refused_and_the_text_of_the_error_carries_nothing(name: str, text: str, why: str) -> None:
    with pytest.raises(ParameterInvalidError) as refused:
        read(SCHEMA, name, text)
    assert refused.value.explain() == f"parameter {name} {why}"
    assert refused.value.advice()
    assert str(refused.value) == "PARAMETER_VALUE_INVALID: that is no value of the runbook's parameter"


def test_defaults_stand_in_and_what_has_none_is_nothing() -> None:
    assert effective(SCHEMA, {"opening": "2026-01"}) == {
        "basis": "accrual",
        "strict": True,
        "valued_on": "2026-01-31",
        "opening": "2026-01",
    }
    assert typed(SCHEMA, {"opening": "2026-01"})["rate"] is None
    assert typed({}, {}) == {}


def test_everything_that_does_not_fit_is_told_at_once() -> None:
    wrong = {each.name: each.why for each in misfits(SCHEMA, {"basis": "none", "fees": 1, "strict": 1})}
    assert wrong == {
        "basis": "is none of its choices",
        "fees": "is none of the runbook's",
        "strict": "is neither true nor false",
        "opening": "is required, but not set",
    }
    assert [each.name for each in misfits({}, {"basis": "cash"})] == ["basis"]


@pytest.mark.parametrize("pattern", ["^(0|1)$", "^[0-9]?$"])
def test_what_a_pattern_lets_through_must_still_be_a_number(pattern: str) -> None:
    schema = {"properties": {"rate": {"type": "string", "format": "decimal", "pattern": pattern}}}
    assert read(schema, "rate", "1") == "1"
    for text in ("", "10"):
        with pytest.raises(ParameterInvalidError):
            read(schema, "rate", text)
