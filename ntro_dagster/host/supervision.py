"""Keep the processes of one home alive, with supervisord (http://supervisord.org) doing the work.

Each process is a program group of its own in `run/supervisord.conf`, started through `ntro_dagster.host.launch`, so
neither the configuration nor an argument list holds a secret. Supervisor restarts what dies, waiting one second more
after each failed start, and never gives up. What it does not keep, the number of restarts, is counted by the launcher
in the process's pid file.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from itertools import groupby
from pathlib import Path
from typing import Any, cast
from xmlrpc.client import Fault, ServerProxy

import psutil
from supervisor.xmlrpc import Faults, SupervisorTransport  # type: ignore[import-untyped]

from ntro_dagster.errors import NtroError, UsageError
from ntro_dagster.host.home import Home, write_private
from ntro_dagster.host.orphans import (
    LAUNCHER,
    RECORD_OPTION,
    STOP_OPTION,
    SUFFIX,
    ProcessRecord,
    SupervisorStopError,
    gone,
    stop_orphans,
    until,
)

NEVER_GIVE_UP = 1_000_000_000  # startretries
STOPPED = ("STOPPED", "FATAL", "UNKNOWN")


class SupervisorStartError(NtroError):
    """supervisord did not come up. Values: `log` (its last lines), `path` of the log."""

    code = "SUPERVISOR_START_FAILED"
    summary = "the process supervisor did not start"
    detail = "the process supervisor did not start; it said last:\n{log}"
    mend = "Mend what the lines above name; the whole log is {path}."


class NotSupervisedError(UsageError):
    """Nothing runs here, or nothing of that name. Values: `name`, `root`."""

    code = "NOT_SUPERVISED"
    summary = "no such process is running in this home"
    detail = "{name} is not running in {root}"
    mend = "`ntro status` shows what runs; `ntro up` starts it."


class UnsupportedPathError(UsageError):
    """A path that supervisor's configuration format cannot hold. Values: `value`."""

    code = "UNSUPPORTED_PATH"
    summary = "the home's path holds characters that the supervisor's configuration cannot"
    detail = "supervisor's configuration cannot hold {value!r}: a line break, a %, or a blank followed by ; or #"
    mend = "Choose another directory with --home."


@dataclass(frozen=True)
class ProcessSpec:
    """One process to keep alive.

    Attributes:
        name: unique in the home: `postgres`, `webserver`, `daemon`, `tenant-<slug>`.
        argv: what it runs; no secrets.
        environment: its env file (`launch.write_environment`): its whole environment.
        log: where standard output and error go (rotated at 10 MB).
        order: started lowest first, stopped highest first; same order = at the same time.
        start_seconds: an earlier end counts as a failed start, after which the next try waits longer.
        stop_signal: without SIG; what asks it to end in good order.
        stop_seconds: until it is killed instead.
        user: login name to run as, where we are root and it must not be.
        uid: the same by number, of a user without an account.
    """

    name: str
    argv: list[str]
    environment: Path
    log: Path
    order: int = 500
    start_seconds: int = 5
    stop_signal: str = "TERM"
    stop_seconds: int = 20
    directory: Path = Path("/")
    user: str | None = None
    uid: int | None = None


@dataclass(frozen=True)
class ProcessStatus:
    """How a process fares.

    Attributes:
        state: supervisor's word: STARTING, RUNNING, BACKOFF (waits before the next try), STOPPING, STOPPED, EXITED.
        pid: None when it does not run.
        uptime_seconds: 0 when it does not run.
        restarts: since the supervisor was started, asked for or not.
        last_exit: how its previous life ended, in supervisor's words (`exit status 1`, `terminated by SIGKILL`).
    """

    name: str
    state: str
    pid: int | None
    uptime_seconds: float
    restarts: int
    last_exit: str | None

    @property
    def well(self) -> bool:
        """In its first seconds a process counts as starting, however well it answers; one that came back must prove itself."""
        return self.state == "RUNNING" or (self.state == "STARTING" and not self.restarts)


class Supervisor:
    """The supervisor of one home. Any process may hold one; it keeps no state of its own."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.config = home.run / "supervisord.conf"
        self.log = home.logs / "supervisord.log"

    def start(self, processes: list[ProcessSpec], timeout: float = 20.0) -> None:
        """Start supervisord in a session of its own with `processes`; return when it answers.

        What a killed supervisord left running is stopped first. If one answers already, missing processes are added.

        Raises:
            SupervisorStartError: it did not come up within `timeout` seconds.
            SupervisorStopError: an orphan cannot be stopped.
        """
        if self.running():
            for spec in processes:
                self.add(spec)
            return
        stop_orphans(self.home.run)
        for left_over in (self.home.run / "programs").glob("*.conf"):
            left_over.unlink()
        self._write_config()
        for spec in processes:
            self._write_program(spec)
        started_at = self.log.stat().st_size if self.log.exists() else 0
        done = subprocess.run(
            [sys.executable, "-P", "-m", "supervisor.supervisord", "-c", self.config],  # forks away, setsid()
            env={"PATH": os.environ.get("PATH", os.defpath), "LANG": os.environ.get("LANG", "C.UTF-8")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            umask=0o077,  # its log is there before it reads its own setting
        )
        if done.returncode != 0 or not until(self.running, timeout):
            said = (done.stdout + done.stderr).strip() or self.log.read_bytes()[started_at:].decode(errors="replace")
            raise SupervisorStartError(log="\n".join(said.splitlines()[-20:]), path=self.log)

    def add(self, spec: ProcessSpec) -> None:
        """Start one more process now, and keep it. Nothing happens if one of that name is kept already.

        Raises:
            NotSupervisedError: no supervisor runs.
        """
        with self._rpc(spec.name) as rpc:
            if any(info["name"] == spec.name for info in rpc.getAllProcessInfo()):
                return
            self._write_program(spec)
            rpc.reloadConfig()
            _ignoring(Faults.ALREADY_ADDED, rpc.addProcessGroup, spec.name)

    def remove(self, name: str, timeout: float = 60.0) -> None:
        """Stop a process and forget it.

        Raises:
            NotSupervisedError: nothing of that name.
            SupervisorStopError: it did not stop within `timeout` seconds.
        """
        self._require(name)
        self._stop_processes([name], timeout)
        self._program_file(name).unlink(missing_ok=True)
        with self._rpc(name) as rpc:
            rpc.reloadConfig()
            rpc.removeProcessGroup(name)
        self._record_file(name).unlink(missing_ok=True)

    def restart(self, name: str, timeout: float = 60.0) -> None:
        """Stop a process and start it anew; return once the new one was started.

        Raises:
            NotSupervisedError, SupervisorStopError: as `remove()`.
        """
        self._require(name)
        self._stop_processes([name], timeout)
        with self._rpc(name) as rpc:
            _ignoring(Faults.ALREADY_STARTED, rpc.startProcess, name, False)

    def signal(self, name: str, signal: str) -> None:
        """Send a signal (its name without SIG) to a process. Nothing happens if it is not running.

        Raises:
            NotSupervisedError: nothing of that name.
        """
        with self._rpc(name) as rpc:
            _ignoring(Faults.NOT_RUNNING, rpc.signalProcess, name, signal)

    def status(self) -> list[ProcessStatus]:
        """Every process kept, by name. Empty when no supervisor runs."""
        try:
            with self._rpc("supervisor") as rpc:
                found = cast("list[dict[str, Any]]", rpc.getAllProcessInfo())
        except NotSupervisedError:
            return []
        exits = self._last_exits()
        return sorted((self._status(info, exits) for info in found), key=lambda status: status.name)

    def stop(self, timeout: float = 60.0) -> None:
        """Stop every process, highest order first, then supervisord itself. Nothing happens if nothing runs.

        Also stops what a killed supervisord left behind.

        Raises:
            SupervisorStopError: some did not stop within `timeout` seconds.
        """
        if self.running():
            supervisord = self._supervisord()
            with self._rpc("supervisor") as rpc:
                order = {info["name"]: info["process_prio"] for info in rpc.getAllConfigInfo()}
                for _, group in groupby(sorted(order, key=lambda name: -order[name]), key=lambda name: order[name]):
                    self._stop_processes(list(group), timeout)
                rpc.shutdown()
            if supervisord and not until(lambda: gone(supervisord), timeout):
                raise SupervisorStopError(names="supervisord")
        stop_orphans(self.home.run)

    def running(self) -> bool:
        """Whether a supervisor of this home answers, asked by asking it."""
        try:
            with self._rpc("supervisor") as rpc:
                return cast("str", rpc.getState()["statename"]) == "RUNNING"
        except (NotSupervisedError, Fault):
            return False

    # Talking to supervisord

    def _require(self, name: str) -> None:
        if not any(status.name == name for status in self.status()):
            raise NotSupervisedError(name=name, root=self.home.root)

    @contextmanager
    def _rpc(self, name: str) -> Iterator[Any]:
        transport = SupervisorTransport(serverurl=f"unix://{self.home.supervisor_socket}")
        try:
            yield ServerProxy("http://localhost", transport=transport).supervisor
        except Fault as fault:
            if fault.faultCode != Faults.BAD_NAME:
                raise
            raise NotSupervisedError(name=name, root=self.home.root) from None
        except (OSError, HTTPException):  # no socket, nobody behind it, or gone in mid-sentence
            raise NotSupervisedError(name=name, root=self.home.root) from None
        finally:
            transport.close()

    def _supervisord(self) -> psutil.Process | None:
        with self._rpc("supervisor") as rpc, suppress(psutil.Error):
            return psutil.Process(cast("int", rpc.getPID()))
        return None

    def _status(self, info: dict[str, Any], exits: dict[str, str]) -> ProcessStatus:
        record = ProcessRecord.read(self._record_file(info["name"]))
        pid = info["pid"] or None
        return ProcessStatus(
            name=info["name"],
            state=info["statename"],
            pid=pid,
            uptime_seconds=max(0.0, float(info["now"] - info["start"])) if pid else 0.0,
            restarts=record.starts - 1 if record else 0,
            last_exit=exits.get(info["name"]),
        )

    def _last_exits(self) -> dict[str, str]:
        """Supervisor forgets an exit status with the next start, and tells none for a signal; its log has both."""
        try:
            log = self.log.read_text(errors="replace")
        except FileNotFoundError:
            return {}
        _, _, log = log.rpartition("supervisord started with pid")
        return dict(re.findall(r"(?:exited|stopped): (\S+) \((.*?)(?:;.*)?\)$", log, re.MULTILINE))

    def _stop_processes(self, names: list[str], timeout: float) -> None:
        """Ask again until it is so: one that has just died by itself cannot be stopped, but is about to come back."""

        def stopped() -> bool:
            left = [status.name for status in self.status() if status.name in names and status.state not in STOPPED]
            with self._rpc(", ".join(names)) as rpc:
                for name in left:
                    _ignoring(Faults.NOT_RUNNING, rpc.stopProcess, name, False)
            return not left

        if not until(stopped, timeout):
            raise SupervisorStopError(names=", ".join(names))

    # Files

    def _write_config(self) -> None:
        home = self.home
        lines: dict[str, dict[str, object]] = {
            "unix_http_server": {"file": home.supervisor_socket, "chmod": "0700"},
            "supervisord": {
                "logfile": self.log,
                "logfile_maxbytes": "10MB",
                "logfile_backups": 2,
                "pidfile": home.run / "supervisord.pid",
                "directory": home.run,
                "umask": "077",
                "silent": "true",
            },
            "rpcinterface:supervisor": {"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
            "include": {"files": "programs/*.conf"},  # relative to this file
        }
        if os.geteuid() == 0:
            lines["supervisord"]["user"] = "root"  # said aloud, or supervisord warns
        (home.run / "programs").mkdir(mode=0o700, exist_ok=True)
        write_private(self.config, "\n".join(_section(name, values) for name, values in lines.items()))

    def _write_program(self, spec: ProcessSpec) -> None:
        record = self._record_file(spec.name)
        record.unlink(missing_ok=True)  # the count of restarts begins anew
        launcher = [sys.executable, "-P", "-m", LAUNCHER, RECORD_OPTION, str(record)]
        launcher += [STOP_OPTION, spec.stop_signal, *(["--user", spec.user] if spec.user else [])]
        if spec.uid is not None:
            launcher += ["--uid", str(spec.uid), "--gid", str(spec.uid)]
        values: dict[str, object] = {
            "command": shlex.join([*launcher, str(spec.environment), "--", *spec.argv]),
            "directory": spec.directory,
            "priority": spec.order,
            "autostart": "true",
            "autorestart": "true",
            "startsecs": spec.start_seconds,
            "startretries": NEVER_GIVE_UP,
            "stopsignal": spec.stop_signal,
            "stopwaitsecs": spec.stop_seconds,
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": spec.log,
            "stdout_logfile_maxbytes": "10MB",
            "stdout_logfile_backups": 2,
        }
        write_private(self._program_file(spec.name), _section(f"program:{spec.name}", values))

    def _program_file(self, name: str) -> Path:
        return self.home.run / "programs" / f"{name}.conf"

    def _record_file(self, name: str) -> Path:
        return self.home.run / f"{name}{SUFFIX}"


def _section(name: str, values: Mapping[str, object]) -> str:
    return f"[{name}]\n" + "".join(f"{key} = {_value(value)}\n" for key, value in values.items())


def _value(value: object) -> str:
    """Refuse what supervisor's parser reads as a comment or an expansion (of which it undoubles `%%` once or twice)."""
    text = str(value)
    if any(bad in text for bad in ("\n", "\r", " ;", " #", "\t;", "\t#", "%")):
        raise UnsupportedPathError(value=text)
    return text


def _ignoring(fault_code: int, call: Callable[..., object], *arguments: object) -> None:
    try:
        call(*arguments)
    except Fault as fault:
        if fault.faultCode != fault_code:
            raise
