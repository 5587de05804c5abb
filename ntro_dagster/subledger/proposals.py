"""What a subledger hands to the general ledger: plain proposals, without anything of the platform's own (spec 12)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal, localcontext
from enum import StrEnum
from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from ntro_dagster.subledger.row import EXACT, CurrencyCode, Money

Dimensions = Mapping[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")], str]
"""By name; the tenant's ledger knows which names there are."""

ROUNDING_PER_LINE = Decimal("0.01")
"""How far a bill's lines may miss its total, each: net and VAT are both rounded to half a hundredth."""


class JournalKind(StrEnum):
    """An entry of the period; balances brought from another ledger; the reversal of a journal."""

    ENTRY = "ENTRY"
    OPENING = "OPENING"
    REVERSAL = "REVERSAL"


class JournalEntryLineItem(BaseModel):
    """One side of an entry. Exactly one of `debit` and `credit` is above zero.

    Attributes:
        functional_debit, functional_credit: the same in the entity's currency, once it is translated. A line of them alone is
            what rounding left.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    account_code: str = Field(min_length=1)
    description: str | None = None
    debit: Money = Field(default=Decimal(0), ge=0)
    credit: Money = Field(default=Decimal(0), ge=0)
    party: str | None = None
    tax_code: str | None = None
    dimensions: Dimensions = Field(default_factory=dict)
    functional_debit: Money | None = Field(default=None, ge=0)
    functional_credit: Money | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _one_side(self) -> Self:
        rounding = self.debit == self.credit == 0 and bool(self.functional_debit) != bool(self.functional_credit)
        if not rounding and (self.debit > 0) == (self.credit > 0):
            raise PydanticCustomError("one_side", "exactly one of debit and credit must be above zero")
        return self


class Translation(BaseModel):
    """How the lines came to their amounts in the entity's currency.

    Attributes:
        rate: units of `currency` for one unit of the journal's.
        source: who says so.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    currency: CurrencyCode
    rate: Decimal = Field(gt=0, allow_inf_nan=False)
    source: str = Field(min_length=1)


class JournalProposal(BaseModel):
    """A journal that balances exactly: there is no tolerance.

    Attributes:
        row_id: the row that it is made of; for a journal of many, None and `row_ids`.
        reverses: id of the journal that it is the mirror of.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    external_id: str
    row_id: UUID | None = None
    row_ids: tuple[UUID, ...] = ()
    posting_date: date
    description: str
    currency: CurrencyCode
    lines: tuple[JournalEntryLineItem, ...] = Field(min_length=2)
    kind: JournalKind = JournalKind.ENTRY
    reverses: UUID | None = None
    translation: Translation | None = None

    @property
    def rows(self) -> tuple[UUID, ...]:
        return self.row_ids if self.row_id is None else (self.row_id,)

    @model_validator(mode="after")
    def _balances(self) -> Self:
        with localcontext(EXACT):
            difference = sum(line.debit - line.credit for line in self.lines)
            translated = [(line.functional_debit or 0) - (line.functional_credit or 0) for line in self.lines]
        if difference != 0 or sum(translated) != 0:
            raise PydanticCustomError("unbalanced", "debits and credits differ")
        if (self.row_id is None) == (not self.row_ids) or len(set(self.row_ids)) != len(self.row_ids):
            raise PydanticCustomError("rows", "a journal is made of one row, or of several, each once")
        if (self.kind is JournalKind.REVERSAL) != (self.reverses is not None):
            raise PydanticCustomError("reversal", "a reversal, and nothing else, names the journal it reverses")
        return self


class BillLineItem(BaseModel):
    """One line of a bill.

    Attributes:
        account_code: of the expense, or None: it then goes to the suspense account, where it shows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    net: Money = Field(ge=0)
    vat: Money = Field(default=Decimal(0), ge=0)
    account_code: str | None = None
    description: str | None = None
    tax_code: str | None = None
    dimensions: Dimensions = Field(default_factory=dict)


class BillProposal(BaseModel):
    """A supplier's bill: gross, of which VAT, by category, owed to a vendor.

    Attributes:
        category: account code of the expense, or None: it then goes to the suspense account, where it shows.
        lines: where it is split; `vat` and `category` are then theirs. They may miss the gross amount by `ROUNDING_PER_LINE`
            each, which is posted to the account for rounding differences.
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
    lines: tuple[BillLineItem, ...] = ()

    @property
    def rounding(self) -> Decimal:
        """What the lines miss of the gross amount."""
        with localcontext(EXACT):
            return self.gross - sum((line.net + line.vat for line in self.lines), Decimal(0)) if self.lines else Decimal(0)

    @model_validator(mode="after")
    def _lines_add_up(self) -> Self:
        if self.lines and (self.vat or self.category):
            raise PydanticCustomError("said_twice", "VAT and category are the bill's or its lines', not both")
        if abs(self.rounding) > ROUNDING_PER_LINE * len(self.lines):
            raise PydanticCustomError("lines_miss_total", "the lines do not add up to the gross amount")
        return self


def external_id_of(table: str, rows: Iterable[UUID]) -> str:
    """The external id of a journal made of many rows: the same rows always make the same."""
    return f"{table}:{uuid.uuid5(uuid.NAMESPACE_OID, ','.join(sorted(map(str, rows))))}"
