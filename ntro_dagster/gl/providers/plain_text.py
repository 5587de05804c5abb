"""Ledgers in plain text files: a file per entity and month, and a main file that includes them all.

    DIRECTORY/ENTITY/main.EXT       includes the others; never changes
    DIRECTORY/ENTITY/accounts.EXT   accounts and currencies, in the order in which they were first needed
    DIRECTORY/ENTITY/2026-03.EXT    the month's journals

Files grow at their end, are replaced whole or not at all, and by one process at a time. What is in a month's file under an
external id is never written there again, so that these ledgers take an id once.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
import unicodedata
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from ntro_dagster.boundary.names import BOOKS
from ntro_dagster.gl.providers.errors import ConnectionError_, OutcomeUnknownError, ValidationFailedError
from ntro_dagster.gl.providers.options import checked
from ntro_dagster.gl.providers.provider import (
    Balance,
    Found,
    GLProvider,
    JournalEntries,
    LedgerAccount,
    Lines,
    Made,
    in_order,
)
from ntro_dagster.subledger.proposals import JournalEntryLineItem, JournalProposal
from ntro_dagster.subledger.row import EXACT

_ROOTS = {"ASSET": "Assets", "LIABILITY": "Liabilities", "EQUITY": "Equity", "INCOME": "Income", "EXPENSE": "Expenses"}
_EXTERNAL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._/-]*")


class PlainTextOptions(BaseModel):
    """Attributes: `directory`: below the tenant's own for ledgers in files, or a whole path."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    directory: str = Field(default="books", pattern=r"^[^\x00]+$")


@dataclass(frozen=True, slots=True)
class Written:
    """A journal as a file has it. `amounts`: account, currency, amount."""

    external_id: str
    day: date
    amounts: tuple[tuple[str, str, Decimal], ...]


class PlainText(GLProvider):
    """One entity's files."""

    unique = True
    batch: ClassVar[int] = 1_000
    extension: ClassVar[str]

    def __init__(self, options: Mapping[str, Any], *, entity: str) -> None:
        self.options = checked(PlainTextOptions, options, provider=self.name)
        self.place = self.options.directory
        self.timeout_s, self.settle_s = 30.0, 0.0
        self.entity = entity
        self._entries = _Files(self)

    @property
    def journal_entries(self) -> JournalEntries:
        return self._entries

    @property
    def folder(self) -> Path:
        """Raises: `ConnectionError_`."""
        directory = Path(self.options.directory)
        root = os.environ.get(BOOKS)
        if directory.is_absolute():
            return directory / self.entity
        if not root or ".." in directory.parts:
            raise ConnectionError_(provider=self.name, why="the tenant has no directory for ledgers in files")
        return Path(root) / directory / self.entity

    @property
    def main(self) -> Path:
        return self.folder / f"main.{self.extension}"

    # ---- what a format says

    @abstractmethod
    def heading(self) -> str:
        """The main file."""

    @abstractmethod
    def month_heading(self) -> str: ...

    @abstractmethod
    def declared(self, account: str, code: str) -> str:
        """Lines that declare an account."""

    @abstractmethod
    def declared_currency(self, currency: str) -> str: ...

    @abstractmethod
    def known(self, text: str) -> dict[str, str]:
        """Accounts that `accounts.EXT` declares, by code; currencies by themselves."""

    @abstractmethod
    def written(self, journal: JournalProposal, accounts: Mapping[str, str]) -> str:
        """A journal, ending with an empty line."""

    @abstractmethod
    def read(self, text: str) -> Iterator[Written]:
        """Journals of a month's file."""

    # ---- reading

    async def accounts(self) -> list[LedgerAccount]:
        known = self.known(_text(self.folder / f"accounts.{self.extension}"))
        return [LedgerAccount(code, name) for code, name in known.items() if ":" in name]

    async def trial_balance(self, on: date) -> list[Balance]:
        codes = {name: code for code, name in self.known(_text(self.folder / f"accounts.{self.extension}")).items()}
        sums: dict[tuple[str, str], Decimal] = {}
        for path in sorted(self.folder.glob(f"[0-9]*.{self.extension}")):
            for journal in self.read(_text(path)):
                for account, currency, amount in journal.amounts if journal.day <= on else ():
                    sums[account, currency] = EXACT.add(sums.get((account, currency), Decimal(0)), amount)
        return [Balance(codes.get(name, name), currency, amount) for (name, currency), amount in sorted(sums.items()) if amount]

    def month(self, day: date) -> Path:
        return self.folder / f"{day:%Y-%m}.{self.extension}"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One process at a time. Raises: `ConnectionError_`."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with (self.folder / ".lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise ConnectionError_(provider=self.name, why=f"its files cannot be written: {error.strerror}") from None


class _Files(JournalEntries):
    def __init__(self, ledger: PlainText) -> None:
        self._ledger = ledger

    def lines_of(self, proposal: JournalProposal) -> Lines:
        accounts = self._ledger.known(_text(self._ledger.folder / f"accounts.{self._ledger.extension}"))
        if missing := next((line.account_code for line in proposal.lines if line.account_code not in accounts), None):
            raise self._refusal(proposal, f"account {missing} is not in accounts.{self._ledger.extension}")
        return in_order((accounts[line.account_code], amount(line)) for line in proposal.lines)

    async def create_many(self, proposals: Sequence[JournalProposal], *, key: str) -> list[Made]:
        ledger, made = self._ledger, list[Made]()
        months: dict[Path, list[JournalProposal]] = {}
        for each in proposals:
            if _EXTERNAL_ID.fullmatch(each.external_id) and all(_is_code(line.account_code) for line in each.lines):
                months.setdefault(ledger.month(each.posting_date), []).append(each)
            else:
                made.append(
                    Made(
                        each.external_id,
                        refused=self._refusal(each, "an external id or an account code that cannot stand in a file"),
                    )
                )
        with ledger.alone():
            accounts = self._accounts([each for several in months.values() for each in several])
            for path, journals in months.items():
                before = _text(path)
                there = {each.external_id for each in ledger.read(before)}
                if there & {each.external_id for each in journals}:
                    raise OutcomeUnknownError(provider=ledger.name, why="a journal of that id is there already")
                new = "".join(ledger.written(each, accounts) for each in journals)
                _replace(path, (before or ledger.month_heading()) + new)
                made += [Made(each.external_id, _reference(path, each.external_id)) for each in journals]
        return made

    def _accounts(self, journals: Iterable[JournalProposal]) -> dict[str, str]:
        """Names by code, those that are needed for the first time declared."""
        ledger = self._ledger
        if not ledger.main.exists():
            _replace(ledger.main, ledger.heading())
        path = ledger.folder / f"accounts.{ledger.extension}"
        before = _text(path)
        known, more = ledger.known(before), []
        for journal in journals:
            for currency in (journal.currency, *([journal.translation.currency] if journal.translation else [])):
                if currency not in known:
                    known[currency] = currency
                    more.append(ledger.declared_currency(currency))
            for code in (line.account_code for line in journal.lines):
                if code not in known:
                    known[code] = self._name(code, set(known.values()))
                    more.append(ledger.declared(known[code], code))
        if more or not before:
            _replace(path, (before or ledger.month_heading()) + "".join(more))
        return known

    def _name(self, code: str, taken: set[str]) -> str:
        """`Expenses:5200-Audit-fees`: from type, code and name as they are now. Once it is declared it stays."""
        account = self._ledger.chart.get(code, LedgerAccount(code, "", "EXPENSE"))
        words = [_word(code), *filter(None, [_word(account.name)])]
        name = f"{_ROOTS[account.type or 'EXPENSE']}:{'-'.join(words)}"
        number, free = 2, name
        while free in taken:
            number, free = number + 1, f"{name}-{number}"
        return free

    async def find_many(self, proposals: Sequence[JournalProposal]) -> Mapping[str, Sequence[Found]]:
        wanted = {each.external_id for each in proposals}
        found: dict[str, list[Found]] = {}
        for path in {self._ledger.month(each.posting_date) for each in proposals}:
            for each in self._ledger.read(_text(path)):
                if each.external_id in wanted:
                    lines = in_order((account, value) for account, _, value in each.amounts)
                    found.setdefault(each.external_id, []).append(Found(_reference(path, each.external_id), each.day, lines))
        return found

    async def void(self, reference: str) -> bool:
        return False

    def _refusal(self, proposal: JournalProposal, why: str) -> ValidationFailedError:
        return ValidationFailedError(provider=self._ledger.name, external_id=proposal.external_id, why=why)


def amount(line: JournalEntryLineItem) -> Decimal:
    """In the journal's currency; of what rounding left, in the entity's."""
    own = EXACT.subtract(line.debit, line.credit)
    return own or EXACT.subtract(line.functional_debit or Decimal(0), line.functional_credit or Decimal(0))


def currency_of(line: JournalEntryLineItem, journal: JournalProposal) -> str:
    return journal.currency if line.debit or line.credit or journal.translation is None else journal.translation.currency


def total(line: JournalEntryLineItem, journal: JournalProposal) -> str:
    """` @@ 15.00 GBP`, where the line was translated: its worth in the entity's currency."""
    if journal.translation is None or not (line.debit or line.credit):
        return ""
    return f" @@ {(line.functional_debit or 0) + (line.functional_credit or 0):f} {journal.translation.currency}"


def one_line(text: str) -> str:
    """Without what would end a line, or cannot stand in a file."""
    return " ".join("".join("\ufffd" if unicodedata.category(c) == "Cc" and not c.isspace() else c for c in text).split())


def _word(text: str) -> str:
    """Letters, digits and dashes; it begins with a capital or a digit."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    word = re.sub(r"[^A-Za-z0-9]+", "-", plain).strip("-")
    return word[:1].upper() + word[1:]


def _is_code(text: str) -> bool:
    return one_line(text) == text and bool(_word(text))


def _reference(path: Path, external_id: str) -> str:
    return f"{path.name}#{external_id}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _replace(path: Path, text: str) -> None:
    """Whole or not at all, also if the machine goes down."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
