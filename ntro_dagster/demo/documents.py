"""The demo's documents: small, made here, the same for the same month. With the flaws that real returns have."""

from __future__ import annotations

import calendar
import csv
import io
import random
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

SUPPLIERS = (
    ("Lanthorn Legal LLP", "Legal fees"),
    ("Birchwater Audit", "Audit fees"),
    ("Kestrel Property Services", "Repairs and maintenance"),
    ("Northlight Energy", "Electricity"),
    ("Tidemark Fund Administration", "Administration fees"),
    ("Copperfield Insurance Brokers", "Insurance"),
    ("Osier & Vale Consulting", "Consultancy"),
    ("Greenfinch Couriers", "Postage"),
    ("Halyard Telecom", "Telecoms"),
    ("Marram Landscaping", "Grounds upkeep"),
)
"""Invented names and what they are paid for. The last has no category: it goes to suspense, where it shows."""


@dataclass(frozen=True, slots=True)
class DemoEntity:
    slug: str
    name: str
    currency: str
    rows: int


@dataclass(frozen=True, slots=True)
class DemoTenant:
    slug: str
    name: str
    entities: tuple[DemoEntity, ...]
    one_file: bool
    """Whether one document names both entities in a column, or each entity has a document of its own."""


TENANTS = (
    DemoTenant(
        "harbour",
        "Harbour Real Estate Fund",
        (DemoEntity("quay-spv", "Quay SPV Limited", "GBP", 34), DemoEntity("pier-spv", "Pier SPV Limited", "GBP", 27)),
        one_file=True,
    ),
    DemoTenant(
        "meadow",
        "Meadow Infrastructure Fund",
        (DemoEntity("solar-one", "Solar One S.à r.l.", "EUR", 22), DemoEntity("wind-two", "Wind Two S.à r.l.", "EUR", 25)),
        one_file=False,
    ),
)


def write_documents(folder: Path, tenant: DemoTenant, period: str) -> list[tuple[Path, DemoEntity | None]]:
    """The tenant's documents for the month, and the entity each one is filed for (None: its rows say)."""
    folder.mkdir(parents=True, exist_ok=True)
    random_of = random.Random(f"{tenant.slug}/{period}")  # noqa: S311 - made-up data, the same every time
    if tenant.one_file:
        rows = [[entity.name, *row] for entity in tenant.entities for row in _rows(random_of, entity, period)]
        path = folder / f"{tenant.slug}-payments-{period}.csv"
        path.write_bytes(_csv(_GBP_HEADER, rows).encode("cp1252"))
        return [(path, None)]
    written: list[tuple[Path, DemoEntity | None]] = []
    for entity in tenant.entities:
        path = folder / f"{entity.slug}-{period}.csv"
        path.write_text(_csv(_EUR_HEADER, _rows(random_of, entity, period), delimiter=";"), encoding="utf-8")
        written.append((path, entity))
    return written


_GBP_HEADER = ["Entity", "Date of Payment", "Expense Type", "Supplier", "Transaction Number", "Amount (£)", "VAT"]
_EUR_HEADER = ["Date", "Expense Type", "Supplier Name", "Transaction No", "Amount", "VAT Amount"]


def _rows(random_of: random.Random, entity: DemoEntity, period: str) -> list[list[str]]:
    year, month = int(period[:4]), int(period[5:])
    last = calendar.monthrange(year, month)[1]
    rows = []
    for number in range(entity.rows):
        supplier, kind = random_of.choice(SUPPLIERS)
        net = Decimal(random_of.randint(4_000, 900_000)) / 100
        vat = (net / 5).quantize(Decimal("0.01")) if random_of.random() < 0.6 else Decimal(0)  # noqa: PLR2004
        day = date(year, month, random_of.randint(1, last))
        rows.append(
            [
                f"{day:%d/%m/%Y}",
                kind,
                supplier,
                f"{entity.slug[:2].upper()}{1000 + number}",
                f"{net + vat:,.2f}",
                f"{vat:.2f}" if vat else "",
            ]
        )
    _spoil(rows, entity)
    return rows


def _spoil(rows: list[list[str]], entity: DemoEntity) -> None:
    """One flaw of each kind: a month without a day, a credit, a missing supplier, an amount that cannot be read."""
    day, amount, supplier = 0, 4, 2
    rows[3][day] = rows[3][day][3:]
    rows[7][amount] = f"-{rows[7][amount]}"
    rows[11][supplier] = ""
    rows[15][amount] = rows[15][amount].replace(",", ",,") if "," in rows[15][amount] else f"{rows[15][amount]}?"
    rows[5][amount] = f"£{rows[5][amount]}" if entity.currency == "GBP" else rows[5][amount]


def _csv(header: list[str], rows: list[list[str]], delimiter: str = ",") -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
