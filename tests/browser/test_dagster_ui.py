"""What a manager sees in the Dagster UI after a month-end: lineage, partitions, runs, the schedule."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from chromium import Page
from installed import APPROVER, Client, Site, add_tenant, eventually, installed, invent

PERIOD = "2026-03"
LOCATION = "/locations/__repository__@acme"
# a figure, a supplier and the entity's name, which the tenant's database holds and the UI must not show
SUPPLIER, ENTITY_NAME = "Quillon Couriers", "Pier Holdings Limited"


@dataclass(frozen=True)
class Closed:
    site: Site
    client: Client


@pytest.fixture(scope="module")
def closed(page: Page) -> Iterator[Closed]:
    """A tenant whose month is closed for one entity, and whose other entity waits for review. (`page` first: it may skip.)"""
    with installed() as site:
        client = add_tenant(site, "acme", "Acme Fund", {"pier-spv": ENTITY_NAME, "quay-spv": "Quay Holdings Limited"})
        site.installation.start_services()
        for entity, rows in (("pier-spv", 40), ("quay-spv", 15)):
            document = invent(site.home.root / "documents" / f"{entity}.csv", PERIOD, rows, suppliers=[SUPPLIER])
            client.submit(document.path, PERIOD, entity)
        eventually(lambda: client.staged(PERIOD), "staged")
        client.decide("approve", APPROVER, entity="pier-spv", period=PERIOD, status="PENDING")
        eventually(lambda: client.closed(PERIOD, "pier-spv"), "closed")
        yield Closed(site, client)


def test_lineage_from_documents_to_trial_balance(closed: Closed, page: Page) -> None:
    page.open(f"{closed.site.url}/assets/acme/ledgers/trial_balance?view=lineage&lineageScope=upstream&lineageDepth=9")
    page.until_it_shows("_documents", "submitted_records", "expenses", "expenses_decisions", "journals", "trial_balance")
    page.picture("lineage")


def test_groups_of_the_tenant(closed: Closed, page: Page) -> None:
    page.open(f"{closed.site.url}/asset-groups")
    page.until_it_shows("ingest", "subledgers", "review", "general_ledger")
    page.picture("groups")


def test_runs(closed: Closed, page: Page) -> None:
    page.open(f"{closed.site.url}/runs")
    page.until_it_shows("success", "pier-spv", PERIOD)
    page.picture("runs")


def test_the_log_of_a_run(closed: Closed, page: Page) -> None:
    run = next(run for run in closed.site.runs("acme", work="intake"))
    page.open(f"{closed.site.url}/runs/{run.dagster_run.run_id}")
    page.until_it_shows("RUN_SUCCESS", "STEP_SUCCESS", "ASSET_MATERIALIZATION", "acme__ledgers__expenses", "Succeeded (2)")
    page.picture("run")


def test_schedule(closed: Closed, page: Page) -> None:
    page.open(f"{closed.site.url}{LOCATION}/schedules/expense_processor_monthly")
    page.until_it_shows("expense_processor_monthly", "Europe/London")
    page.picture("schedule")


def test_automation(closed: Closed, page: Page) -> None:
    page.open(f"{closed.site.url}/automation")
    page.until_it_shows("expense_processor_intake", "month_end_close", "Standard sensor", "08:00 AM GMT")
    page.picture("automation")


def test_partitions_of_the_subledger(closed: Closed, page: Page) -> None:
    page.open(f"{closed.site.url}/assets/acme/ledgers/expenses?view=partitions")
    page.until_it_shows("pier-spv", "quay-spv", PERIOD)
    page.picture("partitions")


def test_one_partition(closed: Closed, page: Page) -> None:
    page.open(f"{closed.site.url}/assets/acme/ledgers/expenses?view=partitions&partition=pier-spv%7C{PERIOD}")
    text = page.until_it_shows("pier-spv", "Metadata", "inserted", "POSTED")
    page.picture("partition")
    shown = dict(re.findall(r"^([A-Z_]+)\s+(\d+)", text, re.MULTILINE))
    assert {name: int(rows) for name, rows in shown.items() if int(rows)} == {"POSTED": 40}
