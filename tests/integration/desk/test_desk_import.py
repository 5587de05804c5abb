"""An edited sheet, sent back: its changes become edits over the rows as they were exported."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import openpyxl
import pytest
from desk_at_work import Browser, DeskAtWork

IMPORT = "/v1/subledgers/expenses/import"

Sheet = Any
MIDNIGHT = datetime(2025, 1, 30)  # noqa: DTZ001 (sheets know no zones)


class Edited:
    """An export, as somebody edits it in a spreadsheet."""

    def __init__(self, browser: Browser, query: str) -> None:
        answer = browser.get(f"/v1/subledgers/expenses/export.xlsx{query}")
        assert answer.status_code == 200
        self.book = openpyxl.load_workbook(io.BytesIO(answer.content))
        self.sheet: Sheet = self.book.worksheets[0]
        self.columns = [cell.value for cell in self.sheet[1]]

    def put(self, row: UUID, column: str, value: object) -> None:
        for line in self.sheet.iter_rows(min_row=2):
            if line[0].value == str(row):
                line[self.columns.index(column)].value = value

    def content(self) -> bytes:
        kept = io.BytesIO()
        self.book.save(kept)
        return kept.getvalue()


def send(browser: Browser, content: bytes, query: str = "") -> Any:
    return browser.post(IMPORT + query, data=content, headers={"Content-Type": "application/octet-stream"})


def signals(desk: DeskAtWork, *rows: UUID) -> list[tuple[Any, ...]]:
    return desk.tenant.fetch(
        "SELECT s.kind, s.filed_by, s.payload, count(*) FROM system.signals s JOIN system.signal_rows r ON r.signal_id = s.id "
        "WHERE r.row_id = ANY(%s) GROUP BY s.id ORDER BY s.payload::TEXT",
        list(rows),
    )


def test_what_was_edited_is_filed_and_nothing_else(desk: DeskAtWork, pat: Browser, entity: UUID) -> None:
    of = f"?entity={desk.slug(entity)}"
    rows = [
        desk.tenant.new_row(
            entity, vendor=vendor, amount_gross="1234567.891", vat_amount=None, expense_date="2025-01-31", confidence="0.5"
        )
        for vendor in ("=1+1", "00123", "a\x01_x0041_\r\nb ", "Same")
    ]
    sheet = Edited(pat, of)
    assert send(pat, sheet.content()).json() == {
        "lines": 4, "unchanged": 4, "proposals": [], "refused": [], "filed": 0, "signals": [],
    }  # fmt: skip
    for row in rows[:2]:
        sheet.put(row, "notes", "checked")
    sheet.put(rows[2], "amount_gross", 99.1)
    sheet.put(rows[2], "expense_date", MIDNIGHT)
    dry = send(pat, sheet.content()).json()
    assert {each["id"]: each["values"] for each in dry["proposals"]} == {
        str(rows[0]): {"notes": "checked"},
        str(rows[1]): {"notes": "checked"},
        str(rows[2]): {"amount_gross": "99.1", "expense_date": "2025-01-30"},
    }
    assert (dry["filed"], signals(desk, *rows)) == (0, [])
    unsaid = send(pat, sheet.content(), "?file=true")
    assert (unsaid.status_code, unsaid.json()["error"]) == (422, "REASON_MISSING")
    form = pat.post(IMPORT, files={"file": ("expenses.xlsx", sheet.content())})
    assert (form.status_code, len(form.json()["proposals"])) == (200, 3)
    assert pat.post(IMPORT, files={"other": ("x", b"")}).json()["error"] == "SHEET_UNREADABLE"
    done = send(pat, sheet.content(), "?file=true&reason=from the sheet").json()
    assert (done["filed"], done["unchanged"], len(done["signals"])) == (3, 1, 2)
    assert signals(desk, *rows) == [
        ("edit", "user:pat", {"amount_gross": "99.1", "expense_date": "2025-01-30"}, 1),
        ("edit", "user:pat", {"notes": "checked"}, 2),
    ]
    assert desk.apply(entity).applied == 3
    again = send(pat, sheet.content(), "?file=true&reason=again").json()
    assert (again["filed"], again["unchanged"]) == (0, 4)
    (row,) = pat.rows([rows[2]])
    assert (row["values"]["amount_gross"], row["values"]["vendor"]) == ("99.10", "a\x01_x0041_\r\nb ")


@pytest.mark.parametrize(
    ("column", "value", "code"),
    [
        ("notes", "=1+1", "CELL_IS_FORMULA"),
        ("amount_gross", "=1+1", "CELL_IS_FORMULA"),
        ("amount_gross", "#N/A", "CELL_INVALID"),
        ("notes", "a_x0000_b", "CELL_INVALID"),
        ("expense_date", 86_400, "CELL_INVALID"),
        ("expense_date", MIDNIGHT.replace(hour=3), "CELL_INVALID"),
        ("status", "POSTED", "FIELD_NOT_EDITABLE"),
        ("made_by", "user:pat", "FIELD_NOT_EDITABLE"),
        ("period", "2025-02", "FIELD_NOT_EDITABLE"),
        ("entity", "another", "FIELD_NOT_EDITABLE"),
        ("line_items", "[]", "FIELD_NOT_EDITABLE"),
        ("amount_gross", "twelve", "VALUES_INVALID"),
        ("amount_gross", 0.1 + 0.2 + 1e-12, "VALUES_INVALID"),
        ("vendor", None, "VALUES_INVALID"),
        ("digest", "0" * 64, "CONTENT_CHANGED"),
        ("id", str(UUID(int=1)), "ROW_NOT_FOUND"),
        ("id", "nothing", "ROW_ID_INVALID"),
    ],
)
def test_what_cannot_be_taken_is_named(
    desk: DeskAtWork, pat: Browser, entity: UUID, *, column: str, value: object, code: str
) -> None:
    row, good = desk.tenant.new_row(entity), desk.tenant.new_row(entity)
    sheet = Edited(pat, f"?entity={desk.slug(entity)}")
    sheet.put(good, "notes", "good")
    if column in {"digest", "id"}:
        sheet.put(row, "notes", "x")
    sheet.put(row, column, value)
    done = send(pat, sheet.content(), "?file=true&reason=x").json()
    (refused,) = done["refused"]
    assert refused["code"] == code
    assert refused["line"] in {2, 3}
    assert column in {*refused["fields"], "digest", "id"} or code == "VALUES_INVALID"
    assert (done["filed"], signals(desk, row)) == (1, [])


def test_rows_that_moved_since_the_export(desk: DeskAtWork, pat: Browser, ann: Browser, entity: UUID) -> None:
    changed, posted, waiting = (desk.tenant.new_row(entity) for _ in range(3))
    sheet = Edited(pat, f"?entity={desk.slug(entity)}")
    assert ann.decide("edit", [changed], values={"amount_gross": "130"}).status_code == 201
    assert ann.decide("reject", [posted]).status_code == 201
    desk.apply(entity)
    for row in (changed, posted):
        sheet.put(row, "notes", "late")
    found = send(pat, sheet.content()).json()
    assert {each["id"]: each["code"] for each in found["refused"]} == {
        str(changed): "CONTENT_CHANGED",
        str(posted): "ILLEGAL_TRANSITION",
    }
    sheet = Edited(pat, f"?entity={desk.slug(entity)}")
    sheet.put(posted, "notes", "late")
    assert [each["code"] for each in send(pat, sheet.content()).json()["refused"]] == ["ILLEGAL_TRANSITION"]
    sheet = Edited(pat, f"?entity={desk.slug(entity)}")
    assert ann.decide("exclude", [waiting]).status_code == 201
    sheet.put(waiting, "notes", "x")
    sheet.put(changed, "notes", "y")
    answer = send(pat, sheet.content(), "?file=true&reason=x")
    assert (answer.status_code, [row["code"] for row in answer.json()["rows"]]) == (409, ["DECISION_WAITING"])
    assert signals(desk, changed) == [("edit", "user:ann", {"amount_gross": "130"}, 1)]


def test_a_line_twice(desk: DeskAtWork, pat: Browser, entity: UUID) -> None:
    row = desk.tenant.new_row(entity)
    sheet = Edited(pat, f"?entity={desk.slug(entity)}")
    sheet.sheet.append([cell.value for cell in sheet.sheet[2]])
    sheet.put(row, "notes", "x")
    found = send(pat, sheet.content()).json()
    assert [each["code"] for each in found["refused"]] == ["ROW_REPEATED"]


def _bomb(content: bytes) -> bytes:
    kept = io.BytesIO()
    with (
        zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("xl/workbook.xml", "w", force_zip64=True) as part,
    ):
        for _ in range(257):
            part.write(bytes(1 << 20))
    return kept.getvalue()


def _entities(content: bytes) -> bytes:
    """A billion laughs in the sheet."""
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "ha" * 10}">' for n in range(9))
    kept = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(kept, "w") as new:
        for part in old.infolist():
            text = old.read(part)
            if part.filename == "xl/worksheets/sheet1.xml":
                text = f"<!DOCTYPE x [{laughs}]>".encode() + text.replace(b"</t>", b"&l8;</t>", 1)
            new.writestr(part, text)
    return kept.getvalue()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        lambda _: b"id,digest\n",
        lambda content: content[:-30],
        lambda _: b"PK\x05\x06" + bytes(18),
        _bomb,
        _entities,
    ],
    ids=["empty", "csv", "cut", "zip", "bomb", "entities"],
)
def test_files_that_are_no_sheets(desk: DeskAtWork, pat: Browser, entity: UUID, spoil: Callable[[bytes], bytes]) -> None:
    desk.tenant.new_row(entity)
    content = Edited(pat, f"?entity={desk.slug(entity)}").content()
    answer = send(pat, spoil(content))
    assert (answer.status_code, answer.json()["error"]) == (422, "SHEET_UNREADABLE")


def test_sheets_of_others(desk: DeskAtWork, pat: Browser, eve: Browser, entity: UUID) -> None:
    sheet = Edited(pat, f"?entity={desk.slug(entity)}")
    assert send(eve, sheet.content()).status_code == 403
    sheet.sheet["A1"] = "number"
    assert send(pat, sheet.content()).json()["error"] == "SHEET_UNREADABLE"
    sheet.sheet["A1"], sheet.sheet["F1"], sheet.sheet["G1"] = "id", "vendor", "vendor"
    assert send(pat, sheet.content()).json()["error"] == "SHEET_UNREADABLE"
