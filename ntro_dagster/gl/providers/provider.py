"""What the platform asks of a general ledger, whoever keeps it (spec 12).

The plural calls are the ones that providers implement and that postings use; `create` and `find_by_external_id` are the
spec's, for one journal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from types import MappingProxyType
from typing import ClassVar

from babel.numbers import get_currency_precision

from ntro_dagster.gl.bills import as_journal
from ntro_dagster.gl.chart import NamedAccounts
from ntro_dagster.gl.providers.errors import ValidationFailedError
from ntro_dagster.subledger.proposals import BillProposal, JournalEntryLineItem, JournalProposal
from ntro_dagster.subledger.row import EXACT

Lines = tuple[tuple[str, Decimal], ...]
"""Account and amount (debit above zero), in an order of their own: what two journals are compared by."""


@dataclass(frozen=True, slots=True)
class Found:
    """A journal that stands in the ledger. `lines`: accounts as the ledger calls them."""

    reference: str
    posting_date: date
    lines: Lines


@dataclass(frozen=True, slots=True)
class Made:
    """What became of one journal of a call that was answered."""

    external_id: str
    reference: str | None = None
    refused: ValidationFailedError | None = None


@dataclass(frozen=True, slots=True)
class LedgerAccount:
    """`code`: the chart's, as far as the ledger knows it; `name`: what it calls the account."""

    code: str
    name: str
    type: str | None = None
    active: bool = True


@dataclass(frozen=True, slots=True)
class Balance:
    """Of an account at the end of a day: debit less credit."""

    account: str
    currency: str
    balance: Decimal


class JournalEntries(ABC):
    """Journals of one ledger."""

    @abstractmethod
    async def create_many(self, proposals: Sequence[JournalProposal], *, key: str) -> list[Made]:
        """Post journals, each under its external id; at most `GLProvider.batch`. What is not in the answer is in doubt.

        Args: `key`: the same for the same journals, where the provider knows of idempotency keys.

        Raises: `RateLimitedError`, `ConnectionError_`: nothing was done. `OutcomeUnknownError`: all of it is in doubt.
        """

    @abstractmethod
    async def find_many(self, proposals: Sequence[JournalProposal]) -> Mapping[str, Sequence[Found]]:
        """What stands under the external ids of these: more than one, if there are doubles. Ids without a journal are left out.

        Raises: `ConnectionError_`, `RateLimitedError`, `OutcomeUnknownError`.
        """

    @abstractmethod
    async def void(self, reference: str) -> bool:
        """Take a journal out of the books; it has been before: nothing happens. False: this ledger cannot.

        Raises: as `find_many`.
        """

    @abstractmethod
    def lines_of(self, proposal: JournalProposal) -> Lines:
        """What `Found.lines` would be. Raises: `ValidationFailedError` where the ledger could not hold it."""

    async def create(self, proposal: JournalProposal, *, external_id: str) -> str:
        """One journal. Returns its reference. It does not look first: that is for who calls.

        Raises: as `create_many`, and `ValidationFailedError`.
        """
        named = proposal.model_copy(update={"external_id": external_id})
        for made in await self.create_many([named], key=external_id):
            if made.refused:
                raise made.refused
            if made.reference:
                return made.reference
        raise ValidationFailedError(provider=type(self).__name__, external_id=external_id, why="the answer does not name it")

    async def find_by_external_id(self, external_id: str, proposal: JournalProposal) -> Found | None:
        """The journal under that id, or None. Args: `proposal`: tells where to look."""
        named = proposal.model_copy(update={"external_id": external_id})
        found = (await self.find_many([named])).get(external_id, ())
        return found[0] if found else None


@dataclass(frozen=True, slots=True)
class Bills:
    """Bills, as the journals that they are in our books."""

    journal_entries: JournalEntries
    named: NamedAccounts

    async def create(self, bill: BillProposal, *, external_id: str) -> str:
        """Raises: as `JournalEntries.create`, `AccountRoleMissingError`."""
        return await self.journal_entries.create(as_journal(bill, self.named), external_id=external_id)


class GLProvider(ABC):
    """One general ledger, for one entity.

    Attributes:
        place: which ledger of the provider's it is: the same after its address or our login has changed.
        unique: whether it refuses a second journal under an external id, for ever. Only then may a journal be sent again
            while an earlier request may still land.
        batch: how many journals one `create_many` takes; a call is answered or in doubt as a whole.
        timeout_s: how long we wait for an answer.
        settle_s: how long after that a request may still land.
        chart: our accounts by code, for ledgers that take their names over.
    """

    name: ClassVar[str]
    unique: bool = False
    batch: ClassVar[int] = 1
    timeout_s: float = 30.0
    settle_s: float = 60.0
    chart: Mapping[str, LedgerAccount] = MappingProxyType({})
    place: str

    @property
    @abstractmethod
    def journal_entries(self) -> JournalEntries: ...

    @abstractmethod
    async def accounts(self) -> list[LedgerAccount]: ...

    @abstractmethod
    async def trial_balance(self, on: date) -> list[Balance]:
        """Balances of all accounts at the end of a day, zero left out."""

    def bills(self, named: NamedAccounts) -> Bills:
        return Bills(self.journal_entries, named)

    async def aclose(self) -> None:  # noqa: B027 - most have nothing to close
        """Give up connections."""


def functional(line: JournalEntryLineItem) -> Decimal:
    """A line's amount in the entity's currency, debit above zero."""
    if line.functional_debit is None or line.functional_credit is None:
        return EXACT.subtract(line.debit, line.credit)
    return EXACT.subtract(line.functional_debit, line.functional_credit)


def in_order(lines: Iterable[tuple[str, Decimal]]) -> Lines:
    """Without lines of nothing, which some ledgers refuse and others drop."""
    return tuple(sorted((account, amount.normalize(EXACT)) for account, amount in lines if amount))


_DIGITS = 15
"""That a number of other people's systems surely keeps."""


def refuse_fractions(proposal: JournalProposal, currency: str, *, provider: str) -> None:
    """Amounts that the ledger would round, or cannot hold. Raises: `ValidationFailedError`."""
    places = get_currency_precision(currency)
    for line in proposal.lines:
        exponent, digits = (
            functional(line).normalize(EXACT).as_tuple().exponent,
            len(functional(line).normalize(EXACT).as_tuple().digits),
        )
        if not isinstance(exponent, int) or -exponent > places or digits + max(exponent, 0) > _DIGITS:
            why = f"an amount with more than {places} decimals or {_DIGITS} digits"
            raise ValidationFailedError(provider=provider, external_id=proposal.external_id, why=why)
