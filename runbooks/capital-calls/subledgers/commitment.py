"""Commitments: what an investor has promised, and what late payment costs them. Nothing of it is posted."""

from __future__ import annotations

from decimal import Decimal
from enum import auto
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ntro_dagster.subledger import CurrencyCode, Edge, Money, Row, StatusEnum, lifecycle, register_type

Fraction = Annotated[Decimal, Field(ge=0, le=1, max_digits=38, decimal_places=9)]


@lifecycle(
    Edge("NEEDS_ATTENTION", "PENDING", "accept", by_machine=True),
    Edge("NEEDS_ATTENTION", "REJECTED", "reject"),
    Edge("PENDING", "IN_FORCE", "approve"),
    Edge("PENDING", "REJECTED", "reject"),
)
class CommitmentStatus(StatusEnum):
    NEEDS_ATTENTION = auto()
    PENDING = auto()
    IN_FORCE = auto()
    REJECTED = auto()


@register_type("commitment")
class CommitmentRow(Row):
    """`share` of all commitments, and `default_rate` a year, as fractions; `default_rate_source`: the clause that sets it."""

    required: ClassVar[tuple[str, ...]] = (
        "investor", "amount", "currency", "default_rate", "default_rate_source", "grace_days"
    )  # fmt: skip
    amount_at: ClassVar[str] = "amount"
    editable: ClassVar[tuple[str, ...]] = (*required, "share")

    status: CommitmentStatus = CommitmentStatus.PENDING
    investor: str | None = None
    amount: Money | None = None
    currency: CurrencyCode | None = None
    share: Fraction | None = None
    default_rate: Fraction | None = None
    default_rate_source: str | None = None
    grace_days: Annotated[int, Field(ge=0, le=366)] | None = None

    @model_validator(mode="after")
    def _promises_something(self) -> Self:
        if not self.loose and self.amount is not None and self.amount <= 0:
            raise PydanticCustomError("amount_not_positive", "a commitment is above zero")
        return self
