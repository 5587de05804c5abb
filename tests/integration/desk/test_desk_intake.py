"""Documents and records in from the desk: filed as the operator's command files them, as who sent them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from desk_at_work import Browser, DeskAtWork
from ledger_tenant import PERIOD, Connection, refusal
from psycopg.types.json import Jsonb

from ntro_dagster.desk import intake
from ntro_dagster.ingest.store import DocumentStore

SOURCE, TABLE = "spend-return", "agent-rents"


@pytest.fixture(scope="module", autouse=True)
def readers(desk: DeskAtWork) -> None:
    with desk.tenant.as_owner() as owner:
        owner.execute(
            "INSERT INTO ingest.readers VALUES (%s, 'expenses'), (%s, 'expenses') ON CONFLICT DO NOTHING", [SOURCE, TABLE]
        )
        owner.execute(
            "INSERT INTO ingest.sources VALUES (%s, 'rents', %s) ON CONFLICT DO NOTHING",
            [TABLE, Jsonb({"reader": "table", "period": "month"})],
        )


def spending(lines: int = 2) -> bytes:
    """A return that nobody has handed in before."""
    unique = uuid4().hex
    rows = "".join(f"0{n % 9 + 1}/01/2025,Supplier {unique},{n}.50\n" for n in range(1, lines + 1))
    return f"Date,Supplier,Amount\n{rows}".encode()


def send(browser: Browser, path: str, content: bytes, name: str | None = "January.csv", source: str = SOURCE) -> Any:
    query = {"source": source} | ({"name": name} if name is not None else {})
    answer = browser.post(path, data=content, params=query, headers={"Content-Type": "application/octet-stream"})
    return answer.status_code, answer.json()


def filed(desk: DeskAtWork, entity: UUID) -> list[tuple[Any, ...]]:
    return desk.tenant.fetch(
        "SELECT d.name, d.submitted_by, d.source, d.records, i.subledger, i.period, i.staged_at "
        "FROM ingest.submitted_documents d JOIN ingest.intake i ON i.document_id = d.id "
        "WHERE i.entity_id = %s ORDER BY d.submitted_at",
        entity,
    )


def test_a_document_of_a_task(desk: DeskAtWork, pat: Browser, eve: Browser, entity: UUID, task: UUID) -> None:
    content = spending(3)
    status, told = send(pat, f"/v1/tasks/{task}/files", content)
    assert (status, told["status"], told["parsed_rows"], told["period"]) == (201, "accepted", 3, PERIOD)
    assert filed(desk, entity) == [("January.csv", "user:pat", SOURCE, 3, "expenses", PERIOD, None)]
    sha256 = hashlib.sha256(content).hexdigest()
    assert DocumentStore(desk.documents).verify(sha256).read_bytes() == content
    assert eve.get(f"/v1/documents/{told['document_id']}/content").content == content
    assert [each["name"] for each in eve.get(f"/v1/tasks/{task}/files").json()] == ["January.csv"]
    again, same = send(pat, f"/v1/tasks/{task}/files", content, "Again.csv")
    assert (again, same["status"], same["document_id"]) == (201, "duplicate", told["document_id"])
    assert len(filed(desk, entity)) == 1


def test_a_form_brings_it_too_and_a_path_is_no_name(desk: DeskAtWork, ann: Browser, entity: UUID, task: UUID) -> None:
    answer = ann.post(
        f"/v1/tasks/{task}/files",
        params={"source": SOURCE},
        files={"file": ("C:\\Users\\ann\\Q1 <b>.csv", spending(), "application/pdf")},
    )
    assert answer.status_code == 201, answer.text
    assert filed(desk, entity)[0][:2] == ("Q1 <b>.csv", "user:ann")
    assert ann.post(f"/v1/tasks/{task}/files", params={"source": SOURCE}, files={"other": b"x"}).json()["error"] == "FILE_MISSING"


def test_a_month_without_a_run_takes_documents(desk: DeskAtWork, pat: Browser, entity: UUID) -> None:
    status, told = send(pat, f"/v1/entities/{entity}/files?period={PERIOD}", spending())
    assert (status, told["status"]) == (201, "accepted")
    assert filed(desk, entity)[0][5] == PERIOD
    for period, code in (("2009-01", "PERIOD_OUT_OF_RANGE"), ("2025-13", "BODY_INVALID")):
        answer = send(pat, f"/v1/entities/{entity}/files?period={period}", spending())
        assert (answer[0], answer[1]["error"]) == (400, code)
    assert send(pat, f"/v1/entities/{uuid4()}/files?period={PERIOD}", spending())[0] == 404


def test_records_keep_the_text_they_are_written_in(desk: DeskAtWork, ann: Browser, entity: UUID, task: UUID) -> None:
    body = (
        f'[{{"tenant": "{uuid4()}", "month": "{PERIOD}", "rent": 1250.10, "note": null}}, {{"rent": "x", "month": "{PERIOD}"}}]'
    )
    answer = ann.post(f"/v1/tasks/{task}/data/ingest", data=body.encode(), params={"source": TABLE})
    assert answer.status_code == 201, answer.text
    document = answer.json()["document_id"]
    raws = desk.tenant.fetch(
        "SELECT line, raw, entity_id FROM ingest.submitted_records WHERE document_id = %s ORDER BY 1", document
    )
    assert [(line, raw["rent"], owner) for line, raw, owner in raws] == [(1, "1250.10", entity), (2, "x", entity)]
    assert filed(desk, entity)[0][:4] == ("records.json", "user:ann", TABLE, 2)
    assert ann.get(f"/v1/documents/{document}/content").text == body


@pytest.mark.parametrize(
    ("content", "source", "name", "status", "code"),
    [
        (b"%PDF-1.7 what a browser calls text/csv", SOURCE, "a.csv", 400, "DOCUMENT_BINARY"),
        (b"PK\x03\x04", SOURCE, "a.csv", 400, "DOCUMENT_BINARY"),
        (b"", SOURCE, "a.csv", 400, "DOCUMENT_EMPTY"),
        (b"[{]", TABLE, "a.json", 400, "DOCUMENT_UNREADABLE"),
        (b'["a"]', TABLE, "a.json", 400, "DOCUMENT_NOT_A_TABLE"),
        (b"a,b\n1,2\n", TABLE, "a.csv", 400, "DOCUMENT_NOT_A_TABLE"),
        (b"month\n2024-12\n", TABLE, "a.csv", 400, "DOCUMENT_NAMES_OTHER_MONTHS"),
        (b"month\n2025-01\n", "nobody-reads", "a.csv", 400, "SOURCE_UNKNOWN"),
        (b"month\n2025-01\n", TABLE, None, 400, "FILE_MISSING"),
        (b"month\n2025-01\n", TABLE, "dir/", 400, "FILE_NAME_INVALID"),
        (b"month\n2025-01\n", TABLE, "a\nb.csv", 400, "FILE_NAME_INVALID"),
    ],
)
def test_what_is_refused_leaves_nothing(
    desk: DeskAtWork,
    ann: Browser,
    entity: UUID,
    task: UUID,
    *,
    content: bytes,
    source: str,
    name: str | None,
    status: int,
    code: str,
) -> None:
    told, answer = send(ann, f"/v1/tasks/{task}/files", content, name, source)
    assert (told, answer["error"]) == (status, code)
    assert answer["advice"]
    assert filed(desk, entity) == []
    assert not [*desk.documents.glob(".incoming-*")]


def test_the_same_bytes_for_another_month_or_entity_are_refused(desk: DeskAtWork, ann: Browser, entity: UUID) -> None:
    content = spending()
    assert send(ann, f"/v1/entities/{entity}/files?period={PERIOD}", content)[0] == 201
    for path in (f"/v1/entities/{entity}/files?period=2025-02", f"/v1/entities/{desk.tenant.new_entity()}/files?period={PERIOD}"):
        status, answer = send(ann, path, content)
        assert (status, answer["error"]) == (409, "DOCUMENT_FILED_ELSEWHERE")


def test_who_may_hand_in_and_for_whom(desk: DeskAtWork, eve: Browser, ann: Browser, entity: UUID, task: UUID) -> None:
    for browser in (eve, desk.program(), desk.logged_in("adm")):
        for path in (f"/v1/tasks/{task}/files", f"/v1/tasks/{task}/data/ingest", f"/v1/entities/{entity}/files?period={PERIOD}"):
            status, answer = send(browser, path, spending())
            assert (status, answer["error"]) == (403, "ROLE_MAY_NOT")
    assert send(ann, f"/v1/tasks/{uuid4()}/files", spending())[0] == 404
    with desk.tenant.as_owner() as owner:
        owner.execute("UPDATE system.entities SET status = 'CLOSED' WHERE id = %s", [entity])
    status, answer = send(ann, f"/v1/tasks/{task}/files", spending())
    assert (status, answer["error"]) == (409, "ENTITY_CLOSED")
    assert filed(desk, entity) == []


def test_a_third_at_once_is_asked_to_come_back(
    desk: DeskAtWork, ann: Browser, entity: UUID, task: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncio.Semaphore.locked", lambda _: True)
    status, answer = send(ann, f"/v1/tasks/{task}/files", spending())
    assert (status, answer["error"]) == (503, "INTAKE_BUSY")
    assert intake.IntakeBusyError.summary in answer["message"]


# -- the credential in the wrong hands


@pytest.fixture
def sql(desk: DeskAtWork) -> Iterator[Connection]:
    with psycopg.connect(desk.tenant.credentials.desk) as connection:
        yield connection
        connection.rollback()


DOCUMENT = (
    "INSERT INTO ingest.submitted_documents (id, sha256, name, bytes, source, period, layout, records, submitted_by) "
    "VALUES (%s, %s, 'a', 1, 'spend-return', '2025-01', '{}', 1, %s)"
)
RECORD = (
    "INSERT INTO ingest.submitted_records (id, document_id, line, entity_id, period, raw) "
    "VALUES (%s, %s, %s, %s, '2025-01', '{}')"
)
INTAKE = "INSERT INTO ingest.intake (document_id, entity_id, subledger, period, records) VALUES (%s, %s, %s, '2025-01', 1)"


def test_the_desks_role_files_whole_documents_of_members_and_nothing_else(
    desk: DeskAtWork, sql: Connection, ann: Browser, entity: UUID
) -> None:
    _, old = send(ann, f"/v1/entities/{entity}/files?period={PERIOD}", spending())
    for login, code in (("user:eve", "ROLE_MAY_NOT"), ("agent:bot", "ROLE_MAY_NOT"), ("operator", "NOT_A_MEMBER")):
        assert refusal(sql, DOCUMENT, [uuid4(), hashlib.sha256(login.encode()).digest(), login]) == code
    assert refusal(sql, RECORD, [uuid4(), old["document_id"], 99, entity]) == "DOCUMENTS_ARE_IMMUTABLE"
    assert refusal(sql, INTAKE, [old["document_id"], entity, "journal_proposals"]) == "DOCUMENTS_ARE_IMMUTABLE"
    for statement in (
        "UPDATE ingest.submitted_documents SET name = 'b'",
        "UPDATE ingest.intake SET staged_at = now()",
        "DELETE FROM ingest.submitted_records",
        "INSERT INTO ingest.submitted_documents (submitted_at) VALUES (now())",
        "INSERT INTO ingest.intake (staged_at) VALUES (now())",
        "INSERT INTO ingest.readers VALUES ('a', 'b')",
    ):
        assert refusal(sql, statement) == "InsufficientPrivilege", statement
    closed = desk.tenant.new_entity()
    with desk.tenant.as_owner() as owner:
        owner.execute("UPDATE system.entities SET status = 'CLOSED' WHERE id = %s", [closed])
    document = uuid4()
    sql.execute(DOCUMENT, [document, hashlib.sha256(document.bytes).digest(), "user:ann"])
    assert refusal(sql, INTAKE, [document, closed, "expenses"]) == "ENTITY_CLOSED"


# -- the page


def test_the_page_takes_files_and_tells_of_each(desk: DeskAtWork, pat: Browser, eve: Browser, entity: UUID) -> None:
    month = f"/entities/{desk.slug(entity)}/periods/{PERIOD}"
    assert 'name="files"' in pat.get(month).text
    assert 'name="files"' not in eve.get(month).text
    answer = pat.send(
        "POST",
        f"{month}/requests/files",
        data={"source": SOURCE},
        files=[
            ("files", ("<i>one.csv", spending())),
            ("files", ("two.pdf", b"%PDF-1.4")),
            ("files", ("three.csv", spending(3))),
        ],
    )
    assert answer.status_code == 200
    assert "&lt;i&gt;one.csv" in answer.text
    assert ">two.pdf is not text" in answer.text
    assert "3 records" in answer.text
    assert "waiting for a run" in answer.text
    assert 'hx-trigger="every 2s"' in answer.text
    assert {name for name, *_ in filed(desk, entity)} == {"<i>one.csv", "three.csv"}
    refused = eve.send("POST", f"{month}/requests/files", data={"source": SOURCE}, files=[("files", ("a.csv", spending()))])
    assert refused.status_code == 403


def test_a_body_is_not_held_in_memory(
    desk: DeskAtWork, ann: Browser, entity: UUID, task: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    async def looked(*args: Any, **named: Any) -> Any:
        seen.append(args[1]._rolled)
        return await take_in(*args, **named)

    take_in = intake.take_in
    monkeypatch.setattr(intake, "take_in", looked)
    assert send(ann, f"/v1/tasks/{task}/files", spending(60_000))[0] == 201
    assert send(ann, f"/v1/tasks/{task}/files", spending(2))[0] == 201
    assert seen == [True, False]
    assert json.loads(ann.get(f"/v1/tasks/{task}/files").text)
