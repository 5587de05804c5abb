"""Repairs: what the managing agent paid to a vendor for one property."""

from __future__ import annotations

from datetime import date
from typing import ClassVar, Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from ntro_dagster.subledger.lifecycles import ReviewedStatus
from ntro_dagster.subledger.registry import register_type
from ntro_dagster.subledger.row import CurrencyCode, Money, Row


@register_type("repairs")
class RepairRow(Row):
    """`amount` is in `currency`, above zero."""

    status: ReviewedStatus = ReviewedStatus.PENDING
    required: ClassVar[tuple[str, ...]] = ("property_ref", "vendor", "paid_on", "amount", "currency")
    amount_at: ClassVar[str] = "amount"

    property_ref: str | None = None
    vendor: str | None = None
    issue: str | None = None
    paid_on: date | None = None
    amount: Money | None = None
    currency: CurrencyCode | None = None

    @model_validator(mode="after")
    def _amount_is_positive(self) -> Self:
        if not self.loose and self.amount is not None and self.amount <= 0:
            raise PydanticCustomError("amount_not_positive", "amount is not above zero")
        return self
