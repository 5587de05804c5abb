"""General ledger: account by account what stood there, every line with the balance after it, what stands there now."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Iterator, Mapping
from decimal import Decimal
from typing import Any

from ntro_dagster.errors import NtroError
from ntro_dagster.gl.reports.balances import Account, Balance, accounts, balances, not_translated
from ntro_dagster.gl.reports.report import About, Check, Column, Kind, Report, Row, Style
from ntro_dagster.platforms.postgres.database import TenantDatabase

NONE = Decimal(0)

COLUMNS = (
    Column("account", "Account", once=True),
    Column("name", "Name", flexible=True, once=True),
    Column("date", "Date", Kind.DATE),
    Column("number", "Number"),
    Column("kind", "Kind"),
    Column("text", "Text", flexible=True),
    Column("party", "Party", flexible=True),
    Column("debit", "Debit", Kind.MONEY),
    Column("credit", "Credit", Kind.MONEY),
    Column("balance", "Balance", Kind.MONEY),
    Column("currency", "Currency"),
    Column("amount", "Transacted", Kind.MONEY),
    Column("source", "Source", flexible=True),
)


class LedgerMovedError(NtroError):
    """Lines that do not lead from opening to closing: a defect, or books that changed while they were read."""

    code = "LEDGER_DOES_NOT_TIE"
    summary = "the lines of an account do not lead from its opening to its closing balance"
    mend = "run the report again; if it says so twice, the books need somebody's attention"


async def ledger(database: TenantDatabase, about: About, *, account: str | None = None) -> Report:
    """Of one account, or of all that have a balance or were moved. Its rows are read while they are written."""
    chart = await accounts(database)
    found = {x.account: x for x in await balances(database, about) if account in {None, x.account}}
    debits, credits_ = sum((x.debit for x in found.values()), NONE), sum((x.credit for x in found.values()), NONE)
    checks = [Check("Every account's lines lead from its opening to its closing balance.", True)]
    if account is None:
        checks.append(Check("Debits of the month equal credits.", debits == credits_))
    total = _row(None, None, Style.TOTAL, {"text": "Total", "debit": debits, "credit": credits_, "currency": about.currency})
    return Report(
        "General ledger",
        f"{about.name}, {about.period}, in {about.currency}",
        COLUMNS,
        _rows(database, about, found, chart),
        [total],
        await not_translated(database, about),
        checks,
    )


async def _rows(
    database: TenantDatabase, about: About, found: Mapping[str, Balance], chart: Mapping[str, Account]
) -> AsyncIterator[Row]:
    """Raises: `LedgerMovedError`."""
    codes = sorted(found)
    at: str | None = None
    running = NONE

    def until(code: str | None) -> Iterator[Row]:
        """The end of the account at hand, those that were not moved, and the beginning of the one with that code."""
        nonlocal at, running
        if at is not None:
            yield _closing(at, running, found, chart, about)
        behind = bisect_right(codes, at) if at is not None else 0
        for other in codes[behind : len(codes) if code is None else bisect_left(codes, code)]:
            if opening := found[other].opening:
                yield _balance(other, "Opening balance", opening, chart, about)
                yield _closing(other, opening, found, chart, about)
        if code is not None:
            at, running = code, found[code].opening
            yield _balance(code, "Opening balance", running, chart, about)

    async for line in _lines(database, about, codes):
        if line["account"] != at:
            for row in until(line["account"]):
                yield row
        running += line["debit"] - line["credit"]
        foreign = line["amount"] if line["currency"] != about.currency else None
        sides = {"debit": line["debit"] or None, "credit": line["credit"] or None, "balance": running, "amount": foreign}
        yield _row(line["account"], chart[line["account"]], Style.LINE, line | sides)
    for row in until(None):
        yield row


async def _lines(database: TenantDatabase, about: About, codes: list[str]) -> AsyncIterator[dict[str, Any]]:
    batches = database.stream(
        """SELECT f.account_code AS account, j.posting_date AS date, n.year || '/' || n.number AS number, j.kind,
                  concat_ws(': ', j.description, nullif(l.description, j.description)) AS text, l.party, f.debit, f.credit,
                  j.currency, l.debit - l.credit AS amount, j.external_id AS source,
                  coalesce(l.row_id, j.row_id) AS row_id
             FROM ledgers.journals j
             JOIN ledgers.journal_numbers n ON n.journal_id = j.id
             JOIN ledgers.journal_lines l ON l.journal_id = j.id
             JOIN ledgers.functional_lines f ON f.journal_id = l.journal_id AND f.line_no = l.line_no
            WHERE j.entity_id = %s AND j.period = %s AND f.account_code = ANY(%s) AND f.debit IS NOT NULL
            ORDER BY f.account_code COLLATE "C", n.year, n.number, l.line_no""",
        [about.entity_id, about.period, codes],
    )
    async for batch in batches:
        for line in batch:
            yield line


def _row(code: str | None, account: Account | None, style: Style, values: Mapping[str, Any]) -> Row:
    said = {"account": code, "name": account.name if account else None, **values}
    cells = tuple(said.get(column.name) for column in COLUMNS)
    return Row(cells, style, group=code, account=code, source=values.get("row_id"))


def _balance(code: str, text: str, amount: Decimal, chart: Mapping[str, Account], about: About) -> Row:
    return _row(code, chart[code], Style.BALANCE, {"text": text, "balance": amount, "currency": about.currency})


def _closing(code: str, running: Decimal, found: Mapping[str, Balance], chart: Mapping[str, Account], about: About) -> Row:
    """Raises: `LedgerMovedError` where the lines lead elsewhere than another look at the books says."""
    if running != found[code].closing:
        raise LedgerMovedError
    return _balance(code, "Closing balance", running, chart, about)
