"""What makes journals a fund's books, attacked with raw SQL: the chart, both currencies, numbers, reversals, many rows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from ledger_tenant import PERIOD, Connection, Tenant, code_of, move, refusal
from raw_journals import BALANCED, TRANSLATED, attempt, head, lines

# Foreign currency


def test_a_translated_journal_is_let_through(app: Connection, entity: UUID) -> None:
    translated = lines((10, 0, 8, 0), (0, 10, 0, 8))
    assert attempt(app, entity, head(**TRANSLATED), translated, currency="USD") is None


@pytest.mark.parametrize(
    ("columns", "amounts", "expected"),
    [
        (TRANSLATED, [(10, 0, 8, 0), (0, 10, 0, "7.99")], ("USD", "JOURNAL_DOES_NOT_BALANCE")),
        (TRANSLATED, [(10, 0, 8, 0), (0, 10)], ("USD", "JOURNAL_DOES_NOT_BALANCE")),
        (TRANSLATED, [(10, 0, 8, 0), (0, 10, 0, 8), (5, 0), (0, 5)], ("USD", "JOURNAL_DOES_NOT_BALANCE")),
        (TRANSLATED, [(10, 0, 0, 8), (0, 10, 8, 0)], ("USD", "CheckViolation")),
        (TRANSLATED, [(10, 0, 8, 0), (0, 10, 0, "'NaN'")], ("USD", "CheckViolation")),
        (TRANSLATED, [(0, 0, 8, 0), (0, 0, 0, 8)], ("USD", "JOURNAL_DOES_NOT_BALANCE")),
        ({}, [(10, 0, 8, 0), (0, 10, 0, 8)], ("USD", "RATE_MISSING")),
        ({"functional_currency": "'GBP'"}, [(10, 0, 8, 0), (0, 10, 0, 8)], ("USD", "RATE_MISSING")),
        ({"functional_currency": "'GBP'"}, [(10, 0, 9, 0), (0, 10, 0, 9)], ("GBP", "RATE_MISSING")),
        (TRANSLATED, [(10, 0, 8, 0), (0, 10, 0, 8)], ("GBP", "RATE_MISSING")),
        (TRANSLATED | {"functional_currency": "'EUR'"}, [(10, 0, 8, 0), (0, 10, 0, 8)], ("USD", "RATE_MISSING")),
        (TRANSLATED | {"rate_source": "NULL"}, [], ("USD", "CheckViolation")),
        (TRANSLATED | {"rate": "'NaN'"}, [], ("USD", "CheckViolation")),
        (TRANSLATED, [(10, 0, 8, 0), (0, 10, 0, "7.99"), (0, 0, 0, "0.01")], ("USD", "ROUNDING_TOO_LARGE")),
        (TRANSLATED, [(10, 0, 8, 0), (0, 10, 0, 8), (0, 0, "1.01", 0, "5950"), (0, 0, 0, "1.01", "5950")],
         ("USD", "ROUNDING_TOO_LARGE")),
    ],
    ids=["by a penny", "one line not", "one pair not", "other side", "not a number", "of nothing", "no rate",
         "no rate, own currency named",
         "own currency, other amounts", "own currency, with a rate", "into another currency",
         "no source", "rate not a number",
         "rounding elsewhere", "rounding too large"],
)  # fmt: skip
def test_amounts_in_the_entitys_currency_are_not_made_up(
    app: Connection, entity: UUID, columns: dict[str, str], amounts: list[tuple[Any, ...]], expected: tuple[str, str]
) -> None:
    currency, code = expected
    statements = [head(**columns), *([lines(*amounts)] if amounts else [])]
    assert attempt(app, entity, *statements, currency=currency) == code


# Numbers


def numbers(tenant: Tenant, entity: UUID) -> list[tuple[int, int]]:
    return [
        (int(year), int(number))
        for year, number in tenant.fetch(
            "SELECT year, number FROM ledgers.journal_numbers WHERE entity_id = %s ORDER BY 1, 2", entity
        )
    ]


def test_numbers_have_no_gaps_whatever_is_undone(tenant: Tenant, app: Connection, entity: UUID) -> None:
    assert attempt(app, entity, head(), BALANCED) is None
    assert attempt(app, entity, head(), lines((10, 0), (0, 9))) == "JOURNAL_DOES_NOT_BALANCE"
    parameters = {"id": uuid4(), "entity": entity, "period": PERIOD, "date": f"{PERIOD}-15", "currency": "GBP"}
    app.execute("SAVEPOINT a")
    app.execute(head(), parameters)
    app.execute("ROLLBACK TO a")
    app.commit()
    assert attempt(app, entity, head(), BALANCED, period="2024-12", date="2024-12-31") is None
    assert attempt(app, entity, head(), BALANCED) is None
    assert numbers(tenant, entity) == [(2024, 1), (2025, 1), (2025, 2)]


def test_numbers_have_no_gaps_among_many_at_once(tenant: Tenant, entity: UUID) -> None:
    def write(number: int) -> None:
        with psycopg.connect(tenant.credentials.app) as connection:
            tenant.journal(entity, None, connection=connection, amount=number + 1)
            if number % 3 == 0:
                connection.rollback()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(30)))
    assert numbers(tenant, entity) == [(2025, number) for number in range(1, 21)]


def test_a_year_begins_when_the_entity_says_and_stays_so(tenant: Tenant, app: Connection, entity: UUID) -> None:
    with tenant.as_owner() as owner:
        owner.execute("UPDATE system.entities SET first_month = 4 WHERE id = %s", [entity])
    for period in ("2025-03", "2025-04", "2026-03"):
        assert attempt(app, entity, head(), BALANCED, period=period, date=f"{period}-01") is None
    assert numbers(tenant, entity) == [(2025, 1), (2026, 1), (2026, 2)]
    with tenant.as_owner() as owner:
        assert refusal(owner, "UPDATE system.entities SET first_month = 1 WHERE id = %s", [entity]) == "YEAR_HAS_JOURNALS"


@pytest.mark.parametrize("table", ["journal_numbers", "journal_counters", "journal_rows"])
def test_what_was_numbered_is_not_renumbered(tenant: Tenant, app: Connection, entity: UUID, table: str) -> None:
    tenant.journal(entity, tenant.row_in("APPROVED", entity))
    for statement in (f"DELETE FROM ledgers.{table}", f"TRUNCATE ledgers.{table}"):
        assert refusal(app, statement) == "InsufficientPrivilege"
        with tenant.as_owner() as owner:
            assert refusal(owner, statement) == "POSTED_IS_FINAL"
    if table != "journal_rows":
        assert refusal(app, f"UPDATE ledgers.{table} SET year = year + 1") == "InsufficientPrivilege"
        assert refusal(app, f"INSERT INTO ledgers.{table} SELECT * FROM ledgers.{table}") == "InsufficientPrivilege"


# Reversals


def reversing(tenant: Tenant, entity: UUID, *, mirror: str | None = None, **values: Any) -> tuple[str | None, UUID]:
    original = uuid4()
    with tenant.connect("app") as app:
        assert attempt(app, entity, head(), lines((10, 0, None, None, "5000", "Ann"), (0, 10)), id=original) is None
        reversal = head(kind="'REVERSAL'", reverses="%(original)s")
        mirrored = mirror or lines((0, 10, None, None, "5000", "Ann"), (10, 0))
        return attempt(app, entity, reversal, mirrored, original=original, **values), original


def test_a_mirror_in_an_open_period_is_let_through_once(tenant: Tenant, app: Connection, entity: UUID) -> None:
    code, original = reversing(tenant, entity, period="2025-02", date="2025-02-01")
    assert code is None
    again = head(kind="'REVERSAL'", reverses="%(original)s")
    assert attempt(app, entity, again, lines((0, 10, None, None, "5000", "Ann"), (10, 0)), original=original) == "UniqueViolation"


@pytest.mark.parametrize(
    ("mirror", "values"),
    [
        (lines((0, 9, None, None, "5000", "Ann"), (9, 0)), {}),
        (lines((0, 10, None, None, "5100", "Ann"), (10, 0)), {}),
        (lines((0, 10, None, None, "5000", "Bob"), (10, 0)), {}),
        (lines((10, 0, None, None, "5000", "Ann"), (0, 10)), {}),
        (lines((0, 10, None, None, "5000", "Ann"), (4, 0), (6, 0)), {}),
        (None, {"date": f"{PERIOD}-14"}),
        (None, {"period": "2024-12", "date": "2024-12-31"}),
        (None, {"currency": "USD"}),
    ],
    ids=["other amount", "other account", "other party", "not mirrored", "split", "a day before",
         "a month before", "other currency"],
)  # fmt: skip
def test_what_is_no_mirror_is_no_reversal(tenant: Tenant, entity: UUID, mirror: str | None, values: dict[str, Any]) -> None:
    assert reversing(tenant, entity, mirror=mirror, **values)[0] == "REVERSAL_DIFFERS"


def test_a_reversal_of_another_entity_or_of_nothing(tenant: Tenant, app: Connection, entity: UUID) -> None:
    _, original = reversing(tenant, entity)
    mirrored = lines((0, 10, None, None, "5000", "Ann"), (10, 0))
    other = head(kind="'REVERSAL'", reverses="%(original)s")
    fresh = uuid4()
    assert attempt(app, entity, head(), BALANCED, id=fresh) is None
    assert attempt(app, tenant.new_entity(), other, BALANCED, original=fresh) == "REVERSAL_DIFFERS"
    assert attempt(app, entity, other, mirrored, original=uuid4()) == "ForeignKeyViolation"
    assert attempt(app, entity, head(kind="'REVERSAL'"), BALANCED) == "CheckViolation"
    assert attempt(app, entity, head(reverses="%(original)s"), mirrored, original=original) == "CheckViolation"


def test_a_reversal_is_not_reversed(tenant: Tenant, app: Connection, entity: UUID) -> None:
    original, reversal = uuid4(), uuid4()
    assert attempt(app, entity, head(), BALANCED, id=original) is None
    kind = head(kind="'REVERSAL'", reverses="%(original)s")
    assert attempt(app, entity, kind, lines((0, 10), (10, 0)), id=reversal, original=original) is None
    assert attempt(app, entity, kind, BALANCED, original=reversal) == "REVERSAL_DIFFERS"


def test_a_reversal_in_a_closed_period(tenant: Tenant, entity: UUID) -> None:
    """erpnext#28678: a reversal booked into the closed period of its original."""
    original = uuid4()
    with tenant.connect("app") as app:
        assert attempt(app, entity, head(), BALANCED, id=original) is None
        with tenant.as_owner() as owner:
            owner.execute("INSERT INTO ledgers.periods VALUES (%s, %s, 'CLOSED')", [entity, PERIOD])
        reversal = head(kind="'REVERSAL'", reverses="%(original)s")
        mirrored = lines((0, 10), (10, 0))
        assert attempt(app, entity, reversal, mirrored, original=original) == "PERIOD_CLOSED"
        assert attempt(app, entity, reversal, mirrored, original=original, period="2025-02", date="2025-02-01") is None


# Many rows in one journal


def test_rows_are_named_by_who_writes_the_journal_and_each_once(tenant: Tenant, app: Connection, entity: UUID) -> None:
    first, second = (tenant.row_in("APPROVED", entity) for _ in range(2))
    journal = uuid4()
    name = "INSERT INTO ledgers.journal_rows (row_id, journal_id) VALUES (%(row)s, %(id)s)"
    parameters = {"id": journal, "entity": entity, "period": PERIOD, "date": f"{PERIOD}-15", "currency": "GBP"}
    app.execute(head(), parameters)
    app.execute(lines((240, 0), (0, 240)), parameters)
    app.execute(name, parameters | {"row": first})
    app.execute(name, parameters | {"row": second})
    assert refusal(app, name, parameters | {"row": first}) == "UniqueViolation"
    for row in (first, second):
        assert move(app, row, "POSTED", "post", journal=str(journal)) == 1
    app.commit()
    third = tenant.row_in("APPROVED", entity)
    assert refusal(app, name, parameters | {"row": third}) == "POSTED_IS_FINAL"
    with pytest.raises(psycopg.Error) as refused:
        move(app, third, "POSTED", "post", journal=str(journal))
    assert code_of(refused.value) == "POSTED_WITHOUT_JOURNAL"


# The chart


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("UPDATE ledgers.accounts SET code = '5001' WHERE code = '5100'", "ACCOUNT_IS_KNOWN_BY_ITS_CODE"),
        ("UPDATE ledgers.accounts SET parent = '1000' WHERE code = '5100'", "ACCOUNT_TYPE_DIFFERS"),
        ("UPDATE ledgers.accounts SET parent = '5100' WHERE code = '5100'", "ACCOUNT_ABOVE_ITSELF"),
        ("UPDATE ledgers.accounts SET role = 'CREDITORS' WHERE code = '5100'", "UniqueViolation"),
        ("UPDATE ledgers.accounts SET role = 'OTHER' WHERE code = '5100'", "CheckViolation"),
        ("DELETE FROM ledgers.accounts WHERE code = '5100'", "ACCOUNTS_ARE_KEPT"),
        ("UPDATE ledgers.accounts SET type = 'ASSET' WHERE code = '5000'", "ACCOUNT_HAS_POSTINGS"),
        ("UPDATE ledgers.account_changes SET actor = 'x'", "HISTORY_IS_APPEND_ONLY"),
    ],
)
def test_even_the_owner_keeps_the_chart_sound(tenant: Tenant, entity: UUID, statement: str, code: str) -> None:
    reversing(tenant, entity)
    with tenant.as_owner() as owner:
        assert refusal(owner, statement) == code


def test_an_account_is_not_above_itself_by_a_detour(tenant: Tenant) -> None:
    with tenant.as_owner() as owner:
        owner.execute("UPDATE ledgers.accounts SET parent = '5100' WHERE code = '5200'")
        owner.execute("UPDATE ledgers.accounts SET parent = '5200' WHERE code = '5300'")
        assert refusal(owner, "UPDATE ledgers.accounts SET parent = '5300' WHERE code = '5100'") == "ACCOUNT_ABOVE_ITSELF"
        owner.rollback()


def test_changes_of_the_chart_are_told(tenant: Tenant) -> None:
    with tenant.as_owner() as owner:
        owner.execute("INSERT INTO ledgers.accounts (code, name, type) VALUES ('6000', 'New', 'EXPENSE')")
        owner.execute("UPDATE ledgers.accounts SET active = FALSE WHERE code = '6000'")
        owner.execute("UPDATE ledgers.accounts SET active = FALSE WHERE code = '6000'")
    told = tenant.fetch(
        "SELECT before ->> 'active', after ->> 'active' FROM ledgers.account_changes WHERE code = '6000' ORDER BY id"
    )
    assert told == [(None, "true"), ("true", "false")]


@pytest.mark.parametrize("dimensions", ['{"fund": "a"}', '{"project": 1}', '{"project": {"a": "b"}}', "[]"])
def test_dimensions_are_declared_texts(tenant: Tenant, app: Connection, entity: UUID, dimensions: str) -> None:
    with tenant.as_owner() as owner:
        owner.execute("INSERT INTO ledgers.dimensions VALUES ('project', 'Project') ON CONFLICT DO NOTHING")
    known = lines((10, 0, None, None, "5000", None, '{"project": "roof"}'), (0, 10))
    assert attempt(app, entity, head(), known) is None
    unknown = lines((10, 0, None, None, "5000", None, dimensions), (0, 10))
    assert attempt(app, entity, head(), unknown) in {"DIMENSION_UNKNOWN", "CheckViolation"}


def test_the_books_of_a_currency_add_up(tenant: Tenant, app: Connection, entity: UUID) -> None:
    assert attempt(app, entity, head(**TRANSLATED), lines((10, 0, 8, 0), (0, 10, 0, 8)), currency="USD") is None
    assert attempt(app, entity, head(), BALANCED) is None
    functional = (
        "SELECT sum(debit), sum(credit) FROM ledgers.functional_lines f JOIN ledgers.journals j ON j.id = f.journal_id "
        "WHERE j.entity_id = %s"
    )
    assert tenant.fetch(functional, entity) == [(Decimal(18), Decimal(18))]
