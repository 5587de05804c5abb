"""Paths, modes, formats and the lock of a home."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ntro_dagster.host import home as module
from ntro_dagster.host.home import (
    FORMAT,
    SOCKET_PATH_LIMIT,
    Home,
    HomeBusyError,
    HomeDamagedError,
    HomeMissingError,
    HomeTooNewError,
    Role,
    UnsafeDirectoryError,
    private_directory,
    write_private,
)


@pytest.fixture(autouse=True)
def short_paths(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Socket directories of the tests' homes do not stay behind in /tmp."""
    with tempfile.TemporaryDirectory(prefix="n") as directory:
        monkeypatch.setattr(module, "SHORT_PATHS", Path(directory))
        yield


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_option_wins_over_variable_over_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NTRO_HOME", raising=False)
    assert Home.find().root == tmp_path / ".ntro"
    monkeypatch.setenv("NTRO_HOME", str(tmp_path / "variable"))
    assert Home.find().root == tmp_path / "variable"
    assert Home.find(tmp_path / "option").root == tmp_path / "option"


def test_everything_made_is_private(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    home.create()
    tenant = home.tenant("acme")
    tenant.create()
    write_private(tenant.credential(Role.APP), "postgresql://...")
    made = [home.root, *home.root.rglob("*"), home.sockets, tenant.socket.parent]
    assert {mode(path) for path in made if path.is_dir()} == {0o700}
    assert {mode(path) for path in made if path.is_file()} == {0o600}


def test_create_keeps_what_is_there(tmp_path: Path) -> None:
    home = Home(tmp_path)
    first = home.create(webserver_port=3111)
    assert home.create(webserver_port=4000) == first == home.describe()


def test_missing_newer_and_damaged_homes_are_refused(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with pytest.raises(HomeMissingError):
        home.describe()
    home.create()
    content = json.loads(home.description_file.read_text())
    home.description_file.write_text(json.dumps(content | {"format": FORMAT + 1}))
    with pytest.raises(HomeTooNewError) as newer:
        home.create()
    assert str(FORMAT + 1) in newer.value.explain()
    for damaged in ("", "[]", "{}", '{"format": 1}'):
        home.description_file.write_text(damaged)
        with pytest.raises(HomeDamagedError):
            home.describe()


def test_sockets_of_a_deep_home_are_short_stable_and_apart(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60)
    homes = [Home(deep / "one"), Home(deep / "two")]
    sockets = [home.tenant("x" * 31).socket for home in homes]
    assert all(len(os.fsencode(path)) <= SOCKET_PATH_LIMIT for path in sockets)
    assert sockets[0] != sockets[1]
    assert sockets[0] == Home(deep / "." / "one").tenant("x" * 31).socket
    shallow = Home(Path("/srv/ntro"))
    assert shallow.tenant("acme").socket == Path("/srv/ntro/run/acme/code.sock")


def test_socket_directory_of_a_stranger_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHORT_PATHS", tmp_path)
    home = Home(tmp_path / ("d" * 80))
    home.sockets.symlink_to(tmp_path)
    with pytest.raises(UnsafeDirectoryError):
        home.create()


def test_private_directory_closes_an_open_one(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    private_directory(tmp_path / "open")
    assert mode(tmp_path / "open") == 0o700


def test_write_private_replaces_whole_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert (path.read_text(), mode(path)) == ("new", 0o600)
    with pytest.raises(UnicodeEncodeError):
        write_private(path, "\ud800")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_lock_is_exclusive_and_freed_by_death(tmp_path: Path) -> None:
    holder = (
        "import os, sys; from pathlib import Path; from ntro_dagster.host.home import Home\n"
        f"with Home(Path({str(tmp_path)!r})).lock(): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        with pytest.raises(HomeBusyError), Home(tmp_path).lock():
            pass
        process.kill()
    with Home(tmp_path).lock():
        pass
