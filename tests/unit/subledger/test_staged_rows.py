"""A chunk of payloads becomes rows: by id, each looked at once, and without keeping others from their turn."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any, cast

import pytest
from pydantic import TypeAdapter

from ntro_dagster.bundles import platform_bundle
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.registry import load_types, subledger_type
from ntro_dagster.subledger.row import Money
from ntro_dagster.subledger.staging import SLICE, STAGED_FIELDS, Payload, Staged, Stager

load_types(platform_bundle())
KIND = subledger_type("expenses")
STATUS, ID, SOURCE = (STAGED_FIELDS.index(name) for name in ("status", "id", "source_ref"))


@pytest.fixture
def stager() -> Stager:
    nowhere = cast("TenantDatabase", None)
    return Stager(nowhere, KIND, entity_id=uuid.UUID(int=1), period="2025-01", task_id=uuid.UUID(int=2))


def payloads(count: int, **odd: Any) -> list[dict[str, Any]]:
    """The last one with `odd` values."""
    made = [{"source_ref": f"doc:1#L{n}", "vendor": "Smith", "amount_gross": n + 1, "currency": "GBP"} for n in range(count)]
    made[-1] |= odd
    return made


def staged(stager: Stager, chunk: Sequence[Payload | dict[str, Any]]) -> tuple[list[Sequence[Any]], Staged]:
    found = Staged()
    return asyncio.run(stager._rows(chunk, found)), found


def test_rows_go_in_by_id(stager: Stager) -> None:
    rows, _ = staged(stager, payloads(50))
    ids = [row[ID] for row in rows]
    assert ids == sorted(ids)
    assert len(set(ids)) == 50


@pytest.mark.parametrize(
    "odd", [{"vendor": "a\0b"}, {"notes": "a\ud800b"}, {"source_ref": "doc:1#\0"}], ids=["NUL", "half", "source"]
)
def test_text_that_cannot_be_stored_is_found_among_many_and_counted_once(stager: Stager, odd: dict[str, Any]) -> None:
    chunk = payloads(2 * SLICE, **odd)
    chunk[0]["vendor"] = None
    rows, found = staged(stager, chunk)
    assert sorted(row[STATUS] for row in rows) == ["NEEDS_ATTENTION"] * 2 + ["PENDING"] * (2 * SLICE - 2)
    assert (found.needs_attention, found.codes) == (2, {"INVALID_REQUIRED_MISSING": 1, "TEXT_NOT_STORABLE": 1})
    assert all("\0" not in row[SOURCE] for row in rows)


@pytest.mark.parametrize("text", ["Smith", "Müller 東京"])
def test_a_payload_is_validated_once(stager: Stager, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    seen: list[str] = []
    validate = KIND.model.model_validate

    def counted(values: dict[str, Any]) -> Any:
        seen.append(values["source_ref"])
        return validate(values)

    monkeypatch.setattr(stager, "_validate", counted)
    staged(stager, payloads(2 * SLICE, vendor=text))
    assert len(seen) == len(set(seen)) == 2 * SLICE


def test_the_connection_gets_its_turn_while_a_chunk_is_validated(stager: Stager) -> None:
    turns = 0

    async def run() -> None:
        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(other())
        await stager._rows(payloads(10 * SLICE), Staged())
        beside.cancel()

    asyncio.run(run())
    assert turns >= 10


def test_limits_of_money_are_not_checked_in_python() -> None:
    schema: Any = TypeAdapter(Money).core_schema
    assert schema["type"] == "function-before"
    limits = {"max_digits": 38, "decimal_places": 9, "allow_inf_nan": False}
    assert schema["schema"]["type"] == "decimal"
    assert schema["schema"].items() >= limits.items()
