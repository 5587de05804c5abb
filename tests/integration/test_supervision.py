"""Real supervisord, real children, real kills."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest
from stub_processes import postgres_process

from ntro_dagster.host.home import Home, write_private
from ntro_dagster.host.launch import write_environment
from ntro_dagster.host.supervision import NotSupervisedError, ProcessSpec, ProcessStatus, Supervisor
from ntro_dagster.platforms.postgres.server import PostgresServer

T = TypeVar("T")
SECRET = "planted-secret-4711"
# writes what it was given, then waits to be ended
CHILD = """
import json, os, sys, threading
open(sys.argv[1], "w").write(json.dumps(dict(os.environ)))
threading.Event().wait()
"""


def wait_for(look: Callable[[], T], seconds: float = 30.0) -> T:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "deadline passed"
        time.sleep(0.05)
    return found


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "a home, with blanks" / ".ntro")  # awkward on purpose
    home.create()
    yield home
    Supervisor(home).stop()
    shutil.rmtree(home.sockets)


def child(home: Home, name: str, **changes: object) -> ProcessSpec:
    write_environment(home.process_env(name), {"NTRO_SECRET": SECRET, "NAME": name})
    script = home.run / "child.py"
    write_private(script, CHILD)
    argv = [sys.executable, str(script), str(home.run / f"{name}.says")]
    values: dict[str, object] = {"start_seconds": 1, "log": home.logs / f"{name}.log"}
    return ProcessSpec(name=name, argv=argv, environment=home.process_env(name), **(values | changes))  # type: ignore[arg-type]


def running(supervisor: Supervisor, name: str) -> ProcessStatus | None:
    return next((s for s in supervisor.status() if s.name == name and s.state == "RUNNING"), None)


def test_killed_child_comes_back_and_is_counted(home: Home) -> None:
    supervisor = Supervisor(home)
    assert not supervisor.running()
    assert supervisor.status() == []
    supervisor.start([child(home, "daemon"), child(home, "webserver")])

    first = wait_for(lambda: running(supervisor, "daemon"))
    assert (first.restarts, first.last_exit) == (0, None)
    wait_for((home.run / "daemon.says").exists)  # it is past the launcher, which counts
    assert first.pid is not None
    psutil.Process(first.pid).kill()

    second = wait_for(lambda: (s := running(supervisor, "daemon")) and s.pid != first.pid and s.restarts and s)
    assert (second.restarts, second.last_exit) == (1, "terminated by SIGKILL")
    untouched = wait_for(lambda: running(supervisor, "webserver"))
    assert untouched.restarts == 0


def test_child_that_cannot_start_is_tried_again_for_ever(home: Home) -> None:
    supervisor = Supervisor(home)
    spec = child(home, "daemon")
    os.chmod(spec.environment, 0o644)  # noqa: PTH101
    supervisor.start([spec])
    broken = wait_for(lambda: next((s for s in supervisor.status() if s.state == "BACKOFF"), None))
    assert broken.last_exit == f"exit status {os.EX_CONFIG}"
    assert "others may read it" in spec.log.read_text()

    spec.environment.chmod(0o600)
    assert wait_for(lambda: running(supervisor, "daemon"))


def test_secrets_stay_in_the_environment_file(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_CALLER", "must not be inherited")
    supervisor = Supervisor(home)
    supervisor.start([child(home, "daemon")])
    pid = wait_for(lambda: running(supervisor, "daemon")).pid
    seen = json.loads((home.run / "daemon.says").read_text())

    assert seen["NTRO_SECRET"] == SECRET
    assert set(seen) <= {"NTRO_SECRET", "NAME", "PATH", "LANG", "LC_ALL", "TZ", "LC_CTYPE"}
    assert SECRET not in " ".join(psutil.Process(pid).cmdline())
    allowed = home.process_env("daemon")
    files = [path for path in home.root.rglob("*") if path.is_file() and path != allowed]
    assert files
    assert [path for path in files if path.name != "daemon.says" and SECRET in path.read_text(errors="replace")] == []
    open_to_others = [path for path in [home.root, *files] if stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert open_to_others == []


def test_add_remove_restart_while_running(home: Home) -> None:
    supervisor = Supervisor(home)
    with pytest.raises(NotSupervisedError):
        supervisor.add(child(home, "tenant-acme"))
    supervisor.start([child(home, "daemon")])
    daemon = wait_for(lambda: running(supervisor, "daemon"))

    supervisor.add(child(home, "tenant-acme"))
    acme = wait_for(lambda: running(supervisor, "tenant-acme"))
    supervisor.add(child(home, "tenant-acme"))  # again: nothing happens
    assert running(supervisor, "tenant-acme").pid == acme.pid  # type: ignore[union-attr]

    supervisor.restart("tenant-acme")
    again = wait_for(lambda: running(supervisor, "tenant-acme"))
    assert again.pid != acme.pid
    assert again.restarts == 1

    supervisor.remove("tenant-acme")
    assert [status.name for status in supervisor.status()] == ["daemon"]
    assert not psutil.pid_exists(again.pid or 0)
    with pytest.raises(NotSupervisedError):
        supervisor.remove("tenant-acme")
    with pytest.raises(NotSupervisedError):
        supervisor.restart("tenant-acme")
    assert running(supervisor, "daemon").pid == daemon.pid  # type: ignore[union-attr]


def test_orphans_of_a_killed_supervisor_are_stopped_by_the_next_start(home: Home) -> None:
    supervisor = Supervisor(home)
    specs = [child(home, "daemon"), child(home, "postgres", order=100)]
    supervisor.start(specs)
    orphans = [psutil.Process(wait_for(lambda name=s.name: running(supervisor, name)).pid) for s in specs]
    # a pid file whose process is long gone, and whose pid is somebody else's by now
    stranger = {"pid": os.getpid(), "created": 1.0, "starts": 1, "stop_signal": "KILL"}
    (home.run / "tenant-gone.pid.json").write_text(json.dumps(stranger))

    psutil.Process(int((home.run / "supervisord.pid").read_text())).kill()
    wait_for(lambda: not supervisor.running())
    assert all(orphan.is_running() for orphan in orphans)

    supervisor.start(specs)
    assert all(not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE for orphan in orphans)
    for spec in specs:
        assert wait_for(lambda name=spec.name: running(supervisor, name)).restarts == 0


def test_an_orphan_that_has_left_no_record_yet_is_stopped(home: Home) -> None:
    supervisor = Supervisor(home)
    spec = child(home, "daemon")
    spec.environment.unlink()
    os.mkfifo(spec.environment, 0o600)  # where the launcher reads before it leaves its record: it waits for a writer
    supervisor.start([spec])
    orphan = psutil.Process(wait_for(lambda: running(supervisor, "daemon")).pid)
    wait_for(lambda: "ntro_dagster.host.launch" in orphan.cmdline())
    assert not (home.run / "daemon.pid.json").exists()
    psutil.Process(int((home.run / "supervisord.pid").read_text())).kill()
    wait_for(lambda: not supervisor.running())

    supervisor.start([child(home, "webserver")])
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE


def test_stop_ends_the_database_last(home: Home) -> None:
    note = home.run / "order"
    script = home.run / "polite.py"
    text = f"""
import os, signal, sys, threading
def end(*_):
    open({str(note)!r}, "a").write(sys.argv[1] + "\\n")
    os._exit(0)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, end)
open({str(note)!r} + sys.argv[1], "w").close()
threading.Event().wait()
"""
    write_private(script, text)
    supervisor = Supervisor(home)
    specs = []
    for name, order, how in (("postgres", 100, "INT"), ("daemon", 500, "TERM"), ("tenant-acme", 500, "TERM")):
        spec = child(home, name, order=order, stop_signal=how)
        specs.append(ProcessSpec(**(vars(spec) | {"argv": [sys.executable, str(script), name]})))
    supervisor.start(specs)
    for spec in specs:
        wait_for(lambda name=spec.name: running(supervisor, name) and Path(f"{note}{name}").exists())
    supervisor.stop()

    assert not supervisor.running()
    assert note.read_text().splitlines()[-1] == "postgres"
    assert sorted(note.read_text().split()) == ["daemon", "postgres", "tenant-acme"]
    supervisor.stop()  # again: nothing happens


def test_database_under_supervision_survives_kills(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    server = PostgresServer(tmp_path / "cluster")
    server.initialise()
    home = Home(tmp_path / ".ntro")
    home.create()
    supervisor = Supervisor(home)
    try:
        supervisor.start([postgres_process(home, server)])
        assert server.is_ready(30)
        postmaster = server.postmaster()
        assert postmaster
        if os.geteuid() == 0:
            assert postmaster.uids().real != 0
        assert postmaster.pid == supervisor.status()[0].pid

        postmaster.kill()
        wait_for(lambda: (p := server.postmaster()) and p.pid != postmaster.pid and server.is_ready())

        orphan = server.postmaster()
        assert orphan
        psutil.Process(int((home.run / "supervisord.pid").read_text())).kill()
        supervisor.start([postgres_process(home, server)])
        assert server.is_ready(30)
        assert server.postmaster() != orphan
    finally:
        supervisor.stop()
        shutil.rmtree(home.sockets)
    assert server.postmaster() is None
