"""Attacks on a desk by what is in it and what is sent to it: documents, names and texts, bodies, requests."""

from __future__ import annotations

import asyncio
import http.client
import secrets
import socket
import threading
from uuid import UUID, uuid4

import psycopg
import pytest
from desk_at_work import Browser, DeskAtWork

from ntro_dagster.desk.patience import ImpatientProtocol

ROWS = "/v1/subledgers/expenses/rows"
NASTY = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


# Files


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static/....//app.py", "/static//etc/passwd",
     "/static/..%5capp.py",
     "/static/%00", "/v1/documents/..%2f..%2fetc%2fpasswd/content", "/v1/documents/../../etc/passwd", "/runs/..%2f..%2fx"],
)  # fmt: skip
def test_no_path_leads_out(ann: Browser, path: str) -> None:
    connection = http.client.HTTPConnection(ann.url.removeprefix("http://"), timeout=30)
    connection.putrequest("GET", path, skip_host=True)  # as it is: `requests` would tidy it up
    connection.putheader("Host", str(ann.session.headers["Host"]))
    connection.putheader("Cookie", f"ntro_desk={ann.token}")
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status in {404, 422, 400}
    assert b"root:" not in answer.read()


@pytest.mark.parametrize(
    ("name", "kind", "how"),
    [
        ("page.html", "application/octet-stream", "attachment"),
        ("page.xhtml", "application/octet-stream", "attachment"),
        ("drawing.svg", "application/octet-stream", "attachment"),
        ("script.js", "application/octet-stream", "attachment"),
        ("table.csv", "text/plain; charset=utf-8", "inline"),
        ("feed.xml", "text/plain; charset=utf-8", "inline"),
        ("really.pdf", "application/pdf", "inline"),
        ("really.PNG", "image/png", "inline"),
        ("none", "application/octet-stream", "attachment"),
    ],
)
def test_no_document_is_a_page(desk: DeskAtWork, ann: Browser, name: str, kind: str, how: str) -> None:
    content = f"<html>{NASTY}{uuid4()}</html>".encode()
    document = desk.document(name, content)
    answer = ann.get(f"/v1/documents/{document}/content")
    assert (answer.status_code, answer.content) == (200, content)
    assert answer.headers["Content-Type"] == kind
    assert answer.headers["Content-Disposition"].startswith(how)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "script-src" not in answer.headers["Content-Security-Policy"]
    if name != "really.pdf":
        assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert desk.browser().get(f"/v1/documents/{document}/content").status_code == 401


@pytest.mark.parametrize(
    "name",
    [
        'a"; filename=evil.html; x=".csv',
        "a\r\nSet-Cookie: a=b\r\n.csv",
        "Bücher €.csv",
        "../../etc/passwd.csv",
        "a\nb.csv",
        "\u202efdp.csv",
    ],
)
def test_a_files_name_is_no_header(desk: DeskAtWork, ann: Browser, name: str) -> None:
    document = desk.document(name, uuid4().bytes)
    answer = ann.get(f"/v1/documents/{document}/content")
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers
    said = answer.headers["Content-Disposition"]
    assert said.isascii()
    assert "evil.html;" not in said
    assert ann.get(f"/v1/documents/{document}").json()["name"] == name


def test_a_document_that_was_changed_is_not_shown(desk: DeskAtWork, ann: Browser) -> None:
    content = uuid4().bytes
    document = desk.document("a.csv", content)
    next(path for path in desk.documents.rglob("*") if path.is_file() and path.read_bytes() == content).write_bytes(b"other")
    answer = ann.get(f"/v1/documents/{document}/content")
    assert answer.json()["error"] == "DOCUMENT_DAMAGED"
    assert str(desk.documents) not in answer.text


# Text


def test_text_of_clients_is_never_markup(desk: DeskAtWork, ann: Browser, bob: Browser, entity: UUID) -> None:
    with desk.tenant.as_owner() as owner:
        owner.execute("UPDATE system.entities SET name = %s WHERE id = %s", [NASTY, entity])
        owner.execute("UPDATE system.members SET name = %s WHERE login = 'user:bob'", [NASTY])
    row = desk.tenant.new_row(entity, vendor=NASTY, notes=NASTY, source_ref=f"doc:{desk.document(NASTY, uuid4().bytes)}#L1")
    assert bob.post(f"{ROWS}/{row}/comments", {"text": NASTY}).status_code == 201
    assert bob.decide("reject", [row], reason=NASTY).status_code == 201
    desk.apply(entity)
    slug, run = desk.slug(entity), uuid4()
    with psycopg.connect(desk.tenant.credentials.app) as app:
        app.execute(
            "INSERT INTO system.errors (id, run_id, step, partition, code, story, advice, traceback) "
            "VALUES (%s, %s, %s, %s, 'STAGING_SLOW', %s, %s, %s)",
            [uuid4(), run, *[NASTY] * 5],
        )
    pages = ("/", "/subledgers/expenses", "/board", "/runs", f"/runs/{run}", "/history",
             f"/entities/{slug}/periods/2025-01/tie-out", f"/entities/{slug}/periods/2025-01",
             f"/entities/{slug}/periods/2025-01/sign-off", f"/entities/{slug}/periods/2025-01/accounts/%3Cscript%3Ealert(1)",
             "/nothing<script>alert(1)</script>")  # fmt: skip
    told = 0
    for path in pages:
        answer = bob.get(path, headers={"Accept": "text/html"})
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8", path
        assert "<script>alert" not in answer.text, path
        assert "<img src=x" not in answer.text, path
        told += "&lt;img src=x" in answer.text
    assert told
    for path in (f"{ROWS}/{row}", "/v1/me", f"/v1/subledgers/expenses/index?q={NASTY}&sort=<b>"):
        answer = bob.get(path)
        assert answer.headers["Content-Type"].startswith("application/json")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (ROWS, {"ids": ["\x00"]}),
        ("/v1/subledgers/expenses/summary", {"kind": "approve", "filter": {"q": "a\x00"}}),
        ("/v1/subledgers/expenses/summary", {"kind": "approve", "filter": {"entity": "a\x00"}}),
        ("/v1/subledgers/expenses/summary", {"kind": "approve", "filter": {"q": "\ud800"}}),
        ("/v1/subledgers/expenses/signals", {"kind": "edit", "reason": "x", "values": {"notes": "\x00"}, "rows": []}),
    ],
)
def test_a_nul_and_half_a_character_are_refused(ann: Browser, path: str, body: object) -> None:
    assert ann.post(path, body).status_code == 422


@pytest.mark.parametrize(
    "query", [{"q": "a\x00"}, {"q": "\ud800"}, {"q": "\\u0000"}, {"\x00": 1}, {"q": "x" * 20_000}, {"q": [[["\x00"]]]}]
)
def test_a_view_that_cannot_be_kept(ann: Browser, query: object) -> None:
    answer = ann.send("PUT", "/v1/views/odd", {"subledger": "expenses", "query": query})
    assert answer.status_code == (204 if query == {"q": "\\u0000"} else 422)
    if answer.status_code == 204:
        assert ann.get("/v1/views").json()[0]["query"] == query
        ann.send("DELETE", "/v1/views/odd")


@pytest.mark.parametrize(
    "body",
    [
        b'{"subledger": "expenses", "query": {"x": NaN}}',
        b"{" * 100_000,
        b"[" * 100_000,
        b'{"query": {"x": 1' + b"0" * 9_000 + b"}}",
        b"\xff\xfe",
        b"",
    ],
)
def test_bodies_that_are_not_json(ann: Browser, body: bytes) -> None:
    answer = ann.send("PUT", "/v1/views/odd", headers={"Content-Type": "application/json"}, data=body)
    assert answer.status_code in {400, 422}


def test_a_huge_body_is_not_read(desk: DeskAtWork, ann: Browser) -> None:
    for length, status in (("33554433", 413), ("99999999999999", 413)):
        connection = http.client.HTTPConnection(desk.url.removeprefix("http://"), timeout=30)
        connection.putrequest("POST", ROWS, skip_host=True)
        for name, value in {"Host": desk.host, "Content-Length": length, "Cookie": f"ntro_desk={ann.token}"}.items():
            connection.putheader(name, value)
        connection.endheaders()
        assert connection.getresponse().status == status


def test_a_body_of_unknown_length_is_not_read(ann: Browser) -> None:
    assert ann.send("POST", ROWS, data=iter([b"{}"])).json()["error"] == "LENGTH_MISSING"


def test_who_dribbles_is_shown_out(desk: DeskAtWork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntro_dagster.desk.patience.ARRIVES_S", 0.3)
    started = f"POST {ROWS} HTTP/1.1\r\nHost: {desk.host}\r\n"
    for sent in ("", started, f"{started}Content-Length: 100\r\n\r\n{{", "\r\n"):
        with socket.create_connection(("127.0.0.1", int(desk.host.partition(":")[2])), timeout=20) as line:
            line.sendall(sent.encode())
            while line.recv(65_536):
                pass  # until the desk hangs up: a timeout fails the test
    assert desk.browser().get("/health").status_code == 200


def test_who_waits_for_an_answer_is_not_shown_out(desk: DeskAtWork, ann: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one that sends the next request's beginning meanwhile."""
    arrived = threading.Event()

    async def slow(*_: object) -> dict[str, dict[str, object]]:
        await asyncio.to_thread(arrived.wait, 20)
        return {group: {"count": 0, "oldest": None} for group in ("ready", "mine", "waiting", "assigned", "changed")}

    closed: list[object] = []
    monkeypatch.setattr("ntro_dagster.desk.api.count_groups", slow)
    monkeypatch.setattr("ntro_dagster.desk.patience.ARRIVES_S", 0.05)
    given_up = ImpatientProtocol._give_up
    monkeypatch.setattr(ImpatientProtocol, "_give_up", lambda self: (given_up(self), closed.append(self), arrived.set()))
    request = f"GET /v1/subledgers/expenses/groups HTTP/1.1\r\nHost: {desk.host}\r\nCookie: ntro_desk={ann.token}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(desk.host.partition(":")[2])), timeout=20) as line:
        line.sendall(request.encode() + b"GET /hea")
        assert line.recv(65_536).startswith(b"HTTP/1.1 200")
        while line.recv(65_536):
            pass  # the next request never arrives, and is not waited for
    assert closed


@pytest.mark.parametrize(
    "smuggled",
    [
        "Content-Length: 0\r\nContent-Length: 5",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: -1",
        "Content-Length: 0x5",
        "Transfer-Encoding : chunked",
    ],
)
def test_a_second_request_is_not_smuggled(desk: DeskAtWork, smuggled: str) -> None:
    with socket.create_connection(("127.0.0.1", int(desk.host.partition(":")[2])), timeout=30) as line:
        line.sendall(f"POST {ROWS} HTTP/1.1\r\nHost: {desk.host}\r\n{smuggled}\r\nConnection: close\r\n\r\n0\r\n\r\n".encode())
        answers = b""
        while more := line.recv(65_536):
            answers += more
    assert answers.count(b"HTTP/1.1 ") == 1
    assert answers.split()[1] in {b"400", b"411", b"413"}


def test_what_fails_tells_nothing(desk: DeskAtWork, ann: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = secrets.token_hex(8)

    async def broken(*_: object) -> None:
        raise psycopg.DataError(secret)

    monkeypatch.setattr("ntro_dagster.desk.api.count_groups", broken)
    answer = ann.get("/v1/subledgers/expenses/groups")
    assert (answer.status_code, answer.json()["error"]) == (500, "DESK_FAILED")
    assert secret not in answer.text
    assert "Traceback" not in answer.text
