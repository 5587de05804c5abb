"""Capital calls: what one investor is asked for, once. Posted when issued, open until the money came or the grace ended."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from enum import auto
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ntro_dagster.boundary.periods import last_day
from ntro_dagster.subledger import (
    CurrencyCode,
    Edge,
    JournalEntryLineItem,
    JournalProposal,
    Money,
    Row,
    StatusEnum,
    lifecycle,
    register_type,
)

RECEIVABLE = "1210"
CONTRIBUTIONS = "3100"

Fraction = Annotated[Decimal, Field(ge=0, le=1, max_digits=38, decimal_places=9)]


@lifecycle(
    Edge("NEEDS_ATTENTION", "PENDING", "accept", by_machine=True),
    Edge("NEEDS_ATTENTION", "REJECTED", "reject"),
    Edge("PENDING", "APPROVED", "approve"),
    Edge("PENDING", "REJECTED", "reject"),
    Edge("APPROVED", "REJECTED", "reject"),
    Edge("APPROVED", "AWAITING_BANK"),
    Edge("AWAITING_BANK", "PAID", "confirm_payment", by_machine=True),
    Edge("AWAITING_BANK", "DEFAULTED", "declare_default", by_machine=True),
    posted="AWAITING_BANK",
)
class CallStatus(StatusEnum):
    NEEDS_ATTENTION = auto()
    PENDING = auto()
    APPROVED = auto()
    AWAITING_BANK = auto()
    PAID = auto()
    DEFAULTED = auto()
    REJECTED = auto()


@register_type("capital_call")
class CapitalCallRow(Row):
    """What was approved stays as it was: money that came, and interest, are rows of their own.

    Attributes:
        percent: of the commitment, 25 for a quarter.
        rounding: how much of `called` is there to make the parts of the call add up; 0 for all but one investor.
        day_count: convention of the default interest.
    """

    required: ClassVar[tuple[str, ...]] = (
        "investor", "reference", "call_number", "commitment", "percent", "called", "currency", "due_date",
        "grace_days", "default_rate", "default_rate_source", "day_count",
    )  # fmt: skip
    amount_at: ClassVar[str] = "called"
    editable: ClassVar[tuple[str, ...]] = ("reference", "due_date", "notice_date", "grace_days")

    status: CallStatus = CallStatus.PENDING
    investor: str | None = None
    reference: str | None = None
    called: Money | None = None
    call_number: Annotated[int, Field(gt=0)] | None = None
    commitment: Money | None = None
    percent: Annotated[Decimal, Field(gt=0, le=100, max_digits=38, decimal_places=9)] | None = None
    rounding: Money | None = None
    currency: CurrencyCode | None = None
    notice_date: date | None = None
    due_date: date | None = None
    grace_days: Annotated[int, Field(ge=0, le=366)] | None = None
    default_rate: Fraction | None = None
    default_rate_source: str | None = None
    day_count: str | None = None

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if self.loose:
            return self
        if self.called is not None and self.called <= 0:
            raise PydanticCustomError("called_not_positive", "what is called is above zero")
        if self.notice_date is not None and self.due_date is not None and self.due_date < self.notice_date:
            raise PydanticCustomError("due_before_notice", "due_date lies before notice_date")
        return self

    @classmethod
    def propose_for_gl(cls, row: CapitalCallRow) -> JournalProposal:
        """The call is receivable from the day of its notice, where that lies in the row's period, else from the period's end."""
        assert row.investor and row.called is not None and row.currency and row.reference  # noqa: S101
        in_period = row.notice_date is not None and f"{row.notice_date:%Y-%m}" == row.period
        return JournalProposal(
            external_id=f"capital_call:{row.id}",
            row_id=row.id,
            posting_date=row.notice_date if row.notice_date and in_period else last_day(row.period),
            description=f"Capital call {row.reference}",
            currency=row.currency,
            lines=(
                JournalEntryLineItem(account_code=RECEIVABLE, debit=row.called, party=row.investor),
                JournalEntryLineItem(account_code=CONTRIBUTIONS, credit=row.called, party=row.investor),
            ),
        )
