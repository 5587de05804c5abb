"""What was rejected or excluded by mistake comes back with the keyboard alone: one row, and many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from desk_site import PERIOD, PIER, Desk
from installed import PREPARER, eventually
from keyboard import Grid
from playwright.sync_api import expect


def set_aside(desk: Desk, kind: str, count: int) -> list[str]:
    rows = desk.ask(
        "SELECT x.id FROM ledgers.expenses x JOIN system.entities e ON e.id = x.entity_id "
        "WHERE e.slug = %s AND x.period = %s AND x.status = 'PENDING' ORDER BY x.source_ref LIMIT %s",
        [PIER, PERIOD, count],
    )
    desk.decide(kind, PREPARER, reason="not ours", ids=[row["id"] for row in rows])
    for row in rows:
        desk.becomes(str(row["id"]), "REJECTED", "EXCLUDED")
    return [str(row["id"]) for row in rows]


def successors(desk: Desk, rows: list[str]) -> list[dict[str, Any]]:
    return desk.ask(
        "SELECT t.id, t.status FROM system.reinstatements r JOIN ledgers.expenses t ON t.id = r.successor_id "
        "WHERE r.row_id = ANY(%s::uuid[])",
        [rows],
    )


def address(desk: Desk, more: str = "") -> str:
    return f"{desk.url}/subledgers/expenses?entity={PIER}&period={PERIOD}{more}"


def test_a_rejected_row_is_taken_back_and_both_lead_to_each_other(desk: Desk, grid: Grid, pictures: Path) -> None:
    (row,) = set_aside(desk, "reject", 1)
    grid.open(address(desk, f"&row={row}"))
    expect(grid.present).to_have_attribute("data-row", row)
    grid.press("u")
    expect(grid.dialog).to_contain_text("Reinstate: why?")
    grid.page.screenshot(path=pictures / "reinstate_reason.png")
    grid.press("Enter")
    (new,) = eventually(lambda: successors(desk, [row]), "the row has a successor")
    assert (new["status"], desk.decisions(row)[-1]) == ("NEEDS_ATTENTION", ("reinstate", "user:amir"))
    grid.open(address(desk, f"&row={row}"))
    expect(grid.present).to_contain_text("reinstated")
    way = grid.page.locator("#detail .row-head").get_by_role("link", name="The row in its place")
    expect(way).to_be_visible()
    grid.page.screenshot(path=pictures / "reinstated_row.png")
    way.focus()
    grid.press("Enter")
    expect(grid.present).to_have_attribute("data-row", str(new["id"]))
    expect(grid.page.locator("#detail .row-head").get_by_role("link", name="the row it was made of")).to_be_visible()
    grid.page.screenshot(path=pictures / "row_in_its_place.png")
    grid.open(address(desk, f"&row={row}"))
    grid.press(".")
    grid.type("reinstate")
    grid.press("Enter")
    expect(grid.page.get_by_text("Another row stands in its place already.")).to_be_visible()


def test_taking_back_a_rejection_that_a_run_has_applied(desk: Desk, grid: Grid) -> None:
    grid.open(address(desk, "&status=PENDING"))
    row = grid.row_id
    at = grid.row(grid.position)
    grid.press("x")
    expect(grid.dialog).to_contain_text("Reject")
    grid.press("Enter")
    grid.outcome(at, "Rejected")
    grid.press("u")
    expect(grid.dialog).to_contain_text("Reinstate 1 row: why?")
    grid.press("Enter")
    eventually(lambda: successors(desk, [row]), "the row has a successor")


def test_many_at_once_and_the_legend(desk: Desk, grid: Grid, pictures: Path) -> None:
    rows = set_aside(desk, "exclude", 3)
    grid.open(address(desk, "&status=EXCLUDED"))
    grid.press("*", "u")
    expect(grid.dialog).to_contain_text("Reinstate 3 rows")
    grid.page.screenshot(path=pictures / "reinstate_many.png")
    grid.press("Enter")
    eventually(lambda: len(successors(desk, rows)) == 3, "each has its successor")
    grid.press("?")
    expect(grid.dialog).to_contain_text("reinstate what is rejected or excluded")
    grid.press("Escape")
