"""Trial balance: opening, movements and closing by account, in the entity's currency and in each currency of transactions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum

from ntro_dagster.boundary.periods import shifted
from ntro_dagster.gl.reports.balances import Account, Balance, Basis, accounts, balances, not_translated
from ntro_dagster.gl.reports.report import About, Check, Column, Kind, Report, Row, Style, each
from ntro_dagster.platforms.postgres.database import TenantDatabase

NONE = Decimal(0)


class Compared(StrEnum):
    """What closing balances are compared with."""

    MONTH = "month"
    YEAR = "year"

    def before(self, period: str) -> str:
        return shifted(period, -1 if self is Compared.MONTH else -12)


async def trial_balance(
    database: TenantDatabase, about: About, *, basis: Basis = Basis.CUMULATIVE, compare: Compared | None = None
) -> Report:
    """Raises: `AccountRoleMissingError`."""
    chart = await accounts(database)
    own = await balances(database, about, basis=basis)
    transacted = await balances(database, about, basis=basis, translated=False)
    sections = [(about.currency, own, True)]
    by_currency: dict[str, list[Balance]] = defaultdict(list)
    for balance in transacted:
        by_currency[balance.currency].append(balance)
    if set(by_currency) - {about.currency}:
        sections += [(currency, found, False) for currency, found in sorted(by_currency.items())]
    was: dict[tuple[str, str, bool], Decimal] = {}
    earlier = compare.before(about.period) if compare else None
    if earlier:
        for translated in (True, False):
            for balance in await balances(database, about, period=earlier, basis=basis, translated=translated):
                was[balance.account, balance.currency, translated] = balance.closing
    rows: list[Row] = []
    totals: list[Row] = []
    checks: list[Check] = []
    for currency, found, translated in sections:
        before = {account: amount for (account, each_in, how), amount in was.items() if (each_in, how) == (currency, translated)}
        label = _label(currency, about, translated=translated, several=len(sections) > 1)
        rows += list(_rows(found, chart, label, before if earlier else None))
        sums = [sum((pick(x) for x in found), NONE) for pick in (_opening, _debit, _credit, _closing)]
        extra = (sum(before.values(), NONE),) if earlier else ()
        total = Row(("", f"Total {label}", "", label, *sums, *extra), Style.TOTAL)
        (totals if len(sections) == 1 else rows).append(total)
        checks.append(Check(f"Debits of the month equal credits in {label}.", sums[1] == sums[2]))
        checks.append(Check(f"Opening and closing balances add up to nothing in {label}.", sums[0] == sums[3] == 0))
    columns = [
        Column("account", "Account"),
        Column("name", "Name", flexible=True),
        Column("type", "Type"),
        Column("currency", "Currency"),
        *(Column(name, name.capitalize(), Kind.MONEY) for name in ("opening", "debit", "credit", "closing")),
    ]
    if earlier:
        columns.append(Column("before", f"Closing {earlier}", Kind.MONEY))
    notes = await not_translated(database, about)
    if basis is Basis.YEAR:
        notes.append(f"Income and expenses from before {about.year_begins} are with retained earnings.")
    subtitle = f"{about.name}, {about.period}; balances are debit less credit"
    return Report("Trial balance", subtitle, columns, each(rows), totals, notes, checks)


def _label(currency: str, about: About, *, translated: bool, several: bool) -> str:
    """What stands in the column of currencies: the entity's own is marked where the same currency was transacted in too."""
    return f"{currency} translated" if translated and several else currency


def _rows(
    found: Sequence[Balance], chart: Mapping[str, Account], label: str, before: Mapping[str, Decimal] | None
) -> Iterator[Row]:
    known = {balance.account: balance for balance in found}
    for code in sorted(known.keys() | (before or {}).keys()):
        balance = known.get(code) or Balance(code, label, NONE, NONE, NONE)
        was = () if before is None else (before.get(code, NONE),)
        figures = (balance.opening, balance.debit, balance.credit, balance.closing, *was)
        if any(figures):
            account = chart[code]
            yield Row((code, account.name, account.type, label, *figures), account=code)


def _opening(balance: Balance) -> Decimal:
    return balance.opening


def _debit(balance: Balance) -> Decimal:
    return balance.debit


def _credit(balance: Balance) -> Decimal:
    return balance.credit


def _closing(balance: Balance) -> Decimal:
    return balance.closing
