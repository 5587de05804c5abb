"""Landlord statement: what the managing agent says it collected, kept and paid out."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import ClassVar, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ntro_dagster.subledger.lifecycles import ReviewedStatus
from ntro_dagster.subledger.registry import register_type
from ntro_dagster.subledger.row import CurrencyCode, Money, Row


@register_type("landlord_statement")
class LandlordStatementRow(Row):
    """One payout. Amounts are in `currency`; `net` may be negative, where repairs cost more than came in.

    Attributes:
        fee_rate: the agent's fee as a share of gross: 0.08.
    """

    status: ReviewedStatus = ReviewedStatus.PENDING
    required: ClassVar[tuple[str, ...]] = (
        "transfer_ref",
        "paid_on",
        "gross",
        "fee_rate",
        "fee",
        "maintenance",
        "net",
        "currency",
    )
    amount_at: ClassVar[str] = "gross"

    transfer_ref: str | None = None
    paid_on: date | None = None
    gross: Money | None = None
    fee_rate: Decimal | None = Field(default=None, ge=0, le=1, max_digits=5, decimal_places=4)
    fee: Money | None = None
    maintenance: Money | None = None
    net: Money | None = None
    currency: CurrencyCode | None = None

    @model_validator(mode="after")
    def _amounts_are_not_negative(self) -> Self:
        negative = [name for name in ("gross", "fee", "maintenance") if (getattr(self, name) or 0) < 0]
        if negative and not self.loose:
            raise PydanticCustomError("negative", "negative: {fields}", {"fields": ", ".join(negative)})
        return self
