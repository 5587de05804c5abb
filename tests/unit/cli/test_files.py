"""Which files a list of paths means."""

from __future__ import annotations

import os
from pathlib import Path

from ntro_dagster.cli.files import candidates


def names(*paths: Path) -> list[tuple[str, str | None]]:
    return [(c.path.name, c.refusal.code if c.refusal else None) for c in candidates(paths)]


def test_folders_are_walked_in_the_order_of_names_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", ".hidden", "2025-02/x.csv", "2025-01/y.csv", ".git/z.csv", "2025-01/.w"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert names(tmp_path) == [("a.csv", None), ("b.csv", None), ("y.csv", None), ("x.csv", None)]
    assert names(tmp_path / "2025-02", tmp_path / ".hidden") == [("x.csv", None), (".hidden", None)]


def test_links_that_lead_outside_are_refused_and_not_followed(tmp_path: Path) -> None:
    folder, outside = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    outside.mkdir()
    (outside / "secret.csv").touch()
    (folder / "a.csv").touch()
    (folder / "inside.csv").symlink_to("a.csv")
    (folder / "leak.csv").symlink_to(outside / "secret.csv")
    (folder / "leaks").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    assert names(folder) == [
        ("a.csv", None),
        ("inside.csv", None),
        ("leak.csv", "LINK_LEADS_OUTSIDE"),
        ("leaks", "LINK_LEADS_OUTSIDE"),
    ]


def test_what_is_no_file_is_refused_without_opening_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling.csv").symlink_to(tmp_path / "gone")
    assert names(tmp_path, tmp_path / "missing", Path("/dev/null")) == [
        ("dangling.csv", "FILE_NOT_FOUND"),
        ("pipe", "NOT_A_FILE"),
        ("missing", "FILE_NOT_FOUND"),
        ("null", "NOT_A_FILE"),
    ]
