"""Net asset value: what is owned less what is owed, by currency, from a trial balance."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from ntro_dagster.gl.trial_balance import TrialBalance
from ntro_dagster.subledger.row import EXACT


@dataclass(frozen=True, slots=True)
class NetAssets:
    """At the end of a period. `liabilities` is what is owed, as a positive number."""

    currency: str
    assets: Decimal
    liabilities: Decimal

    @property
    def value(self) -> Decimal:
        return EXACT.subtract(self.assets, self.liabilities)


def net_assets(balance: TrialBalance) -> list[NetAssets]:
    """By currency. Equity, income and expenses add up to the same, with the other sign: the books balance."""
    sums: dict[str, dict[str, Decimal]] = {}
    for line in balance.lines:
        by_type = sums.setdefault(line.currency, {"ASSET": Decimal(0), "LIABILITY": Decimal(0)})
        if line.account_type in by_type:
            by_type[line.account_type] = EXACT.add(by_type[line.account_type], line.balance)
    return [
        NetAssets(currency, by_type["ASSET"], EXACT.minus(by_type["LIABILITY"])) for currency, by_type in sorted(sums.items())
    ]
