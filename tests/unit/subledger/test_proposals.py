"""What is handed to the general ledger balances, exactly."""

from __future__ import annotations

import uuid
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from ntro_dagster.gl.bills import as_journal
from ntro_dagster.gl.chart import NamedAccounts, first_chart
from ntro_dagster.subledger import BillProposal, JournalEntryLineItem, JournalProposal
from ntro_dagster.subledger.row import EXACT

ACCOUNTS = NamedAccounts({row["role"]: row["code"] for row in first_chart() if row["role"] and row["code"]})
CREDITORS_ACCOUNT, SUSPENSE_ACCOUNT, VAT_ACCOUNT = (ACCOUNTS.codes[role] for role in ("CREDITORS", "SUSPENSE", "VAT"))
HEAD = {"external_id": "x", "row_id": uuid.UUID(int=1), "posting_date": date(2025, 1, 31), "description": "x", "currency": "GBP"}
amounts = st.decimals(min_value="0.000000001", max_value="9" * 29, places=9)


@pytest.mark.parametrize(
    "sides",
    [{}, {"debit": 0}, {"debit": 1, "credit": 1}, {"debit": -1}, {"credit": -1}, {"debit": -1, "credit": 1}, {"debit": "NaN"}],
    ids=str,
)
def test_a_line_has_exactly_one_side(sides: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JournalEntryLineItem(account_code="1", **sides)


@pytest.mark.parametrize("debit", ["9.999999999", "10.000000001"])
def test_there_is_no_tolerance(debit: str) -> None:
    lines = (
        JournalEntryLineItem(account_code="1", debit=Decimal(debit)),
        JournalEntryLineItem(account_code="2", credit=Decimal(10)),
    )
    with pytest.raises(ValidationError, match="debits and credits differ"):
        JournalProposal(**HEAD, lines=lines)


def test_a_journal_has_two_lines_at_least() -> None:
    with pytest.raises(ValidationError):
        JournalProposal(**HEAD, lines=())


@given(gross=amounts, vat=amounts | st.just(Decimal(0)), category=st.none() | st.just("5000"))
def test_every_bill_balances(gross: Decimal, vat: Decimal, category: str | None) -> None:
    assume(vat <= gross)
    bill = BillProposal(
        external_id="x", row_id=uuid.UUID(int=1), posting_date=date(2025, 1, 31), vendor="Smith", description="x", currency="GBP",
        gross=gross, vat=vat, category=category,
    )  # fmt: skip
    journal = as_journal(bill, ACCOUNTS)
    by_account = {line.account_code: line.debit if line.debit else line.credit.copy_negate() for line in journal.lines}
    assert by_account.get(category or SUSPENSE_ACCOUNT, 0) == EXACT.subtract(gross, vat)
    assert by_account.get(VAT_ACCOUNT, 0) == vat
    assert by_account[CREDITORS_ACCOUNT] == gross.copy_negate()
    assert len(by_account) == len(journal.lines)


@pytest.mark.parametrize(
    "change", [{"gross": 0}, {"gross": -1}, {"vat": -1}, {"currency": "gbp"}, {"gross": "0.0000000001"}], ids=str
)
def test_a_bill_that_is_none(change: dict[str, Any]) -> None:
    values: dict[str, Any] = HEAD | {"vendor": "Smith", "gross": 1} | change
    with pytest.raises(ValidationError):
        BillProposal(**values)
