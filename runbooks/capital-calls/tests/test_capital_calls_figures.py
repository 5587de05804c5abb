"""Parts of a call, default interest and matching, without a database."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntro_dagster.bundles import Bundle

BUNDLE = Bundle("capital-calls", Path(__file__).parent.parent)
allocation: Any = BUNDLE.load("allocation")
interest: Any = BUNDLE.load("interest")
matching: Any = BUNDLE.load("matching")
reading: Any = BUNDLE.load("reading")

RATE = Decimal("0.08")


def earned(
    called: str, *payments: tuple[date, str], first: date, last: date, rate: Decimal = RATE, day_count: str = "ACT/365"
) -> Any:
    paid = [(day, Decimal(amount)) for day, amount in payments]
    return interest.default_interest(Decimal(called), paid, first=first, last=last, rate=rate, day_count=day_count)


# Parts of a call

cents = st.decimals(min_value=Decimal("0.01"), max_value=Decimal("1e12"), places=2)
investors = st.dictionaries(st.text("ABCDEFGH", min_size=1, max_size=3), cents, min_size=1, max_size=30)
percents = st.decimals(min_value=Decimal("0.000000001"), max_value=Decimal(100), places=9)


@given(investors, percents)
def test_parts_add_up_to_the_whole(commitments: dict[str, Decimal], percent: Decimal) -> None:
    parts = allocation.parts(commitments, percent)
    whole = Fraction(sum(commitments.values())) * Fraction(percent) / 100
    called = sum((part.called for part in parts.values()), Decimal(0))
    assert Fraction(called) == Fraction((whole * 100 + Fraction(1, 2)).__floor__(), 100)
    assert called == called.quantize(Decimal("0.01"))


@given(investors, percents)
def test_every_part_but_one_is_its_own_and_that_one_says_by_how_much_it_is_not(
    commitments: dict[str, Decimal], percent: Decimal
) -> None:
    parts = allocation.parts(commitments, percent)
    adjusted = [investor for investor, part in parts.items() if part.rounding]
    assert all(commitments[investor] == max(commitments.values()) for investor in adjusted)
    assert len(adjusted) <= 1
    for investor, part in parts.items():
        own = Fraction(commitments[investor]) * Fraction(percent) / 100
        assert abs(Fraction(part.called - part.rounding) - own) <= Fraction(1, 200)
        assert abs(part.rounding) <= Decimal("0.005") * (len(parts) + 1)


def test_the_rounding_falls_to_the_largest_and_to_the_first_by_name_of_equals() -> None:
    parts = allocation.parts({"C": Decimal("0.10"), "B": Decimal("0.10"), "A": Decimal("0.05")}, Decimal(50))
    assert {investor: str(part.called) for investor, part in parts.items()} == {"A": "0.03", "B": "0.05", "C": "0.05"}
    parts = allocation.parts({"C": Decimal("0.05"), "B": Decimal("0.05"), "A": Decimal("0.03")}, Decimal(50))
    assert {investor: (str(part.called), str(part.rounding)) for investor, part in parts.items()} == {
        "A": ("0.02", "0.00"),
        "B": ("0.02", "-0.01"),
        "C": ("0.03", "0.00"),
    }


# Interest


def test_interest_of_a_year_is_the_rate() -> None:
    assert earned("1000.00", first=date(2025, 1, 1), last=date(2026, 1, 1)).amount == Decimal("80.00")


def test_a_leap_year_has_a_day_more_and_is_divided_by_365_all_the_same() -> None:
    leap = earned("1000.00", first=date(2024, 1, 1), last=date(2025, 1, 1))
    assert (leap.days, leap.amount) == (366, Decimal("80.22"))  # 80 x 366 / 365 = 80.2191...
    assert earned("365000.00", first=date(2024, 2, 28), last=date(2024, 3, 1)).amount == Decimal("160.00")
    assert earned("365000.00", first=date(2025, 2, 28), last=date(2025, 3, 1)).amount == Decimal("80.00")


def test_a_year_of_360_days_earns_more_by_the_day() -> None:
    year = {"first": date(2025, 1, 1), "last": date(2026, 1, 1)}
    assert earned("1000.00", **year, day_count="ACT/360").amount == Decimal("81.11")  # 80 x 365 / 360 = 81.111...
    assert earned("360000.00", first=date(2025, 2, 28), last=date(2025, 3, 1), day_count="ACT/360").amount == Decimal("80.00")


def test_who_pays_on_the_last_day_of_grace_owes_nothing_and_a_day_later_one_day() -> None:
    first = interest.runs_from(date(2025, 1, 20), 10)
    assert first == date(2025, 1, 30)
    last = date(2025, 2, 1)
    assert earned("365000.00", (date(2025, 1, 30), "365000.00"), first=first, last=last).amount == 0
    assert earned("365000.00", (date(2025, 1, 31), "365000.00"), first=first, last=last).amount == Decimal("80.00")
    assert earned("365000.00", first=first, last=last).days == 2


def test_a_part_payment_bears_interest_only_until_its_day() -> None:
    found = earned(
        "365000.00", (date(2025, 1, 6), "265000.00"), (date(2025, 1, 1), "0.00"), first=date(2025, 1, 1), last=date(2025, 1, 11)
    )
    assert [(each.days, each.principal) for each in found.stretches] == [(5, 365000), (5, 100000)]
    assert found.amount == Decimal("509.59")  # 400 + 100000 x 0.08 x 5 / 365 = 109.589...


def test_what_came_before_the_grace_ended_bears_none_and_too_much_earns_none() -> None:
    days = {"first": date(2025, 1, 11), "last": date(2025, 1, 21)}
    assert earned("730000.00", (date(2025, 1, 2), "365000.00"), **days).amount == Decimal("800.00")
    assert earned("100.00", (date(2025, 1, 15), "1000.00"), (date(2025, 1, 16), "1.00"), **days).days == 4
    assert earned("100.00", (date(2025, 1, 2), "1000.00"), **days).stretches == ()


def test_half_a_cent_goes_up_and_only_at_the_end() -> None:
    day = {"first": date(2025, 1, 1), "last": date(2025, 1, 2)}
    assert earned("0.50", rate=Decimal(1), **day).amount == Decimal("0.00")
    assert earned("1.825", rate=Decimal(1), **day).amount == Decimal("0.01")  # 0.005 exactly
    assert earned("1.824999999", rate=Decimal(1), **day).amount == Decimal("0.00")
    halves = ((date(2025, 1, 2), "0.00"), (date(2025, 1, 3), "0.00"))
    assert earned("1.00", *halves, first=date(2025, 1, 1), last=date(2025, 1, 4), rate=Decimal(1)).amount == Decimal("0.01")


days = st.integers(0, 800).map(lambda days: date(2023, 12, 1) + timedelta(days=days))
payments = st.lists(st.tuples(days, cents), max_size=6)


@given(cents, payments, days, days, days)
def test_months_add_up_before_they_are_rounded(called: Decimal, paid: list[Any], a: date, b: date, c: date) -> None:
    first, middle, last = sorted((a, b, c))

    def principal_days(start: date, end: date) -> Decimal:
        found = interest.default_interest(called, paid, first=start, last=end, rate=RATE, day_count="ACT/365")
        return sum((each.principal * each.days for each in found.stretches), Decimal(0))

    assert principal_days(first, last) == principal_days(first, middle) + principal_days(middle, last)
    by_day = Decimal(0)
    for offset in range((last - first).days):
        day = first + timedelta(days=offset)
        by_day += max(called - sum((amount for on, amount in paid if on <= day), Decimal(0)), Decimal(0))
    assert principal_days(first, last) == by_day


# Matching


def owed(reference: str = "CALL-1-A", outstanding: str = "100.00", currency: str = "GBP") -> Any:
    return matching.Owed(uuid4(), reference, "Investor A", currency, Decimal(outstanding))


def found(calls: list[Any], reference: str | None, amount: str, currency: str = "GBP") -> tuple[Any, str | None, list[str]]:
    match = matching.match(calls, reference=reference, amount=Decimal(amount), currency=currency)
    return match.call, None if match.to_call is None else str(match.to_call), [each["code"] for each in match.findings]


def test_the_whole_amount_under_the_reference_is_matched() -> None:
    call = owed()
    assert found([owed("CALL-1-B"), call], " call/1 a ", "100.00") == (call, "100.00", [])
    assert call.outstanding == 0


@pytest.mark.parametrize(
    ("amount", "taken", "code"), [("40.00", "40.00", "PAYMENT_PARTIAL"), ("100.01", "100.00", "PAYMENT_OVER")]
)
def test_another_amount_is_matched_with_a_finding(amount: str, taken: str, code: str) -> None:
    call = owed()
    assert found([call], "CALL-1-A", amount) == (call, taken, [code])


def test_the_rest_of_a_part_payment_is_a_whole_one_and_what_follows_is_too_much() -> None:
    call = owed()
    assert found([call], "CALL-1-A", "40.00")[2] == ["PAYMENT_PARTIAL"]
    assert found([call], "CALL-1-A", "60.00") == (call, "60.00", [])
    assert found([call], "CALL-1-A", "60.00") == (call, "0.00", ["PAYMENT_OVER"])


@pytest.mark.parametrize(
    ("calls", "reference", "currency", "code"),
    [
        ([owed()], None, "GBP", "REFERENCE_MISSING"),
        ([owed()], " - ", "GBP", "REFERENCE_MISSING"),
        ([owed()], "CALL-1", "GBP", "CALL_UNKNOWN"),
        ([owed()], "CALL-1-AB", "GBP", "CALL_UNKNOWN"),
        ([], "CALL-1-A", "GBP", "CALL_UNKNOWN"),
        ([owed(), owed("call 1 a")], "CALL-1-A", "GBP", "CALL_AMBIGUOUS"),
        ([owed()], "CALL-1-A", "EUR", "CURRENCY_DIFFERS"),
    ],
)
def test_what_is_not_certain_is_not_guessed_though_the_amount_fits(
    calls: list[Any], reference: str | None, currency: str, code: str
) -> None:
    assert found(calls, reference, "100.00", currency) == (None, None, [code])
    assert all(call.outstanding == 100 for call in calls)


# Cells


@pytest.mark.parametrize("text", ["1,234.50", "£5", "1e3", "5 000", "NaN", "--1", "١٢"])
def test_a_number_that_may_be_another_is_a_finding(text: str) -> None:
    cells = reading.Cells({"amount": text})
    assert cells.number("amount") is None
    assert [each["code"] for each in cells.findings] == ["CELL_UNREADABLE"]


@pytest.mark.parametrize("text", ["31/01/2025", "2025-02-30", "2025-1-1", "20250131"])
def test_a_date_that_may_be_another_is_a_finding(text: str) -> None:
    cells = reading.Cells({"due_date": text})
    assert cells.day("due_date") is None
    assert [each["code"] for each in cells.findings] == ["CELL_UNREADABLE"]


def test_an_empty_cell_is_a_finding_unless_it_may_be_empty() -> None:
    cells = reading.Cells({"a": "  "})
    assert (cells.text("a"), cells.text("b", optional=True), cells.number("a", optional=True)) == (None, None, None)
    assert [(each["code"], each["field"]) for each in cells.findings] == [("CELL_MISSING", "a")]
