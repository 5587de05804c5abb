"""How things are printed."""

from __future__ import annotations

import json
import os
import pty
import re
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from uuid import UUID

import pytest

from ntro_dagster.cli import output
from ntro_dagster.cli.invocation import invocation
from ntro_dagster.cli.output import Column


@pytest.fixture(autouse=True)
def _plain() -> Iterator[None]:
    invocation.json = False
    yield
    invocation.json = False


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "0.00"),
        ("-0.000000000", "0.00"),
        ("12", "12.00"),
        ("12.500000000", "12.50"),
        ("1234.567000000", "1234.567"),
        ("-0.000000001", "-0.000000001"),
        ("1E+3", "1000.00"),
        ("99999999999999999999999999999.999999999", "99999999999999999999999999999.999999999"),
    ],
)
def test_money_has_two_decimals_and_more_only_where_they_say_something(amount: str, text: str) -> None:
    assert output.money(Decimal(amount)) == text


@pytest.mark.parametrize(
    ("amount", "text"), [("-1234567.5", "-1,234,567.50"), ("-0.5", "-0.50"), ("1234.567", "1,234.567"), ("0", "0.00")]
)
def test_figures_for_people_are_grouped(amount: str, text: str) -> None:
    assert output.figure(Decimal(amount)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (90000, "1 d 1 h"),
        (None, None),
    ],
)
def test_durations(seconds: float | None, text: str | None) -> None:
    assert output.duration(seconds) == text


def test_control_characters_are_shown_not_obeyed() -> None:
    assert output.clean("Evil\x1b[31m\r\nCo\u202etxt\x9b") == "Evil\\x1b[31m\\x0d\\x0aCo\\x202etxt\\x9b"


def test_json_has_money_as_strings_and_times_in_iso_form() -> None:
    class Word(StrEnum):
        A = "a"

    value = {
        "amount": Decimal("1.500"),
        "at": datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC),
        "on": date(2025, 1, 2),
        "id": UUID(int=1),
        "path": Path("/x"),
        "word": Word.A,
        "none": None,
        "many": (1, Column("C")),
    }
    assert output.jsonable(value) == {
        "amount": "1.50",
        "at": "2025-01-02T03:04:05+00:00",
        "on": "2025-01-02",
        "id": "00000000-0000-0000-0000-000000000001",
        "path": "/x",
        "word": "a",
        "none": None,
        "many": [1, {"title": "C", "right": False, "flexible": False, "spare": False}],
    }


def test_a_table_in_a_pipe_is_aligned_and_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    long = "A very long name that no terminal would show in full " * 4
    output.table(
        [Column("Name", flexible=True), Column("Sum", right=True), Column("Last")], [(long, "1.00", None), ("b", "10.00", "x")]
    )
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "SUM", "LAST"]
    assert first == f"{long}   1.00"
    assert second.endswith("10.00  x")
    assert second.index("10.00") + 5 == len(first)


def test_with_json_only_json_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    invocation.json = True
    output.result({"a": 1}, lambda: output.line("for people"))
    assert json.loads(capsys.readouterr().out) == {"a": 1}


@pytest.mark.parametrize("width", [60, 100])
def test_a_table_on_a_terminal_fits_it_by_cutting_only_what_may_be_cut(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = pty.openpty()
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(writer, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        output.table(
            [Column("Row"), Column("Vendor", flexible=True), Column("Amount", right=True)],
            [("d6f1d146", "[red]Rail " * 30, "1,234,567.89")],
        )
        monkeypatch.undo()
    shown = re.sub("\x1b\\[[0-9;]*m", "", os.read(reader, 10_000).decode()).splitlines()
    os.close(reader)
    assert all(len(line.rstrip("\r")) <= width for line in shown)
    (row,) = [line for line in shown if "d6f1d146" in line]
    assert "1,234,567.89" in row
    assert "[red]Rail" in row
    assert "…" in row


@pytest.mark.parametrize(("width", "shown"), [(200, [0, 1, 2, 3]), (40, [0, 1, 2]), (37, [0, 2]), (10, [0, 2])])
def test_the_last_spare_column_goes_first_and_others_stay(width: int, shown: list[int]) -> None:
    columns = [Column("Row"), Column("Period", spare=True), Column("Amount", right=True), Column("Date", spare=True)]
    assert output._that_fit(columns, [20, 7, 9, 10], width) == shown
