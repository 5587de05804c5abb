"""Money that came from investors: one line of a bank statement a row."""

from __future__ import annotations

from datetime import date
from typing import ClassVar, Self
from uuid import UUID

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from ntro_dagster.boundary.periods import last_day
from ntro_dagster.subledger import CurrencyCode, JournalEntryLineItem, JournalProposal, Money, Row, register_type
from ntro_dagster.subledger.row import EXACT

from .capital_call import RECEIVABLE

CASH = "1000"
CREDITORS = "2000"


@register_type("call_receipt")
class CallReceiptRow(Row):
    """`to_call`: how much of `amount` the call takes; the rest is owed back to the payer."""

    required: ClassVar[tuple[str, ...]] = ("booked_on", "amount", "currency", "payer", "call_id", "to_call")
    amount_at: ClassVar[str] = "amount"
    editable: ClassVar[tuple[str, ...]] = ("payer", "call_id", "to_call")

    booked_on: date | None = None
    amount: Money | None = None
    currency: CurrencyCode | None = None
    payer: str | None = None
    reference: str | None = None
    call_id: UUID | None = None
    to_call: Money | None = None

    @model_validator(mode="after")
    def _is_used_up(self) -> Self:
        if self.loose or self.amount is None or self.to_call is None:
            return self
        if self.amount <= 0:
            raise PydanticCustomError("amount_not_positive", "a receipt is above zero")
        if not 0 <= self.to_call <= self.amount:
            raise PydanticCustomError("to_call_out_of_range", "to_call lies between zero and the amount")
        return self

    @classmethod
    def propose_for_gl(cls, row: CallReceiptRow) -> JournalProposal:
        assert row.amount is not None and row.to_call is not None and row.currency and row.booked_on  # noqa: S101
        rest = EXACT.subtract(row.amount, row.to_call)
        sides = ((RECEIVABLE, row.to_call), (CREDITORS, rest))
        return JournalProposal(
            external_id=f"call_receipt:{row.id}",
            row_id=row.id,
            posting_date=row.booked_on if f"{row.booked_on:%Y-%m}" == row.period else last_day(row.period),
            description=f"Receipt {row.reference or ''}".strip(),
            currency=row.currency,
            lines=(
                JournalEntryLineItem(account_code=CASH, debit=row.amount, party=row.payer),
                *(JournalEntryLineItem(account_code=code, credit=part, party=row.payer) for code, part in sides if part > 0),
            ),
        )
