"""A month's journals, on the accrual basis.

Rent is income when it is due, whether or not it is paid; what the agent collects, keeps and spends goes through the agent's
control account, which is empty once everything collected has been paid out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from .ageing import Arrears, arrears_at_end_of
from .figures import Rent, Repair, Statement, fee_of, month_before, written
from .reconciliation import Attributed, Finding, attribute, differences, payout_missing, totals

CASH = "1000"
RENT_RECEIVABLE = "1100"
ARREARS_30, ARREARS_60, ARREARS_90_PLUS = "1110", "1120", "1130"
AGENT = "1200"
RENT_INCOME = "4100"
TENANT_FEES = "4110"
MANAGEMENT_FEES = "5210"
REPAIRS = "5400"

NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class Journal:
    """`amounts`: account -> debit, negative for a credit; they add up to zero."""

    ref: str
    description: str
    amounts: Mapping[str, Decimal]
    posting_date: date | None = None
    findings: Sequence[Finding] = ()

    def lines(self) -> list[dict[str, str]]:
        """As a journal proposal keeps them. Empty where the month has nothing to book."""
        return [
            {
                "account_code": account,
                "description": self.description,
                "debit": written(max(amount, NOTHING)),
                "credit": written(max(-amount, NOTHING)),
            }
            for account, amount in self.amounts.items()
            if amount
        ]


@dataclass(frozen=True)
class Books:
    """Everything that is known of one entity up to the end of `period`."""

    period: str
    rents: Sequence[Rent]
    repairs: Sequence[Repair]
    statements: Sequence[Statement]
    attributed: list[Attributed] = field(init=False)
    collected: dict[str, Decimal] = field(init=False)
    repaired: dict[str, Decimal] = field(init=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "collected", totals(self.rents))
        put(self, "repaired", totals(self.repairs))
        put(self, "attributed", attribute(self.statements, self.collected, until=self.period))

    def journals(self) -> Iterator[Journal]:
        """The month's journals that book anything, or that have something to say."""
        made = [self._rent(), self._receipts(), self._arrears(), self._fee(), self._repairs(), *self._payouts()]
        missing = self._missing()
        carrier = next((at for at in (3, 1, 0) if made[at].lines()), 0)
        for at, journal in enumerate(made):
            findings = [*journal.findings, *(missing if at == carrier else ())]
            if journal.lines() or findings:
                yield Journal(journal.ref, journal.description, journal.amounts, journal.posting_date, findings)

    def _rent(self) -> Journal:
        here = [rent for rent in self.rents if rent.period == self.period]
        rent, fees = sum((each.rent for each in here), NOTHING), sum((each.fees for each in here), NOTHING)
        return Journal("rent", f"Rent due {self.period}", {RENT_RECEIVABLE: rent + fees, RENT_INCOME: -rent, TENANT_FEES: -fees})

    def _receipts(self) -> Journal:
        received = self.collected.get(self.period, NOTHING)
        return Journal("receipts", f"Rent collected by the agent {self.period}", {AGENT: received, RENT_RECEIVABLE: -received})

    def _arrears(self) -> Journal:
        """What grew older since the month before, moved to the account of its age."""
        moved: Arrears = arrears_at_end_of(self.period, self.rents) - arrears_at_end_of(month_before(self.period), self.rents)
        return Journal(
            "arrears",
            f"Arrears by age {self.period}",
            {
                ARREARS_30: moved.days_30,
                ARREARS_60: moved.days_60,
                ARREARS_90_PLUS: moved.days_90_plus,
                RENT_RECEIVABLE: -moved.total,
            },
        )

    def _fee(self) -> Journal:
        """The agreed fee on what was collected this month; and on what an earlier month collected, once a late statement says
        at which rate, as far as that month did not book it. A fee that the agent states wrongly is not booked: the difference
        stays in the control account, and is a finding.
        """
        fee = self.fee_booked(self.period)
        for found in self.attributed:
            if found.statement.period == self.period and found.late and found.month:
                fee += fee_of(self.collected[found.month], found.statement.rate) - self.fee_booked(found.month)
        return Journal("fee", f"Management fee {self.period}", {MANAGEMENT_FEES: fee, AGENT: -fee})

    def fee_booked(self, month: str) -> Decimal:
        """The fee that `month` itself was charged with before any later statement: nothing while no rate was known."""
        rate = self.rate_known(month)
        return fee_of(self.collected.get(month, NOTHING), rate) if rate is not None else NOTHING

    def rate_known(self, month: str) -> Decimal | None:
        """The rate of the latest statement that had come by the end of `month`."""
        known = [each for each in self.statements if each.period <= month]
        return max(known, key=lambda each: (each.period, each.paid_on, each.ref)).rate if known else None

    def _repairs(self) -> Journal:
        repaired = self.repaired.get(self.period, NOTHING)
        return Journal("repairs", f"Repairs paid by the agent {self.period}", {REPAIRS: repaired, AGENT: -repaired})

    def _payouts(self) -> Iterator[Journal]:
        for found in self.attributed:
            statement = found.statement
            if statement.period == self.period:
                yield Journal(
                    f"payout:{statement.ref}",
                    f"Net cash from the agent for {found.month or 'an unknown month'}",
                    {CASH: statement.net, AGENT: -statement.net},
                    statement.paid_on if f"{statement.paid_on:%Y-%m}" == self.period else None,
                    [*self._rate_changed(statement), *differences(found, self.collected, self.repaired)],
                )

    def _rate_changed(self, statement: Statement) -> list[Finding]:
        before = self.rate_known(month_before(self.period))
        if before is None or before == statement.rate:
            return []
        what = "the agent's rate is not what it was"
        rates = {"stated": str(statement.rate), "ours": str(before)}
        return [{"code": "FEE_RATE_CHANGED", "field": "rate", "message": what, **rates}]

    def _missing(self) -> list[Finding]:
        """What this month should have been paid and was not, by its end."""
        if self.period not in self.collected or any(found.month == self.period for found in self.attributed):
            return []
        expected = self.collected[self.period] - self.fee_booked(self.period) - self.repaired.get(self.period, NOTHING)
        if not expected:
            return []
        findings = [payout_missing(self.period, expected)]
        if self.rate_known(self.period) is None:
            what = "no statement has stated the agent's rate yet: no fee is booked until one does"
            findings.append({"code": "FEE_RATE_UNKNOWN", "field": None, "message": what})
        return findings
