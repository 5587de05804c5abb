"""What a reader noticed about a row or a document, in words that carry no value.

A finding never stops a batch: the row it belongs to is kept, whole, and goes to a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class FindingCode(StrEnum):
    """Closed vocabulary of what can be found. Stable: it is stored with the row."""

    AMOUNT_MISSING = "AMOUNT_MISSING"
    AMOUNT_UNREADABLE = "AMOUNT_UNREADABLE"
    AMOUNT_NEGATIVE = "AMOUNT_NEGATIVE"
    AMOUNT_ZERO = "AMOUNT_ZERO"
    AMOUNT_PRECISION = "AMOUNT_PRECISION"
    AMOUNT_NET = "AMOUNT_NET"
    CURRENCY_UNKNOWN = "CURRENCY_UNKNOWN"
    DATE_MISSING = "DATE_MISSING"
    DATE_UNREADABLE = "DATE_UNREADABLE"
    DATE_MALFORMED = "DATE_MALFORMED"
    DATE_AMBIGUOUS = "DATE_AMBIGUOUS"
    DATE_WITHOUT_DAY = "DATE_WITHOUT_DAY"
    DATE_OUT_OF_RANGE = "DATE_OUT_OF_RANGE"
    VENDOR_MISSING = "VENDOR_MISSING"
    VENDOR_UNREADABLE = "VENDOR_UNREADABLE"
    VENDOR_WITHHELD = "VENDOR_WITHHELD"
    ENTITY_MISSING = "ENTITY_MISSING"
    PERIOD_MISSING = "PERIOD_MISSING"
    PERIOD_OUT_OF_RANGE = "PERIOD_OUT_OF_RANGE"
    COLUMN_AMBIGUOUS = "COLUMN_AMBIGUOUS"
    COLUMNS_SWAPPED = "COLUMNS_SWAPPED"
    TEXT_DOUBTFUL = "TEXT_DOUBTFUL"
    ROW_RAGGED = "ROW_RAGGED"
    NOT_A_PAYMENT = "NOT_A_PAYMENT"
    CONTROL_COUNT_DIFFERS = "CONTROL_COUNT_DIFFERS"
    CONTROL_TOTAL_DIFFERS = "CONTROL_TOTAL_DIFFERS"


MESSAGES: Mapping[FindingCode, str] = MappingProxyType(
    {
        FindingCode.AMOUNT_MISSING: "no amount is given",
        FindingCode.AMOUNT_UNREADABLE: "the amount cannot be read with certainty",
        FindingCode.AMOUNT_NEGATIVE: "the amount is negative: a credit, not an expense",
        FindingCode.AMOUNT_ZERO: "the amount is zero",
        FindingCode.AMOUNT_PRECISION: "the amount has more than two decimals",
        FindingCode.AMOUNT_NET: "the column states amounts without VAT; the gross amount is not given",
        FindingCode.CURRENCY_UNKNOWN: "the row or its column names another currency than the one expected",
        FindingCode.DATE_MISSING: "no date is given",
        FindingCode.DATE_UNREADABLE: "the date cannot be read with certainty",
        FindingCode.DATE_MALFORMED: "the date is misspelt; the only day it can mean is filled in",
        FindingCode.DATE_AMBIGUOUS: "day and month cannot be told apart: other dates of this document are month-first",
        FindingCode.DATE_WITHOUT_DAY: "the date names a month but no day",
        FindingCode.DATE_OUT_OF_RANGE: "the date is far from the period it was filed for",
        FindingCode.VENDOR_MISSING: "no supplier is named",
        FindingCode.VENDOR_UNREADABLE: "the supplier is not a name: no letters, or damaged ones",
        FindingCode.VENDOR_WITHHELD: "the publisher withheld the supplier's name",
        FindingCode.ENTITY_MISSING: "no spending body is named",
        FindingCode.PERIOD_MISSING: "no month is named where the row's month stands",
        FindingCode.PERIOD_OUT_OF_RANGE: "the row's month is not open for work",
        FindingCode.COLUMN_AMBIGUOUS: "two columns of the same name disagree",
        FindingCode.COLUMNS_SWAPPED: "the date stands in another column: values were swapped",
        FindingCode.TEXT_DOUBTFUL: "the letters of this document are of unknown encoding, and the row holds some outside ASCII",
        FindingCode.ROW_RAGGED: "the cells do not line up with the header",
        FindingCode.NOT_A_PAYMENT: "not a payment: a total, a note, a repeated header",
        FindingCode.CONTROL_COUNT_DIFFERS: "the document states another number of rows than it holds",
        FindingCode.CONTROL_TOTAL_DIFFERS: "the document states another total than its rows add up to",
    }
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing noticed.

    Attributes:
        code: what was noticed.
        field: payload key it concerns; None when it is the row or the document as a whole.
        message: fixed sentence, free of values.
    """

    code: FindingCode
    field: str | None
    message: str

    @classmethod
    def of(cls, code: FindingCode, field: str | None = None) -> Finding:
        """The finding with its fixed sentence."""
        return cls(code, field, MESSAGES[code])

    def as_dict(self) -> dict[str, str | None]:
        """JSON form, as kept in `validation_errors` of a subledger row (spec 8.3)."""
        return {"code": self.code.value, "field": self.field, "message": self.message}
