"""Commitments -> calls -> receipts and default interest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from ntro_dagster.boundary.periods import last_day
from ntro_dagster.orchestration.context import RunbookContext
from ntro_dagster.orchestration.due import StatusRule
from ntro_dagster.orchestration.subledger_asset import subledger_asset
from ntro_dagster.subledger.row import EXACT
from ntro_dagster.subledger.staging import Payload

from .allocation import parts
from .interest import DAY_COUNTS, default_interest, runs_from
from .matching import Owed, match
from .reading import Cells

ISSUED = ("AWAITING_BANK", "PAID", "DEFAULTED")

_RECEIVED = "SELECT sum(r.to_call) FROM {call_receipt} r WHERE r.call_id = t.id AND r.status"

paid = StatusRule(
    "capital_call",
    "AWAITING_BANK",
    "PAID",
    when=f"t.called <= ({_RECEIVED} = 'POSTED')",
    reason="receipts that were posted make up what was called",
)

in_default = StatusRule(
    "capital_call",
    "AWAITING_BANK",
    "DEFAULTED",
    # Money that has come and waits for a person is not missing.
    when="t.due_date + t.grace_days::int < %(as_of)s AND NOT EXISTS ("
    "SELECT FROM {call_receipt} r WHERE r.call_id = t.id AND r.status IN ('NEEDS_ATTENTION', 'PENDING', 'APPROVED'))",
    reason="not paid when the days of grace were over",
)


@subledger_asset("commitment")
async def commitment(run: RunbookContext) -> AsyncIterator[Payload]:
    async for record in run.records():
        cells = Cells(record.raw)
        values = {
            "investor": cells.text("investor"),
            "amount": cells.number("commitment"),
            "currency": cells.text("currency"),
            "share": cells.number("share", optional=True),
            "default_rate": cells.number("default_rate"),
            "default_rate_source": cells.text("default_rate_source"),
            "grace_days": cells.whole("grace_days"),
        }
        yield Payload(values, record.ref, cells.findings, record.raw)


@subledger_asset("capital_call")
async def capital_call(run: RunbookContext) -> AsyncIterator[Payload]:
    """One row for each investor that a notice names. The parts of a call are of everybody's commitments that are in force, so
    the notice must name all of them.
    """
    terms: defaultdict[str, list[Any]] = defaultdict(list)
    async for row in run.open("commitment").stream(status="IN_FORCE"):
        commitment: Any = row
        terms[commitment.investor].append(commitment)
    day_count = DAY_COUNTS[str(run.parameters["day_count"])]
    lines = [(record, Cells(record.raw)) async for record in run.records()]
    asked = [_asked(cells) for _, cells in lines]
    called = await _called_before(run, {record.ref for record, _ in lines})
    everybody = {investor: rows[0].amount for investor, rows in terms.items() if len(rows) == 1}
    for (record, cells), own in zip(lines, asked, strict=True):
        investor, percent = own["investor"], own["percent"]
        call = [each for each in asked if each["call_number"] == own["call_number"]]
        findings = [*cells.findings, *_doubts(own, call, terms, called)]
        known = terms[investor][0] if investor in terms else None
        part = parts(everybody, percent).get(investor) if percent is not None else None
        values = {
            **own,
            "day_count": day_count,
            "commitment": known.amount if known else None,
            "currency": known.currency if known else None,
            "grace_days": known.grace_days if known else None,
            "default_rate": known.default_rate if known else None,
            "default_rate_source": known.default_rate_source if known else None,
            "called": part.called if part else None,
            "rounding": part.rounding if part else None,
        }
        yield Payload(values, record.ref, findings, record.raw)


def _asked(cells: Cells) -> dict[str, Any]:
    return {
        "investor": cells.text("investor"),
        "call_number": cells.whole("call_number"),
        "reference": cells.text("reference"),
        "percent": cells.number("percent"),
        "notice_date": cells.day("notice_date"),
        "due_date": cells.day("due_date"),
    }


async def _called_before(run: RunbookContext, again: set[str]) -> set[tuple[Any, Any]]:
    """Call number and investor of every call that stands, but for those that are read `again`."""
    standing = ["NEEDS_ATTENTION", "PENDING", "APPROVED", *ISSUED]
    rows: list[Any] = [row async for row in run.open("capital_call").stream(status=standing)]
    return {
        (row.call_number, row.investor)
        for row in rows
        if row.call_number and not (row.period == run.period and row.source_ref in again)
    }


def _doubts(
    own: dict[str, Any], call: list[dict[str, Any]], terms: dict[str, list[Any]], called: set[tuple[Any, Any]]
) -> list[dict[str, Any]]:
    """About a line of a notice, and about its call as a whole: those are told on each of its rows."""
    investors = [each["investor"] for each in call]
    currencies = {row.currency for rows in terms.values() for row in rows}
    several = any(len(rows) > 1 for rows in terms.values())
    repeated = (own["call_number"], own["investor"]) in called
    doubts = (
        ("COMMITMENT_UNKNOWN", "investor", "no commitment of this investor is in force", own["investor"] not in terms),
        ("COMMITMENT_AMBIGUOUS", "investor", "an investor has several commitments in force", several),
        ("INVESTOR_REPEATED", "investor", "the notice names an investor twice", len(set(investors)) < len(investors)),
        ("CALL_REPEATED", "call_number", "this investor was called under this number before", repeated),
        ("CALL_INCOMPLETE", "call_number", "an investor in force is not named", not terms.keys() <= set(investors)),
        ("PERCENT_DIFFERS", "percent", "the notice asks investors for different parts", len({x["percent"] for x in call}) > 1),
        ("CURRENCY_DIFFERS", "currency", "commitments are in different currencies", len(currencies) > 1),
    )
    return [{"code": code, "field": name, "message": message} for code, name, message, holds in doubts if holds]


@subledger_asset("call_receipt")
async def call_receipt(run: RunbookContext) -> AsyncIterator[Payload]:
    read = [(record, Cells(record.raw)) async for record in run.records()]
    again = {record.ref for record, _ in read}
    owed = await _outstanding(run, again)
    lines = []
    for record, cells in read:
        values = {
            "booked_on": cells.day("booked_on"),
            "amount": cells.number("amount"),
            "currency": cells.text("currency"),
            "payer": cells.text("payer"),
            "reference": cells.text("reference", optional=True),
        }
        lines.append((record, cells, values))
    lines.sort(key=lambda line: (line[2]["booked_on"] or date.max, line[0].document_id, line[0].line))  # type: ignore[operator]
    for record, cells, values in lines:
        findings, amount, currency = cells.findings, values["amount"], values["currency"]
        if isinstance(amount, Decimal) and amount > 0 and isinstance(currency, str):
            found = match(owed, reference=values["reference"], amount=amount, currency=currency)  # type: ignore[arg-type]
            values |= {"call_id": found.call.call_id if found.call else None, "to_call": found.to_call}
            findings = [*findings, *found.findings]
        yield Payload(values, record.ref, findings, record.raw)


async def _outstanding(run: RunbookContext, again: set[str]) -> list[Owed]:
    """Calls that were issued, less what came for them with receipts other than those that are read `again`."""
    came: defaultdict[UUID, Decimal] = defaultdict(Decimal)
    async for row in run.open("call_receipt").stream(status=["NEEDS_ATTENTION", "PENDING", "APPROVED", "POSTED"]):
        receipt: Any = row
        read_again = receipt.period == run.period and receipt.source_ref in again
        if receipt.call_id is not None and not read_again:
            came[receipt.call_id] = EXACT.add(came[receipt.call_id], receipt.to_call or Decimal(0))
    calls: list[Any] = [row async for row in run.open("capital_call").stream(status=ISSUED)]
    return [
        Owed(call.id, call.reference, call.investor, call.currency, max(EXACT.subtract(call.called, came[call.id]), Decimal(0)))
        for call in calls
    ]


@subledger_asset("default_interest")
async def default_interest_of_the_month(run: RunbookContext) -> AsyncIterator[Payload]:
    """A row for each call that bears interest up to the end of the month, less what earlier months have charged.

    A row that was excluded waives its part for good; one that was rejected does not.
    """
    until = last_day(run.period) + timedelta(days=1)
    came: defaultdict[UUID, list[tuple[date, Decimal]]] = defaultdict(list)
    async for row in run.open("call_receipt").stream(status="POSTED"):
        receipt: Any = row
        came[receipt.call_id].append((receipt.booked_on, receipt.to_call))
    charged: defaultdict[UUID, Decimal] = defaultdict(Decimal)
    async for row in run.open("default_interest").stream(status=["NEEDS_ATTENTION", "PENDING", "APPROVED", "POSTED", "EXCLUDED"]):
        earlier: Any = row
        if earlier.period < run.period:
            charged[earlier.call_id] = EXACT.add(charged[earlier.call_id], earlier.interest or Decimal(0))
    async for row in run.open("capital_call").stream(status=ISSUED):
        call: Any = row
        first = runs_from(call.due_date, call.grace_days)
        found = default_interest(
            call.called, came[call.id], first=first, last=until, rate=call.default_rate, day_count=call.day_count
        )
        if found.amount == charged[call.id]:
            continue
        values = {
            "call_id": call.id,
            "investor": call.investor,
            "currency": call.currency,
            "runs_from": first,
            "until": until,
            "days": found.days,
            "rate": call.default_rate,
            "rate_source": call.default_rate_source,
            "day_count": call.day_count,
            "stretches": [each.as_dict() for each in found.stretches],
            "earned": found.amount,
            "charged": charged[call.id],
            "interest": EXACT.subtract(found.amount, charged[call.id]),
        }
        yield Payload(values, f"call:{call.id}")
