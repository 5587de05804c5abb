"""Net asset value from a trial balance."""

from __future__ import annotations

from decimal import Decimal
from uuid import uuid4

from ntro_dagster.gl.net_assets import net_assets
from ntro_dagster.gl.trial_balance import TrialBalance, TrialBalanceLine


def line(code: str, kind: str, balance: str, currency: str = "GBP") -> TrialBalanceLine:
    return TrialBalanceLine(code, code, kind, currency, Decimal(0), Decimal(0), Decimal(balance))


def test_what_is_owned_less_what_is_owed_by_currency() -> None:
    lines = (
        line("1000", "ASSET", "1500.00"),
        line("1100", "ASSET", "-200.00"),
        line("2000", "LIABILITY", "-300.25"),
        line("3000", "EQUITY", "-700.00"),
        line("4000", "INCOME", "-399.75"),
        line("5000", "EXPENSE", "100.00"),
        line("1000", "ASSET", "7", "USD"),
    )
    pounds, dollars = net_assets(TrialBalance(uuid4(), "2025-01", lines))
    assert (pounds.currency, pounds.assets, pounds.liabilities, pounds.value) == (
        "GBP",
        Decimal("1300.00"),
        Decimal("300.25"),
        Decimal("999.75"),
    )
    assert pounds.value == -sum(each.balance for each in lines[3:6])
    assert (dollars.currency, dollars.value) == ("USD", 7)


def test_books_without_lines_are_worth_nothing() -> None:
    assert net_assets(TrialBalance(uuid4(), "2025-01", ())) == []
