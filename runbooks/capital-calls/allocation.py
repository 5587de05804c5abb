"""A call over all investors: each one's part of it, to the cent, and the whole exact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext

CENT = Decimal("0.01")
WIDE = Context(prec=100)


@dataclass(frozen=True, slots=True)
class Part:
    """What one investor is asked for. `rounding`: how much of it is there to make the parts add up; 0 for all but one."""

    called: Decimal
    rounding: Decimal


def to_the_cent(amount: Decimal) -> Decimal:
    """Half a cent goes up, away from zero: the usual commercial rounding."""
    return amount.quantize(CENT, rounding=ROUND_HALF_UP, context=WIDE)


def parts(commitments: Mapping[str, Decimal], percent: Decimal) -> dict[str, Part]:
    """Each investor's part of a call of `percent` per cent of their commitment.

    The whole is `percent` of all commitments, rounded half-up to the cent. Each part is rounded by itself; what they then lack,
    or have too much, falls to the largest commitment, the first by name of equal ones, and is stated there.
    """
    if not commitments:
        return {}
    with localcontext(WIDE):
        share = percent / 100
        whole = to_the_cent(sum(commitments.values(), Decimal(0)) * share)
        alone = {investor: to_the_cent(amount * share) for investor, amount in commitments.items()}
        largest = min(commitments, key=lambda investor: (-commitments[investor], investor))
        lacking = whole - sum(alone.values(), Decimal(0))
        return {
            investor: Part(called + lacking, lacking) if investor == largest else Part(called, Decimal("0.00"))
            for investor, called in alone.items()
        }
