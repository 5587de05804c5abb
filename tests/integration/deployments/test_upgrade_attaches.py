"""An upgrade of the platform reaches the tables of types that runbooks deployed before it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb
from samples import Sample

from ntro_dagster.bundles import Bundle, platform_bundle
from ntro_dagster.platforms.migrations import migrate, migration_files
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.subledger.deployment import attach_again, deploy
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.registry import load_types, subledger_types
from ntro_dagster.tenant.deployment import bring_up_to_date

SAMPLE = Sample("rent-roll")
TABLE = SAMPLE.table
LAST = "010"
"""The last migration of the release before: 011 changed `system.attach_subledger`."""


def asked(dsn: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode(), values).fetchall()


def rules(dsn: str) -> dict[str, str]:
    """What the database does about the table: triggers, their functions, indexes."""
    return dict(
        asked(
            dsn,
            "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal "
            "UNION ALL SELECT proname, pg_get_functiondef(oid) FROM pg_proc WHERE proname LIKE %s "
            "UNION ALL SELECT indexname, indexdef FROM pg_indexes WHERE tablename = %s",
            f"ledgers.{TABLE}",
            f"{TABLE}%",
            TABLE,
        )
    )


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle(SAMPLE.slug, SAMPLE.write(tmp_path))


@pytest.fixture
def fresh(make_database: Callable[[], DatabaseCredentials], bundle: Bundle) -> str:
    """Where this release deployed the type."""
    owner = make_database().owner
    deploy(owner, platform_bundle(), bundle)
    return owner


@pytest.fixture
def earlier(make_database: Callable[[], DatabaseCredentials], bundle: Bundle, tmp_path: Path) -> str:
    """Where the release before deployed it: its platform's types are not there, which nobody asks for here."""
    owner, before = make_database().owner, tmp_path / "before" / "migrations"
    before.mkdir(parents=True)
    for file in migration_files(platform_bundle().migrations):
        if file.name[:3] <= LAST:
            shutil.copy(file, before)
    migrate(owner, Bundle(None, before.parent))
    migrate(owner, bundle)
    load_types(platform_bundle(), bundle)
    (kind,) = [TypeDescription.of(kind) for kind in subledger_types(bundle)]
    with psycopg.connect(owner) as connection:
        connection.execute(
            "SELECT system.attach_subledger(%s, %s, %s)", [kind.table, list(kind.content), Jsonb(kind.lifecycle.as_json())]
        )
        connection.execute(
            "INSERT INTO system.subledger_types (name, owner_runbook, table_name, description) VALUES (%s, %s, %s, %s)",
            [kind.name, kind.owner_runbook, kind.table, Jsonb(kind.as_json())],
        )
    return owner


def kinds(dsn: str) -> list[tuple[Any, ...]]:
    return asked(dsn, "SELECT kind FROM system.signal_kinds WHERE subledger = %s ORDER BY 1", TABLE)


def test_the_old_rules_are_gone(earlier: str, fresh: str) -> None:
    old = rules(earlier)
    assert old.keys() < rules(fresh).keys()
    assert old["g_posted"] != rules(fresh)["g_posted"]
    bring_up_to_date(earlier, platform_bundle())
    assert rules(earlier) == rules(fresh)
    assert kinds(earlier) == kinds(fresh) != []


def test_a_process_that_died_after_the_migrations_leaves_it_to_the_next(earlier: str, fresh: str) -> None:
    deploy(earlier, platform_bundle())
    assert rules(earlier) != rules(fresh)
    bring_up_to_date(earlier, platform_bundle())
    assert rules(earlier) == rules(fresh)


def test_a_withdrawn_type_gets_them_and_stays_withdrawn(earlier: str, fresh: str) -> None:
    with psycopg.connect(earlier) as connection:
        connection.execute("UPDATE system.subledger_types SET active = FALSE WHERE table_name = %s", [TABLE])
    bring_up_to_date(earlier, platform_bundle())
    assert rules(earlier) == rules(fresh)
    assert asked(earlier, "SELECT active FROM system.subledger_types WHERE table_name = %s", TABLE) == [(False,)]


def test_once(earlier: str) -> None:
    bring_up_to_date(earlier, platform_bundle())
    with psycopg.connect(earlier) as connection:
        assert attach_again(connection) == []
