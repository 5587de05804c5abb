"""Journals in a foreign currency, translated into the entity's: each line by the rate, what rounding leaves where it shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext

from babel.numbers import get_currency_precision

from ntro_dagster.gl.chart import AccountRole, NamedAccounts
from ntro_dagster.gl.held_back import EverythingElsePostedError
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.proposals import JournalEntryLineItem, JournalProposal, Translation
from ntro_dagster.subledger.row import EXACT

OLDEST_RATE_DAYS = 7
"""How old a rate may be on the posting date: markets rest over holidays, and no longer."""

_WIDE = Context(prec=100, rounding=ROUND_HALF_UP)

Rates = Mapping[tuple[str, date], Translation]
"""By currency and posting date."""


class RateMissingError(EverythingElsePostedError):
    """Rows in other currencies than the entity's wait for a rate; all others are posted. Values: `rates`, `rows`."""

    code = "RATE_MISSING"
    summary = "rows wait for an exchange rate"
    detail = "{rows} approved row(s) wait for exchange rates: {rates}"
    mend = "record them: `ntro rate add --from CUR --to CUR --on DATE --rate RATE --source WHO`; the rows are posted then"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A rate that is needed: units of the entity's currency for one of `currency`, on a day."""

    currency: str
    day: date


async def rates(database: TenantDatabase, wanted: Iterable[Wanted], *, to: str) -> Rates:
    """The last rate known of the week up to each day; days without one are left out."""
    pairs = sorted({(each.currency, each.day) for each in wanted})
    if not pairs:
        return {}
    rows = await database.fetch(
        """SELECT w.currency, w.day, r.rate, r.source, r.on_date
             FROM unnest(%(currencies)s::text[], %(days)s::date[]) AS w (currency, day)
             JOIN LATERAL (SELECT rate, source, on_date FROM ledgers.exchange_rates
                            WHERE from_currency = w.currency AND to_currency = %(to)s
                              AND on_date BETWEEN w.day - %(oldest)s::int AND w.day
                            ORDER BY on_date DESC, id DESC LIMIT 1) r ON TRUE""",
        {"currencies": [c for c, _ in pairs], "days": [d for _, d in pairs], "to": to, "oldest": OLDEST_RATE_DAYS},
    )
    return {
        (row["currency"], row["day"]): Translation(
            currency=to, rate=row["rate"], source=f"{row['source']}, {row['on_date'].isoformat()}"
        )
        for row in rows
    }


def translated(journal: JournalProposal, translation: Translation, accounts: NamedAccounts) -> JournalProposal:
    """Each line rounded half up to minor units of the entity's currency. What the journal then misses is at most half a minor
    unit per line, and goes to the account for rounding differences.

    Raises: `AccountRoleMissingError`.
    """
    unit = Decimal(1).scaleb(-get_currency_precision(translation.currency))

    def into(amount: Decimal) -> Decimal:
        with localcontext(_WIDE):
            return (amount * translation.rate).quantize(unit)

    lines = [
        line.model_copy(update={"functional_debit": into(line.debit), "functional_credit": into(line.credit)})
        for line in journal.lines
    ]
    with localcontext(EXACT):
        left = sum(((line.functional_debit or 0) - (line.functional_credit or 0) for line in lines), Decimal(0))
    if left:
        lines.append(
            JournalEntryLineItem(
                account_code=accounts.of(AccountRole.ROUNDING),
                description="Rounding",
                functional_debit=max(-left, Decimal(0)),
                functional_credit=max(left, Decimal(0)),
            )
        )
    return journal.model_copy(update={"lines": tuple(lines), "translation": translation})
