"""Default interest: simple, on what is outstanding, by the day.

Day count ACT/365 (Fixed) or ACT/360: the actual number of days, divided by 365, in leap years too, or by 360; the first day
counts, the last does not (2006 ISDA Definitions, section 4.16(d) and (e)). Nothing is rounded on the way: the sum is an exact
fraction, rounded half-up to the cent once, at its end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

from ntro_dagster.subledger.row import EXACT

DAY_COUNTS = {"ACT-365": "ACT/365", "ACT-360": "ACT/360"}
"""As the parameter of the runbook has them, and as the rows name them."""
_DAYS_OF_A_YEAR = {"ACT/365": 365, "ACT/360": 360}


@dataclass(frozen=True, slots=True)
class Stretch:
    """Days, from the first to before the last, over which one amount was outstanding."""

    first: date
    last: date
    principal: Decimal

    @property
    def days(self) -> int:
        return (self.last - self.first).days

    def as_dict(self) -> dict[str, str]:
        return {
            "from": self.first.isoformat(),
            "to": self.last.isoformat(),
            "days": str(self.days),
            "principal": f"{self.principal:f}",
        }


@dataclass(frozen=True, slots=True)
class Interest:
    """`amount`: to the cent."""

    amount: Decimal
    stretches: tuple[Stretch, ...]

    @property
    def days(self) -> int:
        return sum(stretch.days for stretch in self.stretches)


def runs_from(due: date, grace_days: int) -> date:
    """The first day that bears interest: who pays on it, the last day of grace, owes none."""
    return due + timedelta(days=grace_days)


def default_interest(
    called: Decimal, payments: Iterable[tuple[date, Decimal]], *, first: date, last: date, rate: Decimal, day_count: str
) -> Interest:
    """Interest on what is outstanding of `called`, from `first` to before `last`.

    Args:
        payments: day and amount; a payment bears no interest from its own day on.
        rate: per year, 0.08 for 8 per cent.
        day_count: "ACT/365" or "ACT/360".
    """
    outstanding = called
    at, stretches = first, []
    for day, amount in sorted(payments):
        if day >= last:
            break
        if day > at and outstanding > 0:
            stretches.append(Stretch(at, day, outstanding))
        at = max(at, day)
        outstanding = EXACT.subtract(outstanding, amount)
    if at < last and outstanding > 0:
        stretches.append(Stretch(at, last, outstanding))
    by_the_day = sum((Fraction(each.principal) * each.days for each in stretches), Fraction(0)) * Fraction(rate)
    return Interest(_half_up(by_the_day / _DAYS_OF_A_YEAR[day_count]), tuple(stretches))


def _half_up(exact: Fraction) -> Decimal:
    """To the cent. What comes in is never below zero."""
    cents = (exact * 100 + Fraction(1, 2)).__floor__()
    return Decimal(cents).scaleb(-2)
