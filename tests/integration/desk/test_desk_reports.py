"""Reports at the desk: for every member, to look at, to print and to take along."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from uuid import UUID, uuid4

import pytest
from booked import book
from desk_at_work import Browser, DeskAtWork
from openpyxl import load_workbook

from ntro_dagster.gl.proposing import HANDED_IN, propose
from ntro_dagster.gl.reports import ReportName
from ntro_dagster.subledger.staging import Payload


@pytest.fixture
def fund(desk: DeskAtWork, entity: UUID) -> str:
    """Slug of an entity with two months of books."""
    book(desk.tenant, entity, "2025-01-10", ("1000", "1000"), ("4000", "-1000"), text="Rent")
    book(
        desk.tenant, entity, "2025-02-10", ("5300", "40.25", None, "<script>x</script>"), ("2000", "-40.25", "=Smith"), text="Gas"
    )
    return f"e{entity.hex[:12]}"


@pytest.mark.parametrize("name", ReportName)
def test_every_report_is_a_page_and_two_files(eve: Browser, fund: str, name: ReportName) -> None:
    here = f"/entities/{fund}/periods/2025-02/reports/{name}"
    page = eve.get(here)
    assert page.status_code == 200
    assert "does not agree" not in page.text
    assert page.text.count("badge-good") >= 2
    assert "<script>x" not in page.text
    for form in ("csv", "xlsx"):
        answer = eve.get(f"{here}/{form}")
        assert answer.status_code == 200
        assert answer.headers["Content-Disposition"] == f'attachment; filename="{fund}-2025-02-{name}.{form}"'
    assert load_workbook(io.BytesIO(answer.content)).sheetnames == [name.value, "ntro"]


def test_a_trial_balance_leads_to_the_ledger_and_that_to_the_row(desk: DeskAtWork, ann: Browser, fund: str, entity: UUID) -> None:
    page = ann.get(f"/entities/{fund}/periods/2025-02/reports/trial-balance?compare=month").text
    assert "Closing 2025-01" in page
    (link,) = re.findall(r'href="([^"]*/reports/ledger\?account=5300)"', page)
    row = desk.tenant.new_row(entity)
    desk.tenant.decide("approve", row)
    desk.tenant.post(entity, row)
    assert f"row={row}" in ann.get(link.replace("5300", "5999").replace("2025-02", "2025-01")).text
    ledger = ann.get(link).text
    assert "40.25" in ledger
    assert "1,000.00" not in ledger, "one account only"
    assert f"/entities/{fund}/periods/2025-02/reports/ledger/csv?account=5300" in ledger


def test_the_file_says_what_the_page_says(ann: Browser, fund: str) -> None:
    answer = ann.get(f"/entities/{fund}/periods/2025-02/reports/creditors/csv")
    (line, total) = csv.DictReader(io.StringIO(answer.text))
    assert (line["party"], line["to_30"], line["owed"]) == ("'=Smith", "40.25", "40.25")
    assert (total["row"], total["owed"]) == ("total", "40.25")


def test_who_is_not_logged_in_reads_nothing(desk: DeskAtWork, fund: str) -> None:
    stranger = Browser(desk.url, desk.host)
    for address in ("nav", "nav/csv"):
        assert stranger.get(f"/entities/{fund}/periods/2025-02/reports/{address}").status_code in {303, 401}


@pytest.mark.parametrize("address", ["reports/horoscope", "reports/nav/pdf", "reports/trial-balance?basis=moon"])
def test_what_there_is_not(ann: Browser, fund: str, address: str) -> None:
    assert ann.get(f"/entities/{fund}/periods/2025-02/{address}").status_code in {404, 422}


def test_a_long_ledger_is_cut_on_the_page_and_whole_in_the_file(ann: Browser, fund: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntro_dagster.desk.reports.MOST_ROWS", 3)
    here = f"/entities/{fund}/periods/2025-02/reports/ledger"
    assert "These are the first 3 rows" in ann.get(here).text
    assert len(list(csv.DictReader(io.StringIO(ann.get(f"{here}/csv").text)))) == 11


def test_a_month_leads_to_its_reports(ann: Browser, fund: str) -> None:
    page = ann.get(f"/entities/{fund}/periods/2025-02").text
    for name in ReportName:
        assert f'href="/entities/{fund}/periods/2025-02/reports/{name}"' in page


def test_a_row_that_a_command_made_leads_to_what_the_command_did(desk: DeskAtWork, ann: Browser, entity: UUID) -> None:
    command = uuid4()

    async def hand_in() -> None:
        tenant = desk.tenant
        async with tenant.database() as app, tenant.database("desk") as as_desk:
            handle = tenant.handle(entity, name="journal_proposals", run=command, database=app)
            lines = [{"account_code": "5300", "debit": "1"}, {"account_code": "1000", "credit": "1"}]
            payload = Payload({"description": "Gas", "lines": lines}, "test:1", [HANDED_IN])
            done = await propose(handle, as_desk, [payload], period="2025-01", source="test:1", by="user:pat", reason="by hand")
            assert done.accepted == 1

    asyncio.run(hand_in())
    page = ann.get(f"/runs/{command}")
    assert page.status_code == 200
    assert "user:pat" in page.text
    assert ann.get(f"/runs/{uuid4()}").status_code == 404
