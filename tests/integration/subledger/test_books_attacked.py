"""Ways to make the books wrong that are no single bad line: two journals in one transaction, half a translation, many small
roundings, a month before a closed one, a chart that moves underneath.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
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
        owner.execute("INSERT INTO ledgers.accounts VALUES ('2000', 'Creditors', 'LIABILITY'), ('5950', 'Old', 'EXPENSE')")
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


def test_a_year_is_not_changed_while_numbers_are_given(tenant: Tenant, app: Connection, entity: UUID) -> None:
    """A posting that waits for its number holds the entity already: the year it counts in is the year it is in."""
    counter = tenant.connect("owner")
    counter.execute("INSERT INTO ledgers.journal_counters VALUES (%s, 2025, 1)", [entity])

    def alter() -> str | None:
        try:
            with tenant.as_owner() as owner:
                owner.execute("SET LOCAL lock_timeout = '4s'")
                owner.execute("UPDATE system.entities SET first_month = 4 WHERE id = %s", [entity])
        except psycopg.Error as error:
            return code_of(error)
        return None

    with ThreadPoolExecutor(1) as pool:
        posting = pool.submit(tenant.journal, entity, None)
        assert tenant.waits()
        refused = alter()
        counter.rollback()
        posting.result(20)
    assert refused == "LockNotAvailable"


# Movements


def test_movements_are_what_lines_add_up_to(tenant: Tenant, app: Connection, entity: UUID) -> None:
    translated = lines((10, 0, 8, 0, "5000"), (0, 10, 0, "7.99"), (0, 0, 0, "0.01", "5950"))
    assert attempt(app, entity, head(**TRANSLATED), translated, currency="USD") is None
    assert attempt(app, entity, head(), lines((1, 0, None, None, "5000"), (2, 0, None, None, "5000"), (0, 3))) is None
    more, lame = (
        lines((5, 0), (0, credit)).replace("%(id)s, 1,", "%(id)s, 3,").replace("%(id)s, 2,", "%(id)s, 4,") for credit in (5, 4)
    )
    assert attempt(app, entity, head(), BALANCED, lame) == "JOURNAL_DOES_NOT_BALANCE"
    assert attempt(app, entity, head(), BALANCED, more) is None
    moved = tenant.fetch(
        "SELECT currency, account_code, debit, credit, functional_debit, functional_credit FROM ledgers.movements "
        "WHERE entity_id = %s ORDER BY 1, 2",
        entity,
    )
    cents = Decimal("0.01")
    assert moved == [
        ("GBP", "2000", 15, 18, 15, 18),
        ("GBP", "5000", 3, 0, 3, 0),
        ("USD", "2000", 0, 10, 0, 8 - cents),
        ("USD", "5000", 10, 0, 8, 0),
        ("USD", "5950", 0, 0, 0, cents),
    ]


@pytest.mark.parametrize("role", ["app", "desk", "auditor"])
def test_movements_are_the_databases_to_write(tenant: Tenant, app: Connection, entity: UUID, role: str) -> None:
    assert attempt(app, entity, head(), BALANCED) is None
    for statement in (
        "UPDATE ledgers.movements SET debit = 0",
        "DELETE FROM ledgers.movements",
        "INSERT INTO ledgers.movements SELECT * FROM ledgers.movements",
    ):
        assert refusal(tenant.connect(role), statement) == "InsufficientPrivilege"


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE ledgers.movements SET debit = debit + 1, credit = credit + 1 WHERE entity_id = %s",
        "UPDATE ledgers.movements SET debit = debit + 1 WHERE entity_id = %s",
        "UPDATE ledgers.movements SET account_code = '5000' WHERE entity_id = %s",
    ],
)
def test_movements_that_are_not_the_lines_stop_a_close(tenant: Tenant, app: Connection, entity: UUID, tampering: str) -> None:
    assert attempt(app, entity, head(), BALANCED) is None
    with tenant.as_owner() as owner:
        findings = "SELECT code FROM ledgers.close_findings(%s, %s)"
        assert owner.execute(findings, [entity, PERIOD]).fetchall() == []
        owner.execute(tampering, [entity])
        assert owner.execute(findings, [entity, PERIOD]).fetchall() == [("BOOKS_DO_NOT_BALANCE",)]
        owner.rollback()


# What a close looks at


def found(tenant: Tenant, entity: UUID, period: str = PERIOD) -> dict[str, int]:
    return dict(tenant.fetch("SELECT code, things FROM ledgers.close_findings(%s, %s)", entity, period))


def test_rows_of_an_earlier_month_are_not_locked_out(tenant: Tenant, entity: UUID) -> None:
    row = tenant.new_row(entity, period=BEFORE)
    assert found(tenant, entity) == {"EARLIER_PERIOD_OPEN": 1}
    tenant.journal(entity, None, period=BEFORE)
    assert found(tenant, entity) == {"EARLIER_PERIOD_OPEN": 1}
    close(tenant, entity, BEFORE)
    assert found(tenant, entity) == {}, row
    tenant.new_row(entity, period=shifted(BEFORE, -1))
    assert found(tenant, entity) == {}


def test_a_journal_without_a_rate_is_mended_by_its_reversal(tenant: Tenant, app: Connection, entity: UUID) -> None:
    original = uuid4()
    assert attempt(app, entity, head(), BALANCED, currency="USD", id=original) is None
    assert found(tenant, entity) == {"NOT_TRANSLATED": 1}
    assert attempt(app, entity, head(**REVERSAL), MIRRORED, currency="USD", original=original) is None
    assert found(tenant, entity) == {}
