"""Runs that members ask for: who may, for what, and that the database refuses the rest."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from desk_at_work import Browser, DeskAtWork
from ledger_tenant import PERIOD, refusal
from psycopg.types.json import Jsonb

from ntro_dagster.boundary.periods import shifted
from ntro_dagster.desk.members import make_key

RUNBOOK = "capital-calls"
NEXT = shifted(f"{datetime.now(UTC):%Y-%m}", 1)


def bind(desk: DeskAtWork, entity: UUID, runbook: str = RUNBOOK) -> UUID:
    workflow = uuid4()
    with desk.tenant.as_owner() as owner:
        owner.execute(
            "INSERT INTO system.workflows (id, runbook, entity_id, armed_at, created_at) VALUES (%s, %s, %s, now(), now())",
            [workflow, runbook, entity],
        )
    return workflow


def close(desk: DeskAtWork, entity: UUID) -> None:
    with desk.tenant.as_owner() as owner:
        owner.execute("UPDATE system.entities SET status = 'CLOSED' WHERE id = %s", [entity])


@pytest.fixture
def workflow(desk: DeskAtWork, entity: UUID) -> UUID:
    return bind(desk, entity)


def ask(browser: Browser, entity: UUID, workflow: UUID, **context: Any) -> tuple[int, dict[str, Any]]:
    answer = browser.post(f"/v1/entities/{entity}/tasks", {"workflowId": str(workflow), "context": {"period": PERIOD, **context}})
    return answer.status_code, answer.json()


def requests(desk: DeskAtWork, entity: UUID) -> list[tuple[Any, ...]]:
    return desk.tenant.fetch(
        "SELECT runbook, period, filed_by, context FROM system.task_requests WHERE entity_id = %s ORDER BY seq", entity
    )


def settle(desk: DeskAtWork, request: str, *, run: UUID | None = None, code: str | None = None) -> None:
    with psycopg.connect(desk.tenant.credentials.app) as app:
        app.execute(
            "UPDATE system.task_requests SET settled_at = now(), run_id = %s, code = %s WHERE id = %s", [run, code, request]
        )


def test_a_request_is_filed_and_followed(desk: DeskAtWork, pat: Browser, eve: Browser, entity: UUID, workflow: UUID) -> None:
    answer = pat.post(f"/v1/entities/{entity}/tasks", {"workflowId": str(workflow), "context": {"period": PERIOD}})
    assert answer.status_code == 202
    filed = answer.json()
    assert (filed["state"], filed["taskId"], filed["filedBy"], filed["workflow"]) == ("REQUESTED", None, "user:pat", RUNBOOK)
    assert requests(desk, entity) == [(RUNBOOK, PERIOD, "user:pat", {"period": PERIOD})]
    where = answer.headers["Location"]
    assert eve.get(where).json() == filed
    run = uuid4()
    settle(desk, filed["id"], run=run)
    started = eve.get(where).json()
    assert (started["state"], started["taskId"]) == ("STARTED", str(run))
    assert eve.get(f"/v1/task-requests/{uuid4()}").status_code == 404
    assert eve.get("/v1/task-requests/nothing").status_code == 400


def test_a_refused_request_says_why(desk: DeskAtWork, ann: Browser, entity: UUID, workflow: UUID) -> None:
    _, filed = ask(ann, entity, workflow)
    settle(desk, filed["id"], code="ENTITY_CLOSED")
    refused = ann.get(f"/v1/task-requests/{filed['id']}").json()
    assert (refused["state"], refused["code"], refused["taskId"]) == ("REFUSED", "ENTITY_CLOSED", None)


def test_asking_twice_is_one_request_until_it_has_begun(desk: DeskAtWork, ann: Browser, entity: UUID, workflow: UUID) -> None:
    _, first = ask(ann, entity, workflow)
    again = ask(ann, entity, workflow)
    assert (again[0], again[1]["error"]) == (409, "ALREADY_REQUESTED")
    settle(desk, first["id"], run=uuid4())
    assert ask(ann, entity, workflow)[0] == 202
    assert len(requests(desk, entity)) == 2


@pytest.mark.parametrize(
    ("context", "status", "code"),
    [
        ({"period": "2025-13"}, 400, "PERIOD_INVALID"),
        ({"period": "2009-12"}, 400, "PERIOD_OUT_OF_RANGE"),
        ({"period": NEXT}, 400, "PERIOD_OUT_OF_RANGE"),
        ({"period": None}, 400, "CONTEXT_INVALID"),
        ({"period": 202501}, 400, "CONTEXT_INVALID"),
        ({"rate": "0.1"}, 400, "CONTEXT_INVALID"),
        ({"day_count": "ACT-360"}, 409, "PARAMETER_SET_OTHERWISE"),
    ],
)
def test_a_context_that_does_not_fit_is_refused(
    desk: DeskAtWork, ann: Browser, entity: UUID, workflow: UUID, *, context: dict[str, Any], status: int, code: str
) -> None:
    told, answer = ask(ann, entity, workflow, **context)
    assert (told, answer["error"]) == (status, code)
    assert requests(desk, entity) == []


def test_parameters_may_be_named_as_they_are_set(desk: DeskAtWork, ann: Browser, entity: UUID, workflow: UUID) -> None:
    assert ask(ann, entity, workflow, day_count="ACT-365")[0] == 202
    with desk.tenant.as_owner() as owner:
        owner.execute(
            "INSERT INTO system.workflow_parameters (workflow_id, name, value, set_by) VALUES (%s, 'day_count', %s, 'op')",
            [workflow, Jsonb("ACT-360")],
        )
    assert ask(ann, entity, workflow, day_count="ACT-365")[1]["error"] == "PARAMETER_SET_OTHERWISE"


def test_what_is_not_there_or_over_is_refused(desk: DeskAtWork, ann: Browser, entity: UUID, workflow: UUID) -> None:
    other = desk.tenant.new_entity()
    assert ask(ann, entity, uuid4())[1]["error"] == "WORKFLOW_NOT_FOUND"
    assert ask(ann, other, workflow)[1]["error"] == "WORKFLOW_NOT_FOUND"
    assert ask(ann, uuid4(), workflow)[0] == 404
    assert ask(ann, entity, bind(desk, entity, "gone"))[1]["error"] == "RUNBOOK_NOT_ACTIVE"
    close(desk, entity)
    told, answer = ask(ann, entity, workflow)
    assert (told, answer["error"]) == (409, "ENTITY_CLOSED")
    with desk.tenant.as_owner() as owner:
        owner.execute("UPDATE system.workflows SET closed_at = now() WHERE id = %s", [workflow])
    assert ask(ann, entity, workflow)[0] == 404
    assert requests(desk, entity) == []


def test_who_may_ask(desk: DeskAtWork, eve: Browser, entity: UUID, workflow: UUID) -> None:
    adm = desk.logged_in("adm")
    for browser in (eve, adm, desk.program()):
        told, answer = ask(browser, entity, workflow)
        assert (told, answer["error"]) == (403, "ROLE_MAY_NOT")
    owner = desk.tenant.credentials.owner
    plain = Browser(desk.url, desk.host, key=make_key(owner, "user:pat", "nightly")[1])
    assert ask(plain, entity, workflow)[1]["error"] == "ROLE_MAY_NOT"
    ops = Browser(desk.url, desk.host, key=make_key(owner, "user:pat", "ops")[1])
    assert ask(ops, entity, workflow)[1]["filedBy"] == "user:pat"


def test_the_database_refuses_what_a_defective_desk_would_file(desk: DeskAtWork, entity: UUID, workflow: UUID) -> None:
    file = "INSERT INTO system.task_requests (workflow_id, period, filed_by) VALUES (%s, %s, %s)"
    with psycopg.connect(desk.tenant.credentials.desk) as sql:
        for login, code in (
            ("user:eve", "ROLE_MAY_NOT"),
            ("user:adm", "ROLE_MAY_NOT"),
            ("agent:bot", "ROLE_MAY_NOT"),
            ("user:mallory", "NOT_A_MEMBER"),
        ):
            assert refusal(sql, file, [workflow, PERIOD, login]) == code
        assert refusal(sql, file, [uuid4(), PERIOD, "user:ann"]) == "WORKFLOW_NOT_FOUND"
        assert refusal(sql, file, [workflow, NEXT, "user:ann"]) == "PERIOD_OUT_OF_RANGE"
        assert refusal(sql, file, [workflow, "2009-12", "user:ann"]) == "CheckViolation"
        for column, value in (("filed_at", "now()"), ("run_id", "gen_random_uuid()"), ("entity_id", "gen_random_uuid()")):
            forged = f"INSERT INTO system.task_requests (workflow_id, period, filed_by, {column}) VALUES (%s, %s, %s, {value})"
            assert refusal(sql, forged, [workflow, PERIOD, "user:ann"]) == "InsufficientPrivilege"
        for statement in ("UPDATE system.task_requests SET code = 'X'", "DELETE FROM system.task_requests"):
            assert refusal(sql, statement) == "InsufficientPrivilege"
        sql.execute(file, [workflow, PERIOD, "user:pat"])
        assert refusal(sql, file, [workflow, PERIOD, "user:ann"]) == "UniqueViolation"
    close(desk, entity)
    with psycopg.connect(desk.tenant.credentials.desk) as sql:
        assert refusal(sql, file, [workflow, "2025-02", "user:ann"]) == "ENTITY_CLOSED"
    with psycopg.connect(desk.tenant.credentials.app) as app:
        assert refusal(app, file, [workflow, "2025-03", "user:ann"]) == "InsufficientPrivilege"
        settled = "UPDATE system.task_requests SET settled_at = now(), run_id = gen_random_uuid() WHERE entity_id = %s"
        app.execute(settled, [entity])
        assert refusal(app, settled, [entity]) == "REQUEST_IS_SETTLED"
        assert refusal(app, "UPDATE system.task_requests SET filed_by = 'user:ann'") == "InsufficientPrivilege"
    with desk.tenant.as_owner() as owner:
        assert refusal(owner, "DELETE FROM system.task_requests") == "REQUESTS_ARE_KEPT"


def test_the_page_of_a_month_asks_and_tells(desk: DeskAtWork, pat: Browser, eve: Browser, entity: UUID, workflow: UUID) -> None:
    month = f"/entities/{desk.slug(entity)}/periods/{PERIOD}"
    page = pat.get(month).text
    assert f"Run {RUNBOOK}" in page
    assert 'hx-trigger="every 2s"' not in page
    assert f"Run {RUNBOOK}" not in eve.get(month).text
    form = {"workflow": str(workflow), "csrf": pat.csrf}
    told = pat.send("POST", f"{month}/requests/run", data=form)
    assert told.status_code == 200
    assert "waiting to start" in told.text
    assert 'hx-trigger="every 2s"' in told.text
    assert "asked for already" in pat.send("POST", f"{month}/requests/run", data=form).text
    assert eve.send("POST", f"{month}/requests/run", data={**form, "csrf": eve.csrf}).status_code == 403
    ((request,),) = desk.tenant.fetch("SELECT id FROM system.task_requests WHERE entity_id = %s", entity)
    settle(desk, request, run=uuid4())
    assert "started" in eve.get(f"{month}/requests").text
    assert (
        pat.send("POST", f"{month}/requests/run", data={"workflow": str(workflow)}, headers={"X-Ntro-CSRF": ""}).status_code
        == 403
    )
