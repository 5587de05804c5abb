"""Arrears by age: what tenants owe at the end of a month, by how long it has been due."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from operator import attrgetter

from .figures import Rent, months_between

NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class Arrears:
    """Rent is due on the first of its month, so at the end of a month what that month left unpaid is 30 days old, what the
    month before left 60, and everything older 90 or more.
    """

    days_30: Decimal = NOTHING
    days_60: Decimal = NOTHING
    days_90_plus: Decimal = NOTHING

    @property
    def total(self) -> Decimal:
        return self.days_30 + self.days_60 + self.days_90_plus

    def __sub__(self, other: Arrears) -> Arrears:
        return Arrears(self.days_30 - other.days_30, self.days_60 - other.days_60, self.days_90_plus - other.days_90_plus)


def arrears_at_end_of(period: str, rents: Iterable[Rent]) -> Arrears:
    """Over all units, from their rents up to and with `period`."""
    due = sorted((rent for rent in rents if rent.period <= period), key=attrgetter("unit", "period"))
    ages = [NOTHING, NOTHING, NOTHING]
    for _, rents_of_unit in groupby(due, key=attrgetter("unit")):
        for month, unpaid in _unpaid(rents_of_unit):
            ages[min(months_between(month, period), 2)] += unpaid
    return Arrears(*ages)


def _unpaid(rents: Iterable[Rent]) -> list[tuple[str, Decimal]]:
    """What each month of one unit left unpaid. A payment is for its own month, as the agent states it; what is paid beyond
    that settles the oldest arrears, and then what comes.
    """
    unpaid: dict[str, Decimal] = {}
    ahead = NOTHING
    for rent in rents:
        short = rent.due - rent.received
        if short > 0:
            covered = min(short, ahead)
            ahead -= covered
            unpaid[rent.period] = unpaid.get(rent.period, NOTHING) + short - covered
            continue
        beyond = -short
        for month in sorted(unpaid):
            settled = min(unpaid[month], beyond)
            unpaid[month] -= settled
            beyond -= settled
        ahead += beyond
    return [(month, amount) for month, amount in unpaid.items() if amount]
