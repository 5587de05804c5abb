"""Rows made of rows, some of which were turned down by mistake and reinstated: the derivation knows which row speaks for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from let_flat import LetFlat

from ntro_dagster.orchestration.context import RunbookContext
from ntro_dagster.subledger.staging import Payload

JANUARY = "2022-01"
REINSTATED = "rent~reinstated:1"


@pytest.fixture
def back(flat: LetFlat) -> UUID:
    """A proposal that was rejected and reinstated."""
    flat.rent(JANUARY, rent_received="1000.00")
    flat.decide(flat.rental, "approve", period=JANUARY)
    flat.derive(JANUARY)
    assert flat.decide(flat.proposals, "reject", ids=[flat.proposed(JANUARY)["rent"]["id"]]) == 1
    assert flat.decide(flat.proposals, "reinstate", ids=[flat.proposed(JANUARY)["rent"]["id"]]) == 1
    return flat.proposed(JANUARY)[REINSTATED]["id"]  # type: ignore[no-any-return]


def codes(flat: LetFlat) -> dict[str, tuple[str, list[str]]]:
    return {ref: (row["status"], row["codes"]) for ref, row in flat.proposed(JANUARY).items() if ref.startswith("rent")}


def about(flat: LetFlat, ref: str) -> str:
    ((row,),) = flat.fetch(
        "SELECT validation_errors -> 0 ->> 'row' FROM ledgers.journal_proposals WHERE split_part(source_ref, '/', 2) LIKE %s", ref
    )
    return str(row)


def test_said_again_it_stays_as_it_was_reinstated(flat: LetFlat, back: UUID) -> None:
    for _ in range(2):
        staged = flat.derive(JANUARY)
        assert staged is not None and (staged.inserted, staged.updated) == (0, 0)
    assert codes(flat) == {"rent": ("REJECTED", []), REINSTATED: ("NEEDS_ATTENTION", [])}


def test_what_the_rows_say_otherwise_is_told_of_the_row_that_stands(flat: LetFlat, back: UUID) -> None:
    flat.rent(JANUARY, ref="doc:2#L1", property_ref="P2", rent_received="1000.00")
    flat.decide(flat.rental, "approve", ids=[row for (row,) in flat.fetch(
        "SELECT id FROM ledgers.nav_monthly_journals__rental_statement WHERE property_ref = 'P2'")])  # fmt: skip
    flat.derive(JANUARY)
    (other,) = (ref for ref in codes(flat) if ref.startswith("rent~") and ref != REINSTATED)
    assert codes(flat)[REINSTATED] == ("NEEDS_ATTENTION", [])
    assert codes(flat)[other] == ("NEEDS_ATTENTION", ["CHANGED_AFTER_DECISION"])
    assert about(flat, other) == str(back)


async def nothing(_: RunbookContext) -> AsyncIterator[Payload]:
    for payload in ():
        yield payload


def test_what_the_rows_no_longer_say_is_told_of_the_row_that_stands(flat: LetFlat, back: UUID) -> None:
    for _ in range(2):
        flat.derive(JANUARY, flat.with_author(nothing))
        assert codes(flat) == {
            "rent": ("REJECTED", []),
            REINSTATED: ("NEEDS_ATTENTION", []),
            "rent~gone": ("NEEDS_ATTENTION", ["NO_LONGER_PROPOSED"]),
        }
        assert about(flat, "rent~gone") == str(back)


def test_nothing_is_told_of_one_that_was_turned_down_again(flat: LetFlat, back: UUID) -> None:
    flat.decide(flat.proposals, "reject", ids=[back])
    flat.derive(JANUARY, flat.with_author(nothing))
    assert codes(flat) == {"rent": ("REJECTED", []), REINSTATED: ("REJECTED", [])}


def test_a_row_that_others_are_made_of_counts_once(flat: LetFlat) -> None:
    flat.rent(JANUARY, rent_received="1000.00")
    row = flat.fetch("SELECT id FROM ledgers.nav_monthly_journals__rental_statement")[0][0]
    flat.decide(flat.rental, "reject", ids=[row])
    flat.decide(flat.rental, "reinstate", ids=[row])
    assert flat.waiting() == []
    flat.decide(flat.rental, "accept", period=JANUARY, by="user:ann")
    flat.decide(flat.rental, "approve", period=JANUARY)
    flat.derive(JANUARY)
    assert flat.proposed(JANUARY)["rent"]["debit"] == "1000.00"
