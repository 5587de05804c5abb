"""A browser for hands on keys: Playwright over Debian's Chromium, and what the grid shows to whoever asks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from chromium import QUIET, program
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

OUTCOME_MS = 60_000
PATIENCE_MS = 20_000


@contextmanager
def chromium() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=list(QUIET))
        yield browser
        browser.close()


@dataclass
class Grid:
    """The grid page. Attributes: `complaints`: errors of scripts, and what the browser's policy forbade."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._heard)
        self.page.on("dialog", lambda dialog: dialog.accept())

    def _heard(self, message: ConsoleMessage) -> None:
        # An answer of 409 or 422 is said at the row; the console says it, too.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def open(self, url: str) -> None:
        """Until the first rows are there."""
        self.page.goto(url)
        expect(self.page.locator("#grid")).to_have_attribute("aria-busy", "false")
        expect(self.page.locator(".grid-body .grid-row.loading:visible")).to_have_count(0)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def type(self, text: str) -> None:
        self.page.keyboard.type(text)

    @property
    def present(self) -> Locator:
        return self.page.locator(".grid-row.present")

    def row(self, position: int) -> Locator:
        return self.page.locator(f'.grid-body .grid-row[data-position="{position}"]')

    def cell(self, row: Locator, column: str) -> Locator:
        return row.locator(f'[data-column="{column}"]')

    @property
    def position(self) -> int:
        return int(self.present.get_attribute("data-position") or -1)

    @property
    def row_id(self) -> str:
        """Of the present row."""
        return self.present.get_attribute("data-row") or ""

    @property
    def dialog(self) -> Locator:
        return self.page.locator("dialog[open]")

    def to_column(self, name: str) -> None:
        """By the arrow keys."""
        names: list[str] = self.present.locator(".cell").evaluate_all("cells => cells.map(cell => cell.dataset.column)")
        stop = self.page.evaluate("document.activeElement.dataset.column ?? ''")
        by = names.index(name) - (names.index(stop) if stop in names else 0)
        self.press(*(["ArrowRight"] * by if by > 0 else ["ArrowLeft"] * -by))

    def outcome(self, row: Locator, words: str) -> None:
        """Wait until the row's status reads so, without loading the page again."""
        expect(self.cell(row, "status")).to_contain_text(words, timeout=OUTCOME_MS)

    def focused(self) -> dict[str, Any]:
        found: dict[str, Any] = self.page.evaluate(
            """() => { const cell = document.activeElement, row = cell.closest('[role=row]');
                return {role: cell.role, row: row && row.ariaRowIndex, column: cell.dataset.column} }"""
        )
        return found
