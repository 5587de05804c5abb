"""A month-end at the desk, by two people and an agent, with the keyboard alone.

Every error that was put into the document ends repaired or rejected, no approval of something else than what its author saw
reaches the ledger, and no edit is lost.
"""

from __future__ import annotations

import csv
import json
import random
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from chromium import program
from installed import APPROVER, HEADER, PREPARER, Client, Site, add_tenant, eventually, installed
from keyboard import chromium
from playwright.sync_api import Page

from ntro_dagster.desk.members import add_member, make_key
from ntro_dagster.desk.roles import MemberRole
from ntro_dagster.host.home import Role
from ntro_dagster.host.installation import credential

PERIOD, ENTITY, AGENT = "2026-03", "spv-1", "agent:reader"
PASSWORD = "four words of a pass"
SUPPLIERS = ("Kestrel Property Services", "Birchwater Audit", "Northlight Energy", "Halyard Telecom", "Osier Consulting")
FOUND = "Copperfield Insurance Brokers"
"""What the preparer finds on the paper, where the document names no supplier."""
SEEN_MS = 20_000.0


@dataclass(frozen=True)
class Seeded:
    """A document with errors in it: its lines by what is wrong with them, from 2 on."""

    path: Path
    rows: int
    nameless: frozenset[int]
    negative: frozenset[int]
    copies: frozenset[int]


def write(path: Path, rows: int) -> Seeded:
    """10 % wrong (half without a supplier, half with an amount below zero), 3 % entered twice."""
    chance = random.Random(rows)  # noqa: S311 - made-up data
    wrong = chance.sample(range(rows), rows // 10)
    nameless, negative = frozenset(wrong[::2]), frozenset(wrong[1::2])
    right = [number for number in range(rows) if number not in wrong]
    copies = frozenset(chance.sample(right[1:], max(1, rows * 3 // 100)))
    written: list[list[str]] = []
    for number in range(rows):
        if number in copies:
            twin = written[max(each for each in right if each < number and each not in copies)]
            written.append([*twin[:3], f"twin-{number}", *twin[4:]])
            continue
        amount = Decimal(chance.randint(1_000, 900_000)) / 100
        written.append(
            [
                f"{chance.randint(1, 28):02d}/03/2026",
                chance.choice(("Legal fees", "Audit fees", "Electricity", "Insurance")),
                "" if number in nameless else chance.choice(SUPPLIERS),
                f"inv-{number}",
                f"{-amount if number in negative else amount:.2f}",
                "0.00",
            ]
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADER, *written])
    return Seeded(path, rows, nameless, negative, copies)


@dataclass(frozen=True)
class World:
    site: Site
    client: Client
    seeded: Seeded
    key: str

    @property
    def address(self) -> str:
        return self.site.installation.addresses.desks["acme"]

    def rows(self, condition: str, *values: Any) -> list[dict[str, Any]]:
        return self.client.ask(f"SELECT * FROM ledgers.expenses WHERE {condition} ORDER BY source_ref", [*values])

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """As the agent."""
        request = urllib.request.Request(  # noqa: S310 - our own desk
            self.address.replace("acme.localhost", "127.0.0.1") + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Content-Type": "application/json",
                "Authorization": f"Bearer {self.key}",
                "Host": self.address.removeprefix("http://"),
            },
            method=method,
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return json.load(answer)


@contextmanager
def world(rows: int) -> Iterator[World]:
    with installed() as site:
        client = add_tenant(site, "acme", "Acme Fund", {ENTITY: "Spv Holdings Limited"})
        owner = credential(site.home, "acme", Role.OWNER)
        for login, role in ((PREPARER, MemberRole.PREPARER), (APPROVER, MemberRole.APPROVER)):
            add_member(owner, login, name=login[5:].title(), role=role, password=PASSWORD, by="test")
        add_member(owner, AGENT, name="Reader", role=MemberRole.AGENT, password=None, by="test")
        _, key = make_key(owner, AGENT, "test")
        site.installation.start_services()
        seeded = write(site.home.root / "documents" / "march.csv", rows)
        client.submit(seeded.path, PERIOD, ENTITY)
        eventually(lambda: client.staged(PERIOD), "staged")
        yield World(site, client, seeded, key)


@dataclass(frozen=True)
class Person:
    """At the desk, without a mouse."""

    page: Page

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def log_in(self, address: str, name: str) -> None:
        self.page.goto(f"{address}/login")
        self.page.keyboard.type(name)
        self.press("Tab")
        self.page.keyboard.type(PASSWORD)
        self.press("Enter")
        self.page.wait_for_url(f"{address}/")

    def open(self, address: str) -> int:
        """The grid; returns how many rows it lists."""
        self.page.goto(address)
        self.page.wait_for_selector("#grid[aria-busy=false]")
        return self.listed()

    def listed(self) -> int:
        return int(self.page.evaluate("Number(document.getElementById('grid').ariaRowCount) - 1"))

    def present(self) -> dict[str, str]:
        """What stands in the present row, by column; the column that something is wrong with under `wrong`."""
        found: dict[str, str] = self.page.evaluate(
            """() => {
                const row = document.querySelector('.grid-row.present');
                const cells = Object.fromEntries([...row.children].map(cell => [cell.dataset.column, cell.textContent]));
                return {...cells, wrong: row.querySelector('.wrong')?.dataset.column ?? '', at: row.dataset.position};
            }"""
        )
        return found

    def loaded(self) -> None:
        """The present row has come."""
        self.page.wait_for_selector(".grid-row.present:not(.loading)")

    def answer(self, text: str) -> None:
        """The dialog's question."""
        self.page.wait_for_selector("dialog[open] input")
        self.press("Control+a")
        self.page.keyboard.type(text)
        self.press("Enter")
        self.page.wait_for_selector("dialog[open]", state="detached")

    def left(self, row: dict[str, str]) -> None:
        """The grid has gone on to another row, or there is none."""
        self.page.wait_for_function(
            """at => { const row = document.querySelector('.grid-row.present');
                      return !row || row.dataset.position !== at || /being|→|…/.test(row.textContent); }""",
            arg=row["at"],
        )


def prepare(paula: Person, world: World) -> None:
    """Everything in doubt is repaired or turned down; then what was entered twice is turned down once."""
    grid = f"{world.address}/subledgers/expenses?period={PERIOD}"
    todo = paula.open(f"{grid}&group=mine")
    assert todo == len(world.seeded.nameless) + len(world.seeded.negative)
    for _ in range(todo):
        paula.loaded()
        row = paula.present()
        if row["wrong"] == "vendor":
            paula.press("Enter")
            paula.page.wait_for_selector("input.editor")
            paula.page.keyboard.type(FOUND)
            paula.press("Enter")
            paula.answer("named on the bank statement")
        else:
            assert row["wrong"] == "amount_gross", row
            paula.press("x")
            paula.answer("credit note, set against the next bill")
        paula.left(row)
    eventually(world.client.decided, "the preparer's decisions are applied")

    known: set[tuple[str, str, str]] = set()
    for number in range(paula.open(f"{grid}&status=PENDING")):
        if number:
            paula.press("j")
        paula.loaded()
        row = paula.present()
        same = (row["vendor"], row["expense_date"], row["amount_gross"])
        if "×" in row["status"] and same in known:
            paula.press("x")
            paula.answer("entered twice")
            paula.page.wait_for_function(
                "at => document.querySelector('.grid-row.present').dataset.position !== at", arg=row["at"]
            )
            paula.press("k")
        known.add(same)
    eventually(world.client.decided, "the duplicates are turned down")


def change(world: World, row: dict[str, Any], note: str) -> dict[str, Any]:
    """The agent has read something else; the decision filed for it."""
    (known,) = world.api("POST", "/v1/subledgers/expenses/rows", {"ids": [str(row["id"])]})["rows"]
    body = {
        "kind": "edit",
        "reason": "read again",
        "values": {"notes": note},
        "rows": [{"id": known["id"], "digest": known["digest"]}],
    }
    filed: dict[str, Any] = world.api("POST", "/v1/subledgers/expenses/signals", body)
    return filed


def approve(amir: Person, world: World, changed: list[dict[str, Any]]) -> None:
    """While the sums of everything stand before the approver, an agent changes some of it."""
    amir.open(f"{world.address}/subledgers/expenses?period={PERIOD}&group=ready")
    amir.loaded()
    amir.press("*", "a")
    amir.page.wait_for_selector("dialog[open] .sums")
    for number, row in enumerate(changed):
        change(world, row, f"read again {number}")
    eventually(world.client.decided, "the agent's changes are applied")
    amir.press("Enter")
    amir.page.wait_for_selector("#alarms .toast")
    assert not world.rows("status NOT IN ('PENDING', 'REJECTED')"), "a stale approval was taken"
    amir.press("*", "a")
    amir.page.wait_for_selector("dialog[open] .sums")
    amir.press("Enter")
    amir.page.wait_for_selector("dialog[open]", state="detached")


def walk(rows: int, pictures: Path) -> None:
    if program() is None:
        pytest.skip("no Chromium on this machine: `apt-get install chromium`")
    with world(rows) as there, chromium() as browser:
        people = []
        for login in (PREPARER, APPROVER):
            page = browser.new_context(viewport={"width": 1500, "height": 1000}).new_page()
            page.set_default_timeout(SEEN_MS)
            people.append(Person(page))
            people[-1].log_in(there.address, login.removeprefix("user:"))
        paula, amir = people
        prepare(paula, there)
        right = there.rows("status = 'PENDING' AND vendor <> %s", FOUND)
        changed = right[:: max(1, len(right) // max(1, rows * 2 // 100))][: max(1, rows * 2 // 100)]
        approve(amir, there, changed)
        amir.page.screenshot(path=pictures / "desk_accountant_approved.png")
        eventually(lambda: there.client.closed(PERIOD), "the month is closed")
        judge(there, changed)
        look_around(amir.page, there, pictures)


def look_around(page: Page, world: World, pictures: Path) -> None:
    """Every page for reading, as wide as desks are, by day and by night; from a figure of the books to the line it came from."""
    troubles: list[str] = []
    page.on("console", lambda said: troubles.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    month = f"/entities/{ENTITY}/periods/{PERIOD}"
    run = world.client.value("SELECT run_id FROM system.runs ORDER BY began_at LIMIT 1")
    pages = {
        "inbox": ("/", "Inbox"),
        "board": ("/board", "Month-end"),
        "month": (month, "Spv Holdings Limited"),
        "sign_off": (f"{month}/sign-off", "Sign-off"),
        "runs": ("/runs", "Runs"),
        "run": (f"/runs/{run}", str(run)),
        "history": ("/history", "History"),
    }
    for width, colours in ((1280, "light"), (1920, "dark")):
        page.set_viewport_size({"width": width, "height": 1000})
        page.emulate_media(color_scheme=colours)  # type: ignore[arg-type]
        for name, (path, heading) in pages.items():
            page.goto(world.address + path)
            page.wait_for_load_state("networkidle")
            assert heading in page.inner_text("h1")
            page.screenshot(path=pictures / f"desk_{name}_{width}_{colours}.png", full_page=True)
    page.emulate_media(media="print", color_scheme="light")
    page.goto(world.address + f"{month}/sign-off")
    page.screenshot(path=pictures / "desk_sign_off_print.png", full_page=True)
    page.emulate_media(media="screen")

    page.goto(world.address + month)
    page.click("#trial-balance + table tbody tr:last-child a")
    page.click("table tbody tr:first-child td:last-child a")
    page.wait_for_selector("#detail tr.here")
    line = page.inner_text("#detail tr.here .line-number")
    row = page.url.rpartition("row=")[2]
    (known,) = world.rows("id = %s", row)
    assert known["source_ref"].endswith(f"#L{line}")
    page.screenshot(path=pictures / "desk_figure_to_line.png")
    assert troubles == []


def judge(world: World, changed: list[dict[str, Any]]) -> None:
    seeded = world.seeded
    ended = {int(row["source_ref"].rpartition("#L")[2]) - 2: row for row in world.rows("TRUE")}
    assert len(ended) == seeded.rows
    first = min(ended)
    ended = {number - first: row for number, row in ended.items()}
    turned_down = {number for number, row in ended.items() if row["status"] == "REJECTED"}
    assert turned_down == seeded.negative | seeded.copies
    assert {number for number, row in ended.items() if row["status"] == "POSTED"} == set(range(seeded.rows)) - turned_down
    assert {row["vendor"] for number, row in ended.items() if number in seeded.nameless} == {FOUND}
    # No edit is lost: what the agent wrote is what was posted.
    notes = {row["id"]: row["notes"] for row in ended.values()}
    assert [notes[row["id"]] for row in changed] == [f"read again {number}" for number in range(len(changed))]
    # Every posted row is, to the byte, what its approver saw.
    unseen = world.rows(
        "status = 'POSTED' AND NOT EXISTS (SELECT FROM system.signal_rows r JOIN system.signals s ON s.id = r.signal_id "
        "WHERE r.row_id = expenses.id AND s.kind = 'approve' AND r.outcome = 'APPLIED' AND s.filed_by = %s "
        "AND r.content_digest = ledgers.expenses_digest(expenses))",
        APPROVER,
    )
    assert unseen == []
    assert world.client.value("SELECT count(*) FROM ledgers.journals") == seeded.rows - len(turned_down)


def test_fifty_rows(pictures: Path) -> None:
    walk(50, pictures)


@pytest.mark.long
def test_a_thousand_rows(pictures: Path) -> None:
    walk(1_000, pictures)
