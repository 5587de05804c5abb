"""A month is begun at the desk: a document handed in, a run asked for, and both seen to become rows without loading the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import program
from desk_site import PERIOD, PIER, SUPPLIERS, Desk, desk_at_work
from installed import PREPARER, eventually, invent
from keyboard import OUTCOME_MS
from playwright.sync_api import Browser, Page, expect

from ntro_dagster.boundary.names import request_key
from ntro_dagster.host.bindings import bind
from ntro_dagster.workspace.workflows import Binding

EARLY = "2026-05"
"""A month that nothing has come in for."""
LOOKS = [(1280, 800), (1920, 1080)]


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    if program() is None:
        pytest.skip("no Chromium on this machine: `apt-get install chromium`")
    with desk_at_work() as desk:
        bind(desk.site.installation, Binding("acme", "expense-processor", PIER, None))
        yield desk


@pytest.fixture
def page(desk: Desk, browser: Browser) -> Iterator[Page]:
    complaints: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda told: complaints.append(told.text) if told.type == "error" else None)
    desk.log_in(page, PREPARER)
    yield page
    assert complaints == []
    context.close()


def pictured(page: Page, pictures: Path, name: str) -> None:
    for width, height in LOOKS:
        page.set_viewport_size({"width": width, "height": height})
        for look in ("light", "dark"):
            page.emulate_media(color_scheme=look)
            page.screenshot(path=pictures / f"{name}_{width}_{look}.png", full_page=True)
    page.set_viewport_size({"width": 1280, "height": 800})
    page.emulate_media(color_scheme="light")


def opened(desk: Desk, page: Page, period: str) -> None:
    page.goto(f"{desk.url}/entities/{PIER}/periods/{period}")
    page.evaluate("window.neverLoadedAgain = true")


def test_a_document_dropped_on_a_month_becomes_rows(desk: Desk, page: Page, pictures: Path, tmp_path: Path) -> None:
    made = invent(tmp_path / "may.csv", EARLY, 30, suppliers=SUPPLIERS)
    broken = tmp_path / "scan.pdf"
    broken.write_bytes(b"%PDF-1.7")
    opened(desk, page, EARLY)
    expect(page.get_by_text("No rows in this month.")).to_be_visible()
    pictured(page, pictures, "month_empty")
    page.get_by_label("Documents for").set_input_files([made.path, broken])
    page.get_by_role("button", name="Hand in").click()
    expect(page.locator("#told")).to_contain_text("scan.pdf is not text")
    expect(page.locator("#became")).to_contain_text("made", timeout=OUTCOME_MS)
    expect(page.locator("#standing")).to_contain_text("30", timeout=OUTCOME_MS)
    expect(page.locator("#told")).to_contain_text("scan.pdf is not text")
    assert page.get_by_label("Documents for").evaluate("input => input.files.length") == 0
    pictured(page, pictures, "month_handed_in")
    assert page.evaluate("window.neverLoadedAgain")
    found = desk.ask(
        "SELECT d.submitted_by, count(x.id) AS rows FROM ingest.submitted_documents d "
        "JOIN ledgers.expenses x ON x.source_ref LIKE 'doc:' || d.id || '#%%' WHERE d.name = 'may.csv' GROUP BY 1"
    )
    assert found == [{"submitted_by": PREPARER, "rows": 30}]


def test_a_run_is_asked_for_and_seen_to_begin(desk: Desk, page: Page, pictures: Path) -> None:
    opened(desk, page, PERIOD)
    page.get_by_role("button", name="Run expense-processor").click()
    expect(page.locator("#became")).to_contain_text("waiting to start")
    expect(page.get_by_role("button", name="Run expense-processor")).to_be_disabled()
    pictured(page, pictures, "month_run_asked")
    expect(page.locator("#became")).to_contain_text("started", timeout=OUTCOME_MS)
    expect(page.get_by_role("button", name="Run expense-processor")).to_be_enabled()
    pictured(page, pictures, "month_run_started")
    assert page.evaluate("window.neverLoadedAgain")
    (request,) = desk.ask("SELECT id, run_id, filed_by FROM system.task_requests")
    assert request["filed_by"] == PREPARER
    runs = [each.dagster_run for each in desk.site.runs("acme", partition=f"{PIER}|{PERIOD}")]
    runs = [run for run in runs if run.tags.get("dagster/run_key") == request_key(request["id"])]
    assert [run.run_id for run in runs] == [str(request["run_id"])]
    assert {key.to_user_string() for key in runs[0].asset_selection or ()} == {
        "acme/ingest/submitted_records", "acme/ledgers/expenses",
    }  # fmt: skip
    eventually(lambda: desk.site.run(runs[0].run_id).status.value == "SUCCESS", "it ends well")
