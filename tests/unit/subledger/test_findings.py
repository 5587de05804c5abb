"""Findings and raw payloads: they tell what is wrong, quote nothing, and lose nothing."""

from __future__ import annotations

import json
import math
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ntro_dagster.bundles import platform_bundle
from ntro_dagster.subledger.raw import holds_escapes, jsonable, storable
from ntro_dagster.subledger.registry import load_types, subledger_type
from ntro_dagster.subledger.staging import findings_of

load_types(platform_bundle())
Expense: Any = subledger_type("expenses").model
FIELDS = sorted(set(Expense.content_fields()) - {"notes", "payment_method", "category", "category_source", "vendor"})
SECRET = "Zq9xSecretValue"


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [SECRET, [SECRET], {"a": SECRET}, f"2025-01-{SECRET}", f"1{SECRET}", f"{SECRET}.5"], ids=str)
def test_a_finding_never_quotes_the_value(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        Expense.model_validate(
            {
                "entity_id": uuid.UUID(int=1),
                "period": "2025-01",
                "task_id": uuid.UUID(int=2),
                "status": "NEEDS_ATTENTION",
                field: value,
            }
        )
    findings = findings_of(refused.value)
    assert {finding["field"] for finding in findings} == {field}
    assert SECRET not in json.dumps(findings)
    assert all(finding["code"].startswith("INVALID_") and finding["message"] for finding in findings)


def restored(value: Any) -> Any:
    if isinstance(value, list):
        return [restored(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "$json" in value:
        return json.loads(value["$json"])
    if "$int" in value:
        return int(value["$int"], 16)
    if "$items" in value:
        return {restored(key): restored(item) for key, item in value["$items"]}
    return {key: restored(item) for key, item in value.items()}


texts = st.text(st.characters(codec=None, exclude_categories=[]) | st.sampled_from("\0\ud800\udfff$\\"), max_size=6)
scalars = (
    st.none() | st.booleans() | texts | st.floats(allow_nan=False) | st.integers() | st.sampled_from([10**1000, -(10**2000)])
)
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | st.integers(), inner, max_size=3)
)


@given(trees)
def test_whatever_came_in_is_kept_and_can_be_read_back(value: Any) -> None:
    kept = jsonable(value)
    text = json.dumps(kept, allow_nan=False)
    assert "\\u0000" not in text.replace("\\\\", "")
    assert all(storable(found) for found in strings(json.loads(text)))
    assert restored(kept) == value


def strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value if isinstance(value, list) else [*value, *value.values()] if isinstance(value, dict) else []
    return [found for item in inner for found in strings(item)]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert storable(text)
    assert jsonable({"a": [text]}) == {"a": [text]}


@pytest.mark.parametrize(
    "value",
    ["\0", "\ud800", math.nan, math.inf, {1: 2}, {"$x": 1}, b"", {"a": [{"b": "\0"}]}, object()],
    ids=lambda value: type(value).__name__,
)
def test_an_escape_can_be_seen(value: Any) -> None:
    assert holds_escapes(jsonable(value))


@pytest.mark.parametrize("value", [None, "", "$json", 1.5, {"a": [1, {"b": "$"}]}, []], ids=repr)
def test_what_needs_none_has_none(value: Any) -> None:
    assert not holds_escapes(jsonable(value))
