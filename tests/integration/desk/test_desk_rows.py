"""What members see of rows: their order, their contents, where they came from."""

from __future__ import annotations

from uuid import UUID, uuid4

import psycopg
import pytest
from desk_at_work import Browser, DeskAtWork
from ledger_tenant import PERIOD


def test_an_index_has_what_a_filter_matches_in_order(desk: DeskAtWork, ann: Browser, entity: UUID) -> None:
    slug = desk.slug(entity)
    small, large, blank = (
        desk.tenant.new_row(entity, vendor=vendor, amount_gross=amount, vat_amount=None, expense_date=day)
        for vendor, amount, day in (("Low & Co", 5, "2025-01-02"), ("Zeta", 900, "2025-01-03"), ("Low & Co", 40, None))
    )
    doubt = desk.tenant.new_row(entity, status="NEEDS_ATTENTION", vendor="Zeta")
    later = desk.tenant.new_row(entity, period="2025-02", vendor="Zeta")
    of = f"?entity={slug}"
    assert set(ann.ids(of)) == {small, large, blank, doubt, later}
    assert set(ann.ids(f"{of}&period={PERIOD}")) == {small, large, blank, doubt}
    assert ann.ids(f"{of}&status=NEEDS_ATTENTION") == [doubt]
    assert set(ann.ids(f"{of}&status=NEEDS_ATTENTION,PENDING&q=zETA")) == {large, doubt, later}
    assert ann.ids(f"{of}&q=%25") == []
    assert ann.ids("?entity=nobody") == []
    assert ann.ids(f"{of}&period={PERIOD}&status=PENDING&sort=amount_gross") == [small, blank, large]
    assert ann.ids(f"{of}&period={PERIOD}&status=PENDING&sort=expense_date") == [small, large, blank]
    assert ann.ids(f"{of}&period={PERIOD}&status=PENDING&sort=-expense_date") == [large, small, blank]
    answer = ann.get(f"/v1/subledgers/expenses/index{of}&status=NEEDS_ATTENTION")
    assert answer.headers["X-Ntro-Statuses"].split(",")[answer.content[16]] == "NEEDS_ATTENTION"


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("sort=nothing", "SORT_UNKNOWN"),
        ("sort=line_items", "SORT_UNKNOWN"),
        ("group=all", "BODY_INVALID"),
        ("period=2025-13", "BODY_INVALID"),
    ],
)
def test_what_an_index_does_not_understand(ann: Browser, query: str, error: str) -> None:
    answer = ann.get(f"/v1/subledgers/expenses/index?{query}")
    assert (answer.status_code, answer.json()["error"]) == (422, error)


def test_heaps_are_of_who_asks(desk: DeskAtWork, ann: Browser, bob: Browser, pat: Browser, entity: UUID) -> None:
    of = f"?entity={desk.slug(entity)}"
    clean, edited, doubt, filed = (
        desk.tenant.new_row(entity, status=status) for status in ("PENDING", "PENDING", "NEEDS_ATTENTION", "PENDING")
    )
    assert ann.decide("edit", [edited], values={"notes": "seen"}).status_code == 201
    desk.apply(entity)
    assert bob.decide("reject", [filed]).status_code == 201
    heaps = {
        browser: {group: set(browser.ids(f"{of}&group={group}")) for group in ("ready", "mine", "waiting")}
        for browser in (ann, bob, pat)
    }
    assert heaps[ann] == {"ready": {clean}, "mine": {doubt}, "waiting": {edited, filed}}
    assert heaps[bob] == {"ready": {clean, edited}, "mine": {doubt}, "waiting": {filed}}
    assert heaps[pat]["ready"] == set()
    counted = ann.get(f"/v1/subledgers/expenses/groups{of}").json()
    assert {group: counted[group]["count"] for group in counted} == {
        "ready": 1,
        "mine": 1,
        "waiting": 2,
        "assigned": 0,
        "changed": 0,
    }
    assert counted["ready"]["oldest"]


def test_windows_keep_the_order_and_every_digit(desk: DeskAtWork, ann: Browser, entity: UUID) -> None:
    exact = desk.tenant.new_row(entity, amount_gross="12345678901234567890123456789.123456789", vat_amount=None, source_ref=None)
    cents = desk.tenant.new_row(entity, amount_gross="0.1", vat_amount=0, expense_date="2025-01-31")
    rows = ann.rows([cents, uuid4(), exact])
    assert [row["id"] for row in rows] == [str(cents), str(exact)]
    assert rows[0]["values"]["amount_gross"] == "0.10"
    assert rows[0]["values"]["expense_date"] == "2025-01-31"
    assert rows[1]["values"]["amount_gross"] == "12345678901234567890123456789.123456789"
    assert rows[0]["entity"] == desk.slug(entity)
    assert (rows[0]["waiting"], rows[0]["status"], len(rows[0]["digest"])) == (None, "PENDING", 64)
    assert ann.post("/v1/subledgers/expenses/rows", {"ids": [str(uuid4())] * 501}).status_code == 422
    assert ann.post("/v1/subledgers/nothing/rows", {"ids": []}).json()["error"] == "SUBLEDGER_NOT_FOUND"


def test_the_story_of_a_row(desk: DeskAtWork, ann: Browser, bob: Browser, pat: Browser, entity: UUID) -> None:
    document = desk.document("January.csv", uuid4().bytes, entity=entity, lines=[{"Payee": "Smith", "Total": "120"}])
    same = {"vendor": "Twin Ltd", "expense_date": "2025-01-03", "amount_gross": 77, "vat_amount": None}
    twin = desk.tenant.new_row(entity, source_ref=None, **same)
    row = desk.tenant.new_row(entity, source_ref=f"doc:{document}#L2", raw_payload='{"Payee": "Smith"}', **same)
    assert pat.decide("edit", [row], values={"notes": "two of them"}, reason="looked").status_code == 201
    desk.apply(entity)
    assert bob.post(f"/v1/subledgers/expenses/rows/{row}/comments", {"text": "Which one?"}).status_code == 201
    assert ann.decide("approve", [row], reason=None).status_code == 201
    desk.apply(entity)
    story = ann.get(f"/v1/subledgers/expenses/rows/{row}").json()
    assert story["raw_payload"] == {"Payee": "Smith"}
    assert story["source"] == {
        "document_id": str(document), "name": "January.csv", "line": 2, "media_type": "text/plain", "page": None,
    }  # fmt: skip
    told = [(step["actor"], step["action"], step["from"], step["to"]) for step in story["timeline"]]
    assert told[1:] == [("user:pat", "edit", "PENDING", "PENDING"), ("user:ann", "approve", "PENDING", "APPROVED")]
    assert [(edit["by"], edit["values"], edit["outcome"]) for edit in story["edits"]] == [
        ("user:pat", {"notes": "two of them"}, "APPLIED")
    ]
    assert [(said["by"], said["text"]) for said in story["comments"]] == [("user:bob", "Which one?")]
    assert [other["id"] for other in story["duplicates"]] == [str(twin)]
    assert (story["made_by"], story["approved_by"], story["values"]["notes"]) == ("user:pat", "user:ann", "two of them")
    lines = ann.get(f"/v1/documents/{document}/lines?from=2&to=2").json()
    assert lines == {"header": ["Payee", "Total"], "lines": [{"line": 2, "cells": ["Smith", "120"]}]}
    missing = ann.get(f"/v1/subledgers/expenses/rows/{uuid4()}")
    assert (missing.status_code, missing.json()["error"]) == (404, "ROW_NOT_FOUND")


def test_what_changed_since(desk: DeskAtWork, ann: Browser, entity: UUID) -> None:
    row, other = desk.tenant.new_row(entity), desk.tenant.new_row(entity)
    change = int(ann.get("/v1/subledgers/expenses/index").headers["X-Ntro-Change"])
    nothing = ann.get(f"/v1/subledgers/expenses/changes?after={change}").json()
    assert (nothing["more"], nothing["rows"]) == (False, [])
    assert nothing["change"] >= change
    desk.tenant.decide("reject", row)
    found = ann.get(f"/v1/subledgers/expenses/changes?after={change}").json()
    assert found["rows"] == [{"id": str(row), "status": "REJECTED"}]
    assert found["change"] > change
    assert str(other) not in str(found)


def test_views_are_a_members_own(desk: DeskAtWork, ann: Browser, bob: Browser) -> None:
    view = {"subledger": "expenses", "query": {"status": ["PENDING"]}}
    assert ann.send("PUT", "/v1/views/Mine today", view).status_code == 204
    assert ann.send("PUT", "/v1/views/Mine today", {**view, "query": {"q": "x"}}).status_code == 204
    assert [(kept["name"], kept["query"]) for kept in ann.get("/v1/views").json()] == [("Mine today", {"q": "x"})]
    assert bob.get("/v1/views").json() == []
    assert bob.send("DELETE", "/v1/views/Mine today").status_code == 204
    assert len(ann.get("/v1/views").json()) == 1
    assert ann.send("DELETE", "/v1/views/Mine today").status_code == 204
    assert ann.get("/v1/views").json() == []
    assert ann.send("PUT", "/v1/views/x", {"subledger": "nothing", "query": {}}).status_code == 404


def test_subledgers_say_what_this_member_may_decide(ann: Browser, pat: Browser, eve: Browser) -> None:
    for browser, allowed in (
        (ann, {"approve", "undo", "reject", "exclude", "accept", "edit", "reinstate"}),
        (pat, {"reject", "exclude", "accept", "edit", "reinstate"}),
        (eve, set()),
    ):
        (kind,) = (kind for kind in browser.get("/v1/subledgers").json() if kind["name"] == "expenses")
        assert {each["kind"] for each in kind["signals"] if each["allowed"]} == allowed
    assert {"name": "amount_gross", "type": "money", "editable": True} in kind["columns"]
    assert (kind["open"], kind["approved"], kind["posted"]) == (["NEEDS_ATTENTION", "PENDING", "APPROVED"], "APPROVED", "POSTED")


def test_a_row_that_is_held_back_says_why(desk: DeskAtWork, ann: Browser, entity: UUID) -> None:
    row = desk.tenant.new_row(entity, vendor="Zeta")
    desk.tenant.decide("approve", row)
    with psycopg.connect(desk.tenant.credentials.app) as app:
        app.execute(
            "INSERT INTO ledgers.posting_refusals "
            "(row_id, entity_id, period, subledger, external_id, code, detail, seen, run_id) "
            "SELECT %s, %s, %s, 'expenses', 'x', 'ACCOUNT_UNKNOWN', 'not in the chart: 9999', number, %s FROM ledgers.releases",
            [row, entity, PERIOD, uuid4()],
        )
    story = ann.get(f"/v1/subledgers/expenses/rows/{row}").json()
    assert (story["held"]["code"], story["held"]["detail"]) == ("ACCOUNT_UNKNOWN", "not in the chart: 9999")
    assert [(step["action"], step["code"]) for step in story["timeline"]][-1] == ("HELD", "ACCOUNT_UNKNOWN")
    desk.tenant.decide("undo", row)
    assert ann.get(f"/v1/subledgers/expenses/rows/{row}").json()["held"] is None
