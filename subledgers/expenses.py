"""Expenses: one supplier payment a row (spec 8.6)."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Self
from uuid import UUID

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ntro_dagster.boundary.periods import last_day
from ntro_dagster.subledger.proposals import BillProposal
from ntro_dagster.subledger.registry import register_type
from ntro_dagster.subledger.row import CurrencyCode, Money, Row


@register_type("expenses")
class ExpenseRow(Row):
    """A negative amount is a credit note or a mistake: it waits in NEEDS_ATTENTION, and is never posted as an expense."""

    required: ClassVar[tuple[str, ...]] = ("vendor", "amount_gross", "currency")
    editable: ClassVar[tuple[str, ...]] = (
        "vendor",
        "amount_gross",
        "currency",
        "expense_date",
        "payment_method",
        "vat_amount",
        "notes",
        "category",
    )
    accounts: ClassVar[tuple[str, ...]] = ("category",)
    amount_at: ClassVar[str] = "amount_gross"
    control: ClassVar[str] = "CREDITORS"

    event_id: UUID | None = None
    vendor: str | None = None
    amount_gross: Money | None = None
    currency: CurrencyCode | None = None
    expense_date: date | None = None
    payment_method: str | None = None
    line_items: list[dict[str, Any]] | None = None
    vat_amount: Money | None = None
    notes: str | None = None
    category: str | None = None
    category_source: str | None = None
    confidence: Annotated[Decimal, Field(ge=0, le=1, max_digits=5, decimal_places=4)] | None = None

    @model_validator(mode="after")
    def _amounts_make_sense(self) -> Self:
        if self.loose or self.amount_gross is None:
            return self
        if self.amount_gross <= 0:
            raise PydanticCustomError("amount_not_positive", "amount_gross must be above zero")
        if self.vat_amount is not None and not 0 <= self.vat_amount <= self.amount_gross:
            raise PydanticCustomError("vat_out_of_range", "vat_amount must lie between zero and amount_gross")
        return self

    @classmethod
    def propose_for_gl(cls, row: ExpenseRow) -> BillProposal:
        """The bill for an approved row. It is booked in the row's period: on the row's own date where that lies in the
        period, else on the period's last day.
        """
        assert row.vendor is not None and row.amount_gross is not None and row.currency is not None  # noqa: S101
        in_period = row.expense_date is not None and f"{row.expense_date:%Y-%m}" == row.period
        return BillProposal(
            external_id=f"expenses:{row.id}",
            row_id=row.id,
            posting_date=row.expense_date if row.expense_date and in_period else last_day(row.period),
            vendor=row.vendor,
            description=row.notes or row.vendor,
            currency=row.currency,
            gross=row.amount_gross,
            vat=row.vat_amount or Decimal(0),
            category=row.category,
        )
