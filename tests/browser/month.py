"""A month as a manager finds it: one entity closed, one waiting for review, one whose posting fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dagster import DagsterRunStatus
from freezing import prepare_freezing
from installed import APPROVER, PREPARER, Client, Site, add_tenant, eventually, installed, invent

from ntro_dagster.boundary.schedules import Schedule
from ntro_dagster.host.bindings import bind
from ntro_dagster.host.home import Role
from ntro_dagster.workspace.workflows import Binding

PERIOD = "2026-03"
CLOSED, WAITING, FAILING, LATE = "pier-spv", "quay-spv", "reef-spv", "cove-spv"
NAMES = {entity: f"{entity[:4].title()} Holdings Limited" for entity in (CLOSED, WAITING, FAILING, LATE)}
SUPPLIER = "Quillon Couriers"
CREDITORS = "2000"
MONTHLY = Schedule("0 8 5 * *", "Europe/London")


@dataclass(frozen=True)
class Month:
    """Attributes: `failed`: the run that could not post; `error_id`: of its failure, as the tenant keeps it."""

    site: Site
    client: Client
    failed: str
    error_id: str

    def submit(self, entity: str, rows: int) -> None:
        document = invent(self.site.home.root / "documents" / f"{entity}.csv", PERIOD, rows, suppliers=[SUPPLIER])
        self.client.submit(document.path, PERIOD, entity)

    def has_account(self, there: bool) -> None:
        """Whether the account that every posting needs is in use."""
        change = "UPDATE ledgers.accounts SET active = %s WHERE code = %s"
        self.client.ask(change, [there, CREDITORS], role=Role.OWNER)

    def status_of(self, run_id: str) -> DagsterRunStatus:
        return self.site.run(run_id).status

    def secrets(self) -> dict[str, str]:
        """What the tenant's database holds and no page may show: word -> what it is."""
        words = {SUPPLIER: "supplier", "Acme Fund": "tenant", PREPARER: "person", APPROVER: "person"}
        words |= dict.fromkeys(NAMES.values(), "entity")
        words |= {row["name"]: "document" for row in self.client.ask("SELECT name FROM ingest.submitted_documents")}
        for row in self.client.ask("SELECT DISTINCT amount_gross AS amount FROM ledgers.expenses WHERE amount_gross >= 100"):
            words |= {f"{row['amount']:.2f}": "amount", f"{row['amount']:,.2f}": "amount"}
        return words


@contextmanager
def month_end() -> Iterator[Month]:
    with installed() as site:
        client = add_tenant(site, "acme", "Acme Fund", NAMES)
        prepare_freezing(client)
        site.installation.start_services()
        bind(site.installation, Binding("acme", "expense-processor", CLOSED, MONTHLY))
        month = Month(site, client, "", "")
        for entity, rows in ((CLOSED, 40), (WAITING, 15), (FAILING, 6)):
            month.submit(entity, rows)
        eventually(lambda: client.staged(PERIOD), "staged")
        client.decide("approve", APPROVER, entity=CLOSED, period=PERIOD, status="PENDING")
        eventually(lambda: client.closed(PERIOD, CLOSED), "closed")
        month.has_account(False)
        client.decide("approve", APPROVER, entity=FAILING, period=PERIOD, status="PENDING")
        eventually(lambda: _failed(site), "a run that could not post")
        _stop_posting(site)  # else it is tried again and again, and pages show now this, now that
        failed = eventually(lambda: _failed(site), "no further run")
        (kept,) = client.ask("SELECT id FROM system.errors WHERE run_id = %s", [failed])
        yield Month(site, client, failed, str(kept["id"]))


def _failed(site: Site) -> str | None:
    """The last run that could not post, when none is at work."""
    runs = [record.dagster_run for record in site.runs("acme", partition=f"{FAILING}|{PERIOD}")]
    at_rest = runs and all(run.is_finished for run in runs)
    return runs[-1].run_id if at_rest and runs[-1].status is DagsterRunStatus.FAILURE else None


def _stop_posting(site: Site) -> None:
    """As the switch on the sensor's page does."""
    selector = {"repositoryLocationName": "acme", "repositoryName": "__repository__", "sensorName": "month_end_posting"}
    sensor = site.graphql(
        "query S($of: SensorSelector!) { sensorOrError(sensorSelector: $of) { ... on Sensor { id } } }", of=selector
    )["sensorOrError"]
    stopped = site.graphql(
        "mutation M($id: String!) { stopSensor(id: $id) { ... on StopSensorMutationResult { instigationState { status } } } }",
        id=sensor["id"],
    )["stopSensor"]
    assert stopped["instigationState"]["status"] == "STOPPED", stopped
    ask = (
        "query S($of: SensorSelector!) { sensorOrError(sensorSelector: $of) "
        "{ ... on Sensor { sensorState { ticks(limit: 1) { status } } } } }"
    )

    def idle() -> bool:
        ticks = site.graphql(ask, of=selector)["sensorOrError"]["sensorState"]["ticks"]
        return [tick["status"] for tick in ticks] != ["STARTED"]

    eventually(idle, "its last tick has ended")


def counts(text: str) -> dict[str, int]:
    """Rows by status, as a page shows them; without those of which there are none."""
    shown = re.findall(r"^([A-Z_]{4,})\s+(\d+)", text, re.MULTILINE)
    return {status: int(rows) for status, rows in shown if int(rows)}
