"""Default interest of one call in one month."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Self
from uuid import UUID

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ntro_dagster.boundary.periods import last_day
from ntro_dagster.subledger import CurrencyCode, JournalEntryLineItem, JournalProposal, Money, Row, register_type

RECEIVABLE = "1220"
INCOME = "4200"


@register_type("default_interest")
class DefaultInterestRow(Row):
    """`interest` is what the call has earned `until` that day, less what earlier months have `charged` already.

    Attributes:
        runs_from: the first day that bears interest.
        until: the first day that does not: the day after the month's end.
        stretches: the days and what was outstanding on them, for whoever checks the figure.
    """

    required: ClassVar[tuple[str, ...]] = ("call_id", "investor", "currency", "interest", "rate_source", "day_count")
    amount_at: ClassVar[str] = "interest"
    editable: ClassVar[tuple[str, ...]] = ()

    call_id: UUID | None = None
    investor: str | None = None
    interest: Money | None = None
    currency: CurrencyCode | None = None
    runs_from: date | None = None
    until: date | None = None
    days: int | None = None
    rate: Annotated[Decimal, Field(ge=0, le=1, max_digits=38, decimal_places=9)] | None = None
    rate_source: str | None = None
    day_count: str | None = None
    stretches: list[dict[str, Any]] | None = None
    earned: Money | None = None
    charged: Money | None = None

    @model_validator(mode="after")
    def _is_owed(self) -> Self:
        if not self.loose and self.interest is not None and self.interest <= 0:
            raise PydanticCustomError("interest_not_positive", "earlier months have charged more than was owed: correct them")
        return self

    @classmethod
    def propose_for_gl(cls, row: DefaultInterestRow) -> JournalProposal:
        assert row.interest is not None and row.currency and row.investor  # noqa: S101
        return JournalProposal(
            external_id=f"default_interest:{row.id}",
            row_id=row.id,
            posting_date=last_day(row.period),
            description=f"Default interest {row.investor}",
            currency=row.currency,
            lines=(
                JournalEntryLineItem(account_code=RECEIVABLE, debit=row.interest, party=row.investor),
                JournalEntryLineItem(account_code=INCOME, credit=row.interest, party=row.investor),
            ),
        )
