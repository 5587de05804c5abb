"""Deciding through the API: over rows as they were seen, over a filter, by those whose role it is."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from desk_at_work import Browser, DeskAtWork
from ledger_tenant import PERIOD

from ntro_dagster.desk.sittings import Sitting

SIGNALS = "/v1/subledgers/expenses/signals"


def signals_of(desk: DeskAtWork, *rows: UUID) -> int:
    return desk.tenant.fetch("SELECT count(*) FROM system.signal_rows WHERE row_id = ANY(%s)", list(rows))[0][0]  # type: ignore[no-any-return]


def status_of(desk: DeskAtWork, row: UUID) -> str:
    return desk.tenant.fetch("SELECT status FROM ledgers.expenses WHERE id = %s", row)[0][0]  # type: ignore[no-any-return]


def test_a_decision_goes_from_the_page_to_the_ledger(desk: DeskAtWork, ann: Browser, entity: UUID) -> None:
    rows = [desk.tenant.new_row(entity) for _ in range(2)]
    answer = ann.decide("approve", rows, reason=None)
    assert answer.status_code == 201
    (signal,) = answer.json()["signals"]
    assert answer.json()["filed"] == 2
    assert (signal["entity"], signal["period"], signal["rows"]) == (desk.slug(entity), PERIOD, 2)
    assert {row["waiting"]["filed_by"] for row in ann.rows(rows)} == {"user:ann"}
    assert desk.apply(entity).applied == 2
    (became,) = ann.get(f"/v1/signals?ids={signal['id']}").json()
    assert (became["applied"], became["refused"], became["rows"]) == (2, [], 2)
    assert became["applied_at"]
    assert {status_of(desk, row) for row in rows} == {"APPROVED"}


def test_what_moved_is_named_and_nothing_is_filed(
    desk: DeskAtWork, ann: Browser, bob: Browser, pat: Browser, entity: UUID
) -> None:
    good, changed, waiting, posted = (desk.tenant.new_row(entity) for _ in range(4))
    mine = desk.tenant.new_row(entity)
    assert ann.decide("edit", [mine], values={"notes": "x"}).status_code == 201
    desk.apply(entity)
    seen = [{"id": row["id"], "digest": row["digest"]} for row in ann.rows([good, changed, waiting, posted, mine])]
    assert pat.decide("edit", [changed], values={"amount_gross": "121"}).status_code == 201
    desk.apply(entity)
    assert bob.decide("exclude", [waiting]).status_code == 201
    desk.tenant.decide("reject", posted)
    gone = {"id": str(uuid4()), "digest": "0" * 64}
    answer = ann.post(SIGNALS, {"kind": "approve", "rows": [*seen, gone]})
    assert answer.status_code == 409
    assert answer.json()["error"] == "CONTENT_MOVED"
    assert {(row["id"], row["code"], row["by"]) for row in answer.json()["rows"]} == {
        (str(changed), "CONTENT_CHANGED", None),
        (str(waiting), "DECISION_WAITING", "user:bob"),
        (str(posted), "ILLEGAL_TRANSITION", None),
        (str(mine), "MAKER_IS_NOT_CHECKER", None),
        (gone["id"], "ROW_NOT_FOUND", None),
    }
    assert signals_of(desk, good) == 0


def test_a_filter_is_filed_as_it_was_summed_up(desk: DeskAtWork, ann: Browser, entity: UUID) -> None:
    for amount, currency in (("10.25", "GBP"), ("0.75", "GBP"), ("7", "EUR")):
        desk.tenant.new_row(entity, amount_gross=amount, currency=currency, vat_amount=None)
    desk.tenant.new_row(entity, status="NEEDS_ATTENTION")
    ask = {"kind": "approve", "filter": {"entity": desk.slug(entity), "period": PERIOD}}
    summary = ann.post("/v1/subledgers/expenses/summary", ask).json()
    assert (summary["count"], summary["totals"]) == (3, {"GBP": "11.00", "EUR": "7.00"})
    assert summary["skipped"] == [{"code": "ILLEGAL_TRANSITION", "count": 1}]
    late = desk.tenant.new_row(entity)
    refused = ann.post(SIGNALS, {**ask, "seen": summary["seen"]})
    assert (refused.status_code, refused.json()["error"]) == (409, "CONTENT_MOVED")
    assert (refused.json()["now"]["count"], refused.json()["now"]["totals"]["GBP"]) == (4, "131.00")
    assert signals_of(desk, late) == 0
    again = ann.post("/v1/subledgers/expenses/summary", ask).json()
    assert again == refused.json()["now"]
    assert ann.post(SIGNALS, {**ask, "seen": again["seen"]}).json()["filed"] == 4
    ready = {"kind": "approve", "filter": {"entity": desk.slug(entity), "group": "ready"}}
    assert ann.post("/v1/subledgers/expenses/summary", ready).json()["count"] == 0


def test_values_are_looked_over_before_they_are_filed(desk: DeskAtWork, pat: Browser, entity: UUID) -> None:
    row = desk.tenant.new_row(entity)
    answer = pat.decide("edit", [row], values={"amount_gross": "twelve", "currency": "pounds"})
    assert (answer.status_code, answer.json()["error"]) == (422, "VALUES_INVALID")
    assert set(answer.json()["fields"]) == {"amount_gross", "currency"}
    assert signals_of(desk, row) == 0
    check = f"{SIGNALS.removesuffix('signals')}validate"
    assert pat.post(check, {"id": str(row), "values": {"amount_gross": "12.50", "vat_amount": "2"}}).json() == {"fields": {}}
    assert set(pat.post(check, {"id": str(row), "values": {"status": "POSTED"}}).json()["fields"]) == {"status"}
    assert set(pat.post(check, {"id": str(row), "values": {"amount_gross": "1"}}).json()["fields"]) == {""}
    assert pat.post(check, {"id": str(uuid4()), "values": {}}).status_code == 404


@pytest.mark.parametrize(
    ("decision", "error"),
    [
        ({"kind": "reject", "reason": " "}, "REASON_MISSING"),
        ({"kind": "vanish"}, "SIGNAL_UNKNOWN"),
        ({"kind": "edit"}, "VALUES_NOT_TAKEN"),
        ({"kind": "edit", "values": {"status": "POSTED"}}, "FIELD_NOT_EDITABLE"),
        ({"kind": "approve", "values": {"notes": "x"}}, "VALUES_NOT_TAKEN"),
        ({"kind": "reject", "rows": None}, "SELECTION_MISSING"),
        ({"kind": "reject", "filter": {}, "seen": "0" * 64}, "SELECTION_AMBIGUOUS"),
        ({"kind": "reject", "filter": {}}, "SELECTION_AMBIGUOUS"),
        ({"kind": "reject", "rows": [], "filter": {}, "seen": "0" * 64}, "SELECTION_AMBIGUOUS"),
        ({"kind": "reject", "rows": []}, "SELECTION_MISSING"),
        ({"kind": "reject", "rows": [{"id": "x", "digest": "y"}]}, "BODY_INVALID"),
        ({"kind": "reject", "reason": "a\x00b"}, "BODY_INVALID"),
    ],
)
def test_what_is_no_decision(desk: DeskAtWork, ann: Browser, entity: UUID, decision: dict[str, object], error: str) -> None:
    row = desk.tenant.new_row(entity)
    seen = [{"id": each["id"], "digest": each["digest"]} for each in ann.rows([row])]
    answer = ann.post(SIGNALS, {"reason": "because", "rows": seen, **decision})
    assert (answer.status_code, answer.json()["error"]) == (422, error)
    assert signals_of(desk, row) == 0


# Roles


def test_an_auditor_and_an_administrator_only_look(desk: DeskAtWork, entity: UUID) -> None:
    row = desk.tenant.new_row(entity)
    for name in ("eve", "adm"):
        browser = desk.logged_in(name)
        for kind in ("approve", "reject", "edit"):
            answer = browser.decide(kind, [row], values={"notes": "x"} if kind == "edit" else {})
            assert (answer.status_code, answer.json()["error"]) == (403, "ROLE_MAY_NOT")
        assert browser.post(f"/v1/subledgers/expenses/rows/{row}/comments", {"text": "x"}).status_code == 403
        assert browser.get(f"/v1/subledgers/expenses/rows/{row}").status_code == 200
    assert signals_of(desk, row) == 0


@pytest.mark.parametrize(("kind", "status"), [("approve", 403), ("reject", 403), ("exclude", 403), ("edit", 201)])
def test_a_program_prepares_and_approves_nothing(desk: DeskAtWork, entity: UUID, kind: str, status: int) -> None:
    row = desk.tenant.new_row(entity)
    answer = desk.program().decide(kind, [row], values={"notes": "read again"} if kind == "edit" else {})
    assert answer.status_code == status, answer.text
    assert signals_of(desk, row) == (status == 201)


def test_the_database_refuses_what_python_let_through(
    desk: DeskAtWork, pat: Browser, entity: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sitting, "may_decide", property(lambda _: True))
    row = desk.tenant.new_row(entity)
    for browser in (pat, desk.program(), desk.logged_in("eve"), desk.logged_in("adm")):
        answer = browser.decide("approve", [row], reason=None)
        assert (answer.status_code, answer.json()["error"]) == (403, "ROLE_MAY_NOT")
    assert signals_of(desk, row) == 0


# Taking back


def test_a_decision_is_taken_back_until_it_is_applied(desk: DeskAtWork, ann: Browser, bob: Browser, entity: UUID) -> None:
    if "/v1/signals/{signal_id}/withdraw" not in ann.get("/v1/openapi.json").json()["paths"]:
        pytest.skip("nothing can be taken back yet")
    row = desk.tenant.new_row(entity)
    (signal,) = ann.decide("approve", [row]).json()["signals"]
    assert bob.post(f"/v1/signals/{signal['id']}/withdraw").status_code in {403, 409}
    assert ann.post(f"/v1/signals/{signal['id']}/withdraw").status_code == 200
    desk.apply(entity)
    assert status_of(desk, row) == "PENDING"
    (signal,) = ann.decide("approve", [row]).json()["signals"]
    desk.apply(entity)
    assert ann.post(f"/v1/signals/{signal['id']}/withdraw").status_code == 409
    assert status_of(desk, row) == "APPROVED"


def test_comments_are_words_and_are_kept(desk: DeskAtWork, pat: Browser, entity: UUID) -> None:
    row = desk.tenant.new_row(entity)
    path = f"/v1/subledgers/expenses/rows/{row}/comments"
    said = pat.post(path, {"text": "First\nsecond"}).json()
    assert (said["by"], said["text"]) == ("user:pat", "First\nsecond")
    for text in ("", "   ", "\x00", " \x00 ", "a\x00b", "x" * 4_001):
        assert pat.post(path, {"text": text}).status_code == 422
    assert pat.post(path.replace(str(row), str(uuid4())), {"text": "x"}).status_code == 404
    assert pat.post(path.replace("expenses", "journal_proposals"), {"text": "x"}).status_code == 404
