"""From records to expenses."""

from __future__ import annotations

import csv
import re
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path

from ntro_dagster.ingest.returns import read_expense
from ntro_dagster.orchestration.context import RunbookContext
from ntro_dagster.orchestration.subledger_asset import subledger_asset
from ntro_dagster.subledger.staging import Payload


@cache
def category_words() -> list[tuple[re.Pattern[str], str]]:
    """Words that name an account when they stand in an expense type, and the account. A word may begin a longer one
    (`consultan`: consultant, consultancy) only where the table says so with a `*`.
    """
    with Path(__file__).with_name("categories.csv").open(newline="") as table:
        return [(_word(row["word"]), row["account"]) for row in csv.DictReader(table)]


def _word(word: str) -> re.Pattern[str]:
    stem = word.removesuffix("*")
    return re.compile(rf"\b{re.escape(stem)}" + ("" if stem != word else r"\b"))


@cache
def category_of(expense_type: str | None) -> str | None:
    """Account code, or None where no word or words of several accounts match: it is then booked to suspense, where it
    shows, rather than guessed.
    """
    text = (expense_type or "").casefold()
    accounts = {account for word, account in category_words() if word.search(text)}
    return accounts.pop() if len(accounts) == 1 else None


@subledger_asset("expenses")
async def expenses(run: RunbookContext) -> AsyncIterator[Payload]:
    async for record in run.records():
        reading = read_expense(record.raw, record.layout, currency=run.entity.currency, period=run.period)
        read = reading.payload
        category = category_of(read.get("category_hint"))  # type: ignore[arg-type]
        yield Payload(
            values={
                "event_id": record.id,
                "vendor": read.get("vendor"),
                "amount_gross": read.get("amount_gross"),
                "currency": read.get("currency"),
                "expense_date": read.get("expense_date"),
                "vat_amount": read.get("vat_amount"),
                "notes": read.get("notes"),
                "category": category,
                "category_source": "expense_type" if category else None,
            },
            source_ref=record.ref,
            findings=[finding.as_dict() for finding in reading.findings],
            raw=record.raw,
        )
