"""The migrations runner on a real database: once each, in order, whole or not at all."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from ntro_dagster.bundles import Bundle, platform_bundle
from ntro_dagster.platforms import migrations
from ntro_dagster.platforms.migrations import (
    MigrationFailedError,
    MigrationRefusedError,
    MigrationsBusyError,
    migrate,
    migration_files,
)
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.subledger.deployment import deploy


@pytest.fixture
def owner(tenant_credentials: DatabaseCredentials) -> str:
    return tenant_credentials.owner


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    (tmp_path / "migrations").mkdir()
    bundle = Bundle(None, tmp_path)
    write(bundle, "001_one.sql", "CREATE TABLE one (x int)")
    write(bundle, "002_two.sql", "CREATE TABLE two (x int); INSERT INTO two VALUES (1)")
    return bundle


def write(bundle: Bundle, name: str, text: str) -> None:
    (bundle.migrations / name).write_text(text)


def tables(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as connection:
        return {row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()}


def recorded(dsn: str) -> list[tuple[str, str]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT bundle, name FROM system.schema_migrations ORDER BY 1, 2").fetchall()


def test_each_file_runs_once(owner: str, bundle: Bundle) -> None:
    assert migrate(owner, bundle) == ["001_one.sql", "002_two.sql"]
    assert migrate(owner, bundle) == []
    write(bundle, "003_three.sql", "CREATE TABLE three ()")
    assert migrate(owner, bundle) == ["003_three.sql"]
    assert tables(owner) == {"one", "two", "three"}


def test_an_edited_file_is_refused_and_nothing_else_runs(owner: str, bundle: Bundle) -> None:
    migrate(owner, bundle)
    write(bundle, "001_one.sql", "CREATE TABLE one (x bigint)")
    write(bundle, "003_three.sql", "CREATE TABLE three ()")
    with pytest.raises(MigrationRefusedError) as refused:
        migrate(owner, bundle)
    assert refused.value.values == {"file": "001_one.sql", "why": "it was edited after it ran"}
    assert "three" not in tables(owner)


def test_line_ends_are_no_edit(owner: str, bundle: Bundle) -> None:
    write(bundle, "003_three.sql", "CREATE TABLE three (\n x int\n)")
    migrate(owner, bundle)
    (bundle.migrations / "003_three.sql").write_bytes(b"CREATE TABLE three (\r\n x int\r\n)")
    assert migrate(owner, bundle) == []


def test_a_file_that_vanished_is_refused(owner: str, bundle: Bundle) -> None:
    migrate(owner, bundle)
    (bundle.migrations / "001_one.sql").unlink()
    with pytest.raises(MigrationRefusedError) as refused:
        migrate(owner, bundle)
    assert refused.value.values["file"] == "001_one.sql"


def test_a_renamed_file_is_refused(owner: str, bundle: Bundle) -> None:
    migrate(owner, bundle)
    (bundle.migrations / "002_two.sql").rename(bundle.migrations / "002_deux.sql")
    with pytest.raises(MigrationRefusedError):
        migrate(owner, bundle)


def test_a_file_before_the_last_one_applied_is_refused(owner: str, bundle: Bundle) -> None:
    write(bundle, "005_five.sql", "CREATE TABLE five ()")
    migrate(owner, bundle)
    write(bundle, "004_four.sql", "CREATE TABLE four ()")
    with pytest.raises(MigrationRefusedError) as refused:
        migrate(owner, bundle)
    assert refused.value.values["file"] == "004_four.sql"
    assert "four" not in tables(owner)


def test_a_number_used_twice_is_refused_before_anything_runs(owner: str, bundle: Bundle) -> None:
    write(bundle, "002_other.sql", "CREATE TABLE other ()")
    with pytest.raises(MigrationRefusedError):
        migrate(owner, bundle)
    assert tables(owner) == set()


def test_a_failing_file_is_rolled_back_whole_and_those_before_it_stay(owner: str, bundle: Bundle) -> None:
    write(bundle, "003_three.sql", "CREATE TABLE three (); INSERT INTO two VALUES (2); SELECT 1 / 0; CREATE TABLE four ()")
    write(bundle, "004_five.sql", "CREATE TABLE five ()")
    with pytest.raises(MigrationFailedError) as failed:
        migrate(owner, bundle)
    assert failed.value.values["file"] == "003_three.sql"
    assert tables(owner) == {"one", "two"}
    assert recorded(owner) == [("platform", "001_one.sql"), ("platform", "002_two.sql")]
    with psycopg.connect(owner) as connection:
        assert connection.execute("SELECT count(*) FROM two").fetchone() == (1,)
    write(bundle, "003_three.sql", "CREATE TABLE three ()")
    assert migrate(owner, bundle) == ["003_three.sql", "004_five.sql"]


def test_bundles_are_numbered_each_by_itself(owner: str, bundle: Bundle, tmp_path: Path) -> None:
    other = Bundle("rent", tmp_path / "rent")
    other.migrations.mkdir(parents=True)
    write(other, "001_rent.sql", "CREATE TABLE rent ()")
    migrate(owner, bundle)
    assert migrate(owner, other) == ["001_rent.sql"]
    assert recorded(owner)[-1] == ("rent", "001_rent.sql")


def test_runners_at_once_apply_each_file_once(owner: str, bundle: Bundle) -> None:
    for number in range(3, 9):
        write(bundle, f"00{number}_more.sql", f"CREATE TABLE more_{number} ()")
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(lambda _: migrate(owner, bundle), range(4)))
    assert sorted(name for names in applied for name in names) == sorted(file.name for file in migration_files(bundle.migrations))


def test_a_runner_does_not_wait_for_ever(owner: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "_LOCK_PATIENCE_S", 0.0)
    with psycopg.connect(owner, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [migrations._LOCK])
        with pytest.raises(MigrationsBusyError):
            migrate(owner, bundle)
    assert migrate(owner, bundle) == ["001_one.sql", "002_two.sql"]


def test_the_platforms_migrations_apply_one_by_one(owner: str, tmp_path: Path) -> None:
    """Each on top of a database that stopped before it, as an upgrade meets it."""
    (tmp_path / "migrations").mkdir()
    for file in migration_files(platform_bundle().migrations):
        shutil.copy(file, tmp_path / "migrations")
        assert migrate(owner, Bundle(None, tmp_path)) == [file.name]
    assert deploy(owner, platform_bundle()) == []
    assert deploy(owner, platform_bundle()) == []
