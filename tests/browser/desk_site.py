"""A tenant with a month to review: its desk, its members, rows in every condition, runs that apply what is decided."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from installed import APPROVER, HEADER, PREPARER, Client, Site, add_tenant, eventually, installed, invent
from playwright.sync_api import Page

from ntro_dagster.desk.passwords import hash_password
from ntro_dagster.host.desks import desk_address
from ntro_dagster.host.home import Role

T = TypeVar("T")
PERIOD = "2026-03"
PIER, QUAY = "pier-spv", "quay-spv"
NAMES = {PIER: "Pier Holdings Limited", QUAY: "Quay Holdings Limited"}
PASSWORD = "a long walk along the harbour wall"
SUPPLIERS = ("Alderway Plumbing", "Brindle Energy", "Corvane Legal LLP", "Dunmore Lifts")
HOSTILE = '<img src=x onerror="document.title=1">'
REVIEW = "month_end_review"


@dataclass(frozen=True)
class Desk:
    site: Site
    client: Client
    url: str

    def ask(self, question: str, values: Any = None) -> list[dict[str, Any]]:
        return self.client.ask(question, values)

    def row(self, row_id: str) -> dict[str, Any]:
        (found,) = self.ask("SELECT * FROM ledgers.expenses WHERE id = %s", [row_id])
        return found

    def becomes(self, row_id: str, *statuses: str) -> dict[str, Any]:
        """The row, once it has one of the statuses."""
        return eventually(lambda: (row := self.row(row_id))["status"] in statuses and row, f"{row_id} is {statuses}")

    def decisions(self, row_id: str) -> list[tuple[str, str]]:
        """Kind and author of every decision on the row, in order."""
        found = self.ask(
            "SELECT s.kind, s.filed_by FROM system.signal_rows r JOIN system.signals s ON s.id = r.signal_id "
            "WHERE r.row_id = %s ORDER BY s.seq",
            [row_id],
        )
        return [(each["kind"], each["filed_by"]) for each in found]

    def decide(self, kind: str, by: str, **how: Any) -> None:
        """As another person, who sits elsewhere: Playwright keeps the loop of this thread."""
        with ThreadPoolExecutor(1) as thread:
            thread.submit(self.client.decide, kind, by, **how).result()

    def log_in(self, page: Page, login: str = APPROVER) -> None:
        page.goto(f"{self.url}/login")
        page.get_by_label("Name").fill(login.removeprefix("user:"))
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("button", name="Log out").wait_for()

    @contextmanager
    def nothing_applied(self) -> Iterator[None]:
        """No run applies decisions meanwhile: the sensor's switch is off."""
        self._switch(on=False)
        try:
            yield
        finally:
            self._switch(on=True)

    def _switch(self, *, on: bool) -> None:
        of = {"repositoryLocationName": self.client.slug, "repositoryName": "__repository__", "sensorName": REVIEW}
        if on:
            asked = "mutation M($of: SensorSelector!) { startSensor(sensorSelector: $of) { ... on Sensor { name } } }"
            self.site.graphql(asked, of=of)
            return
        found = "query S($of: SensorSelector!) { sensorOrError(sensorSelector: $of) { ... on Sensor { id } } }"
        sensor = self.site.graphql(found, of=of)["sensorOrError"]
        stopping = "stopSensor(id: $id) { ... on StopSensorMutationResult { instigationState { status } } }"
        stopped = self.site.graphql(f"mutation M($id: String!) {{ {stopping} }}", id=sensor["id"])["stopSensor"]
        assert stopped["instigationState"]["status"] == "STOPPED", stopped


@contextmanager
def desk_at_work() -> Iterator[Desk]:
    with installed() as site:
        client = add_tenant(site, "acme", "Acme Fund", NAMES)
        for login, name, role in ((APPROVER, "Amir Bexley", "approver"), (PREPARER, "Paula Crane", "preparer")):
            client.ask(
                "INSERT INTO system.members (login, name, role, password_hash, created_by) VALUES (%s, %s, %s, %s, 'operator')",
                [login, name, role, hash_password(PASSWORD)],
                role=Role.OWNER,
            )
        site.installation.start_services()
        documents = site.home.root / "documents"
        client.submit(invent(documents / "pier.csv", PERIOD, 120, suppliers=SUPPLIERS).path, PERIOD, PIER)
        client.submit(flawed(documents / "quay.csv"), PERIOD, QUAY)
        eventually(lambda: client.staged(PERIOD), "staged")
        tenant = site.home.tenant("acme")
        yield Desk(site, client, desk_address(tenant))


def flawed(path: Path) -> Path:
    """Forty lines: some without a supplier, some below zero, one that would like to be a script."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for number in range(40):
            supplier = "" if number % 4 == 1 else HOSTILE if number == 2 else SUPPLIERS[number % len(SUPPLIERS)]
            amount = f"{'-' if number % 4 == 3 else ''}{100 + number}.50"
            writer.writerow([f"{number % 28 + 1:02d}/03/2026", "Legal fees", supplier, f"quay-{number}", amount, ""])
    return path
