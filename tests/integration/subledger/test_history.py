"""The history: one record per row and change, written by the database, saying who, from where to where, and from what to what."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from ledger_tenant import PERIOD, Connection, Tenant, move, use_signal

from ntro_dagster.platforms.postgres.database import Actor
from ntro_dagster.subledger.registry import subledger_type
from ntro_dagster.subledger.review import apply_signals, file_signal

RECORD = (
    "SELECT h.action, h.from_status, h.to_status, h.before, h.after, h.code, c.actor, c.actor_kind, "
    "c.signal_id, c.reason, c.run_id "
    "FROM system.history h JOIN system.changes c ON c.id = h.change_id WHERE h.row_id = %s ORDER BY c.id"
)
FIELDS = ("action", "from_status", "to_status", "before", "after", "code", "actor", "actor_kind", "signal_id", "reason", "run_id")


def history(tenant: Tenant, row: UUID) -> list[dict[str, Any]]:
    return [dict(zip(FIELDS, record, strict=True)) for record in tenant.fetch(RECORD, row)]


def digest(tenant: Tenant, row: UUID) -> bytes:
    ((found,),) = tenant.fetch("SELECT ledgers.expenses_digest(t) FROM ledgers.expenses t WHERE id = %s", row)
    return bytes(found)


def test_every_step_of_a_row_leaves_one_record(tenant: Tenant, entity: UUID) -> None:
    run = uuid4()
    row = tenant.new_row(entity, status="NEEDS_ATTENTION")
    born = digest(tenant, row)
    edit = tenant.file("edit", [row], by="user:ann")
    with tenant.connect("app") as app:
        use_signal(app, edit)
        app.execute("SELECT set_config('ntro.run_id', %s, TRUE)", [str(run)])
        app.execute("UPDATE ledgers.expenses SET vendor = 'Jones', made_by = 'user:ann' WHERE id = %s", [row])
    edited = digest(tenant, row)
    accept = tenant.decide("accept", row, by="user:ann")
    approve = tenant.decide("approve", row, by="user:bob")
    tenant.post(entity, row)

    app_role = f"{tenant.credentials.database}_app"
    by_program = {"actor": app_role, "actor_kind": "program", "signal_id": None, "reason": None, "run_id": None, "code": None}
    by_ann = {"actor": "user:ann", "actor_kind": "person", "reason": "because", "run_id": None, "code": None}
    by_bob = by_ann | {"actor": "user:bob", "signal_id": approve}
    same = {"before": edited, "after": edited}
    assert born != edited
    assert history(tenant, row) == [
        {"action": "INSERT", "from_status": None, "to_status": "NEEDS_ATTENTION", "before": None, "after": born, **by_program},
        {
            "action": "EDIT", "from_status": "NEEDS_ATTENTION", "to_status": "NEEDS_ATTENTION", "before": born, "after": edited,
            **by_ann, "signal_id": edit, "run_id": run,
        },
        {"action": "TRANSITION", "from_status": "NEEDS_ATTENTION", "to_status": "PENDING", **same, **by_ann, "signal_id": accept},
        {"action": "TRANSITION", "from_status": "PENDING", "to_status": "APPROVED", **same, **by_bob},
        {"action": "TRANSITION", "from_status": "APPROVED", "to_status": "POSTED", **same, **by_program},
    ]  # fmt: skip


CHANGES = {
    "event_id": "gen_random_uuid()", "vendor": "'Jones'", "amount_gross": "121", "currency": "'USD'", "notes": "''",
    "expense_date": "'2025-01-02'", "payment_method": "'card'", "line_items": "'[{\"a\": 1}]'", "vat_amount": "1",
    "category": "'5000'", "category_source": "'llm'", "confidence": "0.5",
}  # fmt: skip


@pytest.mark.parametrize("column", CHANGES)
def test_the_digest_changes_with_each_content_column(app: Connection, tenant: Tenant, entity: UUID, column: str) -> None:
    row = tenant.new_row(entity)
    app.execute(f"UPDATE ledgers.expenses SET {column} = {CHANGES[column]} WHERE id = %s", [row])
    app.commit()
    last = history(tenant, row)[-1]
    assert (last["action"], last["after"]) == ("EDIT", digest(tenant, row))
    assert last["before"] == history(tenant, row)[0]["after"] != last["after"]


def test_the_list_above_is_every_content_column(tenant: Tenant, entity: UUID) -> None:
    assert set(CHANGES) == set(tenant.handle(entity).kind.model.content_fields())


@pytest.mark.parametrize(
    "change", ["task_id = gen_random_uuid()", "updated_at = now()", "validation_errors = '[]'", "vendor = vendor"]
)
def test_the_digest_does_not_change_with_anything_else(app: Connection, tenant: Tenant, entity: UUID, change: str) -> None:
    row = tenant.new_row(entity)
    app.execute(f"UPDATE ledgers.expenses SET {change} WHERE id = %s", [row])
    app.commit()
    last = history(tenant, row)[-1]
    assert (last["action"], last["before"]) == ("EDIT", last["after"])


def test_the_digest_tells_content_from_its_spelling(app: Connection, tenant: Tenant, entity: UUID) -> None:
    """1.0 and 1.00 are equal in JSON, not the same: digest and comparison must agree."""
    row = tenant.new_row(entity, line_items='[{"price": 1.0}]')
    app.execute("UPDATE ledgers.expenses SET line_items = '[{\"price\": 1.00}]' WHERE id = %s", [row])
    app.commit()
    born, spelled = history(tenant, row)
    assert spelled["before"] == born["after"] != spelled["after"] == digest(tenant, row)


@pytest.mark.parametrize("session", [{"DateStyle": "SQL, DMY"}, {"TimeZone": "Asia/Tokyo"}, {"bytea_output": "escape"}])
def test_the_digest_does_not_depend_on_the_session(
    app: Connection, tenant: Tenant, entity: UUID, session: dict[str, str]
) -> None:
    row = tenant.new_row(entity, expense_date="2025-01-31", confidence="0.5")
    expected = digest(tenant, row)
    ((name, value),) = session.items()
    app.execute(f"SET LOCAL {name} = '{value}'")
    assert app.execute("SELECT ledgers.expenses_digest(t) FROM ledgers.expenses t WHERE id = %s", [row]).fetchone() == (expected,)


def test_two_rows_of_the_same_content_have_different_digests(tenant: Tenant, entity: UUID) -> None:
    assert digest(tenant, tenant.new_row(entity)) != digest(tenant, tenant.new_row(entity))


def changes_of(tenant: Tenant, entity: UUID) -> list[tuple[Any, ...]]:
    """(action, to_status, rows) of each change of the entity's rows, in order."""
    return tenant.fetch(
        "SELECT min(h.action), min(h.to_status), count(*) FROM system.history h JOIN ledgers.expenses t ON t.id = h.row_id "
        "WHERE t.entity_id = %s GROUP BY h.change_id ORDER BY h.change_id",
        entity,
    )


def test_a_bulk_change_has_one_header_per_statement(tenant: Tenant, entity: UUID) -> None:
    kind = subledger_type("expenses")

    async def run() -> None:
        async with tenant.database() as database, tenant.database("desk") as desk:
            handle = tenant.handle(entity, database=database)
            await handle.stage(
                ({"source_ref": f"L{n}", "vendor": "x", "amount_gross": n + 1, "currency": "GBP"} for n in range(500)),
                period=PERIOD,
            )
            await file_signal(desk, kind, "approve", filed_by="user:bob", entity_id=entity, period=PERIOD)
            await apply_signals(handle, period=PERIOD)

    asyncio.run(run())
    assert changes_of(tenant, entity) == [("INSERT", "PENDING", 500), ("TRANSITION", "APPROVED", 500)]


def test_a_statement_that_touches_nothing_leaves_no_header(app: Connection, tenant: Tenant, entity: UUID) -> None:
    tenant.new_row(entity)
    before = tenant.fetch("SELECT count(*) FROM system.changes")
    app.execute("UPDATE ledgers.expenses SET notes = 'x' WHERE entity_id = %s AND FALSE", [entity])
    app.execute("INSERT INTO ledgers.expenses SELECT * FROM ledgers.expenses WHERE FALSE")
    app.commit()
    assert tenant.fetch("SELECT count(*) FROM system.changes") == before


def test_what_is_rolled_back_leaves_no_record(app: Connection, tenant: Tenant, entity: UUID) -> None:
    row = tenant.new_row(entity)
    app.execute("UPDATE ledgers.expenses SET notes = 'x' WHERE id = %s", [row])
    app.rollback()
    assert len(history(tenant, row)) == 1


def test_a_refused_attempt_leaves_a_record_too(tenant: Tenant, entity: UUID) -> None:
    kind, run = subledger_type("expenses"), uuid4()
    row, other = tenant.new_row(entity), tenant.new_row(entity)
    seen = digest(tenant, row)

    async def go() -> None:
        async with tenant.database() as database, tenant.database("desk") as desk:
            await file_signal(desk, kind, "approve", filed_by="user:bob", ids=[row, other])
            handle = tenant.handle(entity, run=run, database=database)
            await handle.edit([row], {"notes": "changed meanwhile"})
            await apply_signals(handle, period=PERIOD)

    asyncio.run(go())
    assert [record["action"] for record in history(tenant, other)] == ["INSERT", "TRANSITION"]
    *_, refused = history(tenant, row)
    assert [record["action"] for record in history(tenant, row)] == ["INSERT", "EDIT", "REFUSED"]
    assert (refused["code"], refused["before"], refused["actor"], refused["run_id"]) == ("CONTENT_CHANGED", seen, "user:bob", run)
    assert refused["signal_id"] is not None


def test_a_run_is_named_by_its_id(tenant: Tenant, entity: UUID) -> None:
    run, row = uuid4(), tenant.new_row(entity)

    async def go() -> None:
        async with tenant.database() as database, database.transaction(Actor.run(run)):
            await tenant.handle(entity, run=run, database=database).edit([row], {"notes": "x"})

    asyncio.run(go())
    last = history(tenant, row)[-1]
    assert (last["actor"], last["actor_kind"], last["run_id"]) == (f"run:{run}", "run", run)


def test_where_work_happened_is_noted_per_partition(app: Connection, tenant: Tenant, entity: UUID) -> None:
    row = tenant.new_row(entity)
    tenant.new_row(entity, period="2025-02")
    use_signal(app, tenant.file("approve", [row]))
    move(app, row, "APPROVED", "approve")
    app.commit()
    noted = tenant.fetch(
        "SELECT period, last_change = (SELECT max(change_id) FROM system.history h JOIN ledgers.expenses t ON t.id = h.row_id "
        "WHERE t.entity_id = a.entity_id AND t.period = a.period), closed_change "
        "FROM system.partition_activity a WHERE entity_id = %s ORDER BY period",
        entity,
    )
    assert noted == [("2025-01", True, 0), ("2025-02", True, 0)]
