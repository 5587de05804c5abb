"""Records into payloads: certain or flagged, nothing between."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntro_dagster.ingest.finding import MESSAGES, Finding, FindingCode
from ntro_dagster.ingest.returns import Layout, Reading, open_return, read_expense
from ntro_dagster.ingest.returns.layout import DateOrder

COLUMNS = {
    "entity": "Entity",
    "expense_date": "Date",
    "expense_type": "Expense Type",
    "expense_area": "Expense Area",
    "vendor": "Supplier",
    "transaction_number": "Transaction Number",
    "amount_gross": "Amount",
    "notes": "Description",
}
LAYOUT = Layout(
    kind="csv",
    encoding="utf-8",
    delimiter=",",
    header_line=1,
    columns=tuple(COLUMNS.values()),
    width=len(COLUMNS),
    mapping=COLUMNS,
    rivals={},
)
RAW = {
    "Entity": "Body",
    "Date": "02/04/2013",
    "Expense Type": "Rent",
    "Expense Area": "Estates",
    "Supplier": " Acme  Ltd ",
    "Transaction Number": "77",
    "Amount": "£1,234.56",
    "Description": "Quarter",
}


def read(changes: Mapping[str, str], layout: Layout = LAYOUT, **options: str) -> Reading:
    return read_expense({**RAW, **changes}, layout, **{"currency": "GBP", **options})  # type: ignore[arg-type]


def codes(reading: Reading) -> list[FindingCode]:
    return [finding.code for finding in reading.findings]


def layout_with(**changes: object) -> Layout:
    return Layout.from_dict({**LAYOUT.as_dict(), **changes})


def test_a_certain_row() -> None:
    assert read({}) == Reading(
        {
            "vendor": "Acme Ltd",
            "amount_gross": Decimal("1234.56"),
            "currency": "GBP",
            "expense_date": date(2013, 4, 2),
            "notes": "Quarter",
            "category_hint": "Rent",
            "expense_area": "Estates",
            "transaction_number": "77",
            "vat_amount": None,
        },
        [],
    )


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"Amount": ""}, FindingCode.AMOUNT_MISSING, "amount_gross"),
        ({"Amount": " -   "}, FindingCode.AMOUNT_MISSING, "amount_gross"),
        ({"Amount": "1,23.45"}, FindingCode.AMOUNT_UNREADABLE, "amount_gross"),
        ({"Amount": "(5.00)"}, FindingCode.AMOUNT_NEGATIVE, "amount_gross"),
        ({"Amount": "0.00"}, FindingCode.AMOUNT_ZERO, "amount_gross"),
        ({"Amount": "5.001"}, FindingCode.AMOUNT_PRECISION, "amount_gross"),
        ({"Amount": "$5.00"}, FindingCode.CURRENCY_UNKNOWN, "currency"),
        ({"Date": ""}, FindingCode.DATE_MISSING, "expense_date"),
        ({"Date": "Apr-13"}, FindingCode.DATE_WITHOUT_DAY, "expense_date"),
        ({"Date": "31/02/2013"}, FindingCode.DATE_UNREADABLE, "expense_date"),
        ({"Date": "8//28/2013"}, FindingCode.DATE_MALFORMED, "expense_date"),
        ({"Date": "02/04/2104"}, FindingCode.DATE_OUT_OF_RANGE, "expense_date"),
        ({"Date": "Crime Lower", "Expense Type": "06/03/2013"}, FindingCode.COLUMNS_SWAPPED, "expense_date"),
        ({"Date": "", "Expense Area": "06-Mar-13"}, FindingCode.COLUMNS_SWAPPED, "expense_date"),
        ({"Supplier": " "}, FindingCode.VENDOR_MISSING, "vendor"),
        ({"Supplier": "N/A"}, FindingCode.VENDOR_MISSING, "vendor"),
        ({"Supplier": "202007"}, FindingCode.VENDOR_UNREADABLE, "vendor"),
        ({"Supplier": "Caf\ufffd"}, FindingCode.VENDOR_UNREADABLE, "vendor"),
        ({"Supplier": "Caf\u00a8 Ltd"}, FindingCode.VENDOR_UNREADABLE, "vendor"),
        ({"Supplier": "Acme\x07"}, FindingCode.VENDOR_UNREADABLE, "vendor"),
        ({"Supplier": "REDACTED"}, FindingCode.VENDOR_WITHHELD, "vendor"),
        ({"column 9": "spill"}, FindingCode.ROW_RAGGED, None),
        ({"Transaction Number": "x", "Amount": "128628651", "Description": "240,000.00"}, FindingCode.ROW_RAGGED, None),
        ({"Supplier": "Total", "Date": ""}, FindingCode.NOT_A_PAYMENT, None),
    ],
)
def test_every_doubt_has_its_code(changes: dict[str, str], code: FindingCode, field: str | None) -> None:
    assert read(changes).findings == [Finding.of(code, field)]


@pytest.mark.parametrize(
    "cells",
    [
        {"Entity": "NIL RETURN"},
        {"Entity": "DEFRA", "Expense Type": "Body"},
        {"Description": "`"},
        {"Amount": "39,457,031.96"},
        {"Entity": "Total for April", "Amount": "5.00"},
        {"Expense Area": "Grand Total:", "Amount": "5.00", "Transaction Number": "12"},
        {heading: heading for heading in COLUMNS.values()},
    ],
)
def test_lines_that_are_no_payments(cells: dict[str, str]) -> None:
    reading = read({**dict.fromkeys(RAW, ""), **cells})
    assert codes(reading) == [FindingCode.NOT_A_PAYMENT]


def test_a_supplier_called_total_is_a_supplier() -> None:
    assert codes(read({"Supplier": "Total Widgets (Anytown)", "Expense Area": "Total upkeep"})) == []


def test_a_row_that_ends_early_is_ragged() -> None:
    short = {heading: RAW[heading] for heading in ("Entity", "Date", "Expense Type", "Expense Area", "Supplier")}
    reading = read_expense(short, LAYOUT, currency="GBP")
    assert codes(reading) == [FindingCode.ROW_RAGGED, FindingCode.AMOUNT_MISSING]
    without_notes = {heading: text for heading, text in RAW.items() if heading != "Description"}
    assert codes(read_expense(without_notes, LAYOUT, currency="GBP")) == []


def test_a_comma_without_quotes_is_seen_when_the_amount_is_the_last_column(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("Entity,Date,Expense Type,Supplier,Number,Amount\nBody,02/04/2013,Fees, legal,Acme,12864,240.00\n")
    document = open_return(path, name="r.csv")
    (record,) = document.records()
    assert codes(read_expense(record.raw, document.layout, currency="GBP"))[0] is FindingCode.ROW_RAGGED


def test_doubtful_documents() -> None:
    doubtful = layout_with(date_order=DateOrder.DOUBTFUL.value)
    reading = read({}, doubtful)
    assert codes(reading) == [FindingCode.DATE_AMBIGUOUS]
    assert reading.payload["expense_date"] is None
    assert codes(read({"Date": "28/04/2013"}, doubtful)) == []


def test_the_period_filed_for_shows_wrong_years() -> None:
    assert codes(read({"Date": "28-Jan-01"}, period="2011-01")) == [FindingCode.DATE_OUT_OF_RANGE]
    assert codes(read({"Date": "28-Jan-11"}, period="2011-01")) == []


def test_negatives_keep_their_value_and_their_doubts() -> None:
    reading = read({"Amount": "-£5.00", "Supplier": ""})
    assert reading.payload["amount_gross"] == Decimal("-5.00")
    assert codes(reading) == [FindingCode.AMOUNT_NEGATIVE, FindingCode.VENDOR_MISSING]


def test_net_amounts_are_not_gross_ones() -> None:
    net = layout_with(mapping={**COLUMNS, "amount_net": "Amount"} | {"amount_gross": "Gross"})
    assert read({"Gross": "6.00"}, net).payload["amount_gross"] == Decimal("6.00")
    mapping = {canonical: name for canonical, name in COLUMNS.items() if canonical != "amount_gross"}
    reading = read({}, layout_with(mapping={**mapping, "amount_net": "Amount"}))
    assert codes(reading) == [FindingCode.AMOUNT_NET]
    assert reading.payload["amount_gross"] == Decimal("1234.56")


def test_currencies() -> None:
    named = layout_with(mapping={**COLUMNS, "currency": "Unit"}, columns=[*COLUMNS.values(), "Unit"], width=9)
    assert read({"Unit": "gbp"}, named).payload["currency"] == "GBP"
    assert read({"Unit": ""}, named).payload["currency"] == "GBP"
    foreign = read({"Unit": "USD"}, named)
    assert (codes(foreign), foreign.payload["currency"]) == ([FindingCode.CURRENCY_UNKNOWN], None)
    assert codes(read({}, layout_with(currencies=["GBP"]), currency="EUR")) == [FindingCode.CURRENCY_UNKNOWN]
    assert codes(read({"Amount": "$5.00"}, currency="USD")) == []


def test_a_column_of_amounts_beside_the_amount_is_no_shift() -> None:
    names = ["Entity", "Date", "Supplier", "Amount", "VAT"]
    mapping = {"entity": "Entity", "expense_date": "Date", "vendor": "Supplier", "vat_amount": "VAT"}
    for amount, expected in (("amount_gross", []), ("amount_net", [FindingCode.AMOUNT_NET])):
        taxed = layout_with(columns=names, width=5, mapping={**mapping, amount: "Amount"})
        raw = {name: RAW.get(name, "") for name in names} | {"Amount": "100", "VAT": "20.00"}
        assert codes(read_expense(raw, taxed, currency="GBP")) == expected


def test_vat_from_its_own_column() -> None:
    taxed = layout_with(mapping={**COLUMNS, "vat_amount": "VAT"}, columns=[*COLUMNS.values(), "VAT"], width=9)
    assert read({"VAT": "20.00"}, taxed).payload["vat_amount"] == Decimal("20.00")
    assert codes(read({"VAT": ""}, taxed)) == []
    assert codes(read({"VAT": "0.00"}, taxed)) == []
    assert read({"VAT": "-1"}, taxed).findings == [Finding.of(FindingCode.AMOUNT_NEGATIVE, "vat_amount")]
    assert read({"VAT": "??"}, taxed).findings == [Finding.of(FindingCode.AMOUNT_UNREADABLE, "vat_amount")]


def test_two_columns_of_one_name() -> None:
    twice = layout_with(
        rivals={"amount_gross": ["Amount (2)"], "notes": ["Description (2)"]},
        columns=[*COLUMNS.values(), "Amount (2)", "Description (2)"],
        width=10,
    )
    assert codes(read({"Amount (2)": "", "Description (2)": ""}, twice)) == []
    assert read({"Amount": "", "Amount (2)": "5.00"}, twice).payload["amount_gross"] == Decimal("5.00")
    differing = read({"Amount (2)": "5.00"}, twice)
    assert codes(differing) == [FindingCode.COLUMN_AMBIGUOUS, FindingCode.AMOUNT_MISSING]
    unclear_notes = read({"Amount (2)": "", "Description (2)": "Other"}, twice)
    assert (codes(unclear_notes), unclear_notes.payload["notes"]) == ([], None)


def test_letters_of_a_dos_text_are_not_trusted() -> None:
    name = {"Supplier": "Société Šimon’s – Café®"}
    assert codes(read(name)) == []
    columns = [*COLUMNS.values(), "Amount (œ)"]
    dos = layout_with(encoding="cp1252", mapping={**COLUMNS, "amount_gross": "Amount (œ)"}, columns=columns, width=len(columns))
    assert codes(read({**name, "Amount (œ)": "5.00"}, dos)) == [FindingCode.TEXT_DOUBTFUL]
    assert codes(read({"Amount": "", "Amount (œ)": "5.00"}, dos)) == []


@pytest.mark.parametrize("heading", RAW)
def test_one_letter_of_unknown_encoding_in_any_cell_puts_the_row_in_doubt(heading: str) -> None:
    unknown = layout_with(encoding="latin-1")
    found = read({heading: RAW[heading].replace("£", "") + "\x8d"}, unknown).findings
    assert Finding.of(FindingCode.TEXT_DOUBTFUL) in found
    assert Finding.of(FindingCode.TEXT_DOUBTFUL) not in read({heading: RAW[heading] + "é"}).findings


def test_rows_of_plain_ascii_are_certain_whatever_the_encoding() -> None:
    unknown = layout_with(encoding="latin-1")
    assert codes(read({"Amount": "1,234.56"}, unknown)) == []
    note = read({**dict.fromkeys(RAW, ""), "Description": "\xd0"}, unknown)
    assert codes(note) == [FindingCode.NOT_A_PAYMENT, FindingCode.TEXT_DOUBTFUL]


def test_cells_of_any_length_are_no_dates_or_amounts() -> None:
    reading = read({"Amount": "1" * 100_000, "Date": "0" * 100_000})
    assert codes(reading) == [FindingCode.AMOUNT_UNREADABLE, FindingCode.DATE_UNREADABLE]


def test_whose_row_it_is_was_settled_when_it_was_filed() -> None:
    assert codes(read({"Entity": ""})) == []
    assert codes(read({"Entity": ""}, layout_with(names_entity=False))) == []


def test_every_code_has_a_sentence_without_slots() -> None:
    assert MESSAGES.keys() == set(FindingCode)
    assert not any("{" in message for message in MESSAGES.values())
    assert Finding.of(FindingCode.AMOUNT_ZERO, "amount_gross").as_dict() == {
        "code": "AMOUNT_ZERO", "field": "amount_gross", "message": "the amount is zero",
    }  # fmt: skip


Cells = st.dictionaries(st.sampled_from([*COLUMNS.values(), "column 9", "column 10"]), st.text(max_size=15))


@given(cells=Cells, doubtful=st.booleans())
def test_any_row_is_read_the_same_way_twice(cells: dict[str, str], doubtful: bool) -> None:
    order = DateOrder.DOUBTFUL if doubtful else DateOrder.DAY_FIRST
    layout: Callable[[], Layout] = lambda: layout_with(date_order=order.value)  # noqa: E731
    reading = read_expense(cells, layout(), currency="GBP")
    assert reading == read_expense(dict(reversed(cells.items())), layout(), currency="GBP")
    if not reading.findings:
        amount, day = reading.payload["amount_gross"], reading.payload["expense_date"]
        assert isinstance(amount, Decimal)
        assert amount > 0
        assert isinstance(day, date)
        assert reading.payload["vendor"]
