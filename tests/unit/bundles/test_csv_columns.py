"""What the columns of a CSV are taken for: never for a number or a day that some value of the file speaks against."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntro_dagster.authoring.columns import CsvUnreadableError, columns_of_csv, legal_names
from ntro_dagster.platforms.tables import LogicalType
from ntro_dagster.subledger.row import PLATFORM_FIELDS


def told(tmp_path: Path, heading: str, *values: str) -> tuple[str, str]:
    path = tmp_path / "sample.csv"
    path.write_text("\n".join([f"{heading};x", *(f"{value};" for value in values)]) + "\n")
    column = columns_of_csv(path)[0]
    return column.type.value, column.why


@pytest.mark.parametrize(
    ("heading", "values", "kind", "why"),
    [
        ("Rent", ["1.00", "-2", "3.5", ""], "money", "exact decimals"),
        ("Rent", ["1.00", "n/a"], "text", "row 3 has 'n/a', which is no plain decimal"),
        ("Rent", ["1,200.00"], "text", "no plain decimal"),
        ("Rent", ["1e3"], "text", "no plain decimal"),
        ("Rent", ["0.1234567891"], "text", "more than 9 decimals"),
        ("Rent", ["1.0", "007.5"], "text", "leading zero"),
        ("Rent", ["£5.00"], "text", "no plain decimal"),
        ("Floor", ["1", "2", "0"], "integer", "whole numbers"),
        ("Floor", ["9" * 19], "text", "too many for a whole number"),
        ("Account No", ["123", "456"], "text", "an identifier"),
        ("Day", ["2026-01-31", "2026-02-28"], "date", "YYYY-MM-DD"),
        ("Day", ["2026-02-30"], "text", "no date"),
        ("Day", ["31/01/2026", "01/02/2026"], "date", "day first (row 2"),
        ("Day", ["01/31/2026", "02/01/2026"], "date", "month first (row 2"),
        ("Day", ["01/02/2026", "03/04/2026"], "text", "no one can tell day from month"),
        ("Day", ["31/01/2026", "01/31/2026"], "text", "row 2 can only have the day first, row 3 only the month"),
        ("Day", ["31/01/26"], "text", "four-digit year"),
        ("Day", ["31/01/2026", "2026-01-31"], "text", "another way"),
        ("Vacant", ["Yes", "no"], "boolean", "no or yes"),
        ("Vacant", ["yes", "yes"], "text", ""),
        ("Vacant", ["0", "1"], "integer", "whole numbers"),
        ("Note", ["", ""], "text", "nothing can be told"),
    ],
)
def test_every_value_is_asked(tmp_path: Path, heading: str, values: list[str], kind: str, why: str) -> None:
    found, reason = told(tmp_path, heading, *values)
    assert (found, why in reason) == (kind, True), reason


@given(st.lists(st.text(max_size=80), min_size=1, max_size=20))
def test_names_are_legal_and_each_another(headings: list[str]) -> None:
    names = legal_names(headings)
    assert len(set(names)) == len(names) == len(headings)
    for name in names:
        assert name.isidentifier() and name.isascii() and name == name.lower() and len(name) < 63
        assert name not in PLATFORM_FIELDS and not name.startswith(("_", "model_"))


def test_names_that_mean_something_are_not_taken() -> None:
    assert legal_names(["Order", "Status", "copy", "class", "2nd", "", "Größe", "Order"]) == [
        "source_order",
        "source_status",
        "source_copy",
        "source_class",
        "n_2nd",
        "column_6",
        "groe",
        "source_order_2",
    ]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no headings"),
        (b"a,b\n1,2,3\n", "row 2 has 3 cells"),
        (b"a,b\n\xff\xfe,2\n", "utf-8"),
        (b'a,b\n"1,2\n', ""),
        (b",".join(b"x" for _ in range(201)) + b"\n", "more than 200 columns"),
    ],
)
def test_a_file_that_is_no_table(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "sample.csv"
    path.write_bytes(content)
    with pytest.raises(CsvUnreadableError) as caught:
        columns_of_csv(path)
    assert why in caught.value.explain()


def test_rows_may_be_short_and_the_file_may_begin_with_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "sample.csv"
    path.write_bytes("\ufeffName\tRent\nAnn\t1.5\nBob\n".encode())
    assert [(c.name, c.type) for c in columns_of_csv(path)] == [("name", LogicalType.TEXT), ("rent", LogicalType.MONEY)]
