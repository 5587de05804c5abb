"""The reader against every published return at hand, checked by figures and by a second reading it shares nothing with."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path

import pytest
from published import CATALOGUE_FILES, FEWEST_CERTAIN, Difference, explained, folder, index_of, simple_rows

from ntro_dagster.ingest.finding import FindingCode
from ntro_dagster.ingest.returns import DocumentRefusedError, Reading, SpendReturn, open_return, read_expense


@dataclass
class Read:
    """One file through both steps. Readings are kept by line."""

    document: SpendReturn
    readings: dict[int, Reading] = field(default_factory=dict)

    @property
    def total(self) -> Decimal:
        """Sum of the amounts that can be read, negatives included, of the rows that are payments."""
        amounts = (
            reading.payload["amount_gross"]
            for reading in self.readings.values()
            if FindingCode.NOT_A_PAYMENT not in {finding.code for finding in reading.findings}
        )
        return sum((amount for amount in amounts if isinstance(amount, Decimal)), Decimal(0))

    @property
    def codes(self) -> Counter[FindingCode]:
        return Counter(finding.code for reading in self.readings.values() for finding in reading.findings)


def read_file(path: Path, name: str, period: str | None = None) -> Read:
    document = open_return(path, name=name)
    read = Read(document)
    for record in document.records():
        read.readings[record.line] = read_expense(record.raw, document.layout, currency="GBP", period=period)
    assert len(read.readings) == document.record_count
    return read


@cache
def uk_spend() -> dict[str, Read | DocumentRefusedError]:
    """All files, read once for all tests below."""
    outcome: dict[str, Read | DocumentRefusedError] = {}
    for name, entry in index_of("uk-spend-25k").items():
        try:
            outcome[name] = read_file(folder("uk-spend-25k") / name, name, entry["published_for"])
        except DocumentRefusedError as error:
            outcome[name] = error
    return outcome


def differences() -> set[Difference]:
    """Where we and the simple reader behind index.csv do not agree."""
    found: set[Difference] = set()
    for name, entry in index_of("uk-spend-25k").items():
        read = uk_spend()[name]
        if isinstance(read, DocumentRefusedError):
            found.add((name, "refused", f"{entry['data_rows']} rows", read.code))
            continue
        if read.document.record_count != int(entry["data_rows"]):
            found.add((name, "rows", entry["data_rows"], str(read.document.record_count)))
        if read.document.blank_lines != int(entry["blank_rows"]):
            found.add((name, "blank_lines", entry["blank_rows"], str(read.document.blank_lines)))
        if read.document.layout.header_line != int(entry["header_line"]):
            found.add((name, "header_line", entry["header_line"], str(read.document.layout.header_line)))
        if read.total != Decimal(entry["sum_amount"]):
            found.add((name, "sum", entry["sum_amount"], str(read.total)))
    return found


def test_every_difference_from_the_control_figures_is_explained() -> None:
    known = explained()
    assert len(uk_spend()) == 285
    assert differences() - known.keys() == set(), "not explained"
    assert known.keys() - differences() == set(), "explained, but no longer there"
    assert all(known.values())


def test_an_unlabelled_total_is_the_sum_of_the_rows_above_it() -> None:
    doubled = [name for (name, what, *_), reason in explained().items() if what == "sum" and "unlabelled total" in reason]
    assert len(doubled) == 8
    for name in doubled:
        read = uk_spend()[name]
        assert isinstance(read, Read)
        left_out = [
            reading.payload["amount_gross"]
            for reading in read.readings.values()
            if FindingCode.NOT_A_PAYMENT in {finding.code for finding in reading.findings}
        ]
        assert read.total in left_out, name


@pytest.mark.parametrize("name", CATALOGUE_FILES)
def test_catalogue_records_are_refused(name: str) -> None:
    with pytest.raises(DocumentRefusedError) as caught:
        open_return(folder("uk-spend-25k") / name, name=name)
    assert caught.value.code == "DOCUMENT_NOT_A_RETURN"
    assert name in caught.value.explain()


def test_swapped_and_month_first_dates_of_justice_are_found() -> None:
    june = uk_spend()["justice/2013-06/moj-spend-data-jun-13.csv"]
    august = uk_spend()["justice/2013-08/moj-spend-data-aug-13.csv"]
    assert isinstance(june, Read)
    assert isinstance(august, Read)
    assert june.codes[FindingCode.COLUMNS_SWAPPED] == 975
    assert august.codes[FindingCode.DATE_MALFORMED] == 43
    assert august.codes[FindingCode.DATE_AMBIGUOUS] == 177


def test_rows_without_findings_are_right_by_a_second_reading() -> None:
    index = index_of("uk-spend-25k")
    certain = 0
    wrong: list[tuple[str, int, str]] = []
    for name, read in uk_spend().items():
        if isinstance(read, DocumentRefusedError):
            continue
        second = {row.line: row for row in simple_rows(folder("uk-spend-25k") / name, index[name])}
        for line, reading in read.readings.items():
            if reading.findings:
                continue
            certain += 1
            expected = {**second[line].stated, "currency": "GBP"}
            wrong += [(name, line, key) for key, value in expected.items() if reading.payload[key] != value]
    assert wrong == []
    assert certain >= FEWEST_CERTAIN


def test_letters_of_unknown_encoding_send_their_rows_to_a_person() -> None:
    read = uk_spend()["health/2015-01/CSV__25K_Returns_January_Data_.csv"]
    assert isinstance(read, Read)
    assert read.document.layout.letters_doubtful
    doubted = [line for line, reading in read.readings.items() if FindingCode.TEXT_DOUBTFUL in {f.code for f in reading.findings}]
    assert doubted == [89, 498, 543], "the lines that hold any byte outside ASCII"
    assert read.document.record_count == 849


def test_research_council_spending() -> None:
    for name, entry in index_of("epsrc-spend").items():
        path = folder("epsrc-spend") / name
        read = read_file(path, name)
        assert (read.document.record_count, read.total) == (int(entry["data_rows"]), Decimal(entry["sum_amount"])), name
        with path.open(encoding="utf-8", newline="") as stream:
            foreign = sum(row["InvoiceCurrencyUnit"] != "GBP" for row in csv.DictReader(stream))
        assert read.codes[FindingCode.CURRENCY_UNKNOWN] == foreign, name
        assert read.codes[FindingCode.AMOUNT_NEGATIVE] == int(entry["negative"]), name


@pytest.mark.parametrize(("name", "rows", "total"), [("2025-01.json", 79, "17274927.62"), ("2025-02.json", 67, "14204796.49")])
def test_treasury_json_matches_its_own_controls(name: str, rows: int, total: str) -> None:
    read = read_file(folder("hmt-spend-json") / name, name, name.removesuffix(".json"))
    assert read.document.findings == ()
    assert (read.document.record_count, read.total) == (rows, Decimal(total))
    assert read.codes == {}
