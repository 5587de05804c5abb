"""What the columns of somebody's journals mean: a YAML file of the customer's, checked as a whole before anything is read by it.

    journal: [txn]                              lines of one journal are equal in these columns
    date: {column: date, format: "%Y-%m-%d"}
    description: payee
    amount: {signed: amount}                    or {debit: Debit, credit: Credit}
    currency: {column: commodity, names: {"$": USD}}
    account: {column: account, separator: ":"}

docs/general-ledger.md has all of it.
"""

from __future__ import annotations

import hashlib
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from ntro_dagster.errors import UsageError
from ntro_dagster.subledger.proposals import JournalKind
from ntro_dagster.subledger.row import CurrencyCode

LONGEST = 1 << 20

Name = Annotated[str, Field(min_length=1)]
AccountType = Literal["ASSET", "LIABILITY", "EQUITY", "INCOME", "EXPENSE"]


class MappingInvalidError(UsageError):
    """Values: `name`, `why`."""

    code = "MAPPING_INVALID"
    summary = "the mapping of an import cannot be used"
    detail = "{name}: {why}"
    mend = "docs/general-ledger.md, 'Import', shows what a mapping says; nothing was imported"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Dated(_Part):
    """A day from a column (`format` as Python's strptime has it), or one day for all."""

    column: Name | None = None
    format: Name = "%Y-%m-%d"
    day: date | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.column is None) == (self.day is None):
            raise PydanticCustomError("one_of", "say one of `column` and `day`")
        return self


class Month(_Part):
    column: Name
    format: Name = "%Y-%m"


class Amounts(_Part):
    """Two columns, or one with a sign: `positive` says on which side an amount without a minus stands."""

    debit: Name | None = None
    credit: Name | None = None
    signed: Name | None = None
    positive: Literal["debit", "credit"] = "debit"
    decimal: Literal[".", ","] = "."
    grouping: Literal[",", ".", " ", "'", ""] = ","

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.signed is None) == (self.debit is None) or (self.debit is None) != (self.credit is None):
            raise PydanticCustomError("one_of", "say `signed`, or `debit` and `credit`")
        if self.decimal == self.grouping:
            raise PydanticCustomError("alike", "`decimal` and `grouping` are the same sign: say both")
        return self


class Currency(_Part):
    """One for all, or a column; `names`: what stands for a code there (`$`: USD)."""

    code: CurrencyCode | None = None
    column: Name | None = None
    names: dict[str, CurrencyCode] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.code is None) == (self.column is None):
            raise PydanticCustomError("one_of", "say one of `code` and `column`")
        return self


class Accounts(_Part):
    """
    Attributes:
        separator: between the parts of a path; accounts that are made have the account before the last part as their parent.
        codes: code by what stands in the column; what is not listed is its own code.
        types: type by how the cell begins: whole parts of a path, characters of a code. The longest that fits wins. Only
            accounts with a type can be made.
        names: column with the name of an account that is made; else it is the last part of its path.
    """

    column: Name
    separator: Name | None = None
    codes: dict[str, Name] = Field(default_factory=dict)
    types: dict[str, AccountType] = Field(default_factory=dict)
    names: Name | None = None


class Lines(_Part):
    """Columns with what else a line says. `dimensions`: name of a dimension -> column."""

    description: Name | None = None
    party: Name | None = None
    tax_code: Name | None = None
    dimensions: dict[str, Name] = Field(default_factory=dict)


class Mapping(_Part):
    """
    Attributes:
        kind: OPENING: balances brought forward, as one journal unless `journal` says otherwise.
        journal: columns that are equal on the lines of one journal, wherever they stand in the file.
        period: the month a journal belongs to, where the file says it beside the date.
        description: column with what a journal is about; or with `= ` before it, a text for all.
    """

    kind: Literal[JournalKind.ENTRY, JournalKind.OPENING] = JournalKind.ENTRY
    journal: tuple[Name, ...] = ()
    date: Dated
    period: Month | None = None
    description: Name | None = None
    amount: Amounts
    currency: Currency | None = None
    account: Accounts
    line: Lines = Lines()

    @model_validator(mode="after")
    def _journals(self) -> Self:
        if self.kind is JournalKind.ENTRY and not self.journal:
            raise PydanticCustomError("journal", "`journal` names the columns that lines of one journal share")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that it names, each once."""
        amount, line = self.amount, self.line
        text = None if self.description is None or self.description.startswith("= ") else self.description
        named = [
            *self.journal, self.date.column, self.period and self.period.column, text,
            amount.signed, amount.debit, amount.credit, self.currency and self.currency.column,
            self.account.column, self.account.names, line.description, line.party, line.tax_code, *line.dimensions.values(),
        ]  # fmt: skip
        return tuple(dict.fromkeys(name for name in named if name))

    @property
    def digest(self) -> str:
        """SHA-256 of what it says, however the file is written."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def read_mapping(path: Path) -> Mapping:
    """Raises: `MappingInvalidError`."""
    try:
        with path.open("rb") as file:
            text = file.read(LONGEST + 1)
        if len(text) > LONGEST:
            raise MappingInvalidError(name=path.name, why="it is larger than any mapping")
        # The base loader leaves texts as they are: a code 0100 stays one, and `on` and `no` are words.
        said = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506
    except OSError as error:
        raise MappingInvalidError(name=path.name, why=error.strerror or "it cannot be read") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MappingInvalidError(name=path.name, why=" ".join(str(error).split())) from None
    if isinstance(said, dict) and isinstance(said.get("currency"), str):
        said["currency"] = {"code": said["currency"]}
    try:
        return Mapping.model_validate(said)
    except ValidationError as error:
        found = (f"`{'.'.join(map(str, each['loc']))}`: {each['msg']}" for each in error.errors(include_url=False))
        raise MappingInvalidError(name=path.name, why="; ".join(found)) from None
