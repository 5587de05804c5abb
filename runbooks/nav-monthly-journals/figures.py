"""The figures of a month as the calculations see them: what was due and received, what was repaired, what the agent states."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Context, Decimal

CENT = Decimal("0.01")
_WIDE = Context(prec=60, rounding=ROUND_HALF_UP)


@dataclass(frozen=True, slots=True)
class Rent:
    """One unit's month. `fees`: charged to the tenant for paying late or not at all. All in the entity's currency."""

    period: str
    unit: str
    rent: Decimal
    fees: Decimal
    received: Decimal

    @property
    def due(self) -> Decimal:
        return self.rent + self.fees


@dataclass(frozen=True, slots=True)
class Repair:
    """What the agent paid to a tradesman, in the month it was paid."""

    period: str
    unit: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Statement:
    """The agent's statement to the landlord, in the month it was filed for.

    Attributes:
        ref: what tells it from the other statements of the month, and does not change.
        rate: the agent's fee, as a share of gross: 0.08.
    """

    period: str
    ref: str
    paid_on: date
    gross: Decimal
    rate: Decimal
    fee: Decimal
    maintenance: Decimal
    net: Decimal


def fee_of(gross: Decimal, rate: Decimal) -> Decimal:
    """The agent's fee on what was collected, rounded half-up to the cent."""
    return (gross * rate).quantize(CENT, context=_WIDE)


def written(amount: Decimal) -> str:
    """As text, with two decimals, or as many more as it takes: one amount, one text."""
    whole, _, decimals = f"{amount:f}".partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"


def month_before(period: str) -> str:
    year, month = int(period[:4]), int(period[5:])
    return f"{year - 1}-12" if month == 1 else f"{year}-{month - 1:02d}"


def months_between(earlier: str, later: str) -> int:
    return (int(later[:4]) - int(earlier[:4])) * 12 + int(later[5:]) - int(earlier[5:])
