"""Net asset value: what is owned less what is owed, by account below its parent, beside last month's and last year's end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from decimal import Decimal

from ntro_dagster.boundary.periods import shifted
from ntro_dagster.gl.reports.balances import Account, accounts, balances, not_translated
from ntro_dagster.gl.reports.report import About, Check, Column, Kind, Report, Row, Style, each
from ntro_dagster.platforms.postgres.database import TenantDatabase

NONE = Decimal(0)
SECTIONS = (("ASSET", "Assets", 1), ("LIABILITY", "Liabilities", -1))
"""What is owed is shown as a positive number."""

Figures = tuple[Decimal, ...]
"""At the end of the month, of the month before, of the year before."""


async def nav(database: TenantDatabase, about: About) -> Report:
    """In the entity's currency."""
    months = (about.period, shifted(about.period, -1), shifted(about.year_begins, -1))
    chart = await accounts(database)
    closing: dict[str, list[Decimal]] = defaultdict(lambda: [NONE] * len(months))
    for at, month in enumerate(months):
        for balance in await balances(database, about, period=month):
            closing[balance.account][at] = balance.closing
    tree = _Tree(chart, {code: tuple(figures) for code, figures in closing.items() if any(figures)})
    rows: list[Row] = []
    sums: list[Figures] = []
    for kind, title, sign in SECTIONS:
        rows += list(tree.rows(kind, sign))
        total = tree.total(kind, sign)
        sums.append(total)
        rows.append(Row(_cells("", title, total), Style.SUBTOTAL))
    worth = tuple(owned - owed for owned, owed in zip(*sums, strict=True))
    others = sum((amounts[0] for code, amounts in closing.items() if chart[code].type not in {"ASSET", "LIABILITY"}), NONE)
    known = await database.fetch_single("SELECT ledgers.net_assets(%s, %s) AS worth", [about.entity_id, about.period])
    columns = (
        Column("account", "Account"),
        Column("name", "Name", flexible=True),
        Column("now", months[0], Kind.MONEY),
        Column("month_before", months[1], Kind.MONEY),
        Column("change", "Change", Kind.MONEY),
        Column("year_before", f"Year end {months[2]}", Kind.MONEY),
        Column("change_of_year", "Change of year", Kind.MONEY),
    )
    return Report(
        "Net asset value",
        f"{about.name}, {about.period}, in {about.currency}",
        columns,
        each(rows if closing else ()),
        [Row(_cells("", "Net assets", worth), Style.TOTAL)],
        await not_translated(database, about),
        [
            Check("Net assets equal equity, income and expenses.", worth[0] == -others),
            Check("Net assets are what a close goes by.", worth[0] == known["worth"]),
        ],
    )


def _cells(code: str, name: str, figures: Figures) -> tuple[str | Decimal, ...]:
    now, month, year = figures
    return (code, name, now, month, now - month, year, now - year)


class _Tree:
    """Accounts below their parents; of a parent with postings of its own, those come before its children's."""

    def __init__(self, chart: Mapping[str, Account], own: Mapping[str, Figures]) -> None:
        self._chart, self._own = chart, own
        self._children: dict[str | None, list[str]] = defaultdict(list)
        for code in sorted(chart):
            self._children[chart[code].parent].append(code)

    def rows(self, kind: str, sign: int) -> Iterator[Row]:
        for code in self._children[None]:
            if self._chart[code].type == kind:
                yield from self._below(code, sign, 0)

    def total(self, kind: str, sign: int) -> Figures:
        return _added([self._sum(code, sign) for code in self._children[None] if self._chart[code].type == kind])

    def _below(self, code: str, sign: int, depth: int) -> Iterator[Row]:
        children = [child for child in self._children[code] if self._moved(child)]
        own = self._own.get(code)
        if own or children:
            figures = tuple(sign * amount for amount in own) if own else ()
            cells = _cells(code, self._chart[code].name, figures) if own else (code, self._chart[code].name, *[None] * 5)
            yield Row(cells, Style.LINE, depth, account=code if own else None)
        for child in children:
            yield from self._below(child, sign, depth + 1)
        if children:
            yield Row(_cells("", f"Total {self._chart[code].name}", self._sum(code, sign)), Style.SUBTOTAL, depth)

    def _moved(self, code: str) -> bool:
        return code in self._own or any(self._moved(child) for child in self._children[code])

    def _sum(self, code: str, sign: int) -> Figures:
        own = tuple(sign * amount for amount in self._own.get(code, (NONE,) * 3))
        return _added([own, *(self._sum(child, sign) for child in self._children[code])])


def _added(several: list[Figures]) -> Figures:
    return tuple(sum(amounts, NONE) for amounts in zip((NONE,) * 3, *several, strict=True))
