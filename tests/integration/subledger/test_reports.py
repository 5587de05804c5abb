"""Reports say what the books say: figures worked out here by hand, and by a second, simple way."""

from __future__ import annotations

import asyncio
import csv
import io
import random
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from importlib import import_module
from typing import Any
from uuid import UUID

import pytest
from booked import book
from ledger_tenant import Tenant
from openpyxl import load_workbook

from ntro_dagster.boundary.periods import last_day
from ntro_dagster.desk.report_files import write_csv, write_html, write_xlsx
from ntro_dagster.gl.reports import Basis, Compared, Report, ReportName, report
from ntro_dagster.gl.reports.report import About, Check, Row, one_instant

ledger_report: Any = import_module("ntro_dagster.gl.reports.ledger")


def about(entity: UUID, period: str, *, first_month: int = 1) -> About:
    return About(entity, "fund", "Fund", "GBP", period, first_month)


def made(tenant: Tenant, name: str, of: About, **choices: Any) -> tuple[Report, list[Row]]:
    async def run() -> tuple[Report, list[Row]]:
        async with tenant.database("auditor") as auditor, one_instant(auditor):
            found = await report(ReportName(name), auditor, of, **choices)
            return found, [row async for row in found.rows]

    found, rows = asyncio.run(run())
    assert found.ties_out, found.checks
    assert found.checks
    return found, rows


def figures(report: Report, rows: Sequence[Row], key: str = "account") -> dict[Any, dict[str, Any]]:
    names = [column.name for column in report.columns]
    return {(cells := dict(zip(names, row.cells, strict=True)))[key]: cells for row in rows}


@pytest.fixture
def books(tenant: Tenant, entity: UUID) -> UUID:
    book(tenant, entity, "2024-03-10", ("1000", "1000"), ("4000", "-1000"))
    book(tenant, entity, "2024-12-31", ("5300", "300"), ("2000", "-300", "Smith"))
    book(tenant, entity, "2025-01-15", ("5300", "40", None, "=SUM(A1)"), ("1000", "-40"), text="Rent")
    book(tenant, entity, "2025-02-15", ("2000", "300", "Smith"), ("1000", "-300"), text="Paid")
    return entity


def test_a_trial_balance_from_the_beginning(tenant: Tenant, books: UUID) -> None:
    found, rows = made(tenant, "trial-balance", about(books, "2025-01"), compare=Compared.MONTH)
    shown = {
        account: [cells[name] for name in ("opening", "debit", "credit", "closing", "before")]
        for account, cells in figures(found, rows).items()
    }
    assert shown == {
        "1000": [1000, 0, 40, 960, 1000],
        "2000": [-300, 0, 0, -300, -300],
        "4000": [-1000, 0, 0, -1000, -1000],
        "5300": [300, 40, 0, 340, 300],
    }
    assert [total.cells[4:] for total in found.totals] == [(0, 40, 40, 0, 0)]


def test_what_earlier_years_left_is_with_retained_earnings(tenant: Tenant, books: UUID) -> None:
    found, rows = made(tenant, "trial-balance", about(books, "2025-02"), basis=Basis.YEAR, compare=Compared.YEAR)
    shown = {account: (cells["opening"], cells["closing"], cells["before"]) for account, cells in figures(found, rows).items()}
    assert shown == {
        "1000": (960, 660, 0),
        "2000": (-300, 0, 0),
        "3000": (-700, -700, 0),
        "5300": (40, 40, 0),
    }
    assert "2025-01" in found.notes[0]


def test_the_year_is_the_entitys_own(tenant: Tenant, books: UUID) -> None:
    found, rows = made(tenant, "trial-balance", about(books, "2025-02", first_month=4), basis=Basis.YEAR)
    shown = {account: cells["closing"] for account, cells in figures(found, rows).items()}
    assert shown == {"1000": 660, "2000": 0, "3000": -1000, "5300": 340}, "March 2024 is another year, December is not"


def test_several_currencies_are_shown_apart_and_translated(tenant: Tenant, entity: UUID) -> None:
    book(tenant, entity, "2025-01-05", ("1000", "100"), ("4000", "-100"))
    book(tenant, entity, "2025-01-06", ("5300", "10"), ("1000", "-10"), currency="EUR", rate="0.8")
    _, rows = made(tenant, "trial-balance", about(entity, "2025-01"))
    shown = {(row.cells[0], row.cells[3]): row.cells[7] for row in rows if row.style == "line"}
    assert shown == {
        ("1000", "GBP translated"): 92, ("4000", "GBP translated"): -100, ("5300", "GBP translated"): 8,
        ("1000", "EUR"): -10, ("5300", "EUR"): 10, ("1000", "GBP"): 100, ("4000", "GBP"): -100,
    }  # fmt: skip
    assert [row.cells[3] for row in rows if row.style == "total"] == ["GBP translated", "EUR", "GBP"]
    book(tenant, entity, "2025-01-07", ("5300", "10"), ("1000", "-10"), currency="USD")
    assert "never translated" in made(tenant, "nav", about(entity, "2025-01"))[0].notes[0]


def test_the_ledger_leads_from_opening_to_closing(tenant: Tenant, books: UUID) -> None:
    found, rows = made(tenant, "ledger", about(books, "2025-01"))
    shown = [(row.account, row.style.value, row.cells[3], row.cells[9]) for row in rows]
    assert shown == [
        ("1000", "balance", None, 1000), ("1000", "line", "2025/1", 960), ("1000", "balance", None, 960),
        ("2000", "balance", None, -300), ("2000", "balance", None, -300),
        ("4000", "balance", None, -1000), ("4000", "balance", None, -1000),
        ("5300", "balance", None, 300), ("5300", "line", "2025/1", 340), ("5300", "balance", None, 340),
    ]  # fmt: skip
    assert found.totals[0].cells[7:9] == (40, 40)
    one = made(tenant, "ledger", about(books, "2025-01"), account="5300")[1]
    assert [row.account for row in one] == ["5300"] * 3
    assert rows[1].source is None, "no row: it was written for this test"
    assert str(rows[1].cells[12]).startswith("expenses:")


def test_lines_that_lead_elsewhere_are_told(tenant: Tenant, books: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: Any) -> Any:
        return
        yield

    monkeypatch.setattr(ledger_report, "_lines", nothing)
    with pytest.raises(ledger_report.LedgerMovedError):
        made(tenant, "ledger", about(books, "2025-01"))


def test_journals_in_the_order_of_their_numbers(tenant: Tenant, entity: UUID) -> None:
    first = book(tenant, entity, "2025-01-05", ("1000", "5"), ("4000", "-5"), text="Fee")
    book(tenant, entity, "2025-01-09", ("1000", "-5"), ("4000", "5"), text="Wrong", reverses=first)
    found, rows = made(tenant, "journals", about(entity, "2025-01"))
    assert [(row.cells[0], row.cells[2], row.cells[3], row.cells[5], row.cells[10], row.cells[11]) for row in rows] == [
        ("2025/1", "ENTRY", None, "1000", 5, None), ("2025/1", "ENTRY", None, "4000", None, 5),
        ("2025/2", "REVERSAL", "2025/1", "1000", None, 5), ("2025/2", "REVERSAL", "2025/1", "4000", 5, None),
    ]  # fmt: skip
    assert found.totals[0].cells[4] == "Total, 2 journals"


AGES = {
    "2025-03-31": 0,
    "2025-03-01": 30,
    "2025-02-28": 31,
    "2025-01-30": 60,
    "2025-01-29": 61,
    "2024-12-31": 90,
    "2024-12-30": 91,
}


def test_ages_of_bills(tenant: Tenant, entity: UUID) -> None:
    for at, day in enumerate(AGES):
        book(tenant, entity, day, ("5300", 2**at), ("2000", -(2**at), "Smith"))
    found, (row,) = made(tenant, "creditors", about(entity, "2025-03"))
    assert row.cells == ("Smith", 1 + 2, 4 + 8, 16 + 32, 64, 0, 127)
    assert found.totals[0].cells[1:] == row.cells[1:]


def test_payments_settle_the_oldest_and_a_reversed_bill_is_none(tenant: Tenant, entity: UUID) -> None:
    book(tenant, entity, "2024-11-05", ("5300", "100"), ("2000", "-100", "Smith"))
    wrong = book(tenant, entity, "2025-01-05", ("5300", "70"), ("2000", "-70", "Smith"))
    book(tenant, entity, "2025-03-05", ("5300", "50"), ("2000", "-50", "Smith"))
    book(tenant, entity, "2025-03-06", ("2000", "120", "Smith"), ("1000", "-120"))
    book(tenant, entity, "2025-03-07", ("2000", "70", "Smith"), ("5300", "-70"), reverses=wrong)
    book(tenant, entity, "2025-03-07", ("2000", "9", "Jones"), ("1000", "-9"))
    book(tenant, entity, "2025-03-08", ("5300", "3"), ("2000", "-3"))
    _, rows = made(tenant, "creditors", about(entity, "2025-03"))
    assert [row.cells for row in rows] == [
        ("Jones", 0, 0, 0, 0, -9, -9),
        ("Smith", 30, 0, 0, 0, 0, 30),
        ("(no party)", 3, 0, 0, 0, 0, 3),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_ages_agree_with_bills_paid_off_one_by_one(tenant: Tenant, entity: UUID, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    end = last_day("2025-06")
    moves = sorted(
        (end - timedelta(days=chance.randrange(150)), chance.choice("AB"), chance.randrange(-900, 1000) or 1) for _ in range(40)
    )
    for day, party, amount in moves:
        book(tenant, entity, day.isoformat(), ("2000", -amount, party), ("5300", amount))
    expected = {}
    for party in "AB":
        bills = [[day, amount] for day, who, amount in moves if who == party and amount > 0]
        left = -sum(amount for _, who, amount in moves if who == party and amount < 0)
        for bill in bills:
            settled = min(left, bill[1])
            bill[1] -= settled
            left -= settled
        aged = [0, 0, 0, 0, -left]
        for day, amount in bills:
            aged[next(at for at, most in enumerate((30, 60, 90, 9999)) if (end - day).days <= most)] += amount
        if sum(aged):
            expected[party] = (*aged, sum(aged))
    _, rows = made(tenant, "creditors", about(entity, "2025-06"))
    assert {row.cells[0]: row.cells[1:] for row in rows} == expected


def test_net_assets_by_account_below_its_parent(tenant: Tenant, entity: UUID) -> None:
    with tenant.as_owner() as owner:
        owner.execute(
            "INSERT INTO ledgers.accounts (code, name, type, parent) VALUES ('15', 'Holdings', 'ASSET', NULL), "
            "('151', 'Shares', 'ASSET', '15'), ('152', 'Loans', 'ASSET', '15'), ('159', 'Unused', 'ASSET', '15') "
            "ON CONFLICT DO NOTHING"
        )
    book(tenant, entity, "2024-12-31", ("1000", "1000"), ("3000", "-1000"))
    book(tenant, entity, "2025-01-31", ("15", "10"), ("151", "200"), ("1000", "-210"))
    book(tenant, entity, "2025-02-28", ("152", "50"), ("5300", "7"), ("2000", "-57", "Smith"))
    found, rows = made(tenant, "nav", about(entity, "2025-02"))
    shown = [(row.cells[1], row.depth, row.style.value, *row.cells[2:]) for row in rows]
    assert shown == [
        ("Cash at bank", 0, "line", 790, 790, 0, 1000, -210),
        ("Holdings", 0, "line", 10, 10, 0, 0, 10),
        ("Shares", 1, "line", 200, 200, 0, 0, 200),
        ("Loans", 1, "line", 50, 0, 50, 0, 50),
        ("Total Holdings", 0, "subtotal", 260, 210, 50, 0, 260),
        ("Assets", 0, "subtotal", 1050, 1000, 50, 1000, 50),
        ("Creditors", 0, "line", 57, 0, 57, 0, 57),
        ("Liabilities", 0, "subtotal", 57, 0, 57, 0, 57),
    ]
    assert found.totals[0].cells[2:] == (993, 1000, -7, 1000, -7)


@pytest.mark.parametrize("name", ReportName)
def test_books_with_nothing_in_them(tenant: Tenant, entity: UUID, name: ReportName) -> None:
    assert made(tenant, name, about(entity, "2025-01"))[1] == []


def files(tenant: Tenant, name: str, of: About) -> tuple[str, bytes, str]:
    async def run() -> tuple[str, bytes, str]:
        async with tenant.database("auditor") as auditor, one_instant(auditor):
            as_csv, as_xlsx, as_html = io.StringIO(newline=""), io.BytesIO(), io.StringIO()
            await write_csv(await report(ReportName(name), auditor, of), as_csv)
            await write_xlsx(await report(ReportName(name), auditor, of), as_xlsx, tenant="acme")
            await write_html(await report(ReportName(name), auditor, of), as_html, tenant="acme")
            return as_csv.getvalue(), as_xlsx.getvalue(), as_html.getvalue()

    return asyncio.run(run())


def test_files_hold_the_same_and_no_formula(tenant: Tenant, entity: UUID) -> None:
    book(tenant, entity, "2025-01-15", ("5300", "-40.5", "@cmd", "<b>=1+1</b>"), ("1000", "40.5"), text="=HYPERLINK(1)")
    as_csv, as_xlsx, as_html = files(tenant, "ledger", about(entity, "2025-01"))
    lines = list(csv.DictReader(io.StringIO(as_csv)))
    line = next(each for each in lines if each["row"] == "line" and each["account"] == "5300")
    assert (line["debit"], line["credit"], line["balance"], line["date"]) == ("", "40.50", "-40.50", "2025-01-15")
    assert (line["text"], line["party"]) == ("'=HYPERLINK(1): <b>=1+1</b>", "'@cmd")
    assert lines[-1]["row"] == "total"
    assert lines[-1]["debit"] == "40.50"
    book_ = load_workbook(io.BytesIO(as_xlsx))
    sheet: Any = book_["ledger"]
    cells = [cell for row in sheet.iter_rows() for cell in row]
    assert not [cell.value for cell in cells if cell.data_type == "f"]
    assert sum(1 for cell in cells if cell.value == Decimal("-40.5") or cell.value == -40.5) == 2
    assert {row[0].value for row in book_["ntro"].iter_rows()} >= {"tenant", "agrees"}  # type: ignore[attr-defined]
    assert "&lt;b&gt;=1+1&lt;/b&gt;" in as_html
    assert "<b>=1" not in as_html
    assert "does not agree" not in as_html


def test_a_report_that_does_not_tie_out_says_so(tenant: Tenant, books: UUID) -> None:
    async def run() -> str:
        async with tenant.database("auditor") as auditor, one_instant(auditor):
            found = await report(ReportName.NAV, auditor, about(books, "2025-01"))
            found.checks = [Check("The sky is green.", False)]
            out = io.StringIO()
            await write_html(found, out, tenant="acme")
            assert not found.ties_out
            return out.getvalue()

    assert "does not agree</span> The sky is green." in asyncio.run(run())


def test_a_report_is_of_one_instant(tenant: Tenant, books: UUID) -> None:
    """A journal that is posted between two looks of one report is in neither."""

    async def run() -> tuple[Report, list[Row]]:
        async with tenant.database("auditor") as auditor, one_instant(auditor):
            await auditor.fetch("SELECT 1 FROM ledgers.journals LIMIT 1")
            book(tenant, books, "2025-01-20", ("5300", "1"), ("1000", "-1"))
            found = await report(ReportName.LEDGER, auditor, about(books, "2025-01"))
            return found, [row async for row in found.rows]

    found, rows = asyncio.run(run())
    assert (found.totals[0].cells[7], sum(1 for row in rows if row.style == "line")) == (40, 2)


def test_nothing_of_that_is_left_to_who_comes_next(tenant: Tenant, entity: UUID) -> None:
    async def run() -> list[str]:
        async with tenant.database("auditor") as auditor:
            try:
                async with one_instant(auditor):
                    raise asyncio.CancelledError
            except asyncio.CancelledError:
                found = await auditor.fetch_single("SELECT current_setting('transaction_isolation') AS level")
            return [found["level"]]

    assert asyncio.run(run()) == ["read committed"]
