"""Ledgers in plain text: what is in them is what was sent, whatever the texts, and other programs read them."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from ntro_dagster.gl.providers.errors import ConnectionError_, OutcomeUnknownError
from ntro_dagster.gl.providers.provider import LedgerAccount
from ntro_dagster.gl.providers.resolve import GLSetting, provider_of
from ntro_dagster.subledger.proposals import JournalEntryLineItem, JournalKind, JournalProposal, Translation

DATA = Path(os.environ.get("NTRO_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))
CHART = {
    "1000": LedgerAccount("1000", "Cash at bank", "ASSET"),
    "2000": LedgerAccount("2000", "Creditors & accruals, \"trade\"", "LIABILITY"),
    "4000": LedgerAccount("4000", "Erträge / Überschüsse", "INCOME"),
    "5950": LedgerAccount("5950", "Rounding", "EXPENSE"),
    "5999": LedgerAccount("5999", "Cash at bank", "EXPENSE"),
    "a": LedgerAccount("a", "", "EXPENSE"),
    "A": LedgerAccount("A", "", "EXPENSE"),
}  # fmt: skip
PROVIDERS = ("beancount", "hledger")
BIN = Path(sys.executable).parent
HLEDGER = os.environ.get("NTRO_HLEDGER") or shutil.which("hledger")


@pytest.fixture(autouse=True)
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NTRO_BOOKS", str(tmp_path))
    return tmp_path


def ledger(name: str, chart: Mapping[str, LedgerAccount] = CHART) -> Any:
    provider = provider_of(GLSetting(name, "books", {}), entity="spv-1")
    provider.chart = chart
    return provider


def proposal(external_id: str, *lines: tuple[str, str], **more: Any) -> JournalProposal:
    values: dict[str, Any] = {"posting_date": date(2025, 1, 31), "description": "x", "currency": "GBP", "row_id": uuid4()} | more
    items = [
        JournalEntryLineItem(
            account_code=code, **({"debit": amount} if Decimal(amount) > 0 else {"credit": str(-Decimal(amount))})
        )
        for code, amount in lines
    ]
    return JournalProposal(external_id=external_id, lines=tuple(values.pop("items", items)), **values)


def create(provider: Any, *journals: JournalProposal) -> list[str | None]:
    return [made.reference for made in asyncio.run(provider.journal_entries.create_many(journals, key="k"))]


def accepted(provider: Any) -> None:
    """By the program whose format it is."""
    if provider.name == "beancount":
        done = subprocess.run([BIN / "bean-check", str(provider.main)], capture_output=True, text=True, check=False)
    else:
        if not HLEDGER:
            pytest.skip("no hledger on this machine; NTRO_HLEDGER names one")
        done = subprocess.run(
            [HLEDGER, "-f", str(provider.main), "check", "--strict"], capture_output=True, text=True, check=False
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def balances(provider: Any, until: date) -> dict[tuple[str, str], Decimal]:
    """At the end of a day, as that program adds up. By the ledger's account and currency."""
    if provider.name == "beancount":
        query = f"SELECT account, currency, sum(number) AS total WHERE date <= {until} GROUP BY account, currency"
        said = subprocess.run(
            [BIN / "bean-query", "-f", "csv", str(provider.main), query], capture_output=True, text=True, check=True
        ).stdout
        rows = [
            (x["account"].strip(), x["currency"].strip(), Decimal(x["total"].strip())) for x in csv.DictReader(io.StringIO(said))
        ]
    else:
        after = date.fromordinal(until.toordinal() + 1).isoformat()
        said = subprocess.run(
            [str(HLEDGER), "-f", str(provider.main), "balance", "--flat", "--empty", "--layout=bare", "-O", "csv", "-e", after],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        rows = [
            (x["account"], x["commodity"], Decimal(x["balance"]))
            for x in csv.DictReader(io.StringIO(said))
            if not x["account"].lower().startswith("total")
        ]
    return {(account, currency): amount for account, currency, amount in rows if amount}


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_journal_is_found_as_it_was_written(name: str) -> None:
    provider = ledger(name)
    journals = [
        proposal("expenses:1", ("5999", "100.00"), ("1000", "-100")),
        proposal("expenses:2", ("a", "0.000000003"), ("A", "-0.000000003"), posting_date=date(2025, 2, 1)),
    ]
    references = create(provider, *journals)
    found = asyncio.run(provider.journal_entries.find_many([*journals, proposal("expenses:9", ("a", "1"), ("A", "-1"))]))
    assert {k: [x.reference for x in v] for k, v in found.items()} == dict(
        zip(["expenses:1", "expenses:2"], [[x] for x in references], strict=True)
    )
    for each in journals:
        assert (found[each.external_id][0].posting_date, found[each.external_id][0].lines) == (
            each.posting_date,
            provider.journal_entries.lines_of(each),
        )
    accepted(provider)


@pytest.mark.parametrize("name", PROVIDERS)
def test_an_id_is_taken_once(name: str) -> None:
    provider = ledger(name)
    journal = proposal("expenses:1", ("5999", "100.00"), ("1000", "-100"))
    create(provider, journal)
    before = {path: path.read_bytes() for path in provider.folder.iterdir()}
    with pytest.raises(OutcomeUnknownError):
        create(ledger(name), proposal("expenses:7", ("5999", "1"), ("1000", "-1")), journal)
    assert {path: path.read_bytes() for path in provider.folder.iterdir()} == before


NASTY = [
    'He said "no"', "back\\slash\\", "two\nlines\r\n2025-01-01 open Assets:Fake", "semi;colon, and: colon", "tab\there | pipe",
    "nul\0 bell\a", "日本語 «é»", "  ", '"', "\\", "2025-02-02 * x", "; comment", "} { \u2028 \u202e",
]  # fmt: skip


@pytest.mark.parametrize("name", PROVIDERS)
def test_texts_of_any_kind(name: str) -> None:
    provider = ledger(name)
    journals = [
        proposal(
            f"t:{number}", description=text,
            items=[
                JournalEntryLineItem(
                    account_code="5999", debit=Decimal(7), party=text, description=text, tax_code=text, dimensions={"fund": text}
                ),
                JournalEntryLineItem(account_code="1000", credit=Decimal(7)),
            ],
        )
        for number, text in enumerate(NASTY)
    ]  # fmt: skip
    create(provider, *journals)
    accepted(provider)
    found = asyncio.run(provider.journal_entries.find_many(journals))
    assert set(found) == {each.external_id for each in journals}
    assert all(found[x.external_id][0].lines == provider.journal_entries.lines_of(x) for x in journals)
    assert sum(balances(provider, date(2025, 12, 31)).values()) == 0


@pytest.mark.parametrize("name", PROVIDERS)
def test_foreign_currency_with_its_worth_and_what_rounding_left(name: str) -> None:
    provider = ledger(name)
    items = [
        JournalEntryLineItem(account_code="5999", debit="100.03", functional_debit="15.00", functional_credit=0),
        JournalEntryLineItem(account_code="4000", debit="0.03", functional_debit="0.00", functional_credit=0),
        JournalEntryLineItem(account_code="2000", credit="100.06", functional_debit=0, functional_credit="15.01"),
        JournalEntryLineItem(account_code="5950", description="Rounding", functional_debit="0.01", functional_credit=0),
    ]
    rate = Translation(currency="GBP", rate=Decimal("0.15"), source="central bank, 2025-01-31")
    journal = proposal("e:1", items=items, currency="USD", translation=rate)
    mirror = [
        line.model_copy(
            update={
                "debit": line.credit, "credit": line.debit,
                "functional_debit": line.functional_credit, "functional_credit": line.functional_debit,
            }
        )
        for line in items
    ]  # fmt: skip
    create(provider, journal)
    accepted(provider)
    names = {code: name for name, code in ((x.name, x.code) for x in asyncio.run(provider.accounts()))}
    assert balances(provider, date(2025, 1, 31)) == {
        (names["5999"], "USD"): Decimal("100.03"),
        (names["4000"], "USD"): Decimal("0.03"),
        (names["2000"], "USD"): Decimal("-100.06"),
        (names["5950"], "GBP"): Decimal("0.01"),
    }
    back = {"kind": JournalKind.REVERSAL, "reverses": uuid4(), "currency": "USD", "translation": rate}
    create(provider, proposal("e:2", items=mirror, posting_date=date(2025, 2, 28), **back))
    accepted(provider)
    assert balances(provider, date(2025, 2, 28)) == {}


@pytest.mark.parametrize("name", PROVIDERS)
def test_names_of_accounts_are_sound_unique_and_stay(name: str) -> None:
    provider = ledger(name)
    create(provider, proposal("e:1", ("a", "1"), ("A", "-1")), proposal("e:2", ("2000", "1"), ("4000", "-1")))
    names = {x.code: x.name for x in asyncio.run(provider.accounts())}
    assert names == {
        "a": "Expenses:A", "A": "Expenses:A-2",
        "2000": "Liabilities:2000-Creditors-accruals-trade", "4000": "Income:4000-Ertrage-Uberschusse",
    }  # fmt: skip
    renamed = ledger(name, {**CHART, "2000": LedgerAccount("2000", "Owed", "LIABILITY")})
    create(renamed, proposal("e:3", ("2000", "1"), ("4000", "-1")))
    assert {x.code: x.name for x in asyncio.run(renamed.accounts())} == names
    accepted(renamed)


@pytest.mark.parametrize("name", PROVIDERS)
def test_processes_at_once_lose_nothing(name: str) -> None:
    provider = ledger(name)
    children = []
    for child in range(4):
        if not (pid := os.fork()):
            try:
                for number in range(10):
                    create(ledger(name), proposal(f"e:{child}.{number}", ("5999", "1"), ("1000", "-1")))
            finally:
                os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    accepted(provider)
    (cash,) = [x.balance for x in asyncio.run(provider.trial_balance(date(2025, 1, 31))) if x.account == "1000"]
    assert cash == -40
    assert not [path for path in provider.folder.iterdir() if path.name.startswith(".") and path.name != ".lock"]


@pytest.mark.parametrize("name", PROVIDERS)
def test_without_a_directory_it_says_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NTRO_BOOKS")
    with pytest.raises(ConnectionError_):
        create(ledger(name), proposal("e:1", ("a", "1"), ("A", "-1")))
    monkeypatch.setenv("NTRO_BOOKS", "/nowhere/at/all")
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(ConnectionError_):
        create(ledger(name), proposal("e:1", ("a", "1"), ("A", "-1")))


# ---- real books, month by month, against figures of another program


def journals_of(rows: Sequence[Mapping[str, str]], journal: str, account: str) -> list[JournalProposal]:
    """Of a csv of postings in which lines of a journal stand together."""
    made = []
    for name, several in groupby(rows, key=lambda x: x[journal]):
        lines = [(x, Decimal(x["amount"])) for x in several]
        items = tuple(
            JournalEntryLineItem(
                account_code=x[account],
                description=x["note"] or None,
                debit=max(amount, Decimal(0)),
                credit=max(-amount, Decimal(0)),
            )
            for x, amount in lines
            if amount
        )
        if not items:
            continue
        first = lines[0][0]
        made.append(
            JournalProposal(
                external_id=f"import:{name}", row_id=uuid4(), posting_date=date.fromisoformat(first["date"]),
                description=first["payee"] or "x", currency="USD", lines=items,
            )
        )  # fmt: skip
    return made


def expected(path: Path) -> dict[date, dict[str, Decimal]]:
    found: dict[date, dict[str, Decimal]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            amount = Decimal(row["debit"] or 0) - Decimal(row["credit"] or 0)
            found.setdefault(date.fromisoformat(row["month_end"]), {})[row["account"]] = amount
    return found


def hackclub() -> tuple[list[JournalProposal], dict[str, LedgerAccount], dict[date, dict[str, Decimal]]]:
    folder = DATA / "gl-hackclub"
    with (folder / "postings.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    types = {"Assets": "ASSET", "Liabilities": "LIABILITY", "Equity": "EQUITY", "Income": "INCOME", "Expenses": "EXPENSE"}
    chart = {x["account"]: LedgerAccount(x["account"], "", types[x["account"].split(":")[0]]) for x in rows}
    return journals_of(rows, "txn_line", "account"), chart, expected(folder / "expected-trial-balance.csv")


def synthetic() -> tuple[list[JournalProposal], dict[str, LedgerAccount], dict[date, dict[str, Decimal]]]:
    folder = DATA / "gl-synthetic-fy2025"
    with (folder / "journal_entries.csv").open(encoding="utf-8", newline="") as file:
        rows = [
            x | {"amount": str(Decimal(x["debit"]) - Decimal(x["credit"])), "payee": x["description"], "note": x["department"]}
            for x in csv.DictReader(file)
        ]
    with (folder / "chart_of_accounts.csv").open(encoding="utf-8", newline="") as file:
        chart = {x["account"]: LedgerAccount(x["account"], x["account_name"], _type(x["type"])) for x in csv.DictReader(file)}
    return journals_of(rows, "entry_id", "account"), chart, expected(folder / "expected-trial-balance.csv")


def _type(word: str) -> str:
    return {"Revenue": "INCOME", "Contra-Revenue": "INCOME", "COGS": "EXPENSE", "Opex": "EXPENSE"}.get(word, word.upper())


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("read", [hackclub, synthetic])
def test_real_books_have_the_balances_of_another_program(name: str, read: Any) -> None:
    if not DATA.is_dir():
        pytest.skip(f"published ledgers are not at {DATA}; set NTRO_SHARED_DATA")
    journals, chart, wanted = read()
    provider = ledger(name, chart)
    for _, month in groupby(sorted(journals, key=lambda x: x.posting_date), key=lambda x: x.posting_date.replace(day=1)):
        create(provider, *month)
    accepted(provider)
    codes = {x.name: x.code for x in asyncio.run(provider.accounts())}
    assert len(wanted) in {8, 24}
    for day, balance in wanted.items():
        assert {codes[account]: amount for (account, _), amount in balances(provider, day).items()} == balance, day
        assert {x.account: x.balance for x in asyncio.run(provider.trial_balance(day))} == balance, day
