"""Plain tables: which row is the header, and what of a record is told without reading it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ntro_dagster.ingest.returns import DocumentRefusedError
from ntro_dagster.ingest.sources import Reader, Source, SourceInvalidError
from ntro_dagster.ingest.tables import NotATableError, Table, month_of, open_table

RENTS = Source(Reader.TABLE, entity="landlord", period="month")


def table(tmp_path: Path, content: str | bytes, source: Source = RENTS) -> Table:
    path = tmp_path / "rents.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_table(path, name=path.name, source=source)


def test_every_value_is_kept_as_the_text_it_is(tmp_path: Path) -> None:
    found = table(tmp_path, "landlord,month,rent,note\nL1,2022-01, 1000.50 ,\nL2,2022-02,,007\n")
    first, second = found.records()
    assert first == (2, {"landlord": "L1", "month": "2022-01", "rent": " 1000.50 ", "note": ""}, "L1", "2022-01")
    assert (second.line, second.raw["note"], second.entity, second.period) == (3, "007", "L2", "2022-02")
    assert found.record_count == 2
    assert list(found.records()) == [first, second], "it may be read again"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_titles_above_and_blank_lines_between(tmp_path: Path, delimiter: str) -> None:
    header, row = (delimiter.join(cells) for cells in (["rent", "landlord", "month"], ["1", "L1", "2022-01"]))
    found = table(tmp_path, f"Rents of the year\n\n{header}\n{row}\n{delimiter * 2}\n{row}\n")
    assert [(record.line, record.entity) for record in found.records()] == [(4, "L1"), (6, "L1")]


def test_a_record_that_names_nobody_or_no_month_is_kept(tmp_path: Path) -> None:
    found = table(tmp_path, "landlord,month,rent\n,2022-01,1\nL1,Jan 22,2\nL1,,3\nn/a,2022-13,4\n")
    assert [(record.entity, record.period) for record in found.records()] == [
        (None, "2022-01"),
        ("L1", None),
        ("L1", None),
        (None, None),
    ]


@pytest.mark.parametrize(
    ("cell", "month"),
    [
        ("2022-02", "2022-02"),
        (" 2022-02-28 ", "2022-02"),
        ("2022-02-28T10:00:00Z", "2022-02"),
        ("2022-2", None),
        ("02/2022", None),
        ("2022-00", None),
        ("2022-02-32", None),
        ("2022-021", None),
        ("٢٠٢٢-02", None),
    ],
)
def test_a_month_is_never_guessed(cell: str, month: str | None) -> None:
    assert month_of(cell) == month


@pytest.mark.parametrize("content", ["tenant,month\nT,2022-01\n", "landlord,landlord,month\nL,L,2022-01\n", "only text\n"])
def test_a_document_without_the_columns_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(NotATableError):
        table(tmp_path, content)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04workbook", b'landlord,month\n"L,2022-01\n'])
def test_what_is_no_text_is_refused_as_ever(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DocumentRefusedError):
        table(tmp_path, content)


def test_a_source_without_columns_takes_the_first_row_as_its_header(tmp_path: Path) -> None:
    found = table(tmp_path, "a,b\n1,2\n", Source(Reader.TABLE))
    assert [(record.raw, record.entity, record.period) for record in found.records()] == [({"a": "1", "b": "2"}, None, None)]


@pytest.mark.parametrize(
    "declared",
    [
        {},
        {"reader": "pdf"},
        {"reader": "table", "month": "x"},
        {"reader": "table", "period": 7},
        {"reader": "spend-return", "entity": "x"},
    ],
)
def test_a_source_that_is_not_properly_declared_is_refused(declared: dict[str, object]) -> None:
    with pytest.raises(SourceInvalidError):
        Source.of("rents", declared)


def test_a_source_survives_being_kept() -> None:
    assert Source.of("rents", RENTS.as_dict()) == RENTS


def test_a_list_of_objects_is_a_table_too(tmp_path: Path) -> None:
    rows = '[{"landlord": "L1", "month": "2022-01", "rent": 1000.50, "to": null, "lines": [1, 2]}, {"landlord": "L2"}]'
    for content in (rows, f'{{"data": {rows}}}'):
        found = table(tmp_path, content)
        first, second = found.records()
        assert first.raw == {"landlord": "L1", "month": "2022-01", "rent": "1000.50", "to": "", "lines": '["1", "2"]'}
        assert (first.line, first.entity, first.period) == (1, "L1", "2022-01")
        assert (second.line, second.entity, second.period) == (2, "L2", None)
        assert (found.record_count, found.layout.columns) == (2, ("landlord", "month", "rent", "to", "lines"))
        assert list(found.records()) == [first, second], "it may be read again"


@pytest.mark.parametrize("content", ['["a"]', '{"total": 1}', '[{"landlord": "L1"}]', '{"landlord": "L1"}'])
def test_json_without_a_list_that_names_its_columns_is_no_table(tmp_path: Path, content: str) -> None:
    with pytest.raises(NotATableError):
        table(tmp_path, content)


def test_an_empty_list_is_a_table_without_rows(tmp_path: Path) -> None:
    assert table(tmp_path, "[]").record_count == 0
