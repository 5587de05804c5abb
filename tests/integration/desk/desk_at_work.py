"""A desk served as `ntro up` serves it, in a thread, and browsers of its members."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import requests
import uvicorn
from ledger_tenant import PERIOD, Tenant
from psycopg.types.json import Jsonb

from ntro_dagster.desk.passwords import hash_password
from ntro_dagster.desk.server import server_config
from ntro_dagster.desk.settings import Settings
from ntro_dagster.ingest.store import DocumentStore
from ntro_dagster.subledger.review import Applied, apply_signals

HOST = "acme.localhost"
PASSWORD = "correct horse battery staple"
MEMBERS = {
    "user:ann": "approver", "user:bob": "approver", "user:pat": "preparer", "user:eve": "auditor", "user:adm": "admin",
    "agent:bot": "agent",
}  # fmt: skip


class Browser:
    """What a member's browser sends: the cookie, and the token of the page. With a `key` it is a program."""

    def __init__(self, url: str, host: str, *, key: str | None = None) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Host"] = host
        self.csrf = ""
        if key:
            self.session.headers["Authorization"] = f"Bearer {key}"

    @property
    def token(self) -> str:
        """The secret of its session."""
        return str(self.session.cookies["ntro_desk"])

    def log_in(self, name: str, password: str = PASSWORD, **form: str) -> requests.Response:
        answer = self.session.post(
            f"{self.url}/login", data={"name": name, "password": password, **form}, allow_redirects=False, timeout=30
        )
        if answer.status_code == 303:
            found = re.search(r'<meta name="csrf" content="([0-9a-f]+)"', self.get("/history").text)
            assert found
            self.csrf = found[1]
        return answer

    def get(self, path: str, **more: Any) -> requests.Response:
        return self.session.get(self.url + path, timeout=60, allow_redirects=False, **more)

    def send(self, method: str, path: str, json: Any = None, **more: Any) -> requests.Response:
        headers = {"X-Ntro-CSRF": self.csrf, **more.pop("headers", {})}
        return self.session.request(
            method, self.url + path, json=json, headers=headers, timeout=60, allow_redirects=False, **more
        )

    def post(self, path: str, json: Any = None, **more: Any) -> requests.Response:
        return self.send("POST", path, json, **more)

    def ids(self, query: str = "", ledger: str = "expenses") -> list[UUID]:
        answer = self.get(f"/v1/subledgers/{ledger}/index{query}")
        assert answer.status_code == 200, answer.text
        assert len(answer.content) == 17 * int(answer.headers["X-Ntro-Count"])
        return [UUID(bytes=answer.content[at : at + 16]) for at in range(0, len(answer.content), 17)]

    def rows(self, ids: Sequence[UUID], ledger: str = "expenses") -> list[dict[str, Any]]:
        answer = self.post(f"/v1/subledgers/{ledger}/rows", {"ids": [str(each) for each in ids]})
        assert answer.status_code == 200, answer.text
        return answer.json()["rows"]  # type: ignore[no-any-return]

    def decide(self, kind: str, ids: Sequence[UUID], **more: Any) -> requests.Response:
        rows = [{"id": row["id"], "digest": row["digest"]} for row in self.rows(ids)]
        return self.post("/v1/subledgers/expenses/signals", {"kind": kind, "reason": "because", "rows": rows, **more})


@dataclass
class DeskAtWork:
    """Attributes:
    url: where it listens; `host`: what it is called.
    key: of the program `agent:bot`.
    """

    tenant: Tenant
    url: str
    host: str
    documents: Path
    key: str

    @classmethod
    @contextmanager
    def served(cls, tenant: Tenant, documents: Path) -> Iterator[DeskAtWork]:
        hashed = hash_password(PASSWORD)
        key = secrets.token_urlsafe(32)
        tenant.add_members(MEMBERS)
        with tenant.as_owner() as owner:
            owner.execute("UPDATE system.members SET password_hash = %s WHERE role <> 'agent'", [hashed])
            owner.execute(
                "INSERT INTO system.desk_sessions (digest, login, kind) VALUES (%s, 'agent:bot', 'key')",
                [hashlib.sha256(key.encode()).digest()],
            )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = uvicorn.Server(server_config(Settings("acme", tenant.credentials.desk, documents, port, (HOST,))))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        deadline = time.monotonic() + 30
        while not server.started:
            assert thread.is_alive() and time.monotonic() < deadline
            thread.join(0.05)
        try:
            yield cls(tenant, f"http://127.0.0.1:{port}", f"{HOST}:{port}", documents, key)
        finally:
            server.should_exit = True
            thread.join(20)

    def browser(self) -> Browser:
        return Browser(self.url, self.host)

    def logged_in(self, name: str) -> Browser:
        browser = self.browser()
        assert browser.log_in(name).status_code == 303
        return browser

    def program(self) -> Browser:
        return Browser(self.url, self.host, key=self.key)

    def slug(self, entity: UUID) -> str:
        return self.tenant.fetch("SELECT slug FROM system.entities WHERE id = %s", entity)[0][0]  # type: ignore[no-any-return]

    def apply(self, entity: UUID) -> Applied:
        """What the run does."""

        async def run() -> Applied:
            async with self.tenant.database() as database:
                return await apply_signals(self.tenant.handle(entity, database=database), period=PERIOD)

        return asyncio.run(run())

    def document(self, name: str, content: bytes, *, entity: UUID | None = None, lines: Sequence[dict[str, Any]] = ()) -> UUID:
        """One that came in."""
        sha256 = hashlib.sha256(content).hexdigest()
        path = DocumentStore(self.documents).path(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        document = uuid4()
        with psycopg.connect(self.tenant.credentials.app) as app:
            app.execute(
                "INSERT INTO ingest.submitted_documents (id, sha256, name, bytes, source, period, layout, records, submitted_by) "
                "VALUES (%s, %s, %s, %s, 'invoices', %s, '{}', %s, 'operator')",
                [document, bytes.fromhex(sha256), name, len(content), PERIOD, len(lines)],
            )
            app.cursor().executemany(
                "INSERT INTO ingest.submitted_records (id, document_id, line, entity_id, period, raw) "
                "VALUES (%s, %s, %s, %s, %s, %s)",
                [[uuid4(), document, number, entity, PERIOD, Jsonb(raw)] for number, raw in enumerate(lines, 2)],
            )
        return document
