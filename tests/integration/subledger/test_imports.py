"""Somebody's journals become proposals: each once, with what is wrong with it; whoever handed them in cannot approve them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from ledger_tenant import Tenant

from ntro_dagster.gl import proposing
from ntro_dagster.gl.accounts import add_accounts
from ntro_dagster.gl.imports.filing import ColumnsMissingError
from ntro_dagster.gl.imports.importing import Imported, Order, import_journals, look
from ntro_dagster.gl.imports.lines import ImportOverlapsError
from ntro_dagster.gl.imports.mapping import read_mapping
from ntro_dagster.gl.proposing import MakerMayNotError, MakerUnknownError
from ntro_dagster.ingest.store import DocumentStore
from ntro_dagster.ingest.submission import DocumentFiledElsewhereError, PeriodMissingError
from ntro_dagster.subledger.review import apply_signals, file_signal

MAPPING = """
journal: [no]
date: {column: date, format: "%d/%m/%Y"}
description: text
amount: {debit: debit, credit: credit}
currency: {column: cur, names: {"£": GBP}}
account: {column: account, types: {"1": ASSET, "2": LIABILITY, "5": EXPENSE, "4": EXPENSE}}
line: {party: party, dimensions: {department: dep}}
"""
HEADER = "no,date,text,account,debit,credit,cur,party,dep\n"
GOOD = "1,05/01/2025,Rent,5300,100.00,,£,,\n1,05/01/2025,Rent,1000,,100.00,£,Landlord,\n"

Bring = Callable[..., Imported]


@pytest.fixture
def bring(tenant: Tenant, entity: UUID, tmp_path: Path) -> Bring:
    """Imports a text, as `user:ann` unless told."""

    def bring(
        text: str, mapping: str = MAPPING, *, by: str = "user:ann", period: str | None = None, dry: bool = False,
        accounts: bool = False, entity: UUID = entity, own: UUID = entity,
    ) -> Imported:  # fmt: skip
        blank = f"{own.int:0128b}".replace("0", " ").replace("1", "\t")  # each test's bytes are its own
        (tmp_path / "journals.csv").write_text(f"{text}{blank}\n")
        (tmp_path / "mapping.yaml").write_text(mapping)
        order = Order(tmp_path / "journals.csv", read_mapping(tmp_path / "mapping.yaml"), by, period)
        store = DocumentStore(tmp_path / "store")

        async def run() -> Imported:
            async with tenant.database() as app, tenant.database() as other, tenant.database("desk") as desk:
                handle = tenant.handle(entity, name="journal_proposals", database=app)
                if dry:
                    return await look(handle, store, order, currency="GBP", make_accounts=accounts)
                if accounts:
                    found = await look(handle, store, order, currency="GBP", make_accounts=False)
                    add_accounts(tenant.credentials.owner, found.accounts, by="operator:test")
                return await import_journals(handle, other, desk, store, order, currency="GBP")

        return asyncio.run(run())

    return bring


def rows(tenant: Tenant, entity: UUID) -> list[tuple[Any, ...]]:
    return tenant.fetch(
        "SELECT status, period, posting_date::text, description, currency, lines, kind, made_by FROM ledgers.journal_proposals "
        "WHERE entity_id = %s ORDER BY split_part(source_ref, '#L', 2)::int",
        entity,
    )


def codes(tenant: Tenant, entity: UUID) -> list[set[str]]:
    found = tenant.fetch(
        "SELECT validation_errors FROM ledgers.journal_proposals WHERE entity_id = %s "
        "ORDER BY split_part(source_ref, '#L', 2)::int", entity,
    )  # fmt: skip
    return [{finding["code"] for finding in findings or ()} for (findings,) in found]


def approve(tenant: Tenant, entity: UUID, *, by: str) -> Counter[str]:
    return decide(tenant, entity, "approve", by=by)


def decide(tenant: Tenant, entity: UUID, kind: str, *, by: str) -> Counter[str]:
    async def run() -> Counter[str]:
        async with tenant.database() as app, tenant.database("desk") as desk:
            handle = tenant.handle(entity, name="journal_proposals", database=app)
            where: dict[str, Any] = {"entity_id": entity, "period": "2025-01", "status": "PENDING"}
            await file_signal(desk, handle.kind, kind, filed_by=by, reason=None if kind == "approve" else "no", **where)
            done = await apply_signals(handle, period="2025-01")
            return Counter(applied=done.applied, refused=done.refused)

    return asyncio.run(run())


def test_a_journal_waits_for_somebody_else_than_its_importer(bring: Bring, tenant: Tenant, entity: UUID) -> None:
    found = bring(HEADER + GOOD)
    assert (found.new, found.lines, found.journals, found.accepted, found.needs_attention) == (True, 2, 1, 1, 0)
    assert found.months[0].debits == {"GBP": Decimal(100)}
    lines = [
        {"account_code": "5300", "debit": "100.00", "credit": "0"},
        {"account_code": "1000", "debit": "0", "credit": "100.00", "party": "Landlord"},
    ]
    assert rows(tenant, entity) == [("PENDING", "2025-01", "2025-01-05", "Rent", "GBP", lines, "ENTRY", "user:ann")]
    assert approve(tenant, entity, by="user:ann") == Counter(refused=1)
    assert approve(tenant, entity, by="user:bob") == Counter(applied=1)


def test_the_row_keeps_the_lines_as_they_came(bring: Bring, tenant: Tenant, entity: UUID) -> None:
    found = bring(HEADER + GOOD)
    ((reference, raw),) = tenant.fetch(
        "SELECT source_ref, raw_payload FROM ledgers.journal_proposals WHERE entity_id = %s", entity
    )
    assert reference == f"doc:{found.document_id}#L2"
    assert [(line["line"], line["cells"]["account"], line["cells"]["cur"]) for line in raw["lines"]] == [
        (2, "5300", "£"),
        (3, "1000", "£"),
    ]
    assert tenant.fetch(
        "SELECT count(*) FROM ingest.submitted_records WHERE document_id = %s", found.document_id
    ) == [(2,)]  # fmt: skip


def test_the_same_file_again_changes_nothing(bring: Bring, tenant: Tenant, entity: UUID) -> None:
    text = HEADER + GOOD + "2,06/01/2025,Gap,5300,1.00,,£,,\n"
    bring(text)
    before = tenant.fetch("SELECT * FROM ledgers.journal_proposals WHERE entity_id = %s ORDER BY id", entity)
    again = bring(text)
    assert (again.new, again.accepted, again.changed, again.journals, again.needs_attention) == (False, 0, 0, 2, 1)
    assert tenant.fetch("SELECT * FROM ledgers.journal_proposals WHERE entity_id = %s ORDER BY id", entity) == before
    approve(tenant, entity, by="user:bob")
    assert bring(text).months[0].statuses == {"APPROVED": 1, "NEEDS_ATTENTION": 1}


BROKEN: Mapping[str, tuple[str, str]] = {
    "out of balance": ("5,05/01/2025,X,5300,10.00,,£,,\n5,05/01/2025,X,1000,,9.99,£,,\n", "INVALID_UNBALANCED"),
    "one line": ("5,05/01/2025,X,5300,10.00,,£,,\n", "INVALID_LINES_NOT_POSTABLE"),
    "unknown account": ("5,05/01/2025,X,7777,10.00,,£,,\n5,05/01/2025,X,1000,,10.00,£,,\n", "ACCOUNT_UNKNOWN"),
    "no account": ("5,05/01/2025,X,,10.00,,£,,\n5,05/01/2025,X,1000,,10.00,£,,\n", "ACCOUNT_MISSING"),
    "another type": ("5,05/01/2025,X,5300,10.00,,£,,\n5,05/01/2025,X,4000,,10.00,£,,\n", "ACCOUNT_TYPE_DIFFERS"),
    "date": ("5,2025-01-05,X,5300,10.00,,£,,\n5,2025-01-05,X,1000,,10.00,£,,\n", "DATE_UNREADABLE"),
    "no date": ("5,,X,5300,10.00,,£,,\n5,,X,1000,,10.00,£,,\n", "DATE_MISSING"),
    "no such day": ("5,31/02/2025,X,5300,10.00,,£,,\n5,31/02/2025,X,1000,,10.00,£,,\n", "DATE_UNREADABLE"),
    "two days": ("5,05/01/2025,X,5300,10.00,,£,,\n5,06/01/2025,X,1000,,10.00,£,,\n", "DATES_DIFFER"),
    "before all months": ("5,05/01/1999,X,5300,10.00,,£,,\n5,05/01/1999,X,1000,,10.00,£,,\n", "PERIOD_OUT_OF_RANGE"),
    "amount": ("5,05/01/2025,X,5300,1O.00,,£,,\n5,05/01/2025,X,1000,,10.00,£,,\n", "AMOUNT_UNREADABLE"),
    "groups": ("5,05/01/2025,X,5300,\"1,00.00\",,£,,\n5,05/01/2025,X,1000,,100.00,£,,\n", "AMOUNT_UNREADABLE"),
    "both sides": ("5,05/01/2025,X,5300,10.00,10.00,£,,\n5,05/01/2025,X,1000,,10.00,£,,\n", "AMOUNT_UNREADABLE"),
    "no amount": ("5,05/01/2025,X,5300,,,£,,\n5,05/01/2025,X,1000,,10.00,£,,\n", "AMOUNT_MISSING"),
    "nothing": ("5,05/01/2025,X,5300,0.00,,£,,\n5,05/01/2025,X,1000,,0.00,£,,\n", "AMOUNT_ZERO"),
    "negative": ("5,05/01/2025,X,5300,-10.00,,£,,\n5,05/01/2025,X,1000,,10.00,£,,\n", "AMOUNT_NEGATIVE"),
    "decimals": ("5,05/01/2025,X,5300,1.0000000001,,£,,\n5,05/01/2025,X,1000,,1.0000000001,£,,\n", "INVALID_LINES_NOT_POSTABLE"),
    "currency": ("5,05/01/2025,X,5300,10.00,,pounds,,\n5,05/01/2025,X,1000,,10.00,pounds,,\n", "CURRENCY_UNKNOWN"),
    "two currencies": ("5,05/01/2025,X,5300,10.00,,£,,\n5,05/01/2025,X,1000,,10.00,EUR,,\n", "CURRENCIES_DIFFER"),
    "dimension": ("5,05/01/2025,X,5300,10.00,,£,,Sales\n5,05/01/2025,X,1000,,10.00,£,,\n", "DIMENSION_UNKNOWN"),
    "cells beyond": ("5,05/01/2025,X,5300,10.00,,£,,,more\n5,05/01/2025,X,1000,,10.00,£,,\n", "ROW_RAGGED"),
    "nameless": (",05/01/2025,X,5300,10.00,,£,,\n,05/01/2025,X,1000,,10.00,£,,\n", "JOURNAL_NOT_NAMED"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", BROKEN)
def test_what_does_not_stand_up_is_kept_with_its_reason(bring: Bring, tenant: Tenant, entity: UUID, wrong: str) -> None:
    text, code = BROKEN[wrong]
    found = bring(HEADER + GOOD + text)
    assert (found.journals, found.accepted, found.needs_attention) == (2, 1, 1)
    good, bad = codes(tenant, entity)
    assert good == set()
    assert code in bad
    assert found.codes[code] == 1
    statuses = [row[0] for row in rows(tenant, entity)]
    assert statuses == ["PENDING", "NEEDS_ATTENTION"]
    ((raw,),) = tenant.fetch(
        "SELECT raw_payload FROM ledgers.journal_proposals WHERE entity_id = %s AND status = 'NEEDS_ATTENTION'", entity
    )
    assert len(raw["lines"]) == text.count("\n"), "every line of it is there"


def test_a_closed_month_takes_nothing_unseen(bring: Bring, tenant: Tenant, entity: UUID) -> None:
    with tenant.as_owner() as owner:
        owner.execute("INSERT INTO ledgers.periods (entity_id, period, status) VALUES (%s, '2025-01', 'CLOSED')", [entity])
    assert bring(HEADER + GOOD).codes == {"PERIOD_CLOSED": 1}


def test_a_month_that_the_file_says_and_the_date_contradicts(bring: Bring, tenant: Tenant, entity: UUID) -> None:
    mapping = MAPPING + 'period: {column: dep, format: "%m.%Y"}\n'
    mapping = mapping.replace(", dimensions: {department: dep}", "")
    text = HEADER + GOOD.replace(",,\n", ",,01.2025\n").replace("Landlord,", "Landlord,01.2025")
    wrong = "2,05/01/2025,X,5300,1,,£,,02.2025\n2,05/01/2025,X,1000,,1,£,,02.2025\n"
    found = bring(text + wrong, mapping)
    assert found.codes == {"INVALID_POSTING_DATE_OUTSIDE_PERIOD": 1}
    assert [(row[0], row[1]) for row in rows(tenant, entity)] == [("PENDING", "2025-01"), ("NEEDS_ATTENTION", "2025-02")]


def test_lines_of_a_journal_need_not_follow_one_another(bring: Bring, tenant: Tenant, entity: UUID) -> None:
    first, second = GOOD.splitlines(keepends=True)
    other = "2,06/01/2025,Fee,5200,1.00,,£,,\n2,06/01/2025,Fee,1000,,1.00,£,,\n".splitlines(keepends=True)
    assert bring(HEADER + first + other[0] + second + other[1]).accepted == 2
    assert [row[3] for row in rows(tenant, entity)] == ["Rent", "Fee"]


def test_where_no_line_names_a_month_it_has_to_be_said(bring: Bring) -> None:
    text = HEADER + GOOD.replace("05/01/2025", "soon")
    with pytest.raises(PeriodMissingError):
        bring(text)
    assert bring(text, period="2025-02").months[0].period == "2025-02"


OPENING = """
kind: OPENING
date: {day: 2024-12-31}
description: "= Balances brought forward"
amount: {signed: balance, decimal: ",", grouping: "."}
account: {column: konto, codes: {Kasse: "1000", Kapital: "3000"}}
"""


def test_opening_balances_are_one_journal(bring: Bring, tenant: Tenant, entity: UUID) -> None:
    found = bring("konto;balance\nKasse;1.234,50\nKapital;-1.234,50\n", OPENING)
    assert (found.accepted, found.lines) == (1, 2)
    ((status, period, day, description, currency, lines, kind, _),) = rows(tenant, entity)
    assert (status, period, day, kind) == ("PENDING", "2024-12", "2024-12-31", "OPENING")
    assert (description, currency) == ("Balances brought forward", "GBP")
    assert [(line["account_code"], line["debit"], line["credit"]) for line in lines] == [
        ("1000", "1234.50", "0"),
        ("3000", "0", "1234.50"),
    ]


PATHS = """
journal: [no]
date: {column: date}
amount: {signed: amount}
account: {column: account, separator: ":", codes: {"Assets:Bank": "B1"}, types: {Assets: ASSET, Costs: EXPENSE}}
"""


def test_accounts_are_shown_first_and_made_when_asked(bring: Bring, tenant: Tenant, entity: UUID) -> None:
    text = "no,date,account,amount\n1,2025-01-05,Costs:Food:Lunch,5\n1,2025-01-05,Assets:Bank,-5\n"
    shown = [("B1", "Bank", "ASSET", "Assets"), ("Costs:Food:Lunch", "Lunch", "EXPENSE", "Costs:Food")]
    looked = bring(text, PATHS, dry=True)
    assert [(x.code, x.name, x.type, x.parent) for x in looked.accounts if x.code in {"B1", "Costs:Food:Lunch"}] == shown
    assert [x.code for x in looked.accounts] == ["Assets", "B1", "Costs", "Costs:Food", "Costs:Food:Lunch"]
    assert (looked.needs_attention, looked.new) == (1, True)
    assert bring(text, PATHS, dry=True, accounts=True).needs_attention == 0
    assert tenant.fetch("SELECT count(*) FROM ledgers.accounts WHERE code = 'B1'") == [(0,)]
    assert tenant.fetch("SELECT count(*) FROM ingest.submitted_documents WHERE id = %s", looked.document_id) == [(0,)]
    assert bring(text, PATHS).codes == {"ACCOUNT_UNKNOWN": 1}
    assert bring(text, PATHS, accounts=True).accepted == 1, "what waited for an account needs no attention any more"
    assert tenant.fetch("SELECT parent, actor FROM ledgers.accounts a JOIN ledgers.account_changes c USING (code) "
                        "WHERE code = 'B1'") == [("Assets", "operator:test")]  # fmt: skip
    assert rows(tenant, entity)[0][0] == "PENDING"


@pytest.mark.parametrize("dies", ["after staging", "after filing"])
def test_an_import_that_dies_is_completed_by_the_next(
    bring: Bring, tenant: Tenant, entity: UUID, monkeypatch: pytest.MonkeyPatch, dies: str
) -> None:
    name = {"after staging": "file_signal", "after filing": "apply_signals"}[dies]

    async def killed(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(proposing, name, killed)
        bring(HEADER + GOOD)
    assert [row[0] for row in rows(tenant, entity)] == ["NEEDS_ATTENTION"]
    assert bring(HEADER + GOOD).accepted == 1
    assert tenant.fetch(
        "SELECT count(*) FROM system.signals WHERE entity_id = %s AND kind = 'accept'", entity
    ) == [(1,)]  # fmt: skip
    assert rows(tenant, entity)[0][7] == "user:ann"


def test_no_line_comes_to_be_in_two_journals(bring: Bring, tenant: Tenant, entity: UUID) -> None:
    text = HEADER + GOOD + "2,05/01/2025,Fee,5300,1,,£,,\n2,05/01/2025,Fee,1000,,1,£,,\n"
    assert bring(text).accepted == 2
    for columns in ("[date]", "[no, account]"):
        with pytest.raises(ImportOverlapsError):
            bring(text, MAPPING.replace("[no]", columns))
        with pytest.raises(ImportOverlapsError):
            bring(text, MAPPING.replace("[no]", columns), dry=True)
    again = bring(text, MAPPING.replace("%d/%m/%Y", "%m/%d/%Y"))
    assert (again.elsewhere, again.accepted, again.changed) == (2, 0, 0)
    assert [row[1] for row in rows(tenant, entity)] == ["2025-01", "2025-01"]
    decide(tenant, entity, "reject", by="user:bob")
    again = bring(text, MAPPING.replace("%d/%m/%Y", "%m/%d/%Y"))
    assert (again.elsewhere, again.accepted) == (0, 2)
    assert sorted((row[0], row[1]) for row in rows(tenant, entity)) == [
        ("PENDING", "2025-05"), ("PENDING", "2025-05"), ("REJECTED", "2025-01"), ("REJECTED", "2025-01"),
    ]  # fmt: skip


def test_a_journal_without_a_month_is_put_into_one(bring: Bring, tenant: Tenant, entity: UUID) -> None:
    text = HEADER + GOOD + "2,soon,X,5300,1,,£,,\n2,soon,X,1000,,1,£,,\n"
    bring(text)
    again = bring(text, period="2025-03")
    assert (again.elsewhere, again.journals) == (1, 2)
    assert [row[1] for row in rows(tenant, entity)] == ["2025-01", "2025-01"]


def test_a_document_is_one_entitys(bring: Bring, tenant: Tenant) -> None:
    text = HEADER + GOOD + "77,05/01/2025,Own,5300,1,,£,,\n"
    bring(text)
    with pytest.raises(DocumentFiledElsewhereError):
        bring(text, entity=tenant.new_entity())


def test_a_file_without_the_columns_is_refused_as_a_whole(bring: Bring, tenant: Tenant, entity: UUID) -> None:
    with pytest.raises(ColumnsMissingError):
        bring("a,b\n1,2\n")
    assert rows(tenant, entity) == []


def test_who_may_not_decide_hands_nothing_in(bring: Bring, tenant: Tenant, entity: UUID, deployed: Any) -> None:
    with tenant.as_owner() as owner:
        owner.execute(
            "INSERT INTO system.members (login, name, role, created_by) VALUES "
            "('user:eve', 'Eve', 'auditor', 'test'), ('user:ann', 'Ann', 'preparer', 'test')"
        )
    for by, error in (("user:eve", MakerMayNotError), ("user:nobody", MakerUnknownError)):
        with pytest.raises(error):
            bring(HEADER + GOOD, by=by)
    assert rows(tenant, entity) == []
    with psycopg.connect(deployed.auditor) as auditor:
        assert auditor.execute("SELECT count(*) FROM system.members").fetchone() == (2,)
    assert bring(HEADER + GOOD).accepted == 1
