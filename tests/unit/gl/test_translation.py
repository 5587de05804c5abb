"""Amounts in the entity's currency: to its own minor units, whatever their number, and nothing lost."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntro_dagster.gl.chart import AccountRole, NamedAccounts
from ntro_dagster.gl.translation import translated
from ntro_dagster.subledger.proposals import JournalEntryLineItem, JournalProposal, Translation

ROUNDING = "5950"
ACCOUNTS = NamedAccounts({AccountRole.ROUNDING: ROUNDING})
DECIMALS = {"JPY": 0, "GBP": 2, "BHD": 3}


def journal(*parts: Decimal) -> JournalProposal:
    debits = [JournalEntryLineItem(account_code="5000", debit=part) for part in parts]
    return JournalProposal(
        external_id="expenses:x",
        row_id=uuid4(),
        posting_date=date(2025, 1, 31),
        description="x",
        currency="USD",
        lines=(*debits, JournalEntryLineItem(account_code="2000", credit=sum(parts, Decimal(0)))),
    )


@pytest.mark.parametrize(
    ("currency", "rate", "expected"),
    [
        ("JPY", "151.237", ["1512", "1512", "3025"]),
        ("GBP", "0.7955", ["7.96", "7.96", "15.91"]),
        ("BHD", "0.376", ["3.760", "3.760", "7.520"]),
    ],
)
def test_each_line_is_rounded_half_up_to_minor_units(currency: str, rate: str, expected: list[str]) -> None:
    made = translated(journal(Decimal(10), Decimal(10)), Translation(currency=currency, rate=Decimal(rate), source="x"), ACCOUNTS)
    amounts = [line.functional_debit or line.functional_credit for line in made.lines if line.account_code != ROUNDING]
    assert [str(amount) for amount in amounts] == expected


@given(
    parts=st.lists(st.decimals(Decimal("0.01"), Decimal("1e12"), places=2), min_size=1, max_size=8),
    rate=st.decimals(Decimal("0.000001"), Decimal("100000"), places=6),
    currency=st.sampled_from(sorted(DECIMALS)),
)
def test_it_balances_in_minor_units_and_the_rounding_is_bounded(parts: list[Decimal], rate: Decimal, currency: str) -> None:
    made = translated(journal(*parts), Translation(currency=currency, rate=rate, source="x"), ACCOUNTS)
    unit = Decimal(1).scaleb(-DECIMALS[currency])
    debits = [line.functional_debit or Decimal(0) for line in made.lines]
    credits = [line.functional_credit or Decimal(0) for line in made.lines]
    assert sum(debits) == sum(credits)
    assert all(amount % unit == 0 for amount in (*debits, *credits))
    extra = [line for line in made.lines if line.account_code == ROUNDING]
    assert sum((line.functional_debit or 0) + (line.functional_credit or 0) for line in extra) <= unit / 2 * (len(parts) + 1)
