"""Amounts: every way of writing seen in published returns, and what must never be taken for one."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntro_dagster.ingest.finding import FindingCode
from ntro_dagster.ingest.returns.amounts import looks_like_money, read_amount


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1234.56", "1234.56"),
        ("1,234.56", "1234.56"),
        (" 34,884.23 ", "34884.23"),
        ("£52,647.13", "52647.13"),
        ("£ 52,647.13", "52647.13"),
        ("GBP 200", "200"),
        ("200 GBP", "200"),
        ("-£58,523.00", "-58523.00"),
        ("£-58,523.00", "-58523.00"),
        (" -   115,912.64 ", "-115912.64"),
        ("\u221220.00", "-20.00"),
        ("(1,234.56)", "-1234.56"),
        (" (£12)", "-12"),
        ("£(12)", None),
        ("1,234.56-", "-1234.56"),
        ("1,234.56 -", "-1234.56"),
        ("\xa01,000\xa0", "1000"),
        ("50,000", "50000"),
        ("3,053,630,000", "3053630000"),
        (".50", "0.50"),
        ("0", "0"),
        ("-0.00", "0.00"),
    ],
)
def test_reads_what_is_certain(text: str, value: str | None) -> None:
    expected = None if value is None else Decimal(value)
    assert read_amount(text).value == expected
    assert (read_amount(text).code is None) is (value is not None)


def test_a_negative_nothing_is_plain_zero() -> None:
    assert not read_amount("-0.00").value.is_signed()  # type: ignore[union-attr]


@pytest.mark.parametrize("text", ["", "   ", " -   ", "-", " £-   ", "£", "£ -", "n/a", "None"])
def test_nothing_is_missing(text: str) -> None:
    assert read_amount(text) == (None, FindingCode.AMOUNT_MISSING, "")


@pytest.mark.parametrize(
    "text",
    [
        "1,23.45", "12,34", "1,2345", "1,00,000", "0,123", "1.234,56", "1 234.56", "1'234.56", "1,234,56", "1,234.56.7",
        "--5", "-(5)", "(5)-", "(5", "5)", "- 5 -", "££5", "£5 GBP", "1E+05", "12e3", "25k", "Amount", "05/04/2013",
        "\u0661\u0662", "œ100.00", "5 CR", "1" * 25, "NaN", "Infinity", "1_000", "\u20135",
    ],
)  # fmt: skip
def test_never_guesses(text: str) -> None:
    assert read_amount(text) == (None, FindingCode.AMOUNT_UNREADABLE, "")


def test_more_than_two_decimals_is_read_and_flagged() -> None:
    assert read_amount("28382.585") == (Decimal("28382.585"), FindingCode.AMOUNT_PRECISION, "")
    assert read_amount("1.500").code is FindingCode.AMOUNT_PRECISION, "1.500 may be a European 1500"


@pytest.mark.parametrize(("text", "sign"), [("$5.00", "$"), ("5 eur", "eur"), ("£5", "£"), ("5", "")])
def test_keeps_the_sign_beside_the_number(text: str, sign: str) -> None:
    assert read_amount(text).sign == sign


@pytest.mark.parametrize(("text", "money"), [("128628651", False), ("25000", False), ("240,000.00", True), ("9.50", True),
                                             ("£5", True), ("phase 2, 9.50", False)])  # fmt: skip
def test_money_is_not_a_reference_number(text: str, money: bool) -> None:
    assert looks_like_money(text) is money


@given(
    pence=st.integers(min_value=-(10**17), max_value=10**17),
    grouped=st.booleans(),
    sign=st.sampled_from(["", "£", "£ ", "$", "€"]),
    negative=st.sampled_from(["-{}", "- {}", "({})", "{}-", "{} -", "\u2212{}"]),
    padding=st.sampled_from(["", " ", "   ", "\t", "\xa0"]),
)
def test_what_is_written_is_read_back(pence: int, grouped: bool, sign: str, negative: str, padding: str) -> None:
    value = Decimal(pence).scaleb(-2)
    number = f"{abs(value):,.2f}" if grouped else f"{abs(value):.2f}"
    text = negative.format(sign + number) if value < 0 else sign + number
    reading = read_amount(padding + text + padding)
    assert reading.value == value
    assert reading.code is None
    assert str(abs(reading.value)) == f"{abs(value):.2f}", "exact, to the digit"


@given(st.text(max_size=12))
def test_any_text_gets_an_answer(text: str) -> None:
    reading = read_amount(text)
    assert (reading.value is None) == (reading.code in (FindingCode.AMOUNT_MISSING, FindingCode.AMOUNT_UNREADABLE))
