"""Bank receipts and the calls they pay: by reference and amount, and never by a guess."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from ntro_dagster.subledger.row import EXACT

MESSAGES = {
    "REFERENCE_MISSING": "the receipt names no reference",
    "CALL_UNKNOWN": "no call that was issued has this reference",
    "CALL_AMBIGUOUS": "several calls have this reference",
    "CURRENCY_DIFFERS": "the receipt is in another currency than the call",
    "PAYMENT_PARTIAL": "less than what is outstanding of the call",
    "PAYMENT_OVER": "more than what is outstanding of the call",
}


@dataclass(slots=True)
class Owed:
    """A call that was issued, and what is outstanding of it."""

    call_id: UUID
    reference: str
    investor: str
    currency: str
    outstanding: Decimal


@dataclass(frozen=True, slots=True)
class Match:
    """`to_call`: how much of the receipt the call takes; None where it is not known which call."""

    call: Owed | None
    to_call: Decimal | None
    findings: tuple[dict[str, Any], ...] = ()


def finding(code: str, name: str | None) -> dict[str, Any]:
    return {"code": code, "field": name, "message": MESSAGES[code]}


def normal(reference: str) -> str:
    """A reference as it is compared: without case, and without what is neither letter nor digit."""
    return "".join(character for character in reference.casefold() if character.isalnum())


def match(calls: Sequence[Owed], *, reference: str | None, amount: Decimal, currency: str) -> Match:
    """The one call with this reference. What is taken is no longer outstanding for the next receipt.

    A partial or an excessive payment is matched all the same, because the reference says whose it is, and has a finding.
    """
    wanted = normal(reference or "")
    if not wanted:
        return Match(None, None, (finding("REFERENCE_MISSING", "reference"),))
    found = [call for call in calls if normal(call.reference) == wanted]
    if len(found) != 1:
        return Match(None, None, (finding("CALL_AMBIGUOUS" if found else "CALL_UNKNOWN", "reference"),))
    (call,) = found
    if call.currency != currency:
        return Match(None, None, (finding("CURRENCY_DIFFERS", "currency"),))
    taken = min(amount, call.outstanding)
    findings = ()
    if amount < call.outstanding:
        findings = (finding("PAYMENT_PARTIAL", "amount"),)
    elif amount > call.outstanding:
        findings = (finding("PAYMENT_OVER", "amount"),)
    call.outstanding = EXACT.subtract(call.outstanding, taken)
    return Match(call, taken, findings)
