"""Step two: a record becomes the payload of an expense row, with everything that is not certain about it.

What is not certain is never guessed: a value is filled in only when the text has one meaning, and a row with any finding
goes to a person. The payload's keys are those of `ExpenseRow` (spec 8.6) and what its reviewers want to see beside them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ntro_dagster.ingest.finding import Finding, FindingCode
from ntro_dagster.ingest.returns.amounts import AmountReading, looks_like_money, read_amount
from ntro_dagster.ingest.returns.dates import DateReading, is_written_date, plausible, read_date
from ntro_dagster.ingest.returns.layout import DECISIVE, DateOrder, Layout
from ntro_dagster.ingest.returns.vocabulary import folded, vocabulary

_CONTROL = re.compile("[\x00-\x1f\x7f]")
_MARKS_IN_NAMES = frozenset("‘’“”–—®™")
"""Marks outside ASCII that do occur in names; any other one stands for a letter that was lost."""
_CURRENCY = re.compile(r"[A-Za-z]{3}")
_MAY_HOLD_SWAPPED_DATE = ("expense_type", "expense_area", "entity", "vendor")
_NO_DATE = frozenset({FindingCode.DATE_MISSING, FindingCode.DATE_UNREADABLE})


@dataclass(frozen=True)
class Reading:
    """A record, read.

    Attributes:
        payload: `vendor` str|None, `amount_gross` Decimal|None (in `currency`), `currency` ISO 4217|None, `expense_date`
            date|None, `vat_amount` Decimal|None, and as text or None: `notes`, `category_hint` (the expense type),
            `expense_area`, `transaction_number`.
        findings: what a person must look at; empty when the payload is certain.
    """

    payload: dict[str, object]
    findings: list[Finding]


def read_expense(raw: Mapping[str, str], layout: Layout, *, currency: str, period: str | None = None) -> Reading:
    """The expense a record states. Depends on its arguments only.

    Args:
        raw: `ReturnRecord.raw`.
        layout: layout of the document the record is from.
        currency: ISO 4217 code the return is kept in, taken where the row states none.
        period: `YYYY-MM` the return was filed for; when given, dates far from it are found (see `plausible`).

    Whose expense it is was settled when the document was filed; a row that names no body is no doubt here.
    """
    row = _Row(raw, layout)
    amount = read_amount(row.text(layout.amount or "amount_gross"))
    day = read_date(row.text("expense_date"), doubtful=layout.date_order is DateOrder.DOUBTFUL)
    vendor = row.phrase("vendor")
    vat = read_amount(row.text("vat_amount"))
    code = _currency(row.text("currency").strip(), amount.sign, layout, currency)
    payload: dict[str, object] = {
        "vendor": vendor,
        "amount_gross": amount.value,
        "currency": code,
        "expense_date": day.value,
        "notes": row.phrase("notes"),
        "category_hint": row.phrase("expense_type"),
        "expense_area": row.phrase("expense_area"),
        "transaction_number": row.phrase("transaction_number"),
        "vat_amount": vat.value,
    }
    if _is_no_payment(row, vendor, amount, day):
        return Reading(payload, [Finding.of(FindingCode.NOT_A_PAYMENT), *_about_text(row)])
    findings = _about_row(row, amount)
    findings += _about_amount(amount, "amount_gross")
    if layout.amount == "amount_net" and amount.value is not None:
        findings.append(Finding.of(FindingCode.AMOUNT_NET, "amount_gross"))
    if vat.code is not FindingCode.AMOUNT_MISSING:
        findings += (each for each in _about_amount(vat, "vat_amount") if each.code is not FindingCode.AMOUNT_ZERO)
    if code is None:
        findings.append(Finding.of(FindingCode.CURRENCY_UNKNOWN, "currency"))
    findings += _about_date(row, day, period)
    findings += _about_vendor(vendor)
    findings += _about_text(row)
    return Reading(payload, findings)


class _Row:
    """The cells of one record by canonical column."""

    __slots__ = ("contested", "layout", "raw")

    def __init__(self, raw: Mapping[str, str], layout: Layout) -> None:
        self.raw = raw
        self.layout = layout
        self.contested: list[str] = []

    def text(self, canonical: str) -> str:
        """The cell verbatim; empty when there is none, or when columns of the same name disagree."""
        column = self.layout.mapping.get(canonical)
        if column is None:
            return ""
        text = self.raw.get(column, "")
        if canonical in self.layout.rivals:
            others = (self.raw.get(rival, "") for rival in self.layout.rivals[canonical])
            stated = {each.strip() for each in (text, *others)} - {""}
            if len(stated) > 1:
                self.contested.append(canonical)
            return stated.pop() if len(stated) == 1 else ""
        return text

    def phrase(self, canonical: str) -> str | None:
        """The cell with its spaces evened out; None when it says nothing."""
        text = " ".join(self.text(canonical).split())
        return None if not text or text.casefold() in vocabulary().blank else text


def _currency(stated: str, sign: str, layout: Layout, expected: str) -> str | None:
    """The expected currency, or None when column, heading or sign beside the amount speak of another."""
    if stated and not (_CURRENCY.fullmatch(stated) and stated.upper() == expected):
        return None
    if sign and expected not in vocabulary().currencies[sign]:
        return None
    if layout.currencies and expected not in layout.currencies:
        return None
    return expected


def _is_no_payment(row: _Row, vendor: str | None, amount: AmountReading, day: DateReading) -> bool:
    """Is the row a note, a total, or the header over again? An amount with nothing beside it is a total unlabelled."""
    if vendor is not None and folded(vendor) in vocabulary().totals:
        return True
    if vendor is None and day.code in _NO_DATE:
        said = [folded(cell) for cell in row.raw.values() if cell and not cell.isspace()]
        alone = len(said) == 1
        return amount.value is None or alone or any(text.startswith(tuple(vocabulary().totals)) for text in said)
    if amount.code is FindingCode.AMOUNT_UNREADABLE and day.code is FindingCode.DATE_UNREADABLE:
        headings = (row.layout.mapping.get(canonical) for canonical in ("vendor", "expense_date"))
        return all(folded(row.raw.get(heading, "")) == folded(heading) for heading in headings if heading)
    return False


def _about_row(row: _Row, amount: AmountReading) -> list[Finding]:
    findings = [Finding.of(FindingCode.COLUMN_AMBIGUOUS, canonical) for canonical in row.contested if canonical in DECISIVE]
    if _is_ragged(row) or _is_shifted(row, amount):
        findings.append(Finding.of(FindingCode.ROW_RAGGED))
    return findings


def _is_ragged(row: _Row) -> bool:
    """Does text stand beyond the header, or does the row end before a column it needs?"""
    beyond = row.raw.keys() - row.layout.within
    if any(row.raw[column].strip() for column in beyond):
        return True
    mapping = row.layout.mapping
    return any(mapping[canonical] not in row.raw for canonical in DECISIVE if canonical in mapping)


def _is_shifted(row: _Row, amount: AmountReading) -> bool:
    """Did an unquoted delimiter push the cells right, so that a reference number stands where the amount belongs?"""
    following = row.layout.after_amount
    if amount.value is None or following is None or looks_like_money(row.text(row.layout.amount or "")):
        return False
    return looks_like_money(row.raw.get(following, ""))


def _about_amount(amount: AmountReading, field: str) -> list[Finding]:
    findings = [Finding.of(amount.code, field)] if amount.code else []
    if amount.value is not None and amount.value <= 0:
        code = FindingCode.AMOUNT_NEGATIVE if amount.value < 0 else FindingCode.AMOUNT_ZERO
        findings.append(Finding.of(code, field))
    return findings


def _about_date(row: _Row, day: DateReading, period: str | None) -> list[Finding]:
    if day.code in _NO_DATE and any(is_written_date(row.text(each)) for each in _MAY_HOLD_SWAPPED_DATE):
        return [Finding.of(FindingCode.COLUMNS_SWAPPED, "expense_date")]
    if day.code:
        return [Finding.of(day.code, "expense_date")]
    if day.value and period and not plausible(day.value, period):
        return [Finding.of(FindingCode.DATE_OUT_OF_RANGE, "expense_date")]
    return []


def _about_text(row: _Row) -> list[Finding]:
    """Letters of an unknown encoding anywhere put the whole row in doubt: nobody can say what was written."""
    if row.layout.letters_doubtful and not all(map(str.isascii, row.raw.values())):
        return [Finding.of(FindingCode.TEXT_DOUBTFUL)]
    return []


def _about_vendor(vendor: str | None) -> list[Finding]:
    if vendor is None:
        return [Finding.of(FindingCode.VENDOR_MISSING, "vendor")]
    if not any(map(str.isalpha, vendor)) or _is_damaged(vendor):
        return [Finding.of(FindingCode.VENDOR_UNREADABLE, "vendor")]
    if folded(vendor) in vocabulary().withheld:
        return [Finding.of(FindingCode.VENDOR_WITHHELD, "vendor")]
    return []


def _is_damaged(vendor: str) -> bool:
    """Did letters of the name get lost on the way, by reading it in another encoding than it was written in?"""
    if vendor.isascii():
        return _CONTROL.search(vendor) is not None
    return any(not mark.isascii() and not mark.isalpha() and mark not in _MARKS_IN_NAMES for mark in vendor)
