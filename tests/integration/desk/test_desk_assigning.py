"""Who looks after a row: assigned with a history, the last assignment counts, and the database keeps both true."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from desk_at_work import Browser, DeskAtWork
from ledger_tenant import refusal

ASSIGN = "/v1/subledgers/expenses/assignments"


def assign(browser: Browser, assignee: str | None, *rows: UUID) -> Any:
    return browser.post(ASSIGN, {"assignee": assignee, "ids": [str(row) for row in rows]})


def assigned(desk: DeskAtWork, *rows: UUID) -> dict[UUID, str]:
    return dict(desk.tenant.fetch("SELECT row_id, assignee FROM system.assigned WHERE row_id = ANY(%s)", list(rows)))


def test_rows_are_assigned_seen_and_given_away(desk: DeskAtWork, ann: Browser, pat: Browser, entity: UUID) -> None:
    one, other = desk.tenant.new_row(entity), desk.tenant.new_row(entity)
    of = f"?entity={desk.slug(entity)}"
    assert assign(ann, "user:pat", one, other).json() == {"assigned": 2, "assignee": "user:pat"}
    assert {row["assigned_to"] for row in ann.rows([one, other])} == {"user:pat"}
    assert set(pat.ids(f"{of}&group=assigned")) == {one, other}
    assert ann.ids(f"{of}&group=assigned") == []
    assert pat.get(f"/v1/subledgers/expenses/groups{of}").json()["assigned"]["count"] == 2
    assert assign(pat, "user:ann", one).status_code == 201
    assert assign(pat, None, other).json()["assignee"] is None
    assert assigned(desk, one, other) == {one: "user:ann"}
    assert (ann.ids(f"{of}&group=assigned"), pat.ids(f"{of}&group=assigned")) == ([one], [])
    told = ann.get(f"/v1/subledgers/expenses/rows/{one}").json()["timeline"]
    assert [(step["action"], step["actor"], step["to"]) for step in told if "ASSIGN" in step["action"]] == [
        ("ASSIGNED", "user:ann", "user:pat"),
        ("ASSIGNED", "user:pat", "user:ann"),
    ]
    inbox = ann.get("/").text
    assert "assigned to me" in inbox
    assert "group=assigned" in inbox


def test_what_is_over_is_not_mine_any_more(desk: DeskAtWork, ann: Browser, entity: UUID) -> None:
    row = desk.tenant.new_row(entity)
    of = f"?entity={desk.slug(entity)}&group=assigned"
    assert assign(ann, "user:ann", row).status_code == 201
    assert ann.decide("reject", [row]).status_code == 201
    assert ann.ids(of) == [row]
    desk.apply(entity)
    assert ann.ids(of) == []


def test_everything_that_a_filter_matches_is_bound_to_what_was_seen(
    desk: DeskAtWork, ann: Browser, pat: Browser, entity: UUID
) -> None:
    rows = [desk.tenant.new_row(entity) for _ in range(3)]
    where = {"entity": desk.slug(entity), "status": ["PENDING"]}
    summary = ann.post(f"{ASSIGN}/summary", {"filter": where}).json()
    assert summary["count"] == 3
    late = desk.tenant.new_row(entity)
    body = {"assignee": "user:pat", "filter": where, "seen": summary["seen"]}
    moved = ann.post(ASSIGN, body)
    assert (moved.status_code, moved.json()["error"]) == (409, "CONTENT_MOVED")
    assert assigned(desk, *rows, late) == {}
    again = ann.post(f"{ASSIGN}/summary", {"filter": where}).json()
    assert ann.post(ASSIGN, {**body, "seen": again["seen"]}).json()["assigned"] == 4
    mine = {"entity": desk.slug(entity), "group": "assigned"}
    assert pat.post(f"{ASSIGN}/summary", {"filter": mine}).json()["count"] == 4


@pytest.mark.parametrize(
    "body",
    [
        {"assignee": "user:ann"},
        {"assignee": "user:ann", "ids": [], "filter": {}, "seen": "0" * 64},
        {"assignee": "user:ann", "filter": {}},
        {"assignee": "user:ann", "ids": [], "seen": "0" * 64},
        {"ids": []},
    ],
)
def test_a_body_that_says_too_little_or_too_much(ann: Browser, body: dict[str, Any]) -> None:
    answer = ann.post(ASSIGN, body)
    assert (answer.status_code, answer.json()["error"]) == (422, "BODY_INVALID")


def test_who_may_assign_and_to_whom(desk: DeskAtWork, ann: Browser, eve: Browser, entity: UUID) -> None:
    row = desk.tenant.new_row(entity)
    for browser in (eve, desk.logged_in("adm"), desk.program()):
        assert assign(browser, "user:ann", row).json()["error"] == "ROLE_MAY_NOT"
    for assignee in ("user:eve", "user:adm", "agent:bot", "user:mallory"):
        answer = assign(ann, assignee, row)
        assert (answer.status_code, answer.json()["error"]) == (422, "ASSIGNEE_INVALID")
    missing = assign(ann, "user:ann", row, uuid4())
    assert (missing.status_code, missing.json()["error"]) == (409, "ROW_NOT_FOUND")
    assert assigned(desk, row) == {}
    assert [each["login"] for each in eve.get("/v1/members").json()] == ["user:ann", "user:bob", "user:pat"]


def test_the_record_is_the_databases(desk: DeskAtWork, entity: UUID) -> None:
    row = desk.tenant.new_row(entity)
    file = "INSERT INTO system.assignments (subledger, row_id, assignee, assigned_by) VALUES ('expenses', %s, %s, %s)"
    with psycopg.connect(desk.tenant.credentials.desk) as sql:
        for assignee, by, code in (
            ("user:ann", "user:eve", "ROLE_MAY_NOT"),
            ("user:eve", "user:ann", "ASSIGNEE_INVALID"),
            ("agent:bot", "user:ann", "ASSIGNEE_INVALID"),
        ):
            assert refusal(sql, file, [row, assignee, by]) == code
        assert refusal(sql, file, [uuid4(), "user:ann", "user:ann"]) == "ROW_NOT_FOUND"
        for statement in (
            "INSERT INTO system.assigned VALUES ('expenses', gen_random_uuid(), 'user:ann')",
            "DELETE FROM system.assigned",
            "UPDATE system.assignments SET assignee = 'user:ann'",
            "INSERT INTO system.assignments (at) VALUES (now())",
        ):
            assert refusal(sql, statement) == "InsufficientPrivilege", statement
        sql.execute(file, [row, "user:pat", "user:ann"])
    with desk.tenant.as_owner() as owner:
        assert refusal(owner, "DELETE FROM system.assignments") == "HISTORY_IS_APPEND_ONLY"
    assert assigned(desk, row) == {row: "user:pat"}


def test_of_two_at_once_both_are_kept_and_the_last_counts(desk: DeskAtWork, entity: UUID) -> None:
    row = desk.tenant.new_row(entity)
    file = "INSERT INTO system.assignments (subledger, row_id, assignee, assigned_by) VALUES ('expenses', %s, %s, 'user:ann')"
    with (
        psycopg.connect(desk.tenant.credentials.desk) as first,
        psycopg.connect(desk.tenant.credentials.desk) as second,
        ThreadPoolExecutor(1) as thread,
    ):
        first.execute(file, [row, "user:ann"])
        later = thread.submit(second.execute, file, [row, "user:pat"])
        deadline = time.monotonic() + 20
        while not first.execute("SELECT 1 FROM pg_locks WHERE NOT granted AND pid = %s", [second.info.backend_pid]).fetchone():
            assert time.monotonic() < deadline
        first.commit()
        later.result()
    said = desk.tenant.fetch("SELECT assignee FROM system.assignments WHERE row_id = %s ORDER BY id", row)
    assert said == [("user:ann",), ("user:pat",)]
    assert assigned(desk, row) == {row: "user:pat"}
