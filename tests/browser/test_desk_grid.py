"""The desk's grid as an accountant uses it: keys only, in Chromium, over real rows, decided by real runs."""

from __future__ import annotations

from pathlib import Path

import openpyxl
import pytest
from desk_site import HOSTILE, PERIOD, PIER, QUAY, Desk
from installed import APPROVER, PREPARER, eventually
from keyboard import Grid
from playwright.sync_api import Browser, Route, expect

APPROVED = ("APPROVED", "POSTED")


def at(desk: Desk, query: str) -> str:
    return f"{desk.url}/subledgers/expenses?{query}"


PENDING = f"entity={PIER}&period={PERIOD}&group=ready"
"""Rows that this approver may approve and on which nothing waits: no test meets what another left behind."""
IN_DOUBT = f"entity={QUAY}&period={PERIOD}&status=NEEDS_ATTENTION"

# -- moving and looking


def test_a_grid_that_a_screen_reader_can_read(desk: Desk, grid: Grid) -> None:
    grid.open(at(desk, f"entity={PIER}"))
    table = grid.page.get_by_role("grid", name="Expenses")
    expect(table).to_have_attribute("aria-rowcount", "121")
    grid.press("j", "j", "ArrowRight")
    column = grid.focused()["column"]
    assert grid.focused() == {"role": "gridcell", "row": "4", "column": column}
    assert grid.page.locator('.grid-body [tabindex="0"]').count() == 1
    grid.press("k")
    assert grid.focused() == {"role": "gridcell", "row": "3", "column": column}
    grid.press("G")
    assert grid.focused()["row"] == "121"
    assert grid.page.locator(".grid-body .grid-row").count() < 60, "as many elements as the screen has lines"


def test_the_address_names_the_list_and_the_row(desk: Desk, grid: Grid) -> None:
    grid.open(at(desk, f"entity={PIER}"))
    grid.press("/")
    grid.type("corvane")
    expect(grid.page.locator("#statuses .count")).to_have_text(["28"])  # not that of its first letters
    grid.press("Escape", "j", "j")
    row = grid.row_id
    expect(grid.page).to_have_url(at(desk, f"q=corvane&entity={PIER}&row={row}"))
    grid.open(grid.page.url)
    assert grid.row_id == row
    assert grid.position == 2


def test_the_line_of_the_document(desk: Desk, grid: Grid) -> None:
    grid.open(at(desk, f"entity={QUAY}"))
    grid.press("j", "j", "j")
    line = desk.row(grid.row_id)["source_ref"].rpartition("#L")[2]
    expect(grid.page.locator(".source-view tr.here .line-number")).to_have_text(line)
    expect(grid.page.locator(".source-view tr.here")).to_contain_text("Legal fees")


def test_words_of_a_document_are_words(desk: Desk, grid: Grid) -> None:
    """In the table, in the document, in what changed: none of it becomes a part of the page."""
    grid.open(at(desk, f"entity={QUAY}&q=onerror"))
    title = grid.page.title()
    expect(grid.cell(grid.present, "vendor")).to_have_text(HOSTILE)
    for _ in range(4):
        grid.press("t")
        expect(grid.page.get_by_role("tab", selected=True)).to_be_visible()
    expect(grid.page.locator(".source-view tr.here")).to_contain_text("onerror")
    assert grid.page.locator("img").count() == 0
    assert grid.page.title() == title


# -- deciding


def test_a_decision_waits_at_once_and_its_outcome_comes_by_itself(desk: Desk, grid: Grid) -> None:
    grid.open(at(desk, PENDING))
    row, position = grid.row_id, grid.position
    with desk.nothing_applied():
        grid.press("a")
        expect(grid.cell(grid.row(position), "status")).to_contain_text("→ approve")
        assert grid.position == position + 1, "the next undecided row comes by itself"
        assert desk.row(row)["status"] == "PENDING"
    grid.outcome(grid.row(position), "ed")
    desk.becomes(row, *APPROVED)
    expect(grid.cell(grid.row(position), "status")).not_to_contain_text("→")
    assert desk.decisions(row) == [("approve", APPROVER)]


def test_a_reason_is_asked_for_and_remembered(desk: Desk, grid: Grid) -> None:
    grid.open(at(desk, PENDING))
    first = grid.row_id
    grid.press("x")
    expect(grid.dialog).to_contain_text("Reject: why?")
    grid.press("Control+a")
    grid.type("Paid in February")
    grid.press("Enter")
    expect(grid.dialog).to_have_count(0)
    second = grid.row_id
    assert second != first
    grid.press("x", "Enter")
    for row in (first, second):
        desk.becomes(row, "REJECTED")
    found = desk.ask("SELECT DISTINCT reason FROM system.signals WHERE kind = 'reject'")
    assert [each["reason"] for each in found] == ["Paid in February"]


def test_an_error_stands_at_its_cell_until_it_is_right(desk: Desk, grid: Grid) -> None:
    grid.open(at(desk, f"{IN_DOUBT}&sort=amount_gross"))
    row = grid.row_id
    grid.to_column("amount_gross")
    grid.press("Enter", "Control+a")
    grid.type("-3.00")
    editor = grid.page.locator("input.editor")
    expect(editor).to_have_attribute("aria-invalid", "true")
    expect(grid.page.locator(f"#{editor.get_attribute('aria-describedby')}")).to_contain_text("above zero")
    grid.press("Control+a")
    grid.type("77.10")
    expect(editor).not_to_have_attribute("aria-invalid", "true")
    grid.press("Tab", "Escape")
    grid.press("c", "Enter")
    found = desk.becomes(row, "PENDING")
    assert (str(found["amount_gross"].quantize(found["amount_gross"].__class__("0.01"))), found["made_by"]) == ("77.10", APPROVER)
    assert desk.decisions(row) == [("accept", APPROVER)], "repair and acceptance are one act"


def test_approving_with_an_open_edit_files_the_edit(desk: Desk, grid: Grid) -> None:
    grid.open(at(desk, PENDING))
    row = grid.row_id
    grid.to_column("notes")
    grid.press("F2")
    grid.type("Second reminder")
    grid.press("Tab", "Escape", "a")
    expect(grid.dialog).to_contain_text("somebody else approves it")
    grid.press("Enter")
    found = eventually_edited(desk, row, "Second reminder")
    assert (found["status"], found["made_by"]) == ("PENDING", APPROVER)
    assert desk.decisions(row) == [("edit", APPROVER)]


def eventually_edited(desk: Desk, row: str, notes: str) -> dict[str, object]:
    return eventually(lambda: (found := desk.row(row))["notes"] == notes and found, "the edit is applied")


def test_a_held_key_decides_once(desk: Desk, grid: Grid) -> None:
    grid.open(at(desk, PENDING))
    position = grid.position
    with desk.nothing_applied():
        for _ in range(5):
            grid.page.keyboard.down("a")  # down again without up is how a held key repeats
        grid.page.keyboard.up("a")
        expect(grid.cell(grid.row(position), "status")).to_contain_text("→ approve")
        assert grid.position == position + 1
        expect(grid.cell(grid.row(position + 1), "status")).not_to_contain_text("approve")


def test_taking_a_decision_back(desk: Desk, grid: Grid) -> None:
    grid.open(at(desk, PENDING))
    row, position = grid.row_id, grid.position
    with desk.nothing_applied():
        grid.press("a")
        expect(grid.cell(grid.row(position), "status")).to_contain_text("→ approve")
        grid.press("u")
        expect(grid.page.locator("#toasts")).to_contain_text("Approve taken back")
        expect(grid.cell(grid.row(position), "status")).to_have_text("Pending")
        assert grid.position == position
    grid.press("e", "Enter")
    desk.becomes(row, "EXCLUDED")


def test_the_palette_has_what_the_status_allows(desk: Desk, grid: Grid) -> None:
    grid.open(at(desk, IN_DOUBT))
    grid.press(".")
    options = grid.dialog.get_by_role("option")
    expect(options).to_contain_text(["Accept", "Reject", "Edit"])
    expect(options.filter(has_text="Approve")).to_have_count(0)
    grid.press("Escape")
    expect(grid.dialog).to_have_count(0)


# -- two people, one row


def test_a_row_that_moved_is_shown_beside_what_one_had(desk: Desk, grid: Grid) -> None:
    grid.open(at(desk, PENDING))
    row, position = grid.row_id, grid.position
    seen = grid.cell(grid.present, "vendor").inner_text()
    grid.page.route("**/changes?*", lambda route: route.abort())
    desk.decide("edit", PREPARER, reason="Misread", values={"vendor": "Elswick Cleaning"}, ids=[row])
    eventually(lambda: desk.row(row)["vendor"] == "Elswick Cleaning", "edited elsewhere")
    grid.press("a")
    expect(grid.dialog).to_contain_text("the row changed after it was looked at")
    cells = grid.dialog.locator("tbody tr").filter(has_text="Vendor").locator("td")
    expect(cells).to_have_text([seen, "Elswick Cleaning"])
    grid.press("Enter")
    assert grid.position == position
    assert desk.decisions(row) == [("edit", PREPARER)], "nothing was filed"


def test_an_edit_that_cannot_be_filed_stays_in_its_cell(desk: Desk, grid: Grid) -> None:
    """Not over a desk that does not answer, nor over loading the page again."""

    def silent(route: Route) -> None:
        route.abort()

    grid.open(at(desk, PENDING))
    row = grid.row_id
    grid.page.route("**/signals", silent)
    grid.to_column("notes")
    grid.press("Enter")
    grid.type("Ask the agent")
    grid.press("Enter")
    expect(grid.dialog).to_contain_text("why?")
    grid.press("Enter")
    expect(grid.page.locator("#alarms")).to_contain_text("cannot be reached")
    grid.open(at(desk, f"{PENDING}&row={row}"))
    kept = grid.cell(grid.present, "notes")
    expect(kept).to_have_text("Ask the agent")
    expect(kept).to_have_class("cell draft wrong")
    expect(grid.page.locator("#status-line")).to_contain_text("1 row edited, not filed")
    grid.page.unroute("**/signals", silent)
    grid.press("a", "Enter")
    eventually_edited(desk, row, "Ask the agent")
    expect(grid.page.locator("#status-line")).not_to_contain_text("not filed")


def test_a_late_answer_about_a_value_does_not_take_back_that_it_was_not_filed(desk: Desk, grid: Grid) -> None:
    late: list[Route] = []

    def first_is_late(route: Route) -> None:
        if late:
            route.continue_()
        else:
            late.append(route)

    grid.open(at(desk, PENDING))
    grid.page.route("**/validate", first_is_late)
    grid.page.route("**/signals", lambda route: route.abort())
    grid.to_column("notes")
    grid.press("Enter")
    grid.type("Ask the agent again")
    grid.press("Enter")
    expect(grid.dialog).to_contain_text("why?")
    grid.press("Enter")
    expect(grid.page.locator("#alarms")).to_contain_text("cannot be reached")
    edited = grid.page.locator(".cell.draft")
    expect(edited).to_have_class("cell draft wrong")
    with grid.page.expect_response("**/validate") as answered:
        late[0].continue_()
    answered.value.finished()
    grid.page.evaluate("() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    assert edited.get_attribute("class") == "cell draft wrong"


# -- many rows at once


def test_everything_that_matches_is_added_up_before_it_is_decided(desk: Desk, grid: Grid) -> None:
    query = f"entity={PIER}&period={PERIOD}&q=Dunmore"
    grid.open(at(desk, query))
    others = (
        "FROM ledgers.expenses x JOIN system.entities e ON e.id = x.entity_id WHERE e.slug = %s AND x.vendor = 'Dunmore Lifts' "
        "AND x.status = 'PENDING' AND x.made_by IS DISTINCT FROM %s"
    )
    (expected,) = desk.ask(
        f"SELECT count(*) AS rows, to_char(sum(amount_gross), 'FM999,999,990.00') AS gross {others}", [PIER, APPROVER]
    )
    grid.press("*")
    expect(grid.page.locator("#selection-bar")).to_contain_text(f"GBP {expected['gross']}")
    grid.press("a")
    expect(grid.dialog.locator("dd").nth(0)).to_have_text(str(expected["rows"]))
    expect(grid.dialog.locator("dd").nth(1)).to_have_text(expected["gross"])
    grid.press("Enter")
    expect(grid.page.locator("#toasts")).to_contain_text("applied", timeout=60_000)
    assert desk.ask(f"SELECT count(*) AS rows {others}", [PIER, APPROVER]) == [{"rows": 0}]


def test_some_rows_are_decided_together(desk: Desk, grid: Grid) -> None:
    grid.open(at(desk, PENDING))
    grid.press("Shift+ArrowDown", "Shift+ArrowDown")
    rows = [row for _ in range(3) if (row := grid.row_id) and (grid.press("k") or True)]
    grid.press("x")
    expect(grid.dialog.locator("dd").first).to_have_text("3")
    grid.press("Control+a")
    grid.type("Booked twice")
    grid.press("Enter")
    for row in set(rows):
        desk.becomes(row, "REJECTED")


# -- keys, views, words


def test_keys_are_shown_and_can_be_others(desk: Desk, grid: Grid) -> None:
    grid.open(at(desk, PENDING))
    grid.press("?")
    line = grid.dialog.locator('[data-action="down"]')
    line.focus()
    grid.press("Enter", "n")
    expect(grid.dialog.get_by_role("status")).to_have_text("Next row is n now.")
    grid.press("Escape")
    before = grid.position
    grid.press("n")
    assert grid.position == before + 1
    grid.open(grid.page.url.partition("&row=")[0])
    before = grid.position
    grid.press("n")
    assert grid.position == before + 1, "kept over loading the page"
    grid.press("j")
    assert grid.position == before + 1, "j has it no more"


def test_a_filter_is_kept_under_a_name(desk: Desk, grid: Grid) -> None:
    grid.open(at(desk, IN_DOUBT))
    count = grid.page.locator("#grid").get_attribute("aria-rowcount")
    grid.press("s")
    grid.type("Quay, in doubt")
    grid.press("Enter")
    expect(grid.dialog).to_have_count(0)
    grid.open(at(desk, ""))
    grid.press("s")
    expect(grid.dialog).to_contain_text("Quay, in doubt")
    grid.press("Enter")
    expect(grid.page.locator("#grid")).to_have_attribute("aria-rowcount", count or "")


def test_a_comment(desk: Desk, grid: Grid) -> None:
    grid.open(at(desk, f"entity={QUAY}"))
    row = grid.row_id
    expect(grid.page.get_by_role("tab", name="Document")).to_be_visible()
    grid.press("m")
    grid.type("Asked the landlord <b>twice</b>")
    grid.press("Control+Enter")
    expect(grid.page.locator(".comment")).to_contain_text("Asked the landlord <b>twice</b>")
    (kept,) = desk.ask("SELECT by, text FROM system.row_comments WHERE row_id = %s", [row])
    assert kept == {"by": APPROVER, "text": "Asked the landlord <b>twice</b>"}


# -- how it looks

LEAST_CONTRAST = """() => {
    const parse = (text) => {
        const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
        return text.startsWith("color(") ? [r, g, b, a] : [r / 255, g / 255, b / 255, a];
    };
    const luminance = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const ground = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = parse(getComputedStyle(at).backgroundColor);
            if (colour[3] === 1) return colour;
        }
        return parse(getComputedStyle(document.body).backgroundColor);
    };
    return [...document.querySelectorAll("body *")].filter((element) => element.offsetParent && [...element.childNodes].some(
        (child) => child.nodeType === Node.TEXT_NODE && child.data.trim())).map((element) => {
        const [one, other] = [luminance(parse(getComputedStyle(element).color)), luminance(ground(element))];
        const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        return [ratio, `${element.className} ${element.innerText.slice(0, 30)}`];
    }).filter(([ratio]) => ratio < 4.5);
}"""


@pytest.mark.parametrize(
    ("scheme", "size"),
    [
        ("light", (1280, 800)),
        ("dark", (1920, 1080)),
        pytest.param("light", (1920, 1080), marks=pytest.mark.long),
        pytest.param("dark", (1280, 800), marks=pytest.mark.long),
    ],
)
def test_every_text_can_be_read(desk: Desk, browser: Browser, pictures: Path, scheme: str, size: tuple[int, int]) -> None:
    """WCAG AA: 4.5 to 1, in every state of the page that is pictured here."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    grid = Grid(context.new_page())
    desk.log_in(grid.page)
    for name, query, keys in (
        ("rows", "", ()),
        ("in-doubt", IN_DOUBT, ("J",)),
        ("changes", IN_DOUBT, ("t",)),
        ("one-row", f"entity={QUAY}&q=onerror", ()),
        ("empty", "q=no such words", ()),
        ("selection", "", ("*",)),
        ("bulk", f"entity={QUAY}", ("*", "x")),
        ("palette", IN_DOUBT, (".",)),
        ("legend", "", ("?",)),
    ):
        grid.open(at(desk, query))
        grid.press(*keys)
        if name in {"bulk", "palette", "legend"}:
            expect(grid.dialog).to_be_visible()
        grid.page.screenshot(path=pictures / f"desk-{name}-{size[0]}-{scheme}.png", animations="disabled")
        assert grid.page.evaluate(LEAST_CONTRAST) == [], name
    assert grid.complaints == []
    context.close()


# -- sheets


def test_an_edited_sheet_comes_back_as_edits(desk: Desk, grid: Grid, tmp_path: Path) -> None:
    """What it would change is shown before anything is filed."""
    grid.open(at(desk, PENDING))
    row = grid.row_id
    exported = grid.page.evaluate(
        "async () => [...new Uint8Array(await (await fetch(document.getElementById('export-xlsx').href)).arrayBuffer())]"
    )
    path = tmp_path / "rows.xlsx"
    path.write_bytes(bytes(exported))
    book = openpyxl.load_workbook(path)
    sheet = book.active
    assert sheet is not None
    names = [cell.value for cell in sheet[1]]
    line = next(line for line in range(2, sheet.max_row + 1) if sheet.cell(line, names.index("id") + 1).value == row)
    sheet.cell(line, names.index("notes") + 1).value = "Written in the sheet"
    book.save(path)
    grid.page.set_input_files("#import", path)
    expect(grid.dialog).to_contain_text("1 edited")
    expect(grid.dialog).to_contain_text("Written in the sheet")
    assert desk.row(row)["notes"] != "Written in the sheet"
    grid.press("Control+a")
    grid.type("from the sheet")
    grid.press("Enter")
    expect(grid.dialog).to_have_count(0)
    eventually(lambda: desk.row(row)["notes"] == "Written in the sheet", "the edit is applied")
    assert desk.row(row)["made_by"] == APPROVER
