"""The embedded PostgreSQL: the server over one cluster, on 127.0.0.1, with passwords, never run as root.

Health is asked by connecting, never read from a pid file. The output of `start()` goes to `<directory>/postgres.log`.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, urlencode

import psutil
import psycopg

from ntro_dagster.errors import NtroError
from ntro_dagster.platforms.postgres.binaries import process_identity
from ntro_dagster.platforms.postgres.cluster import HOST, SUPERUSER, Cluster, DiskFullError, PostgresStartError

__all__ = ["DiskFullError", "PortTakenError", "PostgresServer", "PostgresStartError", "postgres_url"]


class PortTakenError(NtroError):
    """Something else listens on the cluster's port. Values: `port`, `config`."""

    code = "PORT_TAKEN"
    summary = "another program listens on the database's port"
    detail = "port {port} of 127.0.0.1 is taken by another program"
    mend = (
        "Find it with `ss -ltnp 'sport = :{port}'`, stop it, and start again; "
        "or change `port` in {config} and provision the databases again."
    )


def postgres_url(settings: Mapping[str, str]) -> str:
    """The libpq URL for connection settings by libpq's names (`host`, `port`, `user`, `password`, `dbname`, ...)."""
    rest = {name: value for name, value in settings.items() if value}
    user = quote(rest.pop("user", ""), safe="")
    password = quote(rest.pop("password", ""), safe="")
    database = quote(rest.pop("dbname", ""), safe="")
    address = ""
    if re.fullmatch(r"[\w.-]+", rest.get("host", "")) and rest.get("port", "0").isdigit():
        address = rest.pop("host") + (f":{rest.pop('port')}" if "port" in rest else "")
    login = f"{user}:{password}@" if password else f"{user}@" if user else ""
    return f"postgresql://{login}{address}/{database}" + (f"?{urlencode(rest, quote_via=quote)}" if rest else "")


class PostgresServer(Cluster):
    """The server of the cluster in `directory`. Any process may drive the same directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.log = self.directory / "postgres.log"
        self._child: subprocess.Popen[bytes] | None = None

    def dsn(self, database: str, role: str, password: str) -> str:
        """libpq URL. SCRAM only: a stranger on our port cannot ask for the password in clear."""
        return postgres_url(
            {
                "host": HOST,
                "port": str(self.port),
                "user": role,
                "password": password,
                "dbname": database,
                "require_auth": "scram-sha-256",
            }
        )

    def admin_dsn(self, database: str = "postgres") -> str:
        """The superuser's URL: for provisioning, never for a tenant's process."""
        return self.dsn(database, SUPERUSER, self.superuser_password())

    def foreground_command(self) -> list[str]:
        """Argv for a process supervisor, to be run as `run_as()` in a directory that user can read (`/`)."""
        return [str(self.binaries.program("postgres")), "-D", str(self.data)]

    def start(self, timeout: float = 60.0) -> None:
        """Start the server as a child of this process unless it runs already; return when it answers.

        Tries again while the processes of a killed predecessor are still going away.

        Args:
            timeout: seconds, recovery after a crash included.

        Raises:
            PortTakenError: someone else listens on our port.
            DiskFullError: no space left.
            PostgresStartError: anything else; carries the last lines of the log.
        """
        self.initialise()
        deadline = time.monotonic() + timeout
        with self._lock():
            while not self.is_ready():
                logged = self.log.stat().st_size if self.log.exists() else 0
                if self.postmaster() is None:
                    self._launch()
                while not self.is_ready() and self._is_coming_up():
                    if time.monotonic() > deadline:
                        self._give_up(self._log_since(logged))
                    time.sleep(0.05)
                if self._child and not self._is_coming_up():
                    self._judge_exit(self._log_since(logged), may_retry=time.monotonic() < deadline)

    def stop(self, timeout: float = 60.0) -> None:
        """Stop the server, whoever started it: open transactions are rolled back. Nothing happens if it is not running.

        Args:
            timeout: seconds for the orderly way, after which the next start has to recover from the log.
        """
        for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            if process := self.postmaster() or self._child_process():
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(how)
                with suppress(psutil.TimeoutExpired):
                    process.wait(timeout)
        if self._child:
            self._child.poll()
            self._child = None

    def is_ready(self, timeout: float = 0.0) -> bool:
        """Whether this very cluster answers queries, within `timeout` seconds. Asked by connecting."""
        deadline = time.monotonic() + timeout
        while not self._answers():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        return True

    def postmaster(self) -> psutil.Process | None:
        """The server's main process, if it is alive and works on this cluster."""
        process = self._recorded_process()
        with suppress(psutil.Error):
            if process and str(self.data) in process.cmdline():  # a zombie has none
                return process
        return None

    def check_port(self) -> None:
        """Raises `PortTakenError` when something listens on our port; only to be asked while this server is down."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, self.port))
            except OSError:
                raise PortTakenError(port=self.port, config=self.config) from None

    def _launch(self) -> None:
        self.check_port()
        self._clear_zombie()
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self.foreground_command(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in a terminal is for us to handle
                **process_identity(self.run_as()),
            )

    def _is_coming_up(self) -> bool:
        return self._child.poll() is None if self._child else self.postmaster() is not None

    def _judge_exit(self, log: str, *, may_retry: bool) -> None:
        """Raise for what the log says, or return where a killed predecessor is only still going away."""
        self._child = None
        lingering = "pre-existing shared memory block" in log or 'lock file "postmaster.pid" already exists' in log
        if not (lingering and may_retry):
            raise self._failure(log)
        time.sleep(0.1)

    def _give_up(self, log: str) -> None:
        """Out of time. What we started goes; a server that a supervisor started is left to it."""
        if self._child:
            self.stop()
        raise self._failure(log)

    def _failure(self, log: str) -> NtroError:
        if "Address already in use" in log:
            return PortTakenError(port=self.port, config=self.config)
        return super()._failure(log)

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.admin_dsn(), connect_timeout=2, autocommit=True) as connection:
                row = connection.execute("SHOW data_directory").fetchone()
        except (psycopg.OperationalError, FileNotFoundError):
            return False
        return row is not None and Path(row[0]) == self.data  # a copied home has the same password and port

    def _recorded_process(self) -> psutil.Process | None:
        try:
            return psutil.Process(int((self.data / "postmaster.pid").read_text().split("\n", maxsplit=1)[0]))
        except (OSError, ValueError, psutil.Error):
            return None

    def _clear_zombie(self) -> None:
        """A zombie that nobody reaps (a container without an init) keeps its pid, so PostgreSQL would wait for it
        for ever. Its lock file goes once no process works in the data directory any more."""
        process = self._recorded_process()
        with suppress(psutil.Error):
            if process and process.status() == psutil.STATUS_ZOMBIE:
                others = psutil.process_iter(["name", "status", "cwd"])
                if not any(self._may_be_a_server_process(other) for other in others):
                    (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _may_be_a_server_process(self, process: psutil.Process) -> bool:
        """In a container even root may not see where another user's process works: then the answer is yes."""
        seen = process.info
        alive = seen["name"] == "postgres" and seen["status"] != psutil.STATUS_ZOMBIE
        return alive and (not seen["cwd"] or Path(seen["cwd"]) == self.data)

    def _child_process(self) -> psutil.Process | None:
        if self._child is None or self._child.poll() is not None:
            return None
        return psutil.Process(self._child.pid)

    def _log_since(self, size: int) -> str:
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(size)
            return log.read().decode(errors="replace")
