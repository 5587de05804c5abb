"""Rows are given to somebody with the keyboard, and what others did since is marked."""

from __future__ import annotations

from pathlib import Path

from desk_site import PERIOD, PIER, Desk
from installed import APPROVER, PREPARER, eventually
from keyboard import Grid
from playwright.sync_api import Route, expect

LOOKS = [(1280, 800), (1920, 1080)]


def pictured(grid: Grid, pictures: Path, name: str) -> None:
    for width, height in LOOKS:
        grid.page.set_viewport_size({"width": width, "height": height})
        for look in ("light", "dark"):
            grid.page.emulate_media(color_scheme=look)
            grid.page.screenshot(path=pictures / f"{name}_{width}_{look}.png")
    grid.page.set_viewport_size({"width": 1280, "height": 800})
    grid.page.emulate_media(color_scheme="light")


def address(desk: Desk, more: str = "") -> str:
    return f"{desk.url}/subledgers/expenses?entity={PIER}&period={PERIOD}{more}"


def assignments(desk: Desk) -> dict[str, int]:
    return {
        each["assignee"]: each["rows"] for each in desk.ask("SELECT assignee, count(*) AS rows FROM system.assigned GROUP BY 1")
    }


def test_one_row_a_selection_and_everything(desk: Desk, grid: Grid, pictures: Path) -> None:
    grid.open(address(desk))
    grid.press("@")
    dialog = grid.page.get_by_role("dialog")
    expect(dialog).to_contain_text("(me)")
    pictured(grid, pictures, "assign_dialog")
    grid.press("Enter")
    expect(grid.present).to_contain_text("@ me")
    grid.press("j", "Space", "j", "Space", "@")
    expect(dialog).to_contain_text("Assign 2 rows")
    grid.type("paula")
    grid.press("Enter")
    expect(grid.present).to_contain_text("@ paula")
    eventually(lambda: assignments(desk) == {APPROVER: 1, PREPARER: 2}, "three rows are assigned")
    pictured(grid, pictures, "assigned_rows")
    grid.press("g", "m")
    expect(grid.page.locator("#grid")).to_have_attribute("aria-rowcount", "2")
    pictured(grid, pictures, "assigned_to_me")
    grid.press("*", "@")
    expect(dialog).to_contain_text("Assign 1 row to")
    grid.type("nobody")
    grid.press("Enter")
    eventually(lambda: assignments(desk) == {PREPARER: 2}, "it is nobody's")
    grid.press("?")
    expect(dialog).to_contain_text("Assign to a member")
    pictured(grid, pictures, "legend_with_assign")
    grid.press("Escape")


def test_who_types_faster_than_the_members_come_is_understood(desk: Desk, grid: Grid) -> None:
    held: list[Route] = []
    grid.page.route("**/v1/members", lambda route: held.append(route))  # noqa: PLW0108 - Playwright looks at the function
    grid.open(address(desk, "&status=PENDING"))
    with grid.page.expect_request("**/v1/members"):
        grid.press("@", "Enter")
    expect(grid.dialog).to_be_visible()
    held[0].continue_()
    expect(grid.present).to_contain_text("@ me")


def test_the_inbox_counts_what_is_mine(desk: Desk, grid: Grid, pictures: Path) -> None:
    grid.open(address(desk, "&status=PENDING"))
    grid.press("@", "Enter")
    expect(grid.present).to_contain_text("@ me")
    grid.page.goto(desk.url)
    heap = grid.page.get_by_role("link", name="assigned to me")
    expect(heap).to_contain_text("1")
    pictured(grid, pictures, "inbox_assigned")
    heap.click()
    expect(grid.page.locator("#grid")).to_have_attribute("aria-rowcount", "2")


def test_what_others_did_since_is_marked_until_one_has_looked(desk: Desk, grid: Grid, pictures: Path) -> None:
    grid.open(address(desk))
    grid.press("L")
    eventually(lambda: desk.ask("SELECT 1 FROM system.looks"), "the look is kept")
    (row,) = desk.ask(
        "SELECT x.id FROM ledgers.expenses x JOIN system.entities e ON e.id = x.entity_id "
        "WHERE e.slug = %s AND x.period = %s AND x.status = 'PENDING' ORDER BY x.source_ref DESC LIMIT 1",
        [PIER, PERIOD],
    )
    desk.decide("reject", PREPARER, reason="not ours", ids=[row["id"]])
    desk.becomes(str(row["id"]), "REJECTED")
    grid.open(address(desk, "&group=changed"))
    expect(grid.page.locator("#grid")).to_have_attribute("aria-rowcount", "2")
    expect(grid.present.get_by_title("changed since you last looked")).to_be_visible()
    pictured(grid, pictures, "changed_rows")
    grid.press("L")
    expect(grid.page.locator("#grid")).to_have_attribute("aria-rowcount", "1")
    grid.open(address(desk))
    expect(grid.page.get_by_title("changed since you last looked")).to_have_count(0)


def test_leaving_a_view_is_a_look_at_it(desk: Desk, grid: Grid) -> None:
    grid.open(address(desk))
    before = desk.ask("SELECT change::text FROM system.looks WHERE period = %s", [PERIOD])
    (row,) = desk.ask(
        "SELECT x.id FROM ledgers.expenses x JOIN system.entities e ON e.id = x.entity_id "
        "WHERE e.slug = %s AND x.status = 'PENDING' ORDER BY x.source_ref LIMIT 1",
        [PIER],
    )
    desk.decide("reject", PREPARER, reason="not ours", ids=[row["id"]])
    desk.becomes(str(row["id"]), "REJECTED")
    grid.open(address(desk))
    expect(grid.page.get_by_title("changed since you last looked")).to_have_count(1)
    grid.press("g", "b")
    expect(grid.page).to_have_url(f"{desk.url}/board")
    eventually(
        lambda: desk.ask("SELECT change::text FROM system.looks WHERE period = %s", [PERIOD]) != before, "the look is kept"
    )
    grid.open(address(desk))
    expect(grid.page.get_by_title("changed since you last looked")).to_have_count(0)
