"""A general ledger of somebody else's, that speaks what Xero and ERPNext document, and misbehaves: a process of its own.

It commits and then does not answer, answers 500 after success, commits late, resets connections, asks us to wait, forgets
idempotency keys, and answers in another order. What it does is drawn from a seed, or told call by call (`script`).

    python misbehaving_server.py      prints its port, and serves until its standard input ends
"""

from __future__ import annotations

import json
import random
import re
import socket
import struct
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

WRITES = (
    "ok", "commit_then_silence", "silence", "commit_late", "commit_then_500", "500", "commit_then_reset", "reset", "429", "503",
    "commit_then_garbage",
)  # fmt: skip
READS = ("ok", "500", "reset", "429", "silence")


@dataclass
class Journal:
    reference: str
    place: str
    external_id: str
    day: str
    lines: list[tuple[str, str]]
    status: str
    document: dict[str, Any]


@dataclass
class Mood:
    """How it behaves towards one organisation or company. Weights by word; a script comes first."""

    writes: dict[str, float] = field(default_factory=lambda: {"ok": 1.0})
    reads: dict[str, float] = field(default_factory=lambda: {"ok": 1.0})
    script: list[str] = field(default_factory=list)
    read_script: list[str] = field(default_factory=list)
    silence_s: float = 3.0
    late_s: float = 0.5
    slow_s: float = 0.0
    retry_after: str = "1"
    remembers: float = 0.5
    unique: bool = False
    unknown_accounts: list[str] = field(default_factory=list)
    refuses: list[str] = field(default_factory=list)
    seed: int = 0


class Ledger:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.journals: list[Journal] = []
        self.moods: dict[str, Mood] = {}
        self.randoms: dict[str, random.Random] = {}
        self.keys: dict[tuple[str, str], list[Journal]] = {}
        self.calls: dict[str, list[str]] = {}

    def mood(self, place: str) -> Mood:
        return self.moods.setdefault(place, Mood())

    def chance(self, place: str) -> random.Random:
        return self.randoms.setdefault(place, random.Random(self.mood(place).seed))  # noqa: S311 - chance

    def next(self, place: str, *, write: bool) -> str:
        with self.lock:
            mood = self.mood(place)
            script, weights = (mood.script, mood.writes) if write else (mood.read_script, mood.reads)
            word = script.pop(0) if script else self.chance(place).choices(list(weights), list(weights.values()))[0]
            self.calls.setdefault(place, []).append(f"{'write' if write else 'read'} {word}")
            return word


LEDGER = Ledger()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    # ---- what goes over the wire

    def answer(self, status: int, content: Any, headers: Mapping[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content, default=float).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def silence(self, seconds: float) -> None:
        time.sleep(seconds)
        self.close_connection = True

    @property
    def body(self) -> Any:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return json.loads(text, parse_float=Decimal) if text[:1] in {b"{", b"["} else text

    # ---- moods

    def trouble(self, word: str, mood: Mood) -> bool:
        """Whether that was all there is to it."""
        match word:
            case "429":
                self.answer(429, {}, {"Retry-After": mood.retry_after, "X-Rate-Limit-Problem": "minute"})
            case "500":
                self.answer(500, b"<html>oops</html>")
            case "503":
                self.answer(503, {"message": "maintenance"})
            case "reset":
                self.reset()
            case "silence":
                self.silence(mood.silence_s)
            case _:
                return False
        return True

    def written(self, place: str, commit: Any) -> None:
        """Args: `commit`: does it, and returns the answer's status and content."""
        mood, word = LEDGER.mood(place), LEDGER.next(place, write=True)
        time.sleep(mood.slow_s)
        if self.trouble(word, mood):
            return
        if word == "commit_late":
            threading.Timer(mood.late_s, commit).start()
            self.silence(mood.silence_s)
            return
        status, content = commit()
        match word:
            case "commit_then_silence":
                self.silence(mood.silence_s)
            case "commit_then_500":
                self.answer(500, b"<html>oops</html>")
            case "commit_then_reset":
                self.reset()
            case "commit_then_garbage":
                self.answer(200, b"<html>welcome to the captive portal</html>")
            case _:
                self.answer(status, content)

    def read_out(self, place: str, status: int, content: Any) -> None:
        word = LEDGER.next(place, write=False)
        if not self.trouble(word, LEDGER.mood(place)):
            self.answer(status, content)

    # ---- routes

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), {name: values[0] for name, values in parse_qs(parts.query).items()}
        if path == "/_state":
            with LEDGER.lock:
                standing = [vars(each) for each in LEDGER.journals if each.place == query["place"]]
            return self.answer(200, {"journals": standing, "calls": LEDGER.calls.get(query["place"], [])})
        if path.startswith("/api.xro/2.0/"):
            return self.xero_get(path.removeprefix("/api.xro/2.0"), query)
        return self.erpnext_get(path, query)

    def do_POST(self) -> None:
        path, body = unquote(urlsplit(self.path).path), self.body
        if path == "/_mood":
            with LEDGER.lock:
                body = json.loads(json.dumps(body, default=float))
                place = body.pop("place")
                LEDGER.moods[place] = Mood(**body)
                LEDGER.randoms.pop(place, None)
            return self.answer(200, {})
        if path == "/connect/token":
            good = self.headers.get("Authorization") == "Basic aWQ6c2VjcmV0"  # id:secret
            return self.answer(
                200 if good else 400, {"access_token": "t0ken", "expires_in": 1800} if good else {"error": "invalid_client"}
            )
        if path.startswith("/api.xro/2.0/ManualJournals/"):
            return self.xero_change(path.rpartition("/")[2], body["ManualJournals"][0])
        return self.erpnext_create(path, body)

    def do_PUT(self) -> None:
        path, body = unquote(urlsplit(self.path).path), self.body
        if path == "/api.xro/2.0/ManualJournals":
            return self.xero_create(body["ManualJournals"])
        return self.erpnext_cancel(path.rpartition("/")[2], body)

    # ---- Xero

    def organisation(self) -> str:
        return self.headers.get("Xero-tenant-id", "") if self.headers.get("Authorization") == "Bearer t0ken" else ""

    def xero_get(self, path: str, query: Mapping[str, str]) -> None:
        place = self.organisation()
        if not place:
            return self.answer(401, {"Title": "Unauthorized", "Detail": "AuthenticationUnsuccessful"})
        with LEDGER.lock:
            mine = [each for each in LEDGER.journals if each.place == place]
        if path == "/ManualJournals":
            first, after = re.findall(r"DateTime\((\d+), (\d+), (\d+)\)", query["where"])
            mine = [each for each in mine if "-".join(first) <= each.day < "-".join(after)]
            page = int(query["page"])
            mine = sorted(mine, key=lambda each: each.day)[(page - 1) * 100 : page * 100]
            LEDGER.chance(place).shuffle(mine)
            return self.read_out(place, 200, {"Status": "OK", "ManualJournals": [self.xero_shape(each) for each in mine]})
        if path.startswith("/ManualJournals/"):
            found = [self.xero_shape(each) for each in mine if each.reference == path.rpartition("/")[2]]
            return self.read_out(place, 200 if found else 404, {"ManualJournals": found})
        if path == "/Accounts":
            known = [
                {"Code": str(code), "Name": f"Account {code}", "Class": "EXPENSE", "Status": "ACTIVE"} for code in (1000, 5999)
            ]
            return self.read_out(place, 200, {"Accounts": known})
        sums: dict[str, Decimal] = {}
        for each in mine:
            for account, amount in each.lines if each.status == "POSTED" and each.day <= query["date"] else ():
                sums[account] = sums.get(account, Decimal(0)) + Decimal(amount)
        rows = [
            {
                "RowType": "Row",
                "Cells": [
                    {"Value": f"Account ({account})"}, {"Value": ""}, {"Value": ""},
                    {"Value": f"{x:.2f}" if x > 0 else ""}, {"Value": f"{-x:.2f}" if x < 0 else ""},
                ],
            }
            for account, x in sums.items()
        ]  # fmt: skip
        report = {"ReportID": "TrialBalance", "Rows": [{"RowType": "Header", "Cells": []}, {"RowType": "Section", "Rows": rows}]}
        return self.read_out(place, 200, {"Reports": [report]})

    def xero_shape(self, each: Journal) -> dict[str, Any]:
        day = int(time.mktime(time.strptime(each.day + " UTC", "%Y-%m-%d %Z"))) - time.timezone
        lines = [{"AccountCode": code, "LineAmount": float(amount), "TaxType": "NONE"} for code, amount in each.lines]
        return {
            "ManualJournalID": each.reference, "Narration": each.document["Narration"], "Date": f"/Date({day}000+0000)/",
            "Status": each.status, "LineAmountTypes": "NoTax", "JournalLines": lines,
        }  # fmt: skip

    def xero_create(self, journals: Sequence[dict[str, Any]]) -> None:
        place, key = self.organisation(), self.headers.get("Idempotency-Key", "")
        if not place:
            return self.answer(401, {"Title": "Unauthorized"})

        def commit() -> tuple[int, Any]:
            mood = LEDGER.mood(place)
            with LEDGER.lock:
                if key and (place, key) in LEDGER.keys:
                    return 200, {"ManualJournals": [self.xero_shape(each) for each in LEDGER.keys[place, key]]}
                answers, made = [], []
                for document in journals:
                    lines = [(str(x["AccountCode"]), f"{Decimal(str(x['LineAmount'])):.2f}") for x in document["JournalLines"]]
                    wrong = [code for code, _ in lines if code in mood.unknown_accounts]
                    if wrong or sum(Decimal(amount) for _, amount in lines) != 0:
                        message = f"Account code '{wrong[0]}' is not a valid code" if wrong else "debits must equal credits"
                        answers.append({**document, "StatusAttributeString": "ERROR", "ValidationErrors": [{"Message": message}]})
                        continue
                    external_id = document["Narration"].rpartition("[")[2].rstrip("]")
                    each = Journal(str(uuid.uuid4()), place, external_id, document["Date"], lines, document["Status"], document)
                    LEDGER.journals.append(each)
                    made.append(each)
                    answers.append({**self.xero_shape(each), "StatusAttributeString": "OK"})
                if LEDGER.chance(place).random() < mood.remembers:
                    LEDGER.keys[place, key] = made
                LEDGER.chance(place).shuffle(answers)
                return 200, {"Status": "OK", "ManualJournals": json.loads(json.dumps(answers, default=float))}

        return self.written(place, commit)

    def xero_change(self, reference: str, change: Mapping[str, Any]) -> None:
        place = self.organisation()

        def commit() -> tuple[int, Any]:
            with LEDGER.lock:
                found = [each for each in LEDGER.journals if (each.place, each.reference) == (place, reference)]
                for each in found:
                    each.status = change["Status"]
                return (200 if found else 404), {"ManualJournals": [self.xero_shape(each) for each in found]}

        return self.written(place, commit)

    # ---- ERPNext

    def allowed(self) -> bool:
        return self.headers.get("Authorization") == "token key:secret"

    def erpnext_get(self, path: str, query: Mapping[str, str]) -> None:
        if not self.allowed():
            return self.answer(401, {"exc_type": "AuthenticationError"})
        doctype, _, name = path.removeprefix("/api/resource/").partition("/")
        with LEDGER.lock:
            everything = list(LEDGER.journals)
        if name:
            found = [each for each in everything if each.reference == name]
            if not found:
                return self.answer(404, {"exc_type": "DoesNotExistError"})
            return self.read_out(found[0].place, 200, {"data": found[0].document})
        filters = {field: (operator, value) for field, operator, value in json.loads(query["filters"])}
        place = filters["company"][1]
        mine = [each for each in everything if each.place == place]
        if doctype == "Account":
            codes = ("1000", "1400", "2000", "3000", "4000", "5000", "5100", "5200", "5900", "5950", "5999")
            data = [
                {
                    "name": f"{code} - Account - X",
                    "account_number": code,
                    "account_name": "Account",
                    "root_type": "Expense",
                    "disabled": 0,
                }
                for code in codes
            ]
        elif doctype == "GL Entry":
            data = [
                {"account": account, "debit": float(max(Decimal(x), Decimal(0))), "credit": float(max(-Decimal(x), Decimal(0)))}
                for each in mine
                if each.document["docstatus"] == 1 and each.day <= filters["posting_date"][1]
                for account, x in each.lines
            ][int(query["limit_start"]) :][: int(query["limit_page_length"])]
        else:
            reference = next(field for field, (operator, _) in filters.items() if operator == "in")
            data = [
                {"name": each.reference, reference: each.document.get(reference)}
                for each in mine
                if each.document["docstatus"] == 1 and each.document.get(reference) in filters[reference][1]
            ]
            LEDGER.chance(place).shuffle(data)
        return self.read_out(place, 200, {"data": data})

    def erpnext_create(self, path: str, document: dict[str, Any]) -> None:
        if not self.allowed() or path != "/api/resource/Journal Entry":
            return self.answer(401, {"exc_type": "AuthenticationError"})
        place = document["company"]

        def commit() -> tuple[int, Any]:
            mood = LEDGER.mood(place)
            with LEDGER.lock:
                standing = [x for x in LEDGER.journals if x.place == place and x.external_id == document["cheque_no"]]
                if mood.unique and any(x.document["docstatus"] == 1 for x in standing):
                    return 417, {"exc_type": "UniqueValidationError", "exception": "cheque_no must be unique"}
                lines = [
                    (x["account"], f"{Decimal(x['debit_in_account_currency']) - Decimal(x['credit_in_account_currency']):.2f}")
                    for x in document["accounts"]
                ]
                if any(account.split(" - ")[0] in mood.unknown_accounts for account, _ in lines):
                    return 417, {
                        "exc_type": "ValidationError",
                        "exception": "frappe.exceptions.ValidationError: account is frozen",
                    }
                name = f"ACC-JV-2026-{len(LEDGER.journals) + 1:05d}"
                numbers = [
                    x | {side: float(x[side]) for side in ("debit_in_account_currency", "credit_in_account_currency")}
                    for x in document["accounts"]
                ]
                stored = document | {"name": name, "accounts": numbers}
                LEDGER.journals.append(Journal(name, place, document["cheque_no"], document["posting_date"], lines, "1", stored))
                return 200, {"data": stored}

        return self.written(place, commit)

    def erpnext_cancel(self, name: str, change: Mapping[str, Any]) -> None:
        with LEDGER.lock:
            (each,) = [each for each in LEDGER.journals if each.reference == name]

        def commit() -> tuple[int, Any]:
            with LEDGER.lock:
                each.document["docstatus"] = int(change["docstatus"])
                each.status = str(each.document["docstatus"])
            return 200, {"data": each.document}

        return self.written(each.place, commit)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """Clients that went away are what this is about; anything else is our own mistake."""
        if not isinstance(sys.exc_info()[1], ConnectionError | ValueError):
            super().handle_error(*_)


if __name__ == "__main__":
    server = _Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
