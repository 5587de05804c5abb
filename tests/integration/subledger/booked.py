"""Journals as the app's role writes them, for tests of what is read from the books."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
from ledger_tenant import Tenant

Line = tuple[Any, ...]
"""Account, debit less credit, then party and text where there are any."""


def book(
    tenant: Tenant, entity: UUID, day: str, *lines: Line, text: str = "Entry", reverses: UUID | None = None,
    currency: str = "GBP", rate: str | None = None,
) -> UUID:  # fmt: skip
    """A journal as the app's role writes it."""
    journal = uuid4()
    with psycopg.connect(tenant.credentials.app) as app:
        app.execute(
            "INSERT INTO ledgers.journals (id, entity_id, period, external_id, posting_date, description, currency, run_id, "
            "kind, reverses, functional_currency, rate, rate_source) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                journal, entity, day[:7], f"expenses:{journal}", day, text, currency, uuid4(),
                "REVERSAL" if reverses else "ENTRY", reverses, "GBP" if rate else None, rate, "test" if rate else None,
            ],
        )  # fmt: skip
        rows = []
        for number, (account, amount, *rest) in enumerate(lines, start=1):
            value = Decimal(str(amount))
            party, said = ([*rest, None, None])[:2]
            sides = [max(value, Decimal(0)), max(-value, Decimal(0))]
            own = [side * Decimal(rate) for side in sides] if rate else [None, None]
            rows.append([journal, number, account, *sides, party, said, *own])
        places = ", ".join(["(%s, %s, %s, %s, %s, %s, %s, %s::numeric, %s::numeric)"] * len(rows))
        app.execute(
            "INSERT INTO ledgers.journal_lines (journal_id, line_no, account_code, debit, credit, party, description, "
            f"functional_debit, functional_credit) VALUES {places}",
            [value for row in rows for value in row],
        )
    return journal
