"""What the database refuses of deliveries, whoever asks: raw SQL as the app role."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from elsewhere import keep_at, place_for, run, statuses
from ledger_tenant import PERIOD, Connection, Tenant, approved, refusal
from misbehaving_ledger import Elsewhere, misbehaving_ledger
from psycopg.types.json import Jsonb

from ntro_dagster.gl.held_back import RowsNotPostedError
from ntro_dagster.gl.settings import LedgerInDoubtError, NothingHeldError, accounts_beside, give_up, record, repeat, status
from ntro_dagster.orchestration.work import Work, waiting
from ntro_dagster.subledger.registry import subledger_type

PLACE = "Company"


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    with misbehaving_ledger() as running:
        yield running


@pytest.fixture(autouse=True)
def kept_elsewhere(tenant: Tenant, entity: UUID, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NTRO_SECRET_ERPNEXT", "key:secret")
    keep_at(tenant, entity, "erpnext", elsewhere.erpnext(PLACE))


DELIVERY = (
    "INSERT INTO ledgers.deliveries (id, entity_id, period, subledger, external_id, provider, place, proposal, run_id) "
    "VALUES (%(id)s, %(entity)s, %(period)s, 'expenses', %(external)s, %(provider)s, %(place)s, %(proposal)s, gen_random_uuid())"
)
ROW = "INSERT INTO ledgers.delivery_rows (row_id, delivery_id) VALUES (%s, %s)"


def values(entity: UUID, **other: Any) -> dict[str, Any]:
    return {
        "id": uuid4(), "entity": entity, "period": PERIOD, "external": f"test:{uuid4()}", "provider": "erpnext", "place": PLACE,
        "proposal": Jsonb({"lines": [{"account_code": "5999"}]}),
    } | other  # fmt: skip


def under_way(app: Connection, entity: UUID, row: UUID) -> UUID:
    delivery = values(entity)
    app.execute(DELIVERY, delivery)
    app.execute(ROW, [row, delivery["id"]])
    app.commit()
    return delivery["id"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("other", "code"),
    [
        ({"provider": "xero"}, "LEDGER_CHANGED"),
        ({"place": "Another"}, "LEDGER_CHANGED"),
        ({"period": "2025-1"}, "CheckViolation"),
    ],
)
def test_an_intent_is_for_the_ledger_there_is(app: Connection, entity: UUID, other: dict[str, Any], code: str) -> None:
    assert refusal(app, DELIVERY, values(entity, **other)) == code


def test_no_intent_for_a_closed_month(tenant: Tenant, app: Connection, entity: UUID) -> None:
    with tenant.as_owner() as owner:
        owner.execute("INSERT INTO ledgers.periods VALUES (%s, %s, 'CLOSING')", [entity, PERIOD])
    assert refusal(app, DELIVERY, values(entity)) == "PERIOD_CLOSED"


def test_only_approved_rows_of_the_partition_once(tenant: Tenant, app: Connection, entity: UUID) -> None:
    (row,) = approved(tenant, entity)
    pending = tenant.new_row(entity)
    (foreign,) = approved(tenant, tenant.new_entity())
    delivery = values(entity)
    app.execute(DELIVERY, delivery)
    assert refusal(app, ROW, [pending, delivery["id"]]) == "DELIVERY_OF_OTHER_ROWS"
    assert refusal(app, ROW, [foreign, delivery["id"]]) == "DELIVERY_OF_OTHER_ROWS"
    app.execute(ROW, [row, delivery["id"]])
    second = values(entity)
    app.execute(DELIVERY, second)
    assert refusal(app, ROW, [row, second["id"]]) == "UniqueViolation"
    app.commit()
    (other,) = approved(tenant, entity)
    assert refusal(app, ROW, [other, delivery["id"]]) == "DELIVERY_IS_SEALED"
    assert refusal(app, DELIVERY, values(entity, external=delivery["external"])) == "UniqueViolation"


def test_it_is_decided_once_and_with_its_journal(tenant: Tenant, app: Connection, entity: UUID) -> None:
    (row,) = approved(tenant, entity)
    delivery = under_way(app, entity, row)
    confirm = "UPDATE ledgers.deliveries SET outcome = 'CONFIRMED', provider_ref = 'x' WHERE id = %s"
    assert refusal(app, confirm, [delivery]) == "POSTED_WITHOUT_JOURNAL"
    (external,) = app.execute("SELECT external_id FROM ledgers.deliveries WHERE id = %s", [delivery]).fetchone() or ("",)
    journal = uuid4()
    app.execute(
        "INSERT INTO ledgers.journals (id, entity_id, period, external_id, posting_date, description, currency, run_id, row_id) "
        "VALUES (%s, %s, %s, %s, '2025-01-15', 'x', 'GBP', gen_random_uuid(), %s)",
        [journal, entity, PERIOD, external, row],
    )
    app.execute(
        "INSERT INTO ledgers.journal_lines (journal_id, line_no, account_code, debit, credit) "
        "VALUES (%s, 1, '5999', 1, 0), (%s, 2, '2000', 0, 1)",
        [journal, journal],
    )
    assert refusal(app, confirm, [delivery]) == "CONFIRMED_AND_NOT_POSTED"
    app.execute(confirm, [delivery])
    app.execute(
        "UPDATE ledgers.expenses SET status = 'POSTED', posted_to_gl = TRUE, posted_journal_ref = %s WHERE id = %s",
        [external, row],
    )
    app.commit()
    assert statuses(tenant, entity) == {"POSTED": 1}
    for change in ("outcome = 'REFUSED'", "outcome = NULL", "provider_ref = 'y'", "attempts = 9", "wait_until = now()"):
        assert refusal(app, f"UPDATE ledgers.deliveries SET {change} WHERE id = %s", [delivery]) == "DELIVERY_IS_DECIDED"
    for statement in ("DELETE FROM ledgers.deliveries", "UPDATE ledgers.deliveries SET proposal = '{}'"):
        assert refusal(app, statement) == "InsufficientPrivilege"


def test_rows_under_way_do_not_move(tenant: Tenant, app: Connection, entity: UUID) -> None:
    (row,) = approved(tenant, entity)
    under_way(app, entity, row)
    with pytest.raises(psycopg.Error, match="DELIVERY_UNDER_WAY"):
        tenant.decide("undo", row)
    with pytest.raises(psycopg.Error, match="DELIVERY_UNDER_WAY"):
        tenant.post(entity, row)
    (free,) = approved(tenant, entity)
    with pytest.raises(psycopg.Error, match="NOT_DELIVERED"):
        tenant.post(entity, free)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE system.entities SET status = 'CLOSED' WHERE id = %s",
        "UPDATE ledgers.accounts SET active = FALSE WHERE code = '5999' AND %s::uuid IS NOT NULL",
    ],
)
def test_what_is_needed_to_confirm_stays(tenant: Tenant, app: Connection, entity: UUID, change: str) -> None:
    (row,) = approved(tenant, entity)
    under_way(app, entity, row)
    with tenant.as_owner() as owner:
        assert refusal(owner, change, [entity]) == "DELIVERIES_UNDER_WAY"


def test_a_month_with_a_delivery_under_way_is_not_ready(tenant: Tenant, app: Connection, entity: UUID) -> None:
    (row,) = approved(tenant, entity)
    under_way(app, entity, row)
    found = dict(tenant.fetch("SELECT code, things FROM ledgers.close_findings(%s, %s)", entity, PERIOD))
    assert found["DELIVERIES_UNDER_WAY"] == 1


def test_settings_are_the_operators_and_stay(tenant: Tenant, app: Connection, entity: UUID) -> None:
    assert (
        refusal(app, "INSERT INTO ledgers.gl_settings (provider, recorded_by) VALUES ('native', 'app')")
        == "InsufficientPrivilege"
    )
    with tenant.as_owner() as owner:
        assert refusal(owner, "UPDATE ledgers.gl_settings SET provider = 'native'") == "HISTORY_IS_APPEND_ONLY"


def test_the_sensor_asks_for_what_can_be_done_now(tenant: Tenant, app: Connection, entity: UUID, elsewhere: Elsewhere) -> None:
    (row,) = approved(tenant, entity)
    ((slug,),) = tenant.fetch("SELECT slug FROM system.entities WHERE id = %s", entity)

    subledgers = {"expenses": subledger_type("expenses").lifecycle}

    def asked() -> bool:
        async def ask() -> bool:
            async with tenant.database() as database:
                return slug in {each.entity for each in await waiting(database, Work.POSTING, subledgers)}

        return asyncio.run(ask())

    assert asked()
    delivery = under_way(app, entity, row)
    assert asked()
    app.execute("UPDATE ledgers.deliveries SET wait_until = now() + interval '1 hour', attempts = 1 WHERE id = %s", [delivery])
    app.execute("INSERT INTO ledgers.delivery_attempts (delivery_id, run_id) VALUES (%s, gen_random_uuid())", [delivery])
    app.commit()
    assert asked()  # whoever began that attempt died: it may be there
    app.execute("UPDATE ledgers.delivery_attempts SET code = 'LEFT_BEHIND' WHERE delivery_id = %s", [delivery])
    app.commit()
    assert not asked()
    app.execute("UPDATE ledgers.deliveries SET wait_until = now() - interval '1 second' WHERE id = %s", [delivery])
    app.commit()
    assert asked()
    app.execute(
        "INSERT INTO ledgers.gl_pauses (entity_id, until, failures, code) VALUES (%s, now() + interval '1 hour', 1, 'X')",
        [entity],
    )
    app.commit()
    assert not asked()
    repeat(tenant.credentials.owner, entity_id=entity, by="operator")
    assert asked()
    app.execute("UPDATE ledgers.deliveries SET outcome = 'REFUSED', code = 'GL_REFUSED' WHERE id = %s", [delivery])
    app.commit()
    assert not asked()
    repeat(tenant.credentials.owner, entity_id=entity, by="operator")
    assert asked()


def test_a_ledger_that_never_answers_again_is_given_up(tenant: Tenant, elsewhere: Elsewhere) -> None:
    entity, place = tenant.new_entity(), place_for("erpnext")
    owner = tenant.credentials.owner
    record(owner, provider="erpnext", options=elsewhere.erpnext(place), entity_id=entity, by="operator")
    (row,) = approved(tenant, entity)
    elsewhere.mood(place, script=["commit_late"], silence_s=1.0, late_s=2.0)
    run(tenant, entity)
    with pytest.raises(LedgerInDoubtError):
        record(owner, provider="native", options={}, entity_id=entity, by="operator")
    with pytest.raises(LedgerInDoubtError):  # the request may still land
        give_up(owner, entity_id=entity, by="operator", reason="it was switched off")
    with psycopg.connect(owner) as connection:
        connection.execute("UPDATE ledgers.deliveries SET wait_until = now() - INTERVAL '1 s' WHERE entity_id = %s", [entity])
    doubtful = give_up(owner, entity_id=entity, by="operator", reason="it was switched off")
    assert doubtful == [f"expenses:{row}"]
    assert statuses(tenant, entity) == {"APPROVED": 1}
    record(owner, provider="native", options={}, entity_id=entity, by="operator")
    run(tenant, entity)
    assert statuses(tenant, entity) == {"POSTED": 1}
    assert tenant.fetch(
        "SELECT count(*), min(g.reason), min(g.recorded_by) FROM ledgers.given_up g "
        "JOIN ledgers.deliveries d ON d.id = g.delivery_id WHERE d.entity_id = %s AND d.code = 'GIVEN_UP'",
        entity,
    ) == [(1, "it was switched off", "operator")]
    with pytest.raises(NothingHeldError):
        give_up(owner, entity_id=entity, by="operator", reason="again")


def test_a_ledger_that_was_given_up_and_comes_back_is_looked_into_first(tenant: Tenant, elsewhere: Elsewhere) -> None:
    entity, place = tenant.new_entity(), place_for("erpnext")
    owner = tenant.credentials.owner
    record(owner, provider="erpnext", options=elsewhere.erpnext(place), entity_id=entity, by="operator")
    approved(tenant, entity)
    elsewhere.mood(place, script=["commit_then_silence"], read_script=["ok", "ok", *["500"] * 9], silence_s=1.0)
    run(tenant, entity)
    with psycopg.connect(owner) as connection:
        connection.execute("UPDATE ledgers.deliveries SET wait_until = now() - INTERVAL '1 s' WHERE entity_id = %s", [entity])
    assert len(give_up(owner, entity_id=entity, by="operator", reason="it was switched off")) == 1
    elsewhere.mood(place)
    repeat(owner, entity_id=entity, by="operator")
    run(tenant, entity)
    assert statuses(tenant, entity) == {"POSTED": 1}
    assert len(elsewhere.standing(place)) == 1
    assert tenant.fetch(
        "SELECT recheck_at IS NOT NULL FROM ledgers.deliveries WHERE entity_id = %s AND outcome = 'CONFIRMED'", entity
    ) == [(True,)]


def test_what_our_own_books_would_refuse_is_not_sent(tenant: Tenant, elsewhere: Elsewhere) -> None:
    entity, place = tenant.new_entity(), place_for("erpnext")
    record(tenant.credentials.owner, provider="erpnext", options=elsewhere.erpnext(place), entity_id=entity, by="operator")
    rows = approved(tenant, entity, 3)
    (taken,) = tenant.fetch("SELECT id FROM ledgers.expenses WHERE id = ANY(%s) ORDER BY id LIMIT 1", rows)
    with tenant.connect("app") as app:  # somebody else's journal under its id: our books will not have another
        tenant.journal(entity, taken[0], connection=app, amount=7)
    with pytest.raises(RowsNotPostedError):
        run(tenant, entity)
    assert statuses(tenant, entity) == {"APPROVED": 1, "POSTED": 2}
    assert len(elsewhere.standing(place)) == 2


def test_what_an_operator_says_and_sees(tenant: Tenant, elsewhere: Elsewhere) -> None:
    entity, place = tenant.new_entity(), place_for("erpnext")
    owner = tenant.credentials.owner
    with pytest.raises(NothingHeldError):
        repeat(owner, entity_id=entity, by="operator")
    assert record(owner, provider="erpnext", options=elsewhere.erpnext(place), entity_id=entity, by="operator") == place
    approved(tenant, entity, 3)
    elsewhere.mood(place, script=["commit_late"], silence_s=1.0, late_s=2.0)
    run(tenant, entity)

    async def look() -> tuple[dict[str, Any], list[dict[str, Any]]]:
        async with tenant.database("auditor") as database:
            return await status(database, entity_id=entity), await accounts_beside(database, entity)

    found, accounts = asyncio.run(look())
    (month,) = found["deliveries"]
    assert (month["under_way"], month["in_doubt"], month["confirmed"], month["refused"]) == (1, 1, 2, 0)
    assert {x["code"]: x["there"] for x in accounts}["5999"] == "5999 - Account - X"
    assert {x["code"]: x["there"] for x in accounts}["5300"] is None
    with pytest.raises(LedgerInDoubtError):
        record(owner, provider="native", options={}, entity_id=entity, by="operator")
