"""Rental statement: one unit's month, as the managing agent states it (spec 8.8)."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import ClassVar, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ntro_dagster.subledger.lifecycles import ReviewedStatus
from ntro_dagster.subledger.registry import register_type
from ntro_dagster.subledger.row import CurrencyCode, Money, Row

_NOT_NEGATIVE = (
    "rent_received",
    "fees_charged",
    "arrears_30d",
    "arrears_60d",
    "arrears_90d_plus",
    "deductions_total",
    "management_fee_gross",
    "repairs_gross",
    "net_cash_received",
)


@register_type("rental_statement")
class RentalStatementRow(Row):
    """Amounts are in `currency`.

    Attributes:
        property_ref: the agent's id of what is let; `unit` is how people call it.
        fees_charged: to the tenant, for paying late or not at all: due with the rent.
        arrears_30d: what this month left unpaid. What earlier months left is aged in the journals, where they are known.
        arrears_60d, arrears_90d_plus, deductions_total, management_fee_gross, repairs_gross, net_cash_received: zero; the exports
            that are read do not state them by unit.
    """

    status: ReviewedStatus = ReviewedStatus.PENDING
    required: ClassVar[tuple[str, ...]] = ("property_ref", "unit", "monthly_rent", "currency")
    amount_at: ClassVar[str] = "rent_received"

    property_ref: str | None = None
    unit: str | None = None
    tenant_name: str | None = None
    currency: CurrencyCode | None = None
    monthly_rent: Money | None = None
    fees_charged: Money = Decimal(0)
    rent_received: Money = Decimal(0)
    arrears_30d: Money = Decimal(0)
    arrears_60d: Money = Decimal(0)
    arrears_90d_plus: Money = Decimal(0)
    deductions_total: Money = Decimal(0)
    management_fee_gross: Money = Decimal(0)
    repairs_gross: Money = Decimal(0)
    net_cash_received: Money = Decimal(0)
    lease_start: date | None = None
    lease_end: date | None = None
    vacant: bool = False
    confidence: Decimal | None = Field(default=None, ge=0, le=1, max_digits=5, decimal_places=4)

    @model_validator(mode="after")
    def _amounts_make_sense(self) -> Self:
        if self.loose:
            return self
        if not self.vacant and not self.tenant_name:
            raise PydanticCustomError("required_missing", "missing: tenant_name")
        if self.monthly_rent is not None and self.monthly_rent <= 0:
            raise PydanticCustomError("rent_not_positive", "monthly_rent is not above zero")
        negative = [name for name in _NOT_NEGATIVE if getattr(self, name) < 0]
        if negative:
            raise PydanticCustomError("negative", "negative: {fields}", {"fields": ", ".join(negative)})
        return self
