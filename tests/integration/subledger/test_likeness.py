"""Rows that look the same are looked up: the index that a table is given when it is attached."""

from __future__ import annotations

from typing import Any

import pytest
from ledger_tenant import Tenant

from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.registry import subledger_type

INDEX = (
    "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'ledgers.expenses'::regclass"
)


@pytest.fixture
def tenant(deployed: DatabaseCredentials) -> Tenant:
    return Tenant(deployed)


def alike(tenant: Tenant) -> list[str]:
    return [definition.partition(" USING ")[2] for name, definition in tenant.fetch(INDEX) if ".alike_" in name]


@pytest.mark.usefixtures("deployed")
def test_who_when_and_how_much() -> None:
    assert TypeDescription.of(subledger_type("expenses")).alike_by == ("vendor", "expense_date", "amount_gross")
    assert TypeDescription.of(subledger_type("journal_proposals")).alike_by is None


def test_the_table_has_the_index_and_it_is_used(tenant: Tenant) -> None:
    assert alike(tenant) == ["btree (entity_id, expense_date, amount_gross)"]
    with tenant.as_owner() as owner:
        owner.execute("SET enable_seqscan = off")
        plan = owner.execute(
            "EXPLAIN SELECT o.id FROM ledgers.expenses t JOIN ledgers.expenses o ON o.entity_id = t.entity_id "
            "AND o.vendor = t.vendor AND o.expense_date = t.expense_date AND o.amount_gross = t.amount_gross AND o.id <> t.id "
            "WHERE t.id = gen_random_uuid()"
        ).fetchall()
    assert any("alike_" in line for (line,) in plan), plan


def test_a_text_of_any_length_may_stand_in_such_a_row(tenant: Tenant) -> None:
    vendor = "".join(chr(0x4E00 + number) for number in range(20_000))
    tenant.new_row(tenant.new_entity(), vendor=vendor, expense_date="2025-01-03")


@pytest.mark.parametrize("columns", [["amount_gross"], [], ["expense_date", "amount_gross"]])
def test_attached_otherwise_it_is_made_anew_and_else_left_alone(tenant: Tenant, columns: list[str]) -> None:
    def made() -> list[Any]:
        return tenant.fetch("SELECT oid FROM pg_class WHERE relname LIKE 'alike_%%' AND relnamespace = 'ledgers'::regnamespace")

    with tenant.as_owner() as owner:
        owner.execute("SELECT system.attach_likeness('expenses', %s)", [columns])
    assert alike(tenant) == ([f"btree ({', '.join(['entity_id', *columns])})"] if columns else [])
    before = made()
    with tenant.as_owner() as owner:
        owner.execute("SELECT system.attach_likeness('expenses', %s)", [columns])
    assert made() == before
