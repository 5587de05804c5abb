"""From a record of the agent's export to the values of a row, and every doubt about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from ntro_dagster.ingest.finding import MESSAGES, FindingCode
from ntro_dagster.ingest.returns.amounts import read_amount
from ntro_dagster.ingest.returns.dates import read_date

from .figures import Statement, written
from .reconciliation import own_differences

NOTHING = Decimal(0)
SUCCEEDED, FAILED = "succeeded", "failed"
TO_A_VENDOR = "vendor_payment"


@dataclass
class Cells:
    """The cells of one record. What cannot be read is a finding, and None."""

    raw: Mapping[str, str]
    currency: str
    findings: list[dict[str, Any]] = field(default_factory=list)

    def text(self, column: str) -> str | None:
        return self.raw.get(column, "").strip() or None

    def amount(self, column: str, into: str, *, blank: Decimal | None = None) -> Decimal | None:
        """Args: `blank`: what an empty cell means; None: that something is missing."""
        text = self.text(column)
        if text is None and blank is not None:
            return blank
        read = read_amount(text or "")
        if read.code or read.sign:
            self._note(read.code or FindingCode.AMOUNT_UNREADABLE, into)
        return read.value

    def share(self, column: str, into: str) -> Decimal | None:
        """A rate, as a share of one: the row type says how many decimals it may have."""
        read = read_amount(self.text(column) or "")
        if read.sign or read.code not in {None, FindingCode.AMOUNT_PRECISION}:
            self._note(read.code or FindingCode.AMOUNT_UNREADABLE, into)
        return read.value

    def day(self, column: str, into: str) -> date | None:
        read = read_date(self.text(column) or "", doubtful=False)
        if read.code:
            self._note(read.code, into)
        return read.value

    def in_currency(self) -> str | None:
        """The record's currency; the entity's books are kept in one, so another is for a person to look at."""
        named = self.text("currency") or self.currency
        if named != self.currency:
            self._note(FindingCode.CURRENCY_UNKNOWN, "currency")
        return named

    def doubt(self, code: str, into: str | None, message: str, **more: str) -> None:
        self.findings.append({"code": code, "field": into, "message": message, **more})

    def _note(self, code: FindingCode, into: str) -> None:
        self.doubt(code.value, into, MESSAGES[code])


def rent_of(cells: Cells) -> dict[str, Any]:
    """A payment that failed is rent that is owed: the month's arrears, not an income of zero."""
    rent = cells.amount("monthly_rent", "monthly_rent")
    late, bounced = (cells.amount(column, "fees_charged", blank=NOTHING) or NOTHING for column in ("late_fee", "nsf_fee"))
    received = cells.amount("amount_received", "rent_received", blank=NOTHING) or NOTHING
    requested = cells.amount("amount_requested", "monthly_rent", blank=(rent or NOTHING) + late)
    status = cells.text("status")
    if status not in {SUCCEEDED, FAILED, None}:
        cells.doubt("PAYMENT_STATUS_UNKNOWN", "rent_received", "the payment is neither made nor failed")
    if status == FAILED and received:
        cells.doubt("FAILED_BUT_RECEIVED", "rent_received", "the payment failed, and yet something was received")
    if rent is not None and requested is not None and requested != rent + late:
        sides = {"amount": written(requested - rent - late), "stated": written(requested), "ours": written(rent + late)}
        cells.doubt("REQUESTED_DIFFERS", "monthly_rent", "what was asked for is not the rent and the late fee", **sides)
    due = (rent or NOTHING) + late + bounced
    unit = cells.text("unit") or cells.text("property_id")
    return {
        "property_ref": cells.text("property_id"),
        "unit": unit,
        "tenant_name": cells.text("tenant"),
        "currency": cells.in_currency(),
        "monthly_rent": rent,
        "fees_charged": late + bounced,
        "rent_received": received,
        "arrears_30d": max(due - received, NOTHING),
        "vacant": cells.text("tenant") is None and cells.text("vacant") == "true",
    }


def repair_of(cells: Cells) -> dict[str, Any]:
    if cells.text("maintenance_type") != TO_A_VENDOR:
        cells.doubt("NOT_A_VENDOR_PAYMENT", "vendor", "not said to be a payment to a vendor: the agent's statement leaves it out")
    if cells.text("status") not in {SUCCEEDED, None}:
        cells.doubt("PAYMENT_NOT_MADE", "amount", "the payment was not made")
    return {
        "property_ref": cells.text("property_id"),
        "vendor": cells.text("vendor"),
        "issue": cells.text("issue_type"),
        "paid_on": cells.day("date", "paid_on"),
        "amount": cells.amount("amount", "amount"),
        "currency": cells.in_currency(),
    }


def statement_of(cells: Cells, period: str) -> dict[str, Any]:
    columns = {
        "gross": "gross_collected",
        "fee": "management_fee",
        "maintenance": "maintenance_expenses",
        "net": "net_payout",
    }
    amounts = {name: cells.amount(column, name) for name, column in columns.items()}
    gross, fee, maintenance, net = amounts.values()
    rate = cells.share("management_fee_rate", "fee_rate")
    paid_on = cells.day("date", "paid_on")
    if paid_on is not None and f"{paid_on:%Y-%m}" != period:
        cells.doubt("PAID_IN_ANOTHER_MONTH", "paid_on", "the payout's date lies outside the month it was filed for")
    read = [amount for amount in (gross, rate, fee, maintenance, net) if amount is not None]
    if len(read) == len(amounts) + 1:
        cells.findings.extend(own_differences(Statement(period, "", paid_on or date.min, *read)))
    return {
        "transfer_ref": cells.text("transfer_id"),
        "paid_on": paid_on,
        "currency": cells.in_currency(),
        "fee_rate": rate,
        **amounts,
    }
