"""The API against its own document: whatever is sent, no failure of the server, no status and no answer that it does not name."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import hypothesis
import psycopg
import pytest
import schemathesis
from desk_at_work import HOST, DeskAtWork
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from ntro_dagster.desk.app import create_app
from ntro_dagster.desk.export import XLSX
from ntro_dagster.desk.members import make_key
from ntro_dagster.desk.settings import Settings

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
SCHEMA = schemathesis.openapi.from_dict(create_app(Settings("acme", "", Path(), 1, (HOST,))).openapi())
schemathesis.serializer.alias(XLSX, "application/octet-stream")
ALWAYS = {"deadline": None, "database": None, "derandomize": True, "suppress_health_check": list(hypothesis.HealthCheck)}


@pytest.fixture(scope="module")
def world(desk: DeskAtWork) -> dict[str, Any]:
    """What is there to be found: a row with a source and a history, a decision, a document."""
    entity = desk.tenant.new_entity()
    document = desk.document(
        "January.csv", b"Payee,Total\nSmith,120\n", entity=entity, lines=[{"Payee": "Smith", "Total": "120"}]
    )
    row = desk.tenant.new_row(entity, source_ref=f"doc:{document}#L2", status="NEEDS_ATTENTION", expense_date="2025-01-03")
    signal = desk.tenant.file("edit", [desk.tenant.new_row(entity)], by="user:pat", payload={"notes": "x"})
    workflow, run = uuid4(), uuid4()
    with desk.tenant.as_owner() as owner:
        owner.execute("INSERT INTO ingest.readers VALUES ('spend-return', 'expenses') ON CONFLICT DO NOTHING")
        owner.execute(
            "INSERT INTO system.workflows (id, runbook, entity_id, armed_at, created_at) "
            "VALUES (%s, 'capital-calls', %s, now(), now())",
            [workflow, entity],
        )
    with psycopg.connect(desk.tenant.credentials.desk) as filing:
        ((request,),) = filing.execute(
            "INSERT INTO system.task_requests (workflow_id, period, filed_by) VALUES (%s, '2025-01', 'user:ann') RETURNING id",
            [workflow],
        ).fetchall()
    with psycopg.connect(desk.tenant.credentials.app) as app:
        app.execute(
            "INSERT INTO system.runs (run_id, entity_id, period, code, runbook, version) "
            "VALUES (%s, %s, '2025-01', 's_0123456789ab', 'capital-calls', 'v_0123456789ab')",
            [run, entity],
        )
    _, key = make_key(desk.tenant.credentials.owner, "user:ann", "ops")
    known = {"ledger": "expenses", "row_id": row, "document_id": document, "signal_id": signal, "entity_id": entity}
    known |= {"request_id": request, "task_id": run}
    return {"url": desk.url, "known": known, "headers": {"Host": desk.host, "Authorization": f"Bearer {key}"}}


def tried(case: schemathesis.Case, world: dict[str, Any]) -> None:
    """Where an id could be one, it is one that is there: what is missing is answered by every route alike."""
    for name, value in (case.path_parameters or {}).items():
        if name in world["known"] and (_is_id(value) or (name == "ledger" and str(value).isidentifier())):
            case.path_parameters[name] = str(world["known"][name])
    answer = case.call(base_url=world["url"], headers=world["headers"], timeout=30)
    assert answer.status_code < 500 or answer.status_code == 501, answer.text
    case.validate_response(answer, checks=CHECKS)


def _is_id(value: object) -> bool:
    try:
        UUID(str(value))
    except ValueError:
        return False
    return True


@SCHEMA.parametrize()
@hypothesis.settings(max_examples=10, **ALWAYS)
def test_the_api_is_what_its_document_says(case: schemathesis.Case, world: dict[str, Any]) -> None:
    tried(case, world)


@pytest.mark.long
@SCHEMA.parametrize()
@hypothesis.settings(max_examples=400, **ALWAYS)
def test_the_api_is_what_its_document_says_for_long(case: schemathesis.Case, world: dict[str, Any]) -> None:
    tried(case, world)


def test_every_answer_has_a_shape() -> None:
    for path, operations in SCHEMA.raw_schema["paths"].items():
        for method, operation in operations.items():
            good = [answer for status, answer in operation["responses"].items() if status.startswith("2") or status == "501"]
            assert good, (method, path)
            for answer in good:
                for kind, body in answer.get("content", {}).items():
                    if kind == "application/json":
                        assert {"$ref", "items", "additionalProperties"} & set(body["schema"]), (method, path)
                        assert body["schema"].get("additionalProperties") is not True, (method, path)
