"""Reinstating through the API: what was rejected by mistake comes back as a row of its own, and both say so."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from desk_at_work import Browser, DeskAtWork


def story(browser: Browser, row: UUID | str) -> dict[str, Any]:
    answer = browser.get(f"/v1/subledgers/expenses/rows/{row}")
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


@pytest.fixture
def rejected(desk: DeskAtWork, entity: UUID) -> UUID:
    document = desk.document("march.csv", f"a,b\n{entity},2\n".encode(), entity=entity, lines=[{"a": "1"}])
    row = desk.tenant.new_row(entity, source_ref=f"doc:{document}#L2", expense_date="2025-01-03")
    desk.tenant.decide("reject", row)
    return row


def test_both_rows_lead_to_each_other(desk: DeskAtWork, ann: Browser, pat: Browser, entity: UUID, rejected: UUID) -> None:
    assert pat.decide("reinstate", [rejected]).status_code == 201
    assert ann.rows([rejected])[0]["waiting"]["kind"] == "reinstate"
    assert desk.apply(entity).applied == 1
    old = story(ann, rejected)
    new = story(ann, old["successor"])
    assert (old["status"], new["status"], new["successor"]) == ("REJECTED", "NEEDS_ATTENTION", None)
    assert new["values"] == old["values"]
    told = [(step["action"], step["actor"], step["reason"], step["row"]) for step in (old["timeline"][-1], new["timeline"][-1])]
    assert told == [
        ("REINSTATED", "user:pat", "because", new["id"]),
        ("REINSTATES", "user:pat", "because", str(rejected)),
    ]
    assert all(step["row"] is None for step in [*old["timeline"][:-1], *new["timeline"][:-1]])


def test_its_document_is_still_there(desk: DeskAtWork, ann: Browser, pat: Browser, entity: UUID, rejected: UUID) -> None:
    pat.decide("reinstate", [rejected])
    desk.apply(entity)
    old = story(ann, rejected)
    assert old["source"]["line"] == 2
    assert story(ann, old["successor"])["source"] == old["source"]


def test_it_does_not_look_the_same_as_what_it_stands_for(
    desk: DeskAtWork, ann: Browser, pat: Browser, entity: UUID, rejected: UUID
) -> None:
    pat.decide("reinstate", [rejected])
    desk.apply(entity)
    new = UUID(story(ann, rejected)["successor"])
    pat.decide("accept", [new])
    desk.apply(entity)
    assert [row["duplicate_of"] for row in ann.rows([rejected, new])] == [0, 0]
    assert (story(ann, rejected)["duplicates"], story(ann, new)["duplicates"]) == ([], [])
    twin = desk.tenant.new_row(entity, source_ref="doc:other#L9", expense_date="2025-01-03")
    assert [row["duplicate_of"] for row in ann.rows([rejected, new, twin])] == [1, 1, 1]


def test_it_takes_exactly_what_was_seen_and_once(
    desk: DeskAtWork, ann: Browser, pat: Browser, entity: UUID, rejected: UUID
) -> None:
    forged = {"kind": "reinstate", "reason": "x", "rows": [{"id": str(rejected), "digest": "0" * 64}]}
    assert pat.post("/v1/subledgers/expenses/signals", forged).json()["rows"][0]["code"] == "CONTENT_CHANGED"
    assert pat.decide("reinstate", [rejected], reason=None).json()["error"] == "REASON_MISSING"
    assert pat.decide("reinstate", [rejected]).status_code == 201
    assert ann.decide("reinstate", [rejected]).json()["rows"][0]["code"] == "DECISION_WAITING"
    desk.apply(entity)
    again = ann.decide("reinstate", [rejected])
    assert (again.status_code, again.json()["rows"][0]["code"]) == (409, "ALREADY_REINSTATED")


def test_everything_that_matches(desk: DeskAtWork, pat: Browser, entity: UUID, rejected: UUID) -> None:
    other = desk.tenant.new_row(entity)
    desk.tenant.decide("exclude", other)
    asked = {"kind": "reinstate", "filter": {"entity": desk.slug(entity)}}
    found = pat.post("/v1/subledgers/expenses/summary", asked).json()
    assert (found["count"], found["totals"]) == (2, {"GBP": "240.00"})
    filed = pat.post("/v1/subledgers/expenses/signals", asked | {"reason": "all of them", "seen": found["seen"]})
    assert filed.json()["filed"] == 2
    assert desk.apply(entity).applied == 2
    found = pat.post("/v1/subledgers/expenses/summary", asked).json()
    assert (found["count"], {each["code"]: each["count"] for each in found["skipped"]}) == (
        0,
        {"ALREADY_REINSTATED": 2, "ILLEGAL_TRANSITION": 2},
    )


def test_programs_and_those_who_only_look_may_not(desk: DeskAtWork, eve: Browser, entity: UUID, rejected: UUID) -> None:
    for browser in (desk.program(), eve):
        assert browser.decide("reinstate", [rejected]).status_code == 403
        (kind,) = (each for each in browser.get("/v1/subledgers").json() if each["name"] == "expenses")
        (signal,) = (each for each in kind["signals"] if each["kind"] == "reinstate")
        assert (signal["allowed"], signal["sources"], signal["targets"]) == (False, ["REJECTED", "EXCLUDED"], {})
