"""The browser's tests look at the same kind of installation as `tests/integration/month_end`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
sys.path.insert(0, str(Path(__file__).parents[1] / "integration" / "month_end"))

from chromium import Page, browsing, program
from desk_site import Desk, desk_at_work
from keyboard import Grid, chromium
from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where screenshots go and stay, for whoever runs the tests: $NTRO_SCREENSHOTS, or `screenshots/` here."""
    folder = Path(os.environ.get("NTRO_SCREENSHOTS") or Path(__file__).parent / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def page(pictures: Path) -> Iterator[Page]:
    if program() is None:
        pytest.skip("no Chromium on this machine: `apt-get install chromium`")
    with browsing(pictures) as page:
        yield page


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    """A desk with rows to review, at work."""
    if program() is None:
        pytest.skip("no Chromium on this machine: `apt-get install chromium`")
    with desk_at_work() as desk:
        yield desk


@pytest.fixture(scope="module")
def browser(desk: Desk) -> Iterator[Browser]:  # `desk` first: beside Playwright's loop it could not be set up
    with chromium() as browser:
        yield browser


@pytest.fixture
def grid(desk: Desk, browser: Browser) -> Iterator[Grid]:
    """The approver's. At its end no script has failed, and nothing was refused by the browser's policy."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    grid = Grid(context.new_page())
    desk.log_in(grid.page)
    yield grid
    assert grid.complaints == []
    context.close()
