"""The published returns, and a second, simple reading of them that shares nothing with ours but the figures in index.csv."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
DATA = Path(os.environ.get("NTRO_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
DIFFERENCES = Path(__file__).with_name("uk_spend_differences.csv")
CATALOGUE_FILES = [f"defra/2010-{month}/nfc-over-25k-10{month}.csv" for month in ("06", "07", "08", "09")]
FEWEST_CERTAIN = 85_000
"""Rows of uk-spend-25k that must be certain."""

Index = dict[str, dict[str, str]]
Difference = tuple[str, str, str, str]


def folder(name: str) -> Path:
    """Where the data set is; the test is skipped when it is not there."""
    path = DATA / name
    if not path.is_dir():
        pytest.skip(f"published returns are not at {path}; set NTRO_SHARED_DATA to the folder that holds {name}")
    return path


def index_of(name: str) -> Index:
    """Control figures by file."""
    with (folder(name) / "index.csv").open(encoding="utf-8", newline="") as stream:
        return {entry["file"]: entry for entry in csv.DictReader(stream)}


def explained() -> dict[Difference, str]:
    """Known differences from index.csv, with the reason for each."""
    with DIFFERENCES.open(encoding="utf-8", newline="") as stream:
        return {
            (entry["file"], entry["what"], entry["expected"], entry["ours"]): entry["reason"] for entry in csv.DictReader(stream)
        }


AMOUNT = re.compile(r"£?([0-9,]+(?:\.[0-9]{1,2})?)")
AMOUNT_HEADINGS = ("gross", "amount", "spend", "8 amount", "amount (œ)", "amount £")
VENDOR_HEADINGS = ("supplier (t)", "supplier(t)", "supplier name", "vendor name", "supplier", "6 supplier")
DATE_FORMS = ("%d/%m/%Y", "%d/%m/%y", "%d-%b-%y", "%d-%b-%Y", "%d/%b/%Y", "%d.%m.%Y", "%d/%m/%Y %H:%M", "%m/%d/%Y")


@dataclass(frozen=True, slots=True)
class SimpleRow:
    """A row as anyone would read it.

    Attributes:
        line: 1-based physical line it starts on.
        cells: verbatim.
        stated: `amount_gross` (only where it is plain and positive, else None), `expense_date` and `vendor`.
    """

    line: int
    cells: list[str]
    stated: dict[str, Decimal | date | str | None]


def simple_rows(path: Path, entry: dict[str, str]) -> Iterator[SimpleRow]:
    """The data rows of a delimited file."""
    reader = csv.reader(io.StringIO(_text(path.read_bytes()), newline=""), delimiter=entry["delimiter"])
    headings: list[str] = []
    line = 1
    for cells in reader:
        if line == int(entry["header_line"]):
            headings = [" ".join(cell.lower().split()) for cell in cells]
        elif headings and any(map(str.strip, cells)):
            by_heading: dict[str, list[str]] = {}
            for heading, cell in zip(headings, cells, strict=False):
                by_heading.setdefault(heading, []).append(cell)
            amount = AMOUNT.fullmatch(_first_with_text(by_heading, AMOUNT_HEADINGS))
            dated = tuple(heading for heading in by_heading if "date" in heading)
            stated = {
                "amount_gross": Decimal(amount[1].replace(",", "")) if amount else None,
                "expense_date": simple_date(_first_with_text(by_heading, dated)),
                "vendor": " ".join(_first_with_text(by_heading, VENDOR_HEADINGS).split()),
            }
            yield SimpleRow(line, cells, stated)
        line = reader.line_num + 1


def _text(content: bytes) -> str:
    for encoding in ("utf-8", "cp1252"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    return content.decode("latin-1")


def _first_with_text(row: dict[str, list[str]], headings: tuple[str, ...]) -> str:
    texts = [cell for heading in headings for cell in row.get(heading, ()) if cell.strip()]
    return texts[0].strip() if texts else ""


@cache
def simple_date(text: str) -> date | None:
    if re.fullmatch("[0-9]{5}", text):
        return date(1899, 12, 30) + timedelta(days=int(text))
    for form in DATE_FORMS:
        try:
            return datetime.strptime(text, form).date()  # noqa: DTZ007 - a day has no time zone
        except ValueError:
            continue
    return None
