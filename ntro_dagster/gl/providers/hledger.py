"""hledger's journal format. It has no quotes: what would end a line, a tag or a description is written as a space or a comma."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal

from ntro_dagster.gl.providers.plain_text import PlainText, Written, amount, currency_of, one_line, total
from ntro_dagster.subledger.proposals import JournalKind, JournalProposal

_ACCOUNT = re.compile(r"^account (\S+)\n  ; code: (.*)$", re.MULTILINE)
_CURRENCY = re.compile(r"^commodity [0-9.]+ ([A-Z]+)$", re.MULTILINE)
_JOURNAL = re.compile(r"^(\d{4}-\d{2}-\d{2}) \* \(([^)]*)\).*\n((?:    .*\n)*)", re.MULTILINE)
_POSTING = re.compile(r"^    ([A-Z]\S+)  (-?[0-9.]+) ([A-Z]+)", re.MULTILINE)


class Hledger(PlainText):
    name = "hledger"
    extension = "journal"

    def heading(self) -> str:
        return "include accounts.journal\ninclude [0-9]*.journal\n"

    def month_heading(self) -> str:
        return "; Written by ntro. Journals are added at the end.\ndecimal-mark .\n\n"

    def declared(self, account: str, code: str) -> str:
        return f"account {account}\n  ; code: {one_line(code)}\n"

    def declared_currency(self, currency: str) -> str:
        return f"commodity 1000.00 {currency}\n"

    def known(self, text: str) -> dict[str, str]:
        currencies = {each: each for each in _CURRENCY.findall(text)}
        return currencies | {code: name for name, code in _ACCOUNT.findall(text)}

    def written(self, journal: JournalProposal, accounts: Mapping[str, str]) -> str:
        parties = {line.party for line in journal.lines if line.party}
        payee = f"{_plain(parties.pop())} | " if len(parties) == 1 else ""
        lines = [f"{journal.posting_date.isoformat()} * ({journal.external_id}) {payee}{_plain(journal.description)}"]
        tags = {"rows": " ".join(map(str, journal.rows))}
        if journal.kind is not JournalKind.ENTRY:
            tags["kind"] = journal.kind.value
        if journal.reverses:
            tags["reverses"] = str(journal.reverses)
        if journal.translation:
            tags |= {"rate": f"{journal.translation.rate:f}", "rate-source": journal.translation.source}
        lines += [f"    ; {name}: {_plain(text)}" for name, text in tags.items()]
        for line in journal.lines:
            value = f"{amount(line):f} {currency_of(line, journal)}{total(line, journal)}"
            lines.append(f"    {accounts[line.account_code]}  {value}")
            told = {"party": line.party, "text": line.description, "tax-code": line.tax_code}
            told |= {f"dimension-{name}": text for name, text in line.dimensions.items()}
            lines += [f"      ; {name}: {_plain(text)}" for name, text in told.items() if text]
        return "\n".join(lines) + "\n\n"

    def read(self, text: str) -> Iterator[Written]:
        for day, external_id, body in _JOURNAL.findall(text):
            amounts = tuple((account, currency, Decimal(value)) for account, value, currency in _POSTING.findall(body))
            yield Written(external_id, date.fromisoformat(day), amounts)


def _plain(text: str) -> str:
    return one_line(text).replace(";", ",").replace("|", "/").replace(",", " -")
