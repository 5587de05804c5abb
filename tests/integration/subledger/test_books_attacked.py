"""Ways to make the books wrong that are no single bad line: two journals in one transaction, half a translation, many small
roundings, a month before a closed one, a chart that moves underneath.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from ledger_tenant import PERIOD, Connection, Tenant, code_of, refusal
from raw_journals import BALANCED, TRANSLATED, attempt, head, lines

from ntro_dagster.boundary.periods import shifted

MIRRORED = lines((0, 10), (10, 0))
REVERSAL = {"kind": "'REVERSAL'", "reverses": "%(original)s"}
BEFORE = shifted(PERIOD, -1)


def close(tenant: Tenant, entity: UUID, period: str = PERIOD) -> None:
    with tenant.as_owner() as owner:
        owner.execute("INSERT INTO ledgers.periods VALUES (%s, %s, 'CLOSED')", [entity, period])


# Reversals


def test_an_original_does_not_grow_under_its_reversal(app: Connection, entity: UUID) -> None:
    """Both in one transaction: the original's lines are not sealed yet when its mirror is looked at."""
    original = uuid4()
    grows = lines((5, 0), (0, 5)).replace("%(id)s, 1", "%(original)s, 3").replace("%(id)s, 2", "%(original)s, 4")
    written = [head().replace("%(id)s", "%(original)s"), BALANCED.replace("%(id)s", "%(original)s")]
    code = attempt(app, entity, *written, head(**REVERSAL), MIRRORED, grows, original=original)
    assert code == "REVERSAL_DIFFERS"


def test_a_reversal_has_the_tax_codes_of_its_original(app: Connection, entity: UUID) -> None:
    original, tax = uuid4(), LINE_WITH_TAX
    written = [head(), tax(("10", "0", "'S20'"), ("0", "10", "NULL"))]
    assert attempt(app, entity, *written, id=original) is None
    for code, refused in (("'E0'", "REVERSAL_DIFFERS"), ("'S20'", None)):
        mirrored = tax(("0", "10", code), ("10", "0", "NULL"))
        assert attempt(app, entity, head(**REVERSAL), mirrored, original=original) == refused


def LINE_WITH_TAX(*each: tuple[str, str, str]) -> str:  # noqa: N802
    values = ", ".join(f"(%(id)s, {n}, '5000', {debit}, {credit}, {tax})" for n, (debit, credit, tax) in enumerate(each, 1))
    return f"INSERT INTO ledgers.journal_lines (journal_id, line_no, account_code, debit, credit, tax_code) VALUES {values}"


def test_a_journal_is_reversed_although_its_account_was_closed_since(tenant: Tenant, app: Connection, entity: UUID) -> None:
    with tenant.as_owner() as owner:
        owner.execute("INSERT INTO ledgers.accounts (code, name, type) VALUES ('6100', 'Old', 'EXPENSE')")
    original = uuid4()
    assert attempt(app, entity, head(), lines((10, 0, None, None, "6100"), (0, 10)), id=original) is None
    with tenant.as_owner() as owner:
        owner.execute("UPDATE ledgers.accounts SET active = FALSE WHERE code = '6100'")
    mirrored = lines((0, 10, None, None, "6100"), (10, 0))
    assert attempt(app, entity, head(), mirrored) == "ACCOUNT_NOT_ACTIVE"
    assert attempt(app, entity, head(**REVERSAL), mirrored, original=original) is None


def test_a_journal_is_reversed_although_another_account_is_for_rounding_now(another_tenant: Tenant) -> None:
    tenant = another_tenant
    app, entity, original = tenant.connect("app"), tenant.new_entity(), uuid4()
    with tenant.as_owner() as owner:
        owner.execute("INSERT INTO ledgers.accounts (code, name, type) VALUES ('2000', 'C', 'LIABILITY'), ('5950', 'Old', 'EXPENSE')")
        owner.execute("UPDATE ledgers.accounts SET role = 'ROUNDING' WHERE code = '5950'")
    rounded = lines((10, 0, 8, 0), (0, 10, 0, "7.99"), (0, 0, 0, "0.01", "5950"))
    assert attempt(app, entity, head(**TRANSLATED), rounded, currency="USD", id=original) is None
    with tenant.as_owner() as owner:
        owner.execute("UPDATE ledgers.accounts SET role = NULL WHERE code = '5950'")
    mirrored = lines((0, 10, 0, 8), (10, 0, "7.99", 0), (0, 0, "0.01", 0, "5950"))
    assert attempt(app, entity, head(**REVERSAL, **TRANSLATED), mirrored, currency="USD", original=original) is None


# Foreign currency


@pytest.mark.parametrize(
    ("amounts", "code"),
    [
        ([(10, 0), (0, 10)], "RATE_MISSING"),
        ([(10, 0, 80, 0), (0, 10, 0, 80)], "RATE_MISSING"),
        ([(10, 0, 0, 0), (0, 10, 0, 0)], "RATE_MISSING"),
        ([(10, 0, "8.5", 0), (0, 10, 0, "8.5")], None),
        ([(10, 0, "8.51", 0), (0, 10, 0, "8.51")], "RATE_MISSING"),
        ([(10, 0, "8.5", 0), (0, 10, 0, "7.5"), *[(0, 0, 0, "0.25", "5950")] * 4], None),
        ([(10, 0, "8.5", 0), (5, 0, "4.5", 0), (0, 15, 0, "11.5"), *[(0, 0, 0, "0.75", "5950")] * 2], None),
        ([(10, 0, "8.5", 0), (0, 10, 0, "7.5"), (0, 0, 1, 0, "5950"), *[(0, 0, 0, 1, "5950")] * 2], "ROUNDING_TOO_LARGE"),
    ],
    ids=["a rate and no amounts", "by another rate", "of nothing", "within rounding", "above rounding", "four differences",
         "two differences", "differences to and fro"],
)  # fmt: skip
def test_a_translation_is_whole_and_by_its_rate(
    app: Connection, entity: UUID, amounts: list[tuple[Any, ...]], code: str | None
) -> None:
    assert attempt(app, entity, head(**TRANSLATED), lines(*amounts), currency="USD") == code


# Months


def test_nothing_is_posted_before_a_closed_month(tenant: Tenant, app: Connection, entity: UUID) -> None:
    """It would change what the closed month carried forward, and no seal would show it."""
    assert attempt(app, entity, head(), BALANCED, period=BEFORE, date=f"{BEFORE}-01") is None
    close(tenant, entity)
    assert attempt(app, entity, head(), BALANCED, period=BEFORE, date=f"{BEFORE}-01") == "PERIOD_CLOSED"
    after = shifted(PERIOD, 1)
    assert attempt(app, entity, head(), BALANCED, period=after, date=f"{after}-01") is None
    assert attempt(app, tenant.new_entity(), head(), BALANCED, period=BEFORE, date=f"{BEFORE}-01") is None


# What was underneath


def test_the_currency_of_books_stays(tenant: Tenant, app: Connection, entity: UUID) -> None:
    change = "UPDATE system.entities SET currency = 'EUR' WHERE id = %s"
    with tenant.as_owner() as owner:
        owner.execute(change, [tenant.new_entity()])
    assert attempt(app, entity, head(), BALANCED) is None
    with tenant.as_owner() as owner:
        assert refusal(owner, change, [entity]) == "CURRENCY_HAS_JOURNALS"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("UPDATE system.entities SET first_month = 4 WHERE id = %s", "YEAR_HAS_JOURNALS"),
        ("UPDATE system.entities SET currency = 'EUR' WHERE id = %s", "CURRENCY_HAS_JOURNALS"),
    ],
)
def test_a_change_of_the_entity_waits_for_postings_under_way(
    tenant: Tenant, app: Connection, entity: UUID, change: str, code: str
) -> None:
    tenant.journal(entity, None, connection=app)

    def alter() -> str | None:
        try:
            with tenant.as_owner() as owner:
                owner.execute(change, [entity])
        except psycopg.Error as error:
            return code_of(error)
        return None

    with ThreadPoolExecutor(1) as pool:
        altering = pool.submit(alter)
        app.commit() if tenant.waits() else app.rollback()
        assert altering.result(20) == code


def test_the_type_of_an_account_waits_for_postings_under_way(tenant: Tenant, app: Connection, entity: UUID) -> None:
    with tenant.as_owner() as owner:
        owner.execute("INSERT INTO ledgers.accounts (code, name, type) VALUES ('6200', 'New', 'EXPENSE')")
    journal = uuid4()
    parameters = {"id": journal, "entity": entity, "period": PERIOD, "date": f"{PERIOD}-15", "currency": "GBP"}
    app.execute(head(), parameters)
    app.execute(lines((10, 0, None, None, "6200"), (0, 10)), parameters)

    def alter() -> str | None:
        try:
            with tenant.as_owner() as owner:
                owner.execute("UPDATE ledgers.accounts SET type = 'ASSET' WHERE code = '6200'")
        except psycopg.Error as error:
            return code_of(error)
        return None

    with ThreadPoolExecutor(1) as pool:
        altering = pool.submit(alter)
        app.commit() if tenant.waits() else app.rollback()
        assert altering.result(20) == "ACCOUNT_HAS_POSTINGS"


def test_two_accounts_do_not_come_above_each_other_at_once(tenant: Tenant) -> None:
    with tenant.as_owner() as owner:
        owner.execute("INSERT INTO ledgers.accounts (code, name, type) VALUES ('6301', 'A', 'EXPENSE'), ('6302', 'B', 'EXPENSE')")
    place = "UPDATE ledgers.accounts SET parent = %s WHERE code = %s"
    first = tenant.connect("owner")
    first.execute(place, ["6302", "6301"])

    def alter() -> str | None:
        try:
            with tenant.as_owner() as owner:
                owner.execute(place, ["6301", "6302"])
        except psycopg.Error as error:
            return code_of(error)
        return None

    with ThreadPoolExecutor(1) as pool:
        altering = pool.submit(alter)
        first.commit() if tenant.waits() else first.rollback()
        assert altering.result(20) == "ACCOUNT_ABOVE_ITSELF"
