"""What a subledger hands to the general ledger: plain proposals, without anything of the platform's own (spec 12)."""

from __future__ import annotations

from datetime import date
from decimal import Decimal, localcontext
from typing import Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from ntro_dagster.subledger.row import EXACT, CurrencyCode, Money


class JournalEntryLineItem(BaseModel):
    """One side of an entry. Exactly one of `debit` and `credit` is above zero."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    account_code: str = Field(min_length=1)
    description: str | None = None
    debit: Money = Field(default=Decimal(0), ge=0)
    credit: Money = Field(default=Decimal(0), ge=0)
    party: str | None = None
    tax_code: str | None = None

    @model_validator(mode="after")
    def _one_side(self) -> Self:
        if (self.debit > 0) == (self.credit > 0):
            raise PydanticCustomError("one_side", "exactly one of debit and credit must be above zero")
        return self


class JournalProposal(BaseModel):
    """A journal that balances exactly: there is no tolerance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    external_id: str
    row_id: UUID
    posting_date: date
    description: str
    currency: CurrencyCode
    lines: tuple[JournalEntryLineItem, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _balances(self) -> Self:
        with localcontext(EXACT):
            difference = sum(line.debit - line.credit for line in self.lines)
        if difference != 0:
            raise PydanticCustomError("unbalanced", "debits and credits differ")
        return self


class BillProposal(BaseModel):
    """A supplier's bill: gross, of which VAT, by category, owed to a vendor.

    Attributes:
        category: account code of the expense, or None: it then goes to the suspense account, where it shows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    external_id: str
    row_id: UUID
    posting_date: date
    vendor: str
    description: str
    currency: CurrencyCode
    gross: Money = Field(gt=0)
    vat: Money = Field(default=Decimal(0), ge=0)
    category: str | None = None
