"""The agent's statements beside the rows: which month each belongs to, and every difference, with both sides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from .figures import Rent, Repair, Statement, fee_of, written

Finding = dict[str, Any]


def totals(figures: Iterable[Rent] | Iterable[Repair]) -> dict[str, Decimal]:
    """By month: what was received, or what was repaired."""
    by_month: dict[str, Decimal] = defaultdict(Decimal)
    for each in figures:
        by_month[each.period] += each.received if isinstance(each, Rent) else each.amount
    return dict(by_month)


@dataclass(frozen=True, slots=True)
class Attributed:
    """A statement and the month it belongs to; None: every month has its own already."""

    statement: Statement
    month: str | None

    @property
    def late(self) -> bool:
        return self.month is not None and self.month < self.statement.period


def attribute(statements: Iterable[Statement], collected: Mapping[str, Decimal], *, until: str) -> list[Attributed]:
    """Each statement's own month, over the entity's history up to `until`.

    A statement is its own month's. Where a month has several, the last one that states what was collected is its own; the
    others belong to earlier months that are still without one: to the oldest that collected as much, else to the latest.

    Args:
        collected: received rent of every month that has rent rows.
    """
    by_month: dict[str, list[Statement]] = defaultdict(list)
    for statement in statements:
        by_month[statement.period].append(statement)
    waiting: list[str] = []
    attributed: list[Attributed] = []
    for month in sorted(by_month.keys() | collected.keys()):
        if month > until:
            break
        arrived = sorted(by_month.get(month, ()), key=lambda each: (each.paid_on, each.ref))
        months = _months_of(arrived, month, collected, waiting)
        attributed += [Attributed(statement, of) for statement, of in zip(arrived, months, strict=True)]
        waiting = [earlier for earlier in waiting if earlier not in months]
        if month in collected and month not in months:
            waiting.append(month)
    return attributed


def _months_of(
    arrived: Sequence[Statement], month: str, collected: Mapping[str, Decimal], waiting: Sequence[str]
) -> list[str | None]:
    own = max((at for at, each in enumerate(arrived) if each.gross == collected.get(month)), default=None)
    free = list(waiting)
    months: list[str | None] = []
    for at, each in enumerate(arrived):
        if at == own:
            months.append(month)
            continue
        earlier = next((open_month for open_month in free if collected[open_month] == each.gross), None)
        if earlier is None and own is None and month in collected:
            own = at
            months.append(month)
            continue
        if earlier is None and free:
            earlier = free[-1]
        if earlier is not None:
            free.remove(earlier)
        months.append(earlier)
    return months


def own_differences(statement: Statement) -> list[Finding]:
    """Where a statement does not add up in itself."""
    fee = fee_of(statement.gross, statement.rate)
    return [
        *_difference("FEE_DIFFERS", "fee", "the fee is not gross times rate", statement.fee, fee),
        *_difference(
            "NET_DIFFERS",
            "net",
            "the net payout is not gross less fee less maintenance",
            statement.net,
            statement.gross - statement.fee - statement.maintenance,
        ),
    ]


def differences(found: Attributed, collected: Mapping[str, Decimal], repaired: Mapping[str, Decimal]) -> list[Finding]:
    """Everything there is to say of one statement; nothing where it reconciles in its own month."""
    statement, month = found.statement, found.month
    if month is None:
        what = "every month up to now has a statement already"
        return [_finding("STATEMENT_UNEXPECTED", None, what, statement.net, arrived=statement.period)]
    late = []
    if found.late:
        what = f"payout of {month} arrived in {statement.period}"
        late = [_finding("PAYOUT_LATE", None, what, statement.net, month=month, arrived=statement.period)]
    return [
        *late,
        *_difference("GROSS_DIFFERS", "gross", "not what the rent rows received", statement.gross, collected[month]),
        *own_differences(statement),
        *_difference(
            "REPAIRS_DIFFER",
            "maintenance",
            "not what the repairs add up to",
            statement.maintenance,
            repaired.get(month, Decimal(0)),
        ),
    ]


def payout_missing(month: str, expected: Decimal) -> Finding:
    return _finding("PAYOUT_MISSING", None, f"no payout of {month} arrived in {month}", expected, month=month)


def _difference(code: str, field: str, what: str, stated: Decimal, ours: Decimal) -> list[Finding]:
    if stated == ours:
        return []
    return [_finding(code, field, what, stated - ours, stated=written(stated), ours=written(ours))]


def _finding(code: str, field: str | None, message: str, amount: Decimal, **more: str) -> Finding:
    return {"code": code, "field": field, "message": message, "amount": written(amount), **more}
