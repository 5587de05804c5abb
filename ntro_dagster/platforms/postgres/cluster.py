"""A PostgreSQL cluster on disk: where it lies, whose it is, how it is set up.

<directory>/
  superuser.password     0600, of whoever runs ntro
  data/                  the cluster, or a link to it where the server's user cannot reach `directory`
    ntro.conf            our settings, the port among them
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import random
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

from ntro_dagster.errors import NtroError, TransientError
from ntro_dagster.platforms.postgres.binaries import (
    PostgresBinaries,
    find_binaries,
    make_public_directory,
    process_identity,
)

HOST = "127.0.0.1"
SUPERUSER = "postgres"
SHARED_DATA = Path("/var/lib/ntro")
PORTS = range(20_000, 30_000)  # below the usual ranges for outgoing connections, so the port stays ours
BUILTIN_LOCALE_MAJOR = 17

# The log is read by the workspace's operator, and an ERROR quotes values (`Key (iban)=(..) exists`): those go to the
# client alone. LOG, FATAL and PANIC, which tell of the server itself, remain. Parallel workers are off because their
# shared memory does not fit a container's 64 MB /dev/shm, and two cores serve many tenants. A page anywhere costs as much as
# the next one: with the default of 4, made for discs that turn, a posting reads every journal of the tenant.
SETTINGS = """\
# Written by ntro at every start; only the port is kept. To change a setting for good: ALTER SYSTEM.
port = {port}
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
password_encryption = 'scram-sha-256'
max_connections = 200
shared_buffers = '256MB'
max_wal_size = '2GB'
max_parallel_workers_per_gather = 0
random_page_cost = 1.1
timezone = 'UTC'
log_timezone = 'UTC'
log_destination = 'stderr'
logging_collector = off
log_min_messages = log
log_min_error_statement = panic
log_error_verbosity = terse
log_statement = 'none'
"""


class PostgresStartError(NtroError):
    """The server could not be set up or did not come up. Values: `directory`, `log` (its last lines)."""

    code = "POSTGRES_START_FAILED"
    summary = "PostgreSQL did not start"
    detail = "PostgreSQL in {directory} did not start; it said last:\n{log}"
    mend = "Mend what the lines above name, then start again. The data in {directory} was left as it is."


class DiskFullError(TransientError):
    """PostgreSQL found no space left. Values: `directory`."""

    code = "DISK_FULL"
    summary = "no space left on the database's disk"
    detail = "no space left on the disk that holds {directory}"
    mend = "Free some space on the disk that holds {directory}, then start again."


class Cluster:
    """The cluster of `directory`. Creating the object touches nothing."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()

    @property
    def data(self) -> Path:
        """The cluster's real place: below `directory`, or where the link there points."""
        return (self.directory / "data").resolve()

    @property
    def _password_file(self) -> Path:
        return self.directory / "superuser.password"

    @property
    def config(self) -> Path:
        return self.data / "ntro.conf"

    @property
    def port(self) -> int:
        """Chosen once, by `initialise()`."""
        return _port_in(self.config.read_text())

    @cached_property
    def binaries(self) -> PostgresBinaries:
        """Programs of the cluster's own major version; for a new cluster the newest there are."""
        version = self.data / "PG_VERSION"
        major = int(version.read_text()) if version.exists() else None
        return find_binaries(major=major, user=self.run_as())

    def superuser_password(self) -> str:
        return self._password_file.read_text()

    def run_as(self) -> pwd.struct_passwd | None:
        """Whom the server must run as: None for the current user; never root.

        An existing cluster keeps its user, so an account `postgres` that appears later changes nothing.
        """
        if os.geteuid() != 0:
            return None
        if self.data.exists() and (owner := self.data.stat().st_uid) != 0:
            with suppress(KeyError):
                return pwd.getpwuid(owner)
        try:
            return pwd.getpwnam("postgres")
        except KeyError:
            return pwd.getpwnam("nobody")

    def initialise(self) -> None:
        """Create the cluster if there is none, and bring our settings up to date. Safe to repeat, also after a crash.

        Raises:
            PostgresNotFoundError: no binaries.
            PostgresStartError: `initdb` failed.
            DiskFullError: no space left.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with self._lock():
                self._set_up()
        except OSError as error:
            raise self._failure(str(error)) from error

    def _set_up(self) -> None:
        if not (self.data / "PG_VERSION").exists():
            self._choose_place()
            self._create_cluster()
        elif not self._password_file.exists():
            raise PostgresStartError(directory=self.directory, log=f"{self._password_file} is missing")
        wanted = SETTINGS.format(port=self.port)
        if self.config.read_text() != wanted:
            _write(self.config, wanted, mode=0o644)

    def _choose_place(self) -> None:
        """Where the server's user cannot reach `directory`, put the cluster under /var/lib/ntro and leave a link."""
        link = self.directory / "data"
        user = self.run_as()
        if user is None or link.is_symlink() or _reaches(user, self.directory):
            return
        # A cluster left there by a deleted home of the same path is nobody's to reuse or delete: take the next name.
        name = hashlib.sha256(str(self.directory.resolve()).encode()).hexdigest()[:16]
        generation = 1
        while (place := SHARED_DATA / (name if generation == 1 else f"{name}-{generation}") / "postgres").exists():
            generation += 1
        make_public_directory(SHARED_DATA)
        make_public_directory(place.parent)
        _write(place.parent / "HOME", f"{self.directory}\n")
        link.symlink_to(place)

    def _create_cluster(self) -> None:
        """`initdb` beside the final place, then one rename: a crash on the way leaves no half a cluster.

        Each attempt has its own folder, for the `initdb` of a killed attempt may still be writing to the last one.
        """
        if not self._password_file.exists():
            _write(self._password_file, secrets.token_urlsafe(32))
        prefix = f"{self.data.name}.initialising-"
        for abandoned in self.data.parent.glob(f"{prefix}*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        staging = Path(tempfile.mkdtemp(dir=self.data.parent, prefix=prefix))
        if user := self.run_as():
            os.chown(staging, user.pw_uid, user.pw_gid)
        self._run_initdb(staging, user)
        with (staging / "postgresql.conf").open("a") as conf:
            conf.write("\ninclude = 'ntro.conf'\n")
        _write(staging / "ntro.conf", SETTINGS.format(port=_free_port()), mode=0o644)
        staging.rename(self.data)

    def _run_initdb(self, staging: Path, user: pwd.struct_passwd | None) -> None:
        command: list[str | Path] = [
            self.binaries.program("initdb"),
            "-D",
            staging,
            "-U",
            SUPERUSER,
            "-A",
            "scram-sha-256",
        ]
        command += ["--encoding=UTF8", "--locale=C", "--data-checksums"]
        if self.binaries.major >= BUILTIN_LOCALE_MAJOR:
            command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        handover = staging.with_name("initdb.password")  # 0600, of the server's user, gone right after
        _write(handover, self.superuser_password())
        try:
            if user:
                os.chown(handover, user.pw_uid, user.pw_gid)
            command.append(f"--pwfile={handover}")
            done = subprocess.run(command, capture_output=True, text=True, check=False, **process_identity(user))
        finally:
            handover.unlink()
        if done.returncode != 0:
            raise self._failure(done.stdout + done.stderr)

    def _failure(self, log: str) -> NtroError:
        if "No space left on device" in log:
            return DiskFullError(directory=self.data)
        return PostgresStartError(directory=self.directory, log="\n".join(log.splitlines()[-20:]))

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One process at a time sets up or starts this directory."""
        with (self.directory / ".lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _port_in(config: str) -> int:
    match = re.search(r"^\s*port\s*=\s*(\d+)", config, re.MULTILINE)
    return int(match.group(1)) if match else _free_port()


def _free_port() -> int:
    for port in random.sample(PORTS, 200):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port
    return random.choice(PORTS)  # noqa: S311 - `start()` will say PORT_TAKEN


def _reaches(user: pwd.struct_passwd, directory: Path) -> bool:
    """Asked by trying: modes, ACLs and mounts each have a say."""
    test = shutil.which("test") or "/bin/test"
    return subprocess.run([test, "-x", directory], check=False, **process_identity(user)).returncode == 0


def _write(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Whole or not at all, also if the machine goes down."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as handle:  # noqa: PTH123
        handle.write(text)
        os.fchmod(handle.fileno(), mode)  # whatever the umask
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)
