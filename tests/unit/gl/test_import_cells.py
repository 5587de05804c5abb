"""Amounts of somebody's journals: read as the mapping says, exactly, or not at all."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntro_dagster.gl.imports.accounts import KnownAccount, missing, path_of, type_of
from ntro_dagster.gl.imports.cells import AmountReader, UnreadableError
from ntro_dagster.gl.imports.mapping import Accounts, Amounts

ENGLISH = AmountReader(Amounts(signed="a"), ("$", "USD"))
GERMAN = AmountReader(Amounts(signed="a", decimal=",", grouping="."))
SWISS = AmountReader(Amounts(signed="a", grouping="'"))


@pytest.mark.parametrize(
    ("reader", "text", "amount"),
    [
        (ENGLISH, "1,234.50", "1234.50"), (ENGLISH, "-3840", "-3840"), (ENGLISH, "(1,234.50)", "-1234.50"),
        (ENGLISH, "12-", "-12"),
        (ENGLISH, "$5", "5"), (ENGLISH, "-$5.00", "-5.00"), (ENGLISH, "$-5.00", "-5.00"), (ENGLISH, "5 USD", "5"),
        (ENGLISH, "\u221212", "-12"), (ENGLISH, "+12", "12"), (ENGLISH, "0.000000001", "0.000000001"), (ENGLISH, " 7 ", "7"),
        (ENGLISH, "-0", "0"), (GERMAN, "1.234,50", "1234.50"), (GERMAN, "12,5", "12.5"), (SWISS, "1'234.50", "1234.50"),
    ],
)  # fmt: skip
def test_amounts_as_they_are_written(reader: AmountReader, text: str, amount: str) -> None:
    assert reader.read(text) == Decimal(amount)


@pytest.mark.parametrize(
    ("reader", "text"),
    [
        (ENGLISH, "1.234,50"), (ENGLISH, "1,23"), (ENGLISH, "12,34.5"), (ENGLISH, "1,2345"), (ENGLISH, "--5"), (ENGLISH, "(5"),
        (ENGLISH, "-(5)"), (ENGLISH, "1e3"), (ENGLISH, "NaN"), (ENGLISH, "five"), (ENGLISH, "5%"), (ENGLISH, "£5"),
        (ENGLISH, "."),
        (ENGLISH, "1."), (ENGLISH, "٣"), (ENGLISH, "9" * 80), (GERMAN, "1,234.50"), (GERMAN, "1.23"), (SWISS, "1,234.50"),
    ],
)  # fmt: skip
def test_what_is_written_otherwise_is_not_read(reader: AmountReader, text: str) -> None:
    with pytest.raises(UnreadableError):
        reader.read(text)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**12), max_value=10**12))
def test_every_amount_comes_back_as_it_was(amount: Decimal) -> None:
    assert ENGLISH.read(f"{amount:,}") == ENGLISH.read(f"{amount:f}") == amount


@given(st.text(max_size=12))
def test_any_text_is_an_amount_or_refused(text: str) -> None:
    try:
        amount = ENGLISH.read(text)
    except UnreadableError:
        return
    assert amount is None or amount.is_finite()


def test_the_longest_beginning_gives_the_type() -> None:
    codes = Accounts(column="a", types={"1": "ASSET", "15": "LIABILITY"})
    assert [type_of(codes, path_of(codes, code)) for code in ("1000", "1500", "2000")] == ["ASSET", "LIABILITY", None]
    paths = Accounts(column="a", separator=":", types={"Assets": "ASSET", "Assets:Owed": "LIABILITY"})
    assert type_of(paths, path_of(paths, "Assets : Owed:You")) == "LIABILITY"
    assert type_of(paths, path_of(paths, "Assets2")) is None, "a part of a path is not half of one"


def test_a_name_beside_the_account_wins_over_the_path() -> None:
    how = Accounts(column="a", separator=":", types={"A": "ASSET"})
    found = missing(how, [("A:B:C", None), ("A:B", "Bees")], {"A": KnownAccount("A", "ASSET", True)})
    assert [(each.code, each.name, each.parent) for each in found] == [("A:B", "Bees", "A"), ("A:B:C", "C", "A:B")]
