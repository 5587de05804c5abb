"""Journal proposals: one journal a row, reviewed before it is posted (spec 8.7)."""

from __future__ import annotations

from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar, Self
from uuid import UUID

from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from ntro_dagster.boundary.periods import last_day
from ntro_dagster.subledger.proposals import JournalEntryLineItem, JournalKind, JournalProposal
from ntro_dagster.subledger.registry import register_type
from ntro_dagster.subledger.row import CurrencyCode, Row


def _side(line: dict[str, Any], name: str) -> Decimal:
    try:
        amount = Decimal(str(line.get(name) or 0))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite():
        raise PydanticCustomError("line_amount_unreadable", "a line's {side} is not a number", {"side": name})
    return amount


@register_type("journal_proposals")
class JournalProposalRow(Row):
    """Lines are kept loose here, as `{account_code, description, debit, credit, party?, tax_code?, dimensions?}`; strict at the
    hand-off.
    """

    required: ClassVar[tuple[str, ...]] = ("lines",)
    editable: ClassVar[tuple[str, ...]] = ("description", "posting_date", "currency", "lines")
    accounts: ClassVar[tuple[str, ...]] = ("lines[].account_code",)
    amount_at: ClassVar[str] = "lines[].debit"

    description: str | None = None
    posting_date: date | None = None
    currency: CurrencyCode | None = None
    lines: list[dict[str, Any]] = Field(default_factory=list)
    kind: JournalKind = JournalKind.ENTRY
    reverses: UUID | None = None

    @model_validator(mode="after")
    def _lines_make_a_journal(self) -> Self:
        if self.loose:
            return self
        for line in self.lines:
            debit, credit = _side(line, "debit"), _side(line, "credit")
            if not line.get("account_code"):
                raise PydanticCustomError("line_without_account", "every line needs an account_code")
            if debit < 0 or credit < 0 or (debit > 0) == (credit > 0):
                raise PydanticCustomError("line_sides", "every line has exactly one of debit and credit above zero")
        if self.posting_date is not None and f"{self.posting_date:%Y-%m}" != self.period:
            raise PydanticCustomError("posting_date_outside_period", "posting_date lies outside the row's period")
        try:  # what could not be posted must not be approved: it would hold up every other row of its batch
            self.propose_for_gl(self, currency=self.currency or "XXX")
        except ValidationError as error:
            reason = error.errors()[0]
            raise PydanticCustomError(
                "unbalanced" if reason["type"] == "unbalanced" else "lines_not_postable",
                "the lines do not make a journal: {reason}",
                {"reason": reason["msg"]},
            ) from None
        return self

    @classmethod
    def propose_for_gl(cls, row: JournalProposalRow, *, currency: str) -> JournalProposal:
        """The journal for an approved row; `currency` is the entity's, used where the row names none."""
        return JournalProposal(
            external_id=f"journal_proposals:{row.id}",
            row_id=row.id,
            posting_date=row.posting_date or last_day(row.period),
            description=row.description or "Journal",
            currency=row.currency or currency,
            lines=tuple(
                JournalEntryLineItem(
                    account_code=line["account_code"],
                    description=line.get("description"),
                    debit=_side(line, "debit"),
                    credit=_side(line, "credit"),
                    party=line.get("party"),
                    tax_code=line.get("tax_code"),
                    dimensions=line.get("dimensions") or {},
                )
                for line in row.lines
            ),
            kind=row.kind,
            reverses=row.reverses,
        )
