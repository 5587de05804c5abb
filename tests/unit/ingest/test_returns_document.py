"""Documents into records: header, names, lines, and nothing lost on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from ntro_dagster.ingest.finding import FindingCode
from ntro_dagster.ingest.returns import DateOrder, Layout, SpendReturn, open_return
from ntro_dagster.ingest.returns.header import unique_names

HEADER = "Department Family,Entity,Date,Expense Type,Expense Area,Supplier,Transaction Number,Amount\n"
ROW = "Dept,Body,02/04/2013,Rent,Estates,Acme,77,100.00\n"

Open = Callable[[str | bytes], SpendReturn]


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    def open_(data: str | bytes) -> SpendReturn:
        path = tmp_path / "document"
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return open_return(path, name="return.csv")

    return open_


def test_a_plain_return(opened: Open) -> None:
    document = opened(HEADER + ROW)
    (record,) = document.records()
    assert record.line == 2
    assert record.entity == "Body"
    assert list(record.raw.values()) == ["Dept", "Body", "02/04/2013", "Rent", "Estates", "Acme", "77", "100.00"]
    assert document.layout.mapping["amount_gross"] == "Amount"
    assert (document.record_count, document.blank_lines, document.findings) == (1, 0, ())
    assert list(document.records()) == [record], "records can be had again"


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        ((HEADER + ROW).encode(), "utf-8"),
        ((HEADER + ROW).encode("utf-8-sig"), "utf-8-sig"),
        ((HEADER + ROW.replace("Acme", "Café £")).encode(), "utf-8"),
        ((HEADER + ROW.replace("Acme", "Café £")).encode("cp1252"), "cp1252"),
    ],
)
def test_encodings(opened: Open, data: bytes, encoding: str) -> None:
    document = opened(data)
    assert document.layout.encoding == encoding
    assert next(document.records()).raw["Supplier"] in ("Acme", "Café £")
    assert document.layout.columns[0] == "Department Family", "no byte order mark in a name"


def test_text_of_unknown_encoding_loses_no_byte(opened: Open) -> None:
    letters = bytes(range(0x80, 0x100))
    document = opened((HEADER + ROW).encode() + ROW.encode().replace(b"Acme", b"A" + letters + b"Z"))
    assert document.layout.encoding == "latin-1"
    assert document.layout.letters_doubtful
    plain, doubtful = document.records()
    assert plain.raw["Supplier"] == "Acme"
    assert doubtful.raw["Supplier"].encode("latin-1") == b"A" + letters + b"Z"
    assert doubtful.line == 3, "no byte is taken for a line end"


def test_one_unknown_byte_far_down_makes_the_whole_text_doubtful(opened: Open) -> None:
    lines = ROW.replace("Acme", "Café").encode("cp1252") * 5_000
    assert opened(HEADER.encode() + lines).layout.letters_doubtful is False
    document = opened(HEADER.encode() + lines + ROW.encode().replace(b"Acme", b"Fa\x8dade"))
    assert document.layout.letters_doubtful
    assert document.record_count == 5_001


@pytest.mark.parametrize("letter", ["é", "Ö", "ê", "£", "’"])
@pytest.mark.parametrize("before", [0, 65_533, 65_534, 65_535, 65_536])
def test_utf_8_among_windows_1252_is_in_doubt(opened: Open, letter: str, before: int) -> None:
    start = HEADER.encode() + ROW.encode().replace(b"Acme", b"Caf\xe9")
    filler = b"x" * (before - len(start) - len(b"Dept,")) if before else b""
    document = opened(start + b"Dept," + filler + letter.encode() + ROW.encode().removeprefix(b"Dept,Body"))
    assert document.layout.letters_doubtful, "read as Windows-1252 the letter would be two others"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters(opened: Open, delimiter: str) -> None:
    document = opened((HEADER + ROW).replace(",", delimiter))
    assert document.layout.delimiter == delimiter
    assert next(document.records()).raw["Amount"] == "100.00"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends(opened: Open, end: str) -> None:
    assert [record.line for record in opened((HEADER + ROW * 3).replace("\n", end)).records()] == [2, 3, 4]


@pytest.mark.parametrize(
    ("before", "line"),
    [("", 1), ("Title,,,,,,,\n", 2), ("\n\n", 3), ('"Spend over £25,000 - template",,,,,,,\n\nProcurement led,,,,,,,\n', 4),
     (",,,Title,,,,\n,,,,,,,\n,,,,,,,\nProcurement led,,,,,,,\n", 5), ('"a banner\nover two lines",,\n', 3)],
)  # fmt: skip
def test_banners_before_the_header(opened: Open, before: str, line: int) -> None:
    document = opened(before + HEADER + ROW)
    assert document.layout.header_line == line
    assert [record.line for record in document.records()] == [line + 1]


@pytest.mark.parametrize(
    "header",
    [
        ",,,,,,Transaction ,\nDepartment family,Entity,Date paid,Expense type,Expense area,Supplier,number,Amount\n",
        "Department family,Entity,Date,Expense,Expense,Supplier,Transaction,Amount\n,,paid,type,area,,number,\n",
    ],
)
def test_a_header_over_two_lines(opened: Open, header: str) -> None:
    document = opened(header + ROW)
    assert document.layout.header_line == 2
    assert document.layout.mapping["transaction_number"] == "Transaction number"
    assert [record.line for record in document.records()] == [3]


@pytest.mark.parametrize(
    "header",
    [
        "1 Department Family,2 Entity,3 Date,4 Expense Type,5 Expense Area,6 Supplier,7 Transaction No,8 Amount",
        "Department family(T),Entity(T),Pay date,Expense type(T),Expense area(T),Supplier(T),TransNo, Amount (£) ",
        "DepartmentFamily,Entity,DATE,ExpenseType,ExpenseArea,SUPPLIER NAME,TransactionNumber,Spend",
        "0,Entity,Payment Date,Expense Type,Expense Area,Supplier  Name,Transactions Number, Amount (œ) ",
    ],
)
def test_spellings(opened: Open, header: str) -> None:
    mapping = opened(header + "\n" + ROW).layout.mapping
    wanted = {"entity", "expense_date", "expense_type", "expense_area", "vendor", "transaction_number", "amount_gross"}
    assert wanted <= mapping.keys()


def test_a_name_beats_a_number_of_the_supplier(opened: Open) -> None:
    document = opened("Entity,Date,Supplier,Supplier (T),Amount\nBody,02/04/2013,202007,Acme,5.00\n")
    assert document.layout.mapping["vendor"] == "Supplier (T)"


def test_a_column_without_text_never_wins(opened: Open) -> None:
    document = opened("Entity,Date,Supplier,Gross ,Amount\nBody,02/04/2013,Acme,,5.00\n")
    assert document.layout.mapping["amount_gross"] == "Amount"
    document = opened("Entity,Date,Supplier,Gross ,Gross\nBody,02/04/2013,Acme,,5.00\n")
    assert document.layout.mapping["amount_gross"] == "Gross (2)"
    assert document.layout.rivals == {}


def test_names_are_unique() -> None:
    assert unique_names(["Area", "", "Area", "column 2", "Area (2)"]) == (
        "Area", "column 2", "Area (2)", "column 2 (2)", "Area (2) (2)",
    )  # fmt: skip


def test_nothing_with_text_is_lost(opened: Open) -> None:
    row = "Dept,Body,02/04/2013,Rent,Estates, Acme ,77,100.00,spill,,,far\n"
    (record,) = opened(HEADER.rstrip("\n") + ",,\n" + row).records()
    assert record.raw["Supplier"] == " Acme ", "verbatim"
    assert record.raw["column 9"] == "spill"
    assert record.raw["column 12"] == "far"
    assert "column 10" not in record.raw


def test_two_hundred_empty_columns_are_not_stored(opened: Open) -> None:
    document = opened(HEADER.rstrip("\n") + "," * 248 + "\n" + ROW.rstrip("\n") + "," * 248 + "\n")
    assert document.layout.width == 256
    assert len(document.layout.columns) == len(next(document.records()).raw) == 8


def test_short_and_long_rows_can_be_told(opened: Open) -> None:
    document = opened(HEADER + "Dept,Body\n" + ROW.rstrip("\n") + ",\n")
    short, long = document.records()
    assert short.raw == {"Department Family": "Dept", "Entity": "Body"}
    assert long.raw.keys() - document.layout.within == {"column 9"}


def test_blank_lines_are_counted_not_kept(opened: Open) -> None:
    document = opened(HEADER + "\n" + ROW + ",,,,,,,\n , ,\n" + ROW)
    assert (document.record_count, document.blank_lines) == (2, 3)
    assert [record.line for record in document.records()] == [3, 6]


def test_lines_count_through_cells_over_several_lines(opened: Open) -> None:
    document = opened(HEADER + ROW.replace("Acme", '"Ac\n\nme"') + ROW)
    assert [record.line for record in document.records()] == [2, 5]
    assert next(document.records()).raw["Supplier"] == "Ac\n\nme"


def test_totals_and_notes_are_records(opened: Open) -> None:
    assert opened(HEADER + ROW + "NIL RETURN,,,,,,,\nTotal,,,,,,,100.00\n").record_count == 3


def test_a_header_alone_is_a_return_without_rows(opened: Open) -> None:
    document = opened(HEADER)
    assert (document.record_count, list(document.records()), document.findings) == (0, [], ())


@pytest.mark.parametrize("cell", ["", "  ", "n/a", "-", "Entity", " ENTITY "])
def test_a_cell_that_names_no_body(opened: Open, cell: str) -> None:
    assert [record.entity for record in opened(HEADER + ROW + ROW.replace("Body", cell)).records()] == ["Body", None]


def test_the_document_says_when_no_row_names_a_body(opened: Open) -> None:
    document = opened(HEADER + ROW.replace("Body", ""))
    assert [finding.code for finding in document.findings] == [FindingCode.ENTITY_MISSING]
    assert next(document.records()).entity is None
    assert not document.layout.names_entity


def test_one_month_first_date_puts_the_others_in_doubt(opened: Open) -> None:
    assert opened(HEADER + ROW).layout.date_order is DateOrder.DAY_FIRST
    assert opened(HEADER + ROW + ROW.replace("02/04", "4//28")).layout.date_order is DateOrder.DOUBTFUL


def test_the_layout_survives_json(opened: Open) -> None:
    layout = opened(HEADER.replace("Amount", "Amount (£),Amount (£)") + ROW.replace("\n", ",5\n")).layout
    assert layout.rivals == {"amount_gross": ("Amount (£) (2)",)}
    assert layout.currencies == ("GBP",)
    assert Layout.from_dict(json.loads(json.dumps(layout.as_dict()))) == layout


def json_return(**changes: object) -> str:
    metadata = {"record_counts": {"transaction_count": 2}, "financial_summary": {"total_amount_gbp": 0.3}} | changes
    rows = [
        {"entity": "Body", "date": "2025-01-03", "supplier": "Acme", "amount_gbp": amount, "tags": ["a"], "note": None}
        for amount in (0.1, 0.2)
    ]
    return json.dumps({"metadata": metadata, "data": rows})


def test_json_keeps_numbers_as_written(opened: Open) -> None:
    document = opened(json_return().replace("0.1,", "12345678901234567.10,"))
    first, second = document.records()
    assert first.raw == {"entity": "Body", "date": "2025-01-03", "supplier": "Acme",
                         "amount_gbp": "12345678901234567.10", "tags": '["a"]', "note": ""}  # fmt: skip
    assert (first.line, second.line) == (1, 2)
    assert first.entity == "Body"
    assert document.layout.currencies == ("GBP",)


def test_json_controls_are_checked_to_the_penny(opened: Open) -> None:
    document = opened(json_return())
    assert document.findings == ()
    assert document.controls is not None
    assert document.controls.found_total == Decimal("0.3"), "0.1 + 0.2, not as binary fractions"
    assert opened(json_return(financial_summary={"total_amount_gbp": 0.1 + 0.2})).findings == (), "0.30000000000000004"
    for changes, code in (
        ({"record_counts": {"transaction_count": 3}}, FindingCode.CONTROL_COUNT_DIFFERS),
        ({"financial_summary": {"total_amount_gbp": 0.31}}, FindingCode.CONTROL_TOTAL_DIFFERS),
    ):
        assert [finding.code for finding in opened(json_return(**changes)).findings] == [code]


def test_json_as_a_bare_list_with_a_repeated_key(opened: Open) -> None:
    document = opened('\ufeff[{"Date": "x", "Supplier": "Acme", "Amount": 5, "Amount": 6}]')
    assert document.controls is not None
    assert document.controls.stated_rows is None
    assert next(document.records()).raw == {"Date": "x", "Supplier": "Acme", "Amount": "5", "Amount (2)": "6"}
