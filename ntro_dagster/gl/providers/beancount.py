"""Beancount's text format, written by us: Beancount itself is under the GPL, and is never imported."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal

from ntro_dagster.gl.providers.plain_text import PlainText, Written, amount, currency_of, total
from ntro_dagster.subledger.proposals import JournalKind, JournalProposal

_FIRST_DAY = "1970-01-01"
_OPEN = re.compile(r'^\S+ open (\S+)\n  code: "((?:[^"\\]|\\.)*)"$', re.MULTILINE)
_CURRENCY = re.compile(r"^\S+ commodity ([A-Z]+)$", re.MULTILINE)
_JOURNAL = re.compile(
    r'^(\d{4}-\d{2}-\d{2}) \* (?:"(?:[^"\\]|\\.)*" ?){1,2}\n  external-id: "([^"]*)"\n((?:  .*\n)*)', re.MULTILINE
)
_POSTING = re.compile(r"^  ([A-Z]\S+)  (-?[0-9.]+) ([A-Z]+)", re.MULTILINE)


class Beancount(PlainText):
    name = "beancount"
    extension = "beancount"

    def heading(self) -> str:
        return f'option "title" {_quoted(self.entity)}\ninclude "accounts.beancount"\ninclude "[0-9]*.beancount"\n'

    def month_heading(self) -> str:
        return ";; Written by ntro. Journals are added at the end.\n\n"

    def declared(self, account: str, code: str) -> str:
        return f"{_FIRST_DAY} open {account}\n  code: {_quoted(code)}\n"

    def declared_currency(self, currency: str) -> str:
        return f"{_FIRST_DAY} commodity {currency}\n"

    def known(self, text: str) -> dict[str, str]:
        currencies = {each: each for each in _CURRENCY.findall(text)}
        return currencies | {_unquoted(code): name for name, code in _OPEN.findall(text)}

    def written(self, journal: JournalProposal, accounts: Mapping[str, str]) -> str:
        parties = {line.party for line in journal.lines if line.party}
        payee = f"{_quoted(parties.pop())} " if len(parties) == 1 else ""
        lines = [
            f"{journal.posting_date.isoformat()} * {payee}{_quoted(journal.description)}",
            f'  external-id: "{journal.external_id}"',
            f'  rows: "{" ".join(map(str, journal.rows))}"',
        ]
        if journal.kind is not JournalKind.ENTRY:
            lines.append(f'  kind: "{journal.kind.value}"')
        if journal.reverses:
            lines.append(f'  reverses: "{journal.reverses}"')
        if journal.translation:
            lines += [f"  rate: {journal.translation.rate:f}", f"  rate-source: {_quoted(journal.translation.source)}"]
        for line in journal.lines:
            value = f"{amount(line):f} {currency_of(line, journal)}{total(line, journal)}"
            lines.append(f"  {accounts[line.account_code]}  {value}")
            told = {"party": line.party, "text": line.description, "tax-code": line.tax_code}
            told |= {f"dimension-{name}": text for name, text in line.dimensions.items()}
            lines += [f"    {name}: {_quoted(text)}" for name, text in told.items() if text]
        return "\n".join(lines) + "\n\n"

    def read(self, text: str) -> Iterator[Written]:
        for day, external_id, body in _JOURNAL.findall(text):
            amounts = tuple((account, currency, Decimal(value)) for account, value, currency in _POSTING.findall(body))
            yield Written(external_id, date.fromisoformat(day), amounts)


def _quoted(text: str) -> str:
    """On one line, whatever is in it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    return (
        '"' + "".join("\ufffd" if not c.isprintable() and not c.isspace() else " " if c.isspace() else c for c in escaped) + '"'
    )


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: {"n": "\n", "t": "\t", "r": "\r"}.get(found[1], found[1]), text)
