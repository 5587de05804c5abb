"""Months of the same shape and different content.

The shape is what the workspace may know: how many documents and records, what is wrong with which record, who decides what in
which round. The content is everything else: amounts, names, dates, texts and their lengths, files, currency, people, reasons.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

UNITS = (("spv-1", "2026-10"), ("spv-1", "2026-09"), ("spv-2", "2026-10"))
"""Entity and month of a document, by number."""

REPAIRS = {
    "negative": ("amount_gross", "vat_amount"),
    "unreadable": ("amount_gross", "vat_amount"),
    "no_vendor": ("vendor",),
    "no_day": ("expense_date",),
}
"""What can be wrong with a record, and the fields that a person mends it in."""
FLAWS = tuple(REPAIRS)
PREPARERS, APPROVERS = (0, 1), (2, 3)
"""People, by number."""

Place = tuple[int, int]
"""Which record: number of the document, number of the row in it."""


@dataclass(frozen=True)
class Decision:
    """One signal. `fields`: what an edit or an acceptance changes."""

    kind: str
    person: int
    rows: tuple[Place, ...]
    fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shape:
    """Attributes:
    documents: for each, what is wrong with each of its rows ("" = nothing).
    units: for each, the number of its entity and month.
    late: whether the last document comes in after the first round of decisions.
    rounds: decisions that are filed together, then applied.
    """

    documents: tuple[tuple[str, ...], ...]
    units: tuple[int, ...]
    late: bool
    rounds: tuple[tuple[Decision, ...], ...]

    @classmethod
    def of(cls, seed: int) -> Shape:
        draw = random.Random(f"shape {seed}")  # noqa: S311 - made-up data
        documents = tuple(
            tuple(draw.choice(FLAWS) if draw.random() < 0.4 else "" for _ in range(draw.randint(1, 8)))
            for _ in range(draw.randint(1, 3))
        )
        units = tuple(draw.choice([0, 0, 1, 2]) for _ in documents)
        late = len(documents) > 1 and draw.random() < 0.5
        return cls(documents, units, late, _rounds(draw, documents, late))


def _rounds(draw: random.Random, documents: tuple[tuple[str, ...], ...], late: bool) -> tuple[tuple[Decision, ...], ...]:
    first: list[Decision] = []
    second: list[Decision] = []
    third: list[Decision] = []
    accepted: list[Place] = []
    for document, rows in enumerate(documents):
        decisions = second if late and document == len(documents) - 1 else first
        for row, flaw in enumerate(rows):
            place, who = (document, row), draw.choice(PREPARERS)
            if not flaw:
                what = draw.choice(["", "", "", "edit", "exclude", "reject"])
                if what:
                    decisions.append(
                        Decision(what, who, (place,), ("notes", "amount_gross", "vat_amount") if what == "edit" else ())
                    )
                continue
            what = draw.choice(["accept", "accept", "reject", "in vain"])
            if what == "in vain":
                decisions.append(Decision("accept", who, (place,), ("notes",)))
                second.append(Decision("reject", who, (place,)))  # refused where the acceptance stood
            elif what == "accept":
                decisions.append(Decision("accept", who, (place,), REPAIRS[flaw]))
                accepted.append(place)
            else:
                decisions.append(Decision("reject", who, (place,)))
    everything = tuple((document, row) for document, rows in enumerate(documents) for row in range(len(rows)))
    if accepted and draw.random() < 0.5:
        third.append(Decision("approve", draw.choice(PREPARERS), tuple(accepted)))  # a maker's own are refused
    third += [Decision("approve", person, everything) for person in APPROVERS]
    return tuple(tuple(each) for each in (first, second, third))


# -- content

_ALPHABETS = ("abcdefghijklmnopqrstuvwxyz", "aàâeéèêiîoôuùûçñ", "αβγδεζηθικλμνξοπρστυφχψω", "абвгдежзиклмнопрстуфхцчшщ")
_KINDS = (
    "Legal fees",
    "Audit fees",
    "Repairs and maintenance",
    "Electricity",
    "Consultancy",
    "Insurance",
    "Grounds",
    "Rates",
    "",
)
_HEADINGS = (
    ("Date", "Expense Type", "Supplier", "Transaction Number", "Amount", "VAT Amount", "Description"),
    ("Payment Date", "Expenses Type", "Vendor Name", "Invoice No", "Gross Amount", "VAT", "Narrative"),
)


class Content:
    """One of the many contents that a shape can have."""

    def __init__(self, seed: str) -> None:
        self._draw = random.Random(f"content {seed}")  # noqa: S311 - made-up data
        self._people = [f"user:{self._word(3, 30)}{number}" for number in range(4)]
        self.currency = self._draw.choice(["GBP", "EUR", "USD"])
        self.entity_names = {entity: f"{self.text(2, 12)} {number}" for number, entity in enumerate(dict(UNITS))}
        self.tenant_name = self.text(2, 12)

    def person(self, number: int) -> str:
        return self._people[number]

    def _word(self, shortest: int, longest: int, alphabet: str = _ALPHABETS[0]) -> str:
        return "".join(self._draw.choice(alphabet) for _ in range(self._draw.randint(shortest, longest)))

    def text(self, fewest: int = 1, most: int = 40) -> str:
        """Words of one of several alphabets."""
        alphabet = self._draw.choice(_ALPHABETS)
        return " ".join(self._word(5, 14, alphabet).capitalize() for _ in range(self._draw.randint(fewest, most)))

    def amount(self) -> Decimal:
        return Decimal(self._draw.randint(1, 10 ** self._draw.randint(1, 10))) / 100

    def booked(self) -> tuple[str, Decimal, Decimal]:
        """What a row makes of the books: kind of expense, gross amount, VAT in it."""
        gross = self.amount()
        vat = (gross / 6).quantize(Decimal("0.01")) if self._draw.random() < 0.5 else Decimal(0)
        return self._draw.choice(_KINDS), gross, vat

    def day(self) -> int:
        return self._draw.randint(1, 30)

    def values(self, fields: tuple[str, ...]) -> dict[str, str]:
        """For an edit or an acceptance."""
        made = {
            "amount_gross": str(self.amount()),
            "vat_amount": "0",
            "vendor": self.text(1, 5),
            "expense_date": f"2026-10-{self.day():02d}",
            "notes": self.text(),
        }
        return {name: made[name] for name in fields}

    def file(self, folder: Path, period: str, flaws: tuple[str, ...]) -> Path:
        """A document."""
        path = folder / f"{self._word(4, 60)}.csv"
        folder.mkdir(parents=True, exist_ok=True)
        iso, headings, grouped = self._draw.random() < 0.5, self._draw.choice(_HEADINGS), self._draw.random() < 0.5
        with path.open("w", newline="", encoding=self._draw.choice(["utf-8", "utf-8-sig"])) as file:
            writer = csv.writer(file, delimiter=self._draw.choice(",;\t"))
            writer.writerow(headings)
            for flaw in flaws:
                writer.writerow(self._row(flaw, period, iso, grouped))
        return path

    def _row(self, flaw: str, period: str, iso: bool, grouped: bool) -> list[str]:
        kind, gross, vat = self.booked()
        day = f"{period}-{self.day():02d}" if iso else f"{self.day():02d}/{period[5:]}/{period[:4]}"
        told: Mapping[str, str] = {"negative": f"-{gross}", "unreadable": f"{gross}?{self._word(1, 9)}"}
        return [
            f"{period[5:]}/{period[:4]}" if flaw == "no_day" else day,
            kind,
            "" if flaw == "no_vendor" else self.text(1, 5),
            f"{self._word(1, 8)}{self._draw.randint(1, 10**9)}",
            told.get(flaw, f"{gross:,.2f}" if grouped else f"{gross:.2f}"),
            f"{vat:.2f}" if vat and flaw not in {"negative", "unreadable"} else "",
            self.text() if self._draw.random() < 0.5 else "",
        ]


class SameBooks(Content):
    """Every row is booked alike, so that entities with as many rows have the same trial balance."""

    def booked(self) -> tuple[str, Decimal, Decimal]:
        return "Legal fees", Decimal("120.00"), Decimal(0)
