"""The books from the command line: chart, rates, journals of other books brought in, one of them reversed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli_home import CommandLine, installed

ACME = ("--tenant", "acme")
SPV = (*ACME, "--entity", "spv-1")

MAPPING = """
journal: [no]
date: {column: date, format: "%d.%m.%Y"}
description: text
amount: {signed: amount, decimal: ",", grouping: "."}
currency: {column: currency, names: {"€": EUR}}
account: {column: account, names: name, types: {"1": ASSET, "4": INCOME, "7": EXPENSE}}
"""
JOURNALS = """no;date;text;account;name;amount;currency
1;31.01.2025;Rent of January;1000;Bank;1.250,00;GBP
1;31.01.2025;Rent of January;4000;Income;-1.250,00;GBP
2;31.01.2025;Licence;7100;Licences;80,00;€
2;31.01.2025;Licence;1000;Bank;-80,00;€
3;31.01.2025;Broken;7100;Licences;1,00;GBP
"""


@pytest.fixture(scope="module")
def ntro() -> Iterator[CommandLine]:
    with installed() as ntro:
        yield ntro


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    journals, mapping = tmp_path / "journals.csv", tmp_path / "mapping.yaml"
    journals.write_text(JOURNALS)
    mapping.write_text(MAPPING)
    return journals, mapping


def account(ntro: CommandLine, code: str) -> Any:
    (found,) = (row for row in ntro.ok("account", "list", "--all", *ACME) if row["code"] == code)
    return found


def test_the_chart_is_changed_by_its_operator_and_every_change_is_told(ntro: CommandLine) -> None:
    made = ntro.ok("account", "add", "1010", "--name", "Savings", "--type", "asset", "--parent", "1000", "--role", "bank", *ACME)
    assert (made["type"], made["parent"], made["role"], made["active"]) == ("ASSET", "1000", "BANK", True)
    assert "    Savings" in ntro("account", "list", *ACME).out, "below its parent"
    assert ntro.ok("account", "close", "1010", *ACME)["active"] is False
    assert "1010" not in ntro("account", "list", *ACME).out
    assert ntro.ok("account", "reopen", "1010", *ACME)["active"] is True
    assert ntro.ok("account", "role", "1010", "none", *ACME)["role"] is None
    assert ntro.ok("account", "parent", "1010", "none", *ACME)["parent"] is None
    told = ntro.ok("account", "history", "1010", *ACME)
    assert [change["before"] is None for change in told] == [True, False, False, False, False]
    assert all(change["actor"].startswith("operator:") for change in told)
    assert "active True → False" in ntro("account", "history", "1010", *ACME).out


def test_what_the_chart_cannot_take_is_refused(ntro: CommandLine) -> None:
    add = ("--name", "X", *ACME)
    assert ntro.refused("account", "add", "1000", "--type", "ASSET", *add) == ("ACCOUNT_EXISTS", 2)
    assert ntro.refused("account", "add", "9", "--type", "ASSET", "--parent", "8", *add) == ("ACCOUNT_NOT_FOUND", 4)
    assert ntro.refused("account", "add", "9", "--type", "ASSET", "--parent", "4000", *add) == ("ACCOUNT_TYPE_DIFFERS", 2)
    assert ntro.refused("account", "role", "4000", "VAT", *ACME) == ("ACCOUNT_ROLE_TAKEN", 2)
    assert ntro.refused("account", "role", "4000", "KING", *ACME) == ("ACCOUNT_ROLE_UNKNOWN", 2)
    assert ntro.refused("account", "close", "nope", *ACME) == ("ACCOUNT_NOT_FOUND", 4)
    assert ntro.refused("dimension", "add", "Big Name", "--title", "X", *ACME) == ("DIMENSION_INVALID", 2)
    assert account(ntro, "4000")["role"] is None


def test_rates_are_recorded_once(ntro: CommandLine, tmp_path: Path) -> None:
    say = ("rate", "add", "--from", "EUR", "--to", "GBP", "--on", "2025-01-30", "--source", "ECB", *ACME)
    assert ntro.ok(*say, "--rate", "0.8412345")["new"] is True
    assert ntro.ok(*say, "--rate", "0.8412345")["new"] is False
    table = tmp_path / "rates.csv"
    table.write_text("from,to,on,rate,source\nEUR,GBP,2025-01-30,0.8412345,ECB\nUSD,GBP,2025-01-31,0.8051,ECB\n")
    assert ntro.ok("rate", "import", table, *ACME) == {"tenant": "acme", "new": 1, "known": 1}
    listed = ntro.ok("rate", "list", *ACME)
    assert [(each["from"], each["on"], each["rate"]) for each in listed] == [
        ("USD", "2025-01-31", "0.8051"),
        ("EUR", "2025-01-30", "0.8412345"),
    ]
    table.write_text("from,to,on,rate,source\nEUR,GBP,2025-01-29,0.84,ECB\nEUR,GBP,2025-01-28,minus,ECB\n")
    assert ntro.refused("rate", "import", table, *ACME) == ("RATE_INVALID", 2)
    assert len(ntro.ok("rate", "list", *ACME)) == 2, "all or none"
    assert ntro.refused(*say, "--rate", "0") == ("RATE_INVALID", 2)


def test_an_entity_whose_year_begins_in_april(ntro: CommandLine) -> None:
    made = ntro.ok("entity", "create", "spring", "--name", "Spring", "--first-month", "4", *ACME)
    assert made["first_month"] == 4
    assert {row["slug"]: row["first_month"] for row in ntro.ok("entity", "list", *ACME)}["spring"] == 4


def test_journals_come_in_are_approved_posted_and_one_is_reversed(ntro: CommandLine, files: tuple[Path, Path]) -> None:
    journals, mapping = files
    bring = ("journal", "import", journals, "--mapping", mapping, *SPV, "--as", "ann")
    looked = ntro.ok(*bring, "--dry-run")
    assert (looked["journals"], looked["needs_attention"], looked["document_id"]) == (3, 2, None)
    assert [(each["code"], each["name"], each["type"]) for each in looked["accounts_missing"]] == [
        ("7100", "Licences", "EXPENSE")
    ]
    assert ntro.ok("rows", "journal_proposals", *SPV)["total"] == 0
    done = ntro.ok(*bring, "--accounts")
    assert (done["accepted"], done["needs_attention"], done["handed_in_by"]) == (2, 1, "user:ann")
    assert [each["code"] for each in done["accounts_made"]] == ["7100"]
    assert done["findings"] == {"INVALID_LINES_NOT_POSTABLE": 1}
    assert ntro.ok(*bring)["accepted"] == 0
    said = ntro(*bring)
    assert "1 need attention" in said.out, said.out

    approve = (
        "review",
        "approve",
        "--subledger",
        "journal_proposals",
        *SPV,
        "--period",
        "2025-01",
        "--status",
        "PENDING",
        "--wait",
    )
    assert ntro.ok(*approve, "--as", "bob")["signals"][0]["applied"] == 2
    shown = wait_for_journals(ntro, 2)
    by_currency = {each["currency"]: each for each in shown}  # of one day: which of them is 1 is chance
    assert {(each["amount"], each["currency"], each["rate"]) for each in shown} == {
        ("1250.00", "GBP", None),
        ("80.00", "EUR", "0.8412345"),
    }
    foreign = by_currency["EUR"]["number"]
    assert {each["number"] for each in shown} == {"2025/1", "2025/2"}
    one = ntro.ok("journal", "show", foreign, *SPV)
    assert [(each["account_code"], each["debit"], each["functional_debit"]) for each in one["lines"]] == [
        ("7100", "80.00", "67.30"),
        ("1000", "0.00", "0.00"),
    ]
    assert "67.30" in ntro("journal", "show", foreign, *SPV).out

    undo = ("journal", "reverse", foreign, *SPV, "--reason", "paid twice", "--by", "ann")
    waiting = ntro.ok(*undo)
    assert (waiting["period"], waiting["posting_date"]) == ("2025-01", "2025-01-31")
    assert ntro.refused(*undo) == ("JOURNAL_REVERSED", 2)
    assert ntro.ok(*approve, "--as", "bob")["signals"][0]["applied"] == 1
    last = wait_for_journals(ntro, 3)
    assert {(each["number"], each["reverses"], each["reversed_by"]) for each in last} > {
        (foreign, None, "2025/3"),
        ("2025/3", foreign, None),
    }
    assert ntro.refused("journal", "show", "2025/9", *SPV) == ("JOURNAL_NOT_FOUND", 4)
    assert ntro.refused("journal", "show", "nine", *SPV) == ("JOURNAL_NUMBER_INVALID", 2)


def wait_for_journals(ntro: CommandLine, number: int) -> Any:
    deadline = time.monotonic() + 90
    while len(found := ntro.ok("journal", "list", *SPV)) < number:
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    return found


def test_a_mapping_that_is_none(ntro: CommandLine, files: tuple[Path, Path]) -> None:
    journals, mapping = files
    bring = ("journal", "import", journals, "--mapping", mapping, *SPV)
    for text in ("journal: [no]\n", MAPPING + "more: 1\n", "- a\n", "a: [\n", MAPPING.replace("EUR", "Euro")):
        mapping.write_text(text)
        assert ntro.refused(*bring) == ("MAPPING_INVALID", 2)
    assert ntro.refused("journal", "import", journals, "--mapping", "missing.yaml", *SPV) == ("MAPPING_INVALID", 2)


def test_what_the_bank_says(ntro: CommandLine) -> None:
    say = ("bank", "record", "1250.00", *SPV, "--account", "1000", "--on", "2025-01-31", "--source", "statement 1")
    assert ntro.ok(*say)["balance"] == "1250.00"
    (found,) = ntro.ok("bank", "list", *SPV, "--period", "2025-01")
    assert (found["balance"], found["books"]) == ("1250.00", "1250.00")
    overdrawn = ntro("bank", "record", *SPV, "--account", "1000", "--on", "2025-02-28", "--json", "--", "-5")
    assert overdrawn.json["balance"] == "-5.00"
    assert ntro.refused("bank", "record", "much", *SPV, "--account", "1000", "--on", "2025-01-31") == ("BALANCE_INVALID", 2)
    assert ntro.refused("bank", "record", "1", *SPV, "--account", "4000", "--on", "2025-01-31") == ("ACCOUNT_NOT_A_BANK", 2)


def test_reports_tie_out_in_every_form(ntro: CommandLine, tmp_path: Path) -> None:
    month = (*SPV, "--period", "2025-01")
    for name in ("trial-balance", "ledger", "journals", "creditors", "nav"):
        told = ntro.ok("report", name, *month)
        assert told["ties_out"]
        assert len(told["checks"]) >= 2
        assert ntro("report", name, *month).code == 0
        as_csv = ntro("report", name, *month, "--format", "csv").out.splitlines()
        assert as_csv[0].split(",") == [*(column["name"] for column in told["columns"]), "row"]
        assert len(as_csv) == 1 + len(told["rows"]) + len(told["totals"])
        for form in ("xlsx", "html"):
            target = tmp_path / f"{name}.{form}"
            assert ntro("report", name, *month, "--format", form, "--output", target).code == 0
            assert target.stat().st_size > 1_000
            assert "OUTPUT_EXISTS" in ntro("report", name, *month, "--format", form, "--output", target).err
    nav = ntro.ok("report", "nav", *month)
    assert nav["totals"][0]["now"] == "1250.00"
    year = ntro.ok("report", "trial-balance", *month, "--basis", "year", "--compare", "month")
    assert year["columns"][-1]["title"] == "Closing 2024-12"
    assert [row["closing"] for row in ntro.ok("report", "trial-balance", *SPV, "--period", "2026-01", "--basis", "year")["rows"]
            if row["account"] == "3000"] == ["-1250.00", "-1250.00"]  # fmt: skip


def test_what_a_report_cannot_be(ntro: CommandLine, tmp_path: Path) -> None:
    month = (*SPV, "--period", "2025-01")
    assert ntro.refused("report", "nav", *month, "--basis", "moon")[1] == 2
    assert ntro("report", "nav", *month, "--format", "csv", "--json").code == 2
    assert ntro("report", "trial-balance", *month, "--basis", "moon").code == 2
    assert ntro("report", "nav", *SPV, "--period", "January").code == 2
    assert ntro("report", "nav", *month, "--output", tmp_path / "x").code == 2
    assert not list(tmp_path.iterdir())
