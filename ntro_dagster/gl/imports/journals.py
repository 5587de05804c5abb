"""Lines of a table become journals: each as it would be reviewed, with what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from ntro_dagster.gl.imports.accounts import KnownAccount, code_of, path_of, type_of
from ntro_dagster.gl.imports.cells import AmountReader, UnreadableError, read_currency, read_day, read_month
from ntro_dagster.gl.imports.mapping import Mapping as Meaning
from ntro_dagster.gl.proposing import HANDED_IN, doubts
from ntro_dagster.ingest.finding import MESSAGES
from ntro_dagster.subledger.registry import SubledgerType
from ntro_dagster.subledger.staging import Payload


class Doubt(StrEnum):
    """What can be wrong with a journal beside its cells and the row type's own rules."""

    ACCOUNT_MISSING = "ACCOUNT_MISSING"
    ACCOUNT_UNKNOWN = "ACCOUNT_UNKNOWN"
    ACCOUNT_TYPE_DIFFERS = "ACCOUNT_TYPE_DIFFERS"
    DIMENSION_UNKNOWN = "DIMENSION_UNKNOWN"
    JOURNAL_NOT_NAMED = "JOURNAL_NOT_NAMED"
    DATES_DIFFER = "DATES_DIFFER"
    CURRENCIES_DIFFER = "CURRENCIES_DIFFER"
    PERIOD_CLOSED = "PERIOD_CLOSED"
    ROW_RAGGED = "ROW_RAGGED"


WORDS: Mapping[Doubt, str] = {
    Doubt.ACCOUNT_MISSING: "names no account",
    Doubt.ACCOUNT_UNKNOWN: "names an account that the chart does not have, or that is not active",
    Doubt.ACCOUNT_TYPE_DIFFERS: "names an account that has another type in the chart than the mapping gives it",
    Doubt.DIMENSION_UNKNOWN: "names a dimension that is not declared",
    Doubt.JOURNAL_NOT_NAMED: "does not say which journal it belongs to",
    Doubt.DATES_DIFFER: "the lines of the journal are of several days or months",
    Doubt.CURRENCIES_DIFFER: "the lines of the journal are in several currencies",
    Doubt.PERIOD_CLOSED: "the month is closed",
    Doubt.ROW_RAGGED: MESSAGES.get("ROW_RAGGED", "the cells do not line up with the header"),  # type: ignore[call-overload]
}


class Line(NamedTuple):
    """One record of the file. `number`: the line it begins on."""

    number: int
    raw: dict[str, str]


@dataclass(frozen=True)
class Books:
    """What journals are held against: the entity's books as they are at the moment."""

    entity_id: UUID
    currency: str
    accounts: Mapping[str, KnownAccount]
    dimensions: frozenset[str]
    closed: frozenset[str]


class JournalReader:
    """By one mapping, for one document and entity."""

    def __init__(
        self, mapping: Meaning, books: Books, *, document: UUID, columns: Sequence[str], kind: SubledgerType, run_id: UUID
    ) -> None:
        self._mapping, self._books, self._document, self._kind, self._run_id = mapping, books, document, kind, run_id
        self._columns = frozenset(columns)
        self._amounts = AmountReader(mapping.amount, tuple(mapping.currency.names) if mapping.currency else ())
        self._digest = mapping.digest

    def journal(self, lines: Sequence[Line], period: str) -> Payload:
        """One journal. Whatever cannot be read is left out of its values, is a finding, and stands in the raw lines."""
        found = _Findings()
        days, currencies, items = [], [], []
        for line in lines:
            if line.raw.keys() != self._columns:
                found.add(Doubt.ROW_RAGGED, WORDS[Doubt.ROW_RAGGED], None, line)
            if self._mapping.journal and not all(line.raw.get(name, "").strip() for name in self._mapping.journal):
                found.of(Doubt.JOURNAL_NOT_NAMED, "lines", line)
            day = found.read("posting_date", line, lambda raw: read_day(self._mapping.date, raw))
            days += day
            if day or self._mapping.period:  # what has no month stands where the file's other journals begin, with that finding
                found.read("period", line, lambda raw: read_month(self._mapping.period, self._mapping.date, raw))
            currencies += found.read(
                "currency", line, lambda raw: read_currency(self._mapping.currency, raw, entity=self._books.currency)
            )
            items.append(self._item(line, found))
        if len(set(days)) > 1 or len({f"{day:%Y-%m}" for day in days}) > 1:
            found.of(Doubt.DATES_DIFFER, "posting_date")
        if len(set(currencies)) > 1:
            found.of(Doubt.CURRENCIES_DIFFER, "currency")
        if period in self._books.closed:
            found.of(Doubt.PERIOD_CLOSED, None)
        description = self._description(lines[0])
        for line, item in zip(lines, items, strict=True):
            self._describe(line, item, description)
        values: dict[str, Any] = {"kind": self._mapping.kind.value, "description": description, "lines": items}
        if len(set(days)) == 1:
            values["posting_date"] = days[0]
        if len(set(currencies)) == 1:
            values["currency"] = currencies[0]
        raw = {"mapping": self._digest, "lines": [{"line": line.number, "cells": line.raw} for line in lines]}
        payload = Payload(values, f"doc:{self._document}#L{lines[0].number}", raw=raw)
        if not found.findings:
            found.findings = doubts(self._kind, payload, entity_id=self._books.entity_id, period=period, run_id=self._run_id)
        return payload._replace(findings=found.findings or [HANDED_IN])

    def _item(self, line: Line, found: _Findings) -> dict[str, Any]:
        item: dict[str, Any] = {}
        for debit, credit in found.read("lines", line, lambda raw: [self._amounts.sides(raw)]):
            item |= {"debit": format(debit, "f"), "credit": format(credit, "f")}
        how = self._mapping.account
        path = path_of(how, line.raw.get(how.column, ""))
        code = code_of(how, path) if path else ""
        if not code:
            found.of(Doubt.ACCOUNT_MISSING, "lines", line)
        else:
            item["account_code"] = code
            account, given = self._books.accounts.get(code), type_of(how, path)
            if account is None or not account.active:
                found.of(Doubt.ACCOUNT_UNKNOWN, "lines", line)
            elif given is not None and given != account.type:
                found.of(Doubt.ACCOUNT_TYPE_DIFFERS, "lines", line)
        said = self._mapping.line
        for name, column in (("party", said.party), ("tax_code", said.tax_code)):
            if column and (text := line.raw.get(column, "").strip()):
                item[name] = text
        dimensions = {name: text for name, column in said.dimensions.items() if (text := line.raw.get(column, "").strip())}
        if dimensions:
            item["dimensions"] = dimensions
        if not dimensions.keys() <= self._books.dimensions:
            found.of(Doubt.DIMENSION_UNKNOWN, "lines", line)
        return item

    def _description(self, line: Line) -> str | None:
        said = self._mapping.description
        if said is None:
            return None
        return said.removeprefix("= ") if said.startswith("= ") else line.raw.get(said, "").strip() or None

    def _describe(self, line: Line, item: dict[str, Any], journal: str | None) -> None:
        """A line says what is its own: its note, and what it is about where that differs from the journal's first line."""
        own = self._description(line)
        note = line.raw.get(self._mapping.line.description or "", "").strip()
        text = ": ".join(part for part in (own if own != journal else None, note) if part)
        if text:
            item["description"] = text


class _Findings:
    """Each kind once, with the first line that has it."""

    def __init__(self) -> None:
        self.findings: list[dict[str, Any]] = []
        self._said: set[tuple[str, str | None]] = set()

    def add(self, code: str, message: str, field: str | None, line: Line | None = None) -> None:
        if (code, field) not in self._said:
            self._said.add((code, field))
            where = f"line {line.number}: " if line else ""
            self.findings.append({"code": str(code), "field": field, "message": f"{where}{message}"})

    def of(self, doubt: Doubt, field: str | None, line: Line | None = None) -> None:
        self.add(doubt.value, WORDS[doubt], field, line)

    def read(self, field: str, line: Line, how: Any) -> list[Any]:
        """What was read, in a list; an empty one where that was not possible, which is noted."""
        try:
            value = how(line.raw)
        except UnreadableError as error:
            self.add(error.code.value, MESSAGES[error.code], field, line)
            return []
        return value if isinstance(value, list) else [value]
