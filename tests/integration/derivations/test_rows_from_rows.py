"""Rows made of other rows: when they are made, what a re-run changes, and what it must not."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from let_flat import RENT, LetFlat

from ntro_dagster.gl.posting import post_approved
from ntro_dagster.gl.trial_balance import draw_up
from ntro_dagster.orchestration.context import EntityRef, RowsNotDeclaredError, RunbookContext
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.derivations import DerivedRefError
from ntro_dagster.subledger.staging import Payload

JANUARY, FEBRUARY, MARCH = "2022-01", "2022-02", "2022-03"


def reviewed_month(flat: LetFlat, period: str = JANUARY, **values: str) -> None:
    flat.rent(period, **({"rent_received": "1000.00"} | values))
    assert flat.decide(flat.rental, "approve", period=period) == 1


def test_nothing_is_made_of_rows_that_wait_for_a_person(flat: LetFlat) -> None:
    flat.rent(JANUARY)
    assert flat.waiting() == []
    assert flat.derive(JANUARY) is None, "a run that somebody asked for makes nothing either"
    assert flat.note(JANUARY)[1] == 0
    flat.decide(flat.rental, "approve", period=JANUARY)
    assert flat.waiting() == [JANUARY]
    staged = flat.derive(JANUARY)
    assert staged is not None and staged.inserted == 2
    assert flat.waiting() == []
    assert flat.proposed(JANUARY).keys() == {"rent", "arrears"}


def test_an_earlier_month_that_waits_holds_up_the_later_ones(flat: LetFlat) -> None:
    flat.rent(JANUARY)
    reviewed_month(flat, FEBRUARY)
    assert flat.waiting() == []
    flat.decide(flat.rental, "approve", period=JANUARY)
    assert flat.waiting() == [JANUARY, FEBRUARY]


def test_a_change_is_wanted_of_its_month_and_of_the_later_ones_and_of_no_other(flat: LetFlat) -> None:
    for period in (JANUARY, FEBRUARY, MARCH):
        reviewed_month(flat, period)
        flat.derive(period)
    assert flat.waiting() == []
    flat.rent(FEBRUARY, ref="doc:2#L1", property_ref="P2")
    flat.decide(flat.rental, "approve", period=FEBRUARY)
    assert flat.waiting() == [FEBRUARY, MARCH]


def test_rejected_rows_do_not_count(flat: LetFlat) -> None:
    flat.rent(JANUARY)
    flat.rent(JANUARY, ref="doc:1#L2", property_ref="P2", monthly_rent="7000.00")
    row = flat.fetch("SELECT id FROM ledgers.nav_monthly_journals__rental_statement WHERE property_ref = 'P2'")[0][0]
    flat.decide(flat.rental, "reject", ids=[row])
    flat.decide(flat.rental, "approve", period=JANUARY)
    flat.derive(JANUARY)
    assert flat.proposed(JANUARY)["rent"]["debit"] == "1000.00"


def test_what_no_person_touched_takes_the_new_reading(flat: LetFlat) -> None:
    reviewed_month(flat)
    flat.derive(JANUARY)
    before = flat.proposed(JANUARY)["rent"]
    flat.rent(JANUARY, ref="doc:2#L1", property_ref="P2", rent_received="1000.00")
    flat.decide(flat.rental, "approve", period=JANUARY)
    staged = flat.derive(JANUARY)
    assert staged is not None and (staged.inserted, staged.updated) == (0, 2)
    after = flat.proposed(JANUARY)["rent"]
    assert (before["debit"], after["debit"], after["id"]) == ("1000.00", "2000.00", before["id"])


def test_what_a_person_approved_stays_and_the_difference_waits_beside_it(flat: LetFlat) -> None:
    reviewed_month(flat)
    flat.derive(JANUARY)
    flat.decide(flat.proposals, "approve", period=JANUARY)
    flat.rent(JANUARY, ref="doc:2#L1", property_ref="P2", rent_received="1000.00")
    flat.decide(flat.rental, "approve", period=JANUARY)
    for _ in range(2):
        flat.derive(JANUARY)
        proposed = flat.proposed(JANUARY)
        assert (proposed["rent"]["status"], proposed["rent"]["debit"]) == ("APPROVED", "1000.00")
        ((_, beside),) = [(ref, row) for ref, row in proposed.items() if ref.startswith("rent~")]
        assert (beside["status"], beside["debit"]) == ("NEEDS_ATTENTION", "2000.00")
        assert beside["codes"] == ["CHANGED_AFTER_DECISION"]
        assert (proposed["receipts"]["status"], proposed["receipts"]["debit"]) == ("NEEDS_ATTENTION", "2000.00")
        assert len(proposed) == 3


def test_what_a_person_edited_is_not_flagged_while_the_rows_say_the_same(flat: LetFlat) -> None:
    reviewed_month(flat)
    flat.derive(JANUARY)
    flat.decide(flat.proposals, "edit", period=JANUARY, by="user:ann", values={"description": "Rent of January"})
    reviewed_month(flat, "2021-12")
    flat.derive("2021-12")
    assert flat.waiting() == [JANUARY]
    staged = flat.derive(JANUARY)
    assert staged is not None and (staged.inserted, staged.updated) == (0, 0)
    assert flat.fetch("SELECT DISTINCT description FROM ledgers.journal_proposals WHERE period = %s", JANUARY) == [
        ("Rent of January",)
    ]


def test_what_the_rows_no_longer_say_is_marked_or_told(flat: LetFlat) -> None:
    reviewed_month(flat)
    flat.derive(JANUARY)
    flat.decide(flat.proposals, "approve", ids=[flat.proposed(JANUARY)["rent"]["id"]])

    async def nothing(_: RunbookContext) -> AsyncIterator[Payload]:
        for payload in ():
            yield payload

    for _ in range(2):
        flat.derive(JANUARY, flat.with_author(nothing))
        proposed = flat.proposed(JANUARY)
        assert (proposed["receipts"]["status"], proposed["receipts"]["codes"]) == ("NEEDS_ATTENTION", ["NO_LONGER_PROPOSED"])
        assert (proposed["rent"]["status"], proposed["rent"]["codes"]) == ("APPROVED", [])
        assert (proposed["rent~gone"]["status"], proposed["rent~gone"]["codes"]) == (
            "NEEDS_ATTENTION",
            ["NO_LONGER_PROPOSED"],
        )
        assert len(proposed) == 3


@pytest.mark.parametrize("refs", [["a", "a"], [""], ["a~1"]])
def test_a_source_ref_that_is_none_stops_the_whole_step(flat: LetFlat, refs: list[str]) -> None:
    reviewed_month(flat)

    async def author(_: RunbookContext) -> AsyncIterator[Payload]:
        for ref in refs:
            yield Payload({"description": "x"}, ref)

    with pytest.raises(DerivedRefError):
        flat.derive(JANUARY, flat.with_author(author))
    assert flat.proposed(JANUARY) == {}
    assert flat.waiting() == [JANUARY]


def test_rows_that_were_not_declared_are_not_given(flat: LetFlat) -> None:
    reviewed_month(flat)

    async def author(run: RunbookContext) -> AsyncIterator[Payload]:
        async for row in run.rows("journal_proposals"):
            yield Payload({"description": str(row.id)}, str(row.id))

    with pytest.raises(RowsNotDeclaredError):
        flat.derive(JANUARY, flat.with_author(author))


def test_a_change_during_the_run_is_wanted_again(flat: LetFlat) -> None:
    reviewed_month(flat)

    async def author(run: RunbookContext) -> AsyncIterator[Payload]:
        yield Payload({"description": "seen", "lines": []}, "rent")
        async with TenantDatabase(flat.credentials.app) as meanwhile:
            other = RunbookContext(run.tenant, run.entity, run.period, uuid4(), meanwhile, meanwhile)
            payload = Payload(
                {"property_ref": "P9", "unit": "9", "tenant_name": "T", "currency": "USD", "monthly_rent": "9"}, "doc:9#L1"
            )
            await other.handle(flat.rental).stage([payload], period=run.period)

    flat.derive(JANUARY, flat.with_author(author))
    wanted, done = flat.note(JANUARY)
    assert done == wanted - 1


@pytest.mark.parametrize("point", ["while the rows are staged", "before the commit"])
def test_killed_a_run_leaves_nothing_and_the_next_does_it_all(flat: LetFlat, point: str) -> None:
    reviewed_month(flat)
    killed = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killed.py")), point],
        env=os.environ | {"FLAT_APP": flat.credentials.app, "FLAT_ENTITY": str(flat.entity), "FLAT_MONTH": JANUARY},
        check=False,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL
    assert flat.proposed(JANUARY) == {}
    assert flat.note(JANUARY)[1] == 0
    assert flat.waiting() == [JANUARY]
    flat.derive(JANUARY)
    assert flat.proposed(JANUARY).keys() == {"rent", "receipts"}
    assert flat.waiting() == []


def test_a_month_is_not_closed_while_something_is_to_be_proposed(flat: LetFlat) -> None:
    reviewed_month(flat)
    assert flat.closing() == []

    async def close(run: RunbookContext) -> None:
        await draw_up(run.database, entity_id=flat.entity, period=run.period, run_id=run.run_id, salt=b"salt")

    flat.in_month(JANUARY, close)
    assert flat.fetch("SELECT count(*) FROM ledgers.closes") == [(0,)], "a look at the books, not a close"
    flat.derive(JANUARY)
    assert flat.closing() == []
    flat.decide(flat.proposals, "accept", by="user:ann", period=JANUARY)
    flat.decide(flat.proposals, "approve", period=JANUARY)

    async def post(run: RunbookContext) -> None:
        await post_approved(run.handle(flat.proposals), period=JANUARY, currency="USD")

    flat.in_month(JANUARY, post)
    assert flat.closing() == [JANUARY]
    flat.in_month(JANUARY, close)
    assert flat.fetch("SELECT count(*) FROM ledgers.closes") == [(1,)]
    assert flat.closing() == []


# -- the database's own rules, attacked with raw SQL


ROW = "gen_random_uuid(), id, '2022-01', gen_random_uuid(), 'PENDING'"
STANDARD = "id, entity_id, period, task_id, status"


def pending(table: str, columns: str, values: str) -> str:
    """An insert that breaks a rule of the table."""
    return (
        f"INSERT INTO ledgers.nav_monthly_journals__{table} ({STANDARD}, {columns}) SELECT {ROW}, {values} FROM system.entities"
    )


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE system.derivations SET done = wanted + 1",
        "UPDATE system.derivations SET wanted = wanted + 1",
        "UPDATE system.derivations SET period = '2030-01'",
        "DELETE FROM system.derivations",
        "TRUNCATE system.derivations",
        "INSERT INTO system.derivations SELECT 'x', id, '2022-01', 5 FROM system.entities",
        "INSERT INTO system.derivation_inputs VALUES ('x', 'expenses', false)",
        "DELETE FROM system.derivation_inputs",
        "SELECT system.declare_derivation('nav_monthly_journals__journal_proposals', '{}', false)",
        "DELETE FROM system.derived_rows",
        "UPDATE system.derived_rows SET ref = 'other'",
        "INSERT INTO ingest.sources VALUES ('x', 'y', '{}')",
        "UPDATE ingest.sources SET declared = '{}'",
        "INSERT INTO ledgers.closes (entity_id, period, last_change, journals, digest, run_id) "
        "SELECT id, '2022-01', 0, 0, '\\x00', gen_random_uuid() FROM system.entities",
        "UPDATE ledgers.nav_monthly_journals__rental_statement SET monthly_rent = 1",
        "DELETE FROM ledgers.nav_monthly_journals__rental_statement",
        pending("rental_statement", "property_ref, unit, tenant_name, currency, monthly_rent", "'P', 'U', 'T', 'USD', 'NaN'"),
        pending("rental_statement", "property_ref, unit, tenant_name, currency, monthly_rent", "'P', 'U', 'T', 'USD', 0"),
        pending("rental_statement", "property_ref, unit, currency, monthly_rent", "'P', 'U', 'USD', 5"),
        pending(
            "rental_statement",
            "property_ref, unit, tenant_name, currency, monthly_rent, arrears_30d",
            "'P', 'U', 'T', 'USD', 5, -1",
        ),
        pending("repairs", "property_ref, vendor, paid_on, amount, currency", "'P', 'V', now(), 0, 'USD'"),
        pending("landlord_statement", "transfer_ref, gross", "'T', 1"),
    ],
)
def test_the_app_role_cannot(flat: LetFlat, statement: str) -> None:
    reviewed_month(flat)
    with psycopg.connect(flat.credentials.app) as app, pytest.raises(psycopg.Error) as refused:
        app.execute(statement)
    assert refused.value.sqlstate in {"42501", "23514", "NT001"}


def test_what_was_seen_is_not_unseen(flat: LetFlat) -> None:
    reviewed_month(flat)
    flat.derive(JANUARY)
    with psycopg.connect(flat.credentials.app) as app, pytest.raises(psycopg.Error, match="DERIVATIONS_ARE_KEPT"):
        app.execute("UPDATE system.derivations SET done = done - 1")


def test_a_runbook_that_is_withdrawn_holds_up_nothing_and_comes_back_to_what_changed(flat: LetFlat) -> None:
    reviewed_month(flat)
    name = flat.derivation.name
    inputs = [kind.table for kind in flat.derivation.inputs]
    with psycopg.connect(flat.credentials.owner) as owner:
        owner.execute("SELECT system.declare_derivation(%s, %s::text[], TRUE)", [name, []])
    ((outstanding,),) = flat.fetch("SELECT system.derivation_outstanding(%s, %s)", flat.entity, JANUARY)
    assert not outstanding
    reviewed_month(flat, FEBRUARY)
    with psycopg.connect(flat.credentials.owner) as owner:
        owner.execute("SELECT system.declare_derivation(%s, %s::text[], TRUE)", [name, inputs])
    assert flat.waiting() == [JANUARY, FEBRUARY]
    wanted = flat.note(JANUARY)
    with psycopg.connect(flat.credentials.owner) as owner:
        owner.execute("SELECT system.declare_derivation(%s, %s::text[], TRUE)", [name, inputs[::-1]])
    assert flat.note(JANUARY) == wanted, "declared again as it was: nothing is wanted anew"


def test_one_entity_changes_in_two_transactions_without_a_deadlock(flat: LetFlat) -> None:
    """Both want all later months: they take them in one order."""
    for period in (JANUARY, FEBRUARY, MARCH):
        reviewed_month(flat, period)

    async def change(period: str, number: int) -> None:
        for step in range(10):
            async with TenantDatabase(flat.credentials.app) as database:
                run = RunbookContext("acme", EntityRef(flat.entity, "flat", "USD"), period, uuid4(), database, database)
                values = RENT | {"property_ref": f"Q{number}"}
                await run.handle(flat.rental).stage([Payload(values, f"doc:{number}#L{step}")], period=period)

    async def both() -> None:
        await asyncio.gather(change(JANUARY, 7), change(JANUARY, 8), change(FEBRUARY, 9))

    before = flat.note(MARCH)[0]
    asyncio.run(both())
    assert flat.note(MARCH)[0] == before + 30
