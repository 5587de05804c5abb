"""Which files a folder of migrations may hold; the platform's own among them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ntro_dagster.bundles import platform_bundle
from ntro_dagster.platforms.migrations import MigrationRefusedError, checksum, migration_files


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_text("SELECT 1")
    return folder


def test_files_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write(tmp_path, "010_c.sql", "002_b.sql", "001_z.sql", "notes.md")
    assert [file.name for file in migration_files(tmp_path)] == ["001_z.sql", "002_b.sql", "010_c.sql"]


def test_a_folder_without_files_has_no_migrations(tmp_path: Path) -> None:
    assert migration_files(tmp_path) == []
    assert migration_files(tmp_path / "missing") == []


@pytest.mark.parametrize("name", ["1_a.sql", "0001_a.sql", "001-a.sql", "001_A.sql", "001_.sql", "a.sql", "001_a b.sql"])
def test_a_name_that_says_no_place_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(MigrationRefusedError) as refused:
        migration_files(write(tmp_path, name))
    assert refused.value.values["file"] == name


def test_a_number_is_used_once(tmp_path: Path) -> None:
    with pytest.raises(MigrationRefusedError) as refused:
        migration_files(write(tmp_path, "001_a.sql", "002_b.sql", "002_c.sql"))
    assert refused.value.values == {"file": "002_c.sql", "why": "the number is also that of 002_b.sql"}


def test_a_checksum_is_of_the_text_whatever_the_line_ends() -> None:
    assert checksum("a\r\nb\r\n") == checksum("a\nb\n") != checksum("a\nb")


def test_the_platforms_own_files_are_numbered_without_a_gap() -> None:
    names = [file.name for file in migration_files(platform_bundle().migrations)]
    assert [int(name[:3]) for name in names] == list(range(1, len(names) + 1))


def test_every_function_that_runs_as_the_owner_pins_its_search_path() -> None:
    for file in migration_files(platform_bundle().migrations):
        text = " ".join(file.read_text().split())
        assert text.count("SECURITY DEFINER SET search_path = pg_catalog, pg_temp ") == text.count("SECURITY DEFINER"), file.name
