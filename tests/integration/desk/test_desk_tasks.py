"""The spec's endpoints (section 7): entities, tasks, and what is done with them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from desk_at_work import Browser, DeskAtWork

from ntro_dagster.desk.desk import Desk
from ntro_dagster.desk.members import make_key
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.description import TypeDescription


@pytest.fixture(scope="module")
def ops(desk: DeskAtWork) -> Browser:
    """A program of an operator."""
    return Browser(desk.url, desk.host, key=make_key(desk.tenant.credentials.owner, "user:pat", "ops")[1])


def signals(desk: DeskAtWork, row: UUID) -> list[tuple[Any, ...]]:
    return desk.tenant.fetch(
        "SELECT s.kind, s.filed_by, s.reason, s.payload FROM system.signals s JOIN system.signal_rows r ON r.signal_id = s.id "
        "WHERE r.row_id = %s ORDER BY s.seq",
        row,
    )


def test_entities_and_their_workflows(desk: DeskAtWork, eve: Browser, entity: UUID) -> None:
    with desk.tenant.as_owner() as owner:
        owner.execute(
            "INSERT INTO system.workflows (id, runbook, entity_id, armed_at, created_at) "
            "VALUES (%(id)s, 'capital-calls', %(entity)s, now(), now()), (gen_random_uuid(), 'gone', %(entity)s, now(), now())",
            {"id": uuid4(), "entity": entity},
        )
    listed = {each["id"]: each for each in eve.get("/v1/entities").json()}
    assert listed[str(entity)] | {"tenantId": None} == {
        "id": str(entity), "tenantId": None, "slug": desk.slug(entity), "name": "Fund",
    }  # fmt: skip
    bound, gone = eve.get(f"/v1/entities/{entity}/workflows").json()
    params = {each["key"]: each for each in bound["startParams"]}
    assert bound["name"] == "capital-calls"
    assert (params["period"]["required"], params["day_count"]["required"]) == (True, False)
    assert params["day_count"]["enum"] == ["ACT-365", "ACT-360"]
    assert (gone["name"], gone["startParams"]) == ("gone", None)
    for path in ("workflows", "tasks"):
        assert eve.get(f"/v1/entities/{uuid4()}/{path}").status_code == 404
        assert eve.get(f"/v1/entities/{desk.slug(entity)}/{path}").status_code == 400


def test_a_task_stands_where_its_rows_stand(desk: DeskAtWork, ann: Browser, eve: Browser, entity: UUID, task: UUID) -> None:
    def state() -> tuple[str, str | None, str, str]:
        (listed,) = eve.get(f"/v1/entities/{entity}/tasks").json()
        shown = eve.get(f"/v1/tasks/{task}:review:expenses/ui").json()
        assert shown["task"] == listed
        return listed["status"], listed["awaiting"], listed["priority"], shown["step"]["id"]

    assert state() == ("COMPLETED", None, "NORMAL", "close")
    doubt = desk.tenant.new_row(entity, status="NEEDS_ATTENTION", task_id=task)
    clean = desk.tenant.new_row(entity, task_id=task)
    assert state() == ("IN_PROGRESS", "DATA_TABLE", "HIGH", "review")
    assert ann.decide("reject", [doubt]).status_code == 201
    desk.apply(entity)
    assert state() == ("IN_PROGRESS", "APPROVAL", "NORMAL", "review")
    assert ann.post(f"/v1/tasks/{task}/action", {"type": "approved"}).json()["filed"] == 1
    desk.apply(entity)
    assert state() == ("IN_PROGRESS", "LOADING", "NORMAL", "posting")
    shown = eve.get(f"/v1/tasks/{task}/snapshots").json()
    assert {each["kind"] for each in shown["review"]["decided"]} == {"reject", "approve"}
    with psycopg.connect(desk.tenant.credentials.app) as app:
        app.execute(
            "INSERT INTO system.errors (id, run_id, code, story, traceback) VALUES (%s, %s, 'STAGING_SLOW', 'It broke.', 'x')",
            [uuid4(), task],
        )
    assert state()[0] == "FAILED"
    events = eve.get(f"/v1/tasks/{task}/events").json()
    assert [event["type"] for event in events] == ["started", "failed"]
    assert "traceback" not in str(events)
    assert clean
    for path in ("ui", "snapshots", "events", "files"):
        assert eve.get(f"/v1/tasks/{uuid4()}/{path}").status_code == 404
        assert eve.get(f"/v1/tasks/nothing/{path}").status_code == 400


def test_a_tasks_files_are_its_months(desk: DeskAtWork, eve: Browser, entity: UUID, task: UUID) -> None:
    mine = desk.document("January.csv", uuid4().bytes, entity=entity, lines=[{"a": "1"}])
    desk.document("Other.csv", uuid4().bytes, entity=desk.tenant.new_entity(), lines=[{"a": "1"}])
    (found,) = eve.get(f"/v1/tasks/{task}/files").json()
    assert (found["id"], found["name"], found["source"], found["mediaType"]) == (
        str(mine),
        "January.csv",
        "invoices",
        "text/plain",
    )
    assert len(eve.get(f"/v1/tasks/{task}/files?source=invoices").json()) == 1
    assert eve.get(f"/v1/tasks/{task}/files?source=bank").json() == []


def test_a_task_is_decided_as_a_whole(
    desk: DeskAtWork, ann: Browser, pat: Browser, eve: Browser, *, entity: UUID, task: UUID
) -> None:
    mine, doubt = desk.tenant.new_row(entity, task_id=task), desk.tenant.new_row(entity, task_id=task, status="NEEDS_ATTENTION")
    of_another = desk.tenant.new_row(entity)
    act = f"/v1/tasks/{task}/action"
    assert eve.post(act, {"type": "approved"}).json()["error"] == "ROLE_MAY_NOT"
    assert pat.post(act, {"type": "approved"}).json()["error"] == "ROLE_MAY_NOT"
    assert ann.post(act, {"type": "maybe"}).status_code == 400
    moved = ann.post(act, {"type": "approved", "seen": {"expenses": "0" * 64}})
    assert (moved.status_code, moved.json()["error"]) == (409, "CONTENT_MOVED")
    assert signals(desk, mine) == []
    answer = ann.post(act, {"type": "approved", "comments": "all well"}).json()
    assert (answer["ok"], answer["filed"], answer["signals"][0]["entity"]) == (True, 1, desk.slug(entity))
    assert signals(desk, mine) == [("approve", "user:ann", "all well", {})]
    assert signals(desk, doubt) == signals(desk, of_another) == []
    again = ann.post(act, {"type": "rejected"})
    assert (again.status_code, again.json()["error"]) == (409, "NO_ROWS_MATCHED")
    desk.apply(entity)
    assert ann.post(f"/v1/tasks/{uuid4()}/action", {"type": "approved"}).status_code == 404


def test_what_was_seen_says_which_subledgers_are_meant(
    desk: DeskAtWork, ann: Browser, entity: UUID, task: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = desk.tenant.new_row(entity, task_id=task)
    act = f"/v1/tasks/{task}/action"
    where = {"kind": "approve", "ids": [str(row)]}
    told = ann.post("/v1/subledgers/expenses/summary", where).json()["seen"]
    for seen in ({"expense": told}, {"expenses": told, "expense": told}):
        answer = ann.post(act, {"type": "approved", "seen": seen})
        assert (answer.status_code, answer.json()["error"]) == (400, "SEEN_SUBLEDGER_UNKNOWN")
    ledgers = Desk.ledgers

    async def with_another(at: Desk, database: TenantDatabase) -> dict[str, TypeDescription]:
        found = await ledgers(at, database)
        return {**found, "fees": replace(found["expenses"], table="fees")}

    monkeypatch.setattr(Desk, "ledgers", with_another)
    # Of `fees` nobody has seen anything, and there is no such table: asking for its rows would fail.
    assert ann.post(act, {"type": "approved", "seen": {"expenses": told}}).json()["filed"] == 1
    assert [kind for kind, *_ in signals(desk, row)] == ["approve"]


def test_rows_of_a_task_are_edited_and_rejected(desk: DeskAtWork, pat: Browser, entity: UUID, task: UUID) -> None:
    edited, rejected = desk.tenant.new_row(entity), desk.tenant.new_row(entity)
    elsewhere = desk.tenant.new_row(desk.tenant.new_entity())
    act = f"/v1/tasks/{task}/row-action"
    body = {"ledger": "expenses", "action": "edit_cell", "rowId": str(edited), "field": "amount_gross", "value": "130"}
    for wrong, status, code in (
        ({"value": "twelve"}, 400, "VALUES_INVALID"),
        ({"field": "status"}, 400, "INVALID_FIELD"),
        ({"field": None}, 400, "INVALID_FIELD"),
        ({"rowId": "x"}, 400, "BODY_INVALID"),
        ({"rowId": str(elsewhere)}, 404, "ROW_NOT_FOUND"),
        ({"ledger": "nothing"}, 404, "SUBLEDGER_NOT_FOUND"),
        ({"action": "post"}, 400, "BODY_INVALID"),
    ):
        answer = pat.post(act, body | wrong)
        assert (answer.status_code, answer.json()["error"]) == (status, code), wrong
    assert pat.post(act, body).json()["status"] == "FILED"
    assert pat.post(act, body | {"action": "reject_row", "rowId": str(rejected)}).json()["newStatus"] == "REJECTED"
    assert signals(desk, edited) == [("edit", "user:pat", f"cell edited in task {task}", {"amount_gross": "130"})]
    assert signals(desk, rejected)[0][:2] == ("reject", "user:pat")
    again = pat.post(act, body)
    assert (again.status_code, again.json()["rows"][0]["code"]) == (409, "DECISION_WAITING")


def test_operators_act_on_single_rows(desk: DeskAtWork, ops: Browser, pat: Browser, entity: UUID) -> None:
    row, other = desk.tenant.new_row(entity), desk.tenant.new_row(entity)
    path = f"/v1/subledgers/expenses/{row}"
    for browser in (pat, desk.program()):
        assert browser.post(f"{path}/reject").json()["error"] == "ROLE_MAY_NOT"
        assert browser.send("PATCH", path, {"field": "notes", "value": "x"}).json()["error"] == "ROLE_MAY_NOT"
    done = ops.send("PATCH", path, {"field": "notes", "value": "fixed"}).json()
    assert (done["status"], done["rowId"], done["field"], done["value"]) == ("FILED", str(row), "notes", "fixed")
    assert signals(desk, row) == [("edit", "user:pat", "edited by an operator, outside of a task", {"notes": "fixed"})]
    assert ops.post(f"/v1/subledgers/expenses/{other}/reject").json()["newStatus"] == "REJECTED"
    desk.apply(entity)
    for answer, status, code in (
        (ops.post(f"/v1/subledgers/expenses/{other}/reject"), 400, "ILLEGAL_TRANSITION"),
        (ops.send("PATCH", f"/v1/subledgers/expenses/{other}", {"field": "notes", "value": "x"}), 400, "ILLEGAL_TRANSITION"),
        (ops.send("PATCH", path, {"field": "status", "value": "POSTED"}), 400, "INVALID_FIELD"),
        (ops.post("/v1/subledgers/expenses/nothing/reject"), 400, "ROW_ID_INVALID"),
        (ops.post(f"/v1/subledgers/expenses/{uuid4()}/reject"), 404, "ROW_NOT_FOUND"),
    ):
        assert (answer.status_code, answer.json()["error"]) == (status, code)
        if code == "ILLEGAL_TRANSITION":
            assert answer.json()["currentStatus"] == "REJECTED"


def test_what_a_desk_cannot_do_it_says(ann: Browser, task: UUID) -> None:
    answer = ann.post(f"/v1/tasks/{task}/events", {})
    assert (answer.status_code, answer.json()["error"]) == (501, "NOT_AT_A_DESK")
    assert answer.json()["advice"]
