"""A supplier's bill as a journal."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from ntro_dagster.gl.chart import AccountRole, NamedAccounts
from ntro_dagster.subledger.proposals import BillLineItem, BillProposal, JournalEntryLineItem, JournalProposal
from ntro_dagster.subledger.row import EXACT


def as_journal(bill: BillProposal, accounts: NamedAccounts) -> JournalProposal:
    """Net to each line's account (or suspense), VAT by its code to its account, what rounding left to its own, gross to
    creditors by vendor.

    Raises: `AccountRoleMissingError`.
    """
    return JournalProposal(
        external_id=bill.external_id,
        row_id=bill.row_id,
        posting_date=bill.posting_date,
        description=bill.description,
        currency=bill.currency,
        lines=tuple(_lines(bill, accounts)),
    )


def _lines(bill: BillProposal, accounts: NamedAccounts) -> Iterator[JournalEntryLineItem]:
    items = bill.lines or (
        BillLineItem(
            net=EXACT.subtract(bill.gross, bill.vat), vat=bill.vat, account_code=bill.category, description=bill.description
        ),
    )
    vat: dict[str | None, Decimal] = {}
    for item in items:
        if item.vat:
            vat[item.tax_code] = EXACT.add(vat.get(item.tax_code, Decimal(0)), item.vat)
        if item.net:
            yield JournalEntryLineItem(
                account_code=item.account_code or accounts.of(AccountRole.SUSPENSE),
                debit=item.net,
                description=item.description or bill.description,
                tax_code=item.tax_code,
                dimensions=item.dimensions,
            )
    for tax_code, amount in vat.items():
        yield JournalEntryLineItem(
            account_code=accounts.of(AccountRole.VAT), debit=amount, description=bill.description, tax_code=tax_code
        )
    if difference := bill.rounding:
        side = {"debit": difference} if difference > 0 else {"credit": -difference}
        yield JournalEntryLineItem(account_code=accounts.of(AccountRole.ROUNDING), description="Rounding", **side)
    yield JournalEntryLineItem(account_code=accounts.of(AccountRole.CREDITORS), credit=bill.gross, party=bill.vendor)
