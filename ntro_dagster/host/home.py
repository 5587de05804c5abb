"""The directory of one installation: where everything lies, and nothing about what is in it.

<root>/                      0700; default ./.ntro, else --home, else NTRO_HOME
  home.json                  format version, webserver port, when it was made
  users.json                 who each tenant is for the operating system (host.users); absent where all are one
  postgres/                  the embedded cluster (platforms.postgres.server)
  dagster/                   DAGSTER_HOME: dagster.yaml
  relay.json                 where the relay listens for tenants on other hosts; absent: nowhere
  workspace.yaml             one gRPC server per tenant, for webserver and daemon
  logs/                      one file per process of the workspace
  surveys/                   what each tenant's code defines, as the workspace may know it
  runbooks/                  versions of runbooks that were pushed
  run/                       what lives only while processes do: sockets, pid files, supervisor's configuration
  tenants/<slug>/            one client: process.env.json, credentials/, documents/, uploads/, logs/, artifacts/,
                             output/, bundles/, active/

Where tenants have users of their own, the host's directories are 0711, and those that a tenant may write are
`TenantHome.own`: in none of them does root ever write.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ntro_dagster.boundary.load_failure import read_note
from ntro_dagster.boundary.names import ACTIVE, ARTIFACTS, BOOKS, RELAY, RELAY_SOCKET, SECRETS, SURVEYS
from ntro_dagster.boundary.tenant_logs import LOGS
from ntro_dagster.errors import NtroError, TransientError, UsageError
from ntro_dagster.host.permissions import Access, UnsafeDirectoryError, hand_over, private_directory, write_private
from ntro_dagster.host.privacy import for_workspace, passage, tenant_directories
from ntro_dagster.host.users import Users, acting_as, given, read_users, write_users

__all__ = ["Home", "HomeDescription", "Role", "TenantHome", "UnsafeDirectoryError", "private_directory", "write_private"]

FORMAT = 1
DEFAULT_ROOT = Path(".ntro")
DEFAULT_WEBSERVER_PORT = 3000

# sun_path holds 107 bytes and a terminator; supervisor binds `<socket>.<pid>` first and renames.
SOCKET_PATH_LIMIT = 95
LONGEST_SOCKET = "x" * 31 + "/" + RELAY_SOCKET
SHORT_PATHS = Path("/tmp")  # noqa: S108 - not tempfile.gettempdir(): every process must come to the same place


class HomeMissingError(UsageError):
    """No installation here. Values: `root`."""

    code = "HOME_MISSING"
    summary = "there is no ntro home"
    detail = "there is no ntro home in {root}"
    mend = "Run `ntro up` to make one there, or say where it is with --home or NTRO_HOME."
    exit_code = 3


class HomeTooNewError(UsageError):
    """Made by a later release. Values: `root`, `found`, `known`."""

    code = "HOME_TOO_NEW"
    summary = "the ntro home was made by a newer release"
    detail = "{root} has format {found}; this release knows formats up to {known}"
    mend = "Upgrade ntro-dagster, or use another directory with --home."


class HomeDamagedError(NtroError):
    """home.json cannot be read. Values: `path`."""

    code = "HOME_DAMAGED"
    summary = "the ntro home's description cannot be read"
    detail = "{path} is not what this program wrote"
    mend = "Restore {path} from a backup; nothing else in the directory was touched."


class HomeBusyError(TransientError):
    """Another `ntro` changes this home. Values: `root`."""

    code = "HOME_BUSY"
    summary = "another ntro command is at work in this home"
    detail = "another ntro command is at work in {root}"
    mend = "Wait for it to end, then try again."


class Role(StrEnum):
    """Whom a credential file of a tenant is for."""

    OWNER = "owner"
    APP = "app"
    DESK = "desk"
    AUDITOR = "auditor"


class HomeDescription(BaseModel):
    """What home.json holds."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    webserver_port: int = DEFAULT_WEBSERVER_PORT
    created_at: datetime


@dataclass(frozen=True)
class TenantHome:
    """One client's part of the home."""

    home: Home
    slug: str

    @property
    def root(self) -> Path:
        return self.home.root / "tenants" / self.slug

    @property
    def process_env(self) -> Path:
        """The full environment of the tenant's code server, secrets included: JSON object of strings, 0600."""
        return self.root / "process.env.json"

    @property
    def desk_env(self) -> Path:
        """The full environment of the tenant's desk, in the same form."""
        return self.root / "desk.env.json"

    @property
    def credentials(self) -> Path:
        return self.root / "credentials"

    @property
    def documents(self) -> Path:
        return self.root / "documents"

    @property
    def uploads(self) -> Path:
        """Documents that came in at the desk, which runs as the tenant and may not write among the others."""
        return self.root / "uploads"

    @property
    def logs(self) -> Path:
        """What the tenant's processes write of themselves: it may carry the tenant's values, so it lies with the tenant."""
        return self.root / "logs"

    @property
    def output(self) -> Path:
        """What they print, written by the host's supervisor: root writes here, so nobody else may."""
        return self.root / "output"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def books(self) -> Path:
        """Ledgers in files, that the tenant's processes write."""
        return self.root / "books"

    @property
    def secrets(self) -> Path:
        """What the tenant's processes log in to other people's systems with, a file each; the operator writes here."""
        return self.root / "secrets"

    @property
    def socket(self) -> Path:
        """Where the code server listens: alone in a 0700 directory."""
        return self.home.sockets / self.slug / "code.sock"

    @property
    def relay_socket(self) -> Path:
        """Where the workspace's relay listens for this tenant, in the same directory: who may enter it is the tenant."""
        return self.home.sockets / self.slug / RELAY_SOCKET

    @property
    def surveys(self) -> Path:
        """The tenant's copy of its survey; the workspace believes its own (`Home.surveys`)."""
        return self.root / "surveys"

    @property
    def active(self) -> Path:
        """Which runbooks the tenant's processes work with; alone in its directory, so that a process can be shown it alone."""
        return self.root / "active" / "runbooks.json"

    @property
    def bundles(self) -> Path:
        """The versions that were deployed here, unpacked: `<slug>/<version>/`."""
        return self.root / "bundles"

    @property
    def places(self) -> dict[str, str]:
        """What the tenant's processes are told of where things are: part of their environment."""
        return {
            "NTRO_TENANT": self.slug,
            "NTRO_SOCKET": str(self.socket),
            "NTRO_DOCUMENTS": str(self.documents),
            LOGS: str(self.logs),
            RELAY: f"unix:{self.relay_socket}",
            SURVEYS: str(self.surveys),
            ARTIFACTS: str(self.artifacts),
            ACTIVE: str(self.active),
            BOOKS: str(self.books),
            SECRETS: str(self.secrets),
        }

    def credential(self, role: Role) -> Path:
        """The file with this role's database URL, 0600."""
        return self.credentials / role.value

    @property
    def user(self) -> int | None:
        """Number of the user (and group) that the tenant's processes run as; None: the one we are."""
        users = self.home.users
        return users.tenants.get(self.slug) if users else None

    @property
    def _former_user(self) -> int | None:
        known = read_users(self.home.users_file) if os.geteuid() == 0 else None
        return known.tenants.get(self.slug) if known else None

    @property
    def own(self) -> tuple[Path, ...]:
        """Where the tenant's processes may write."""
        return (self.logs, self.artifacts, self.uploads, self.books, self.socket.parent)

    @property
    def load_failure(self) -> tuple[str, str] | None:
        """Code and error id where the code server that runs says that the definitions do not load."""
        with self.acting():
            return read_note(self.socket)

    def acting(self) -> AbstractContextManager[None]:
        """Read the tenant's files with the tenant's rights (`users.acting_as`)."""
        return acting_as(self.user)

    def create(self) -> list[Path]:
        """Make the directories, each for whom it is for. Safe to repeat, also after a crash.

        Where the tenant got a user since, its files are handed over.

        Returns: files that were not, because they have several names (`hand_over`).

        Raises:
            UnsafeDirectoryError: the socket's directory is somebody else's.
            UsersExhaustedError: no user is left.
        """
        users, uid = self.home.users, None
        if users:
            users, uid = given(self.home.users_file, users, self.slug)
        directories = tenant_directories(self, users, self._former_user if users is None else None)
        self.home.create_sockets()
        private_directory(self.root, directories.pop(self.root))
        left: list[Path] = []
        if users and self.slug not in users.settled:
            private_directory(self.socket.parent, Access(before=(uid or 0,)))
            for stale in self.socket.parent.iterdir():  # nothing runs that was not made for this user
                stale.unlink()
            handed = {
                self.logs: 0o600,
                self.artifacts: 0o600,
                self.uploads: 0o400,
                self.books: 0o600,
                self.secrets: 0o640,
                self.documents: 0o440,
                self.bundles: 0o640,
                self.active.parent: 0o640,
            }
            for path, files in handed.items():
                private_directory(path, Access(before=(uid or 0,)))
                left += hand_over(path, directories[path], files=files)
        for path, access in directories.items():
            private_directory(path, access)
        if users and self.slug not in users.settled:
            write_users(self.home.users_file, users.model_copy(update={"settled": [*users.settled, self.slug]}))
        return left


@dataclass(frozen=True)
class Home:
    """One installation's directory. Creating the object touches nothing."""

    root: Path

    def __post_init__(self) -> None:
        # resolved, because the short socket directory is named after it
        object.__setattr__(self, "root", self.root.expanduser().resolve())

    @classmethod
    def find(cls, option: Path | None = None) -> Home:
        """The home asked for: `option` (--home), else NTRO_HOME, else ./.ntro. It need not exist."""
        return cls(option or Path(os.environ.get("NTRO_HOME") or DEFAULT_ROOT))

    @property
    def description_file(self) -> Path:
        return self.root / "home.json"

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def dagster(self) -> Path:
        """DAGSTER_HOME of every process."""
        return self.root / "dagster"

    @property
    def workspace_credential(self) -> Path:
        """The address of the workspace's database, password included, 0600."""
        return self.root / "credentials" / "workspace"

    @property
    def workspace_file(self) -> Path:
        return self.root / "workspace.yaml"

    @property
    def relay_listener(self) -> Path:
        return self.root / "relay.json"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def users_file(self) -> Path:
        return self.root / "users.json"

    @property
    def users(self) -> Users | None:
        """Which users tenants and workspace run as; None: all as we do. Raises `UsersDamagedError`."""
        if os.geteuid() != 0:
            return None
        found = read_users(self.users_file)
        return None if found is None or found.shared else found

    @property
    def workspace_user(self) -> int | None:
        """Number of the user (and group) of webserver, daemon and relay; None: the one we are."""
        users = self.users
        return users.workspace if users else None

    @property
    def surveys(self) -> Path:
        return self.root / "surveys"

    @property
    def versions(self) -> Path:
        """The archives of what was pushed: `<slug>/<version>.zip`."""
        return self.root / "runbooks"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def sockets(self) -> Path:
        """`run`, or a short private directory where `run` is too deep for the path of a unix socket."""
        if len(os.fsencode(self.run / LONGEST_SOCKET)) <= SOCKET_PATH_LIMIT:
            return self.run
        return SHORT_PATHS / f"ntro-{hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]}"

    @property
    def supervisor_socket(self) -> Path:
        return self.sockets / "supervisor.sock"

    def tenant(self, slug: str) -> TenantHome:
        return TenantHome(self, slug)

    def process_env(self, name: str) -> Path:
        """Environment file of a process of the workspace (webserver, daemon, postgres), 0600."""
        return self.run / "env" / f"{name}.json"

    def create(self, *, webserver_port: int = DEFAULT_WEBSERVER_PORT) -> HomeDescription:
        """Make the directories, and home.json where there is none. Safe to repeat: an existing port is kept.

        Raises:
            HomeTooNewError, HomeDamagedError: as `describe()`.
            UnsafeDirectoryError: the socket directory is somebody else's.
        """
        private_directory(self.root, passage(self.users))
        if not self.description_file.exists():
            made = HomeDescription(webserver_port=webserver_port, created_at=datetime.now(UTC))
            write_private(self.description_file, made.model_dump_json(indent=2) + "\n")
        description = self.describe()
        for path in (self.postgres, self.logs, self.run / "env"):
            private_directory(path)
        for path in (self.dagster, self.surveys):
            private_directory(path, for_workspace(self.users))
        for path in (self.root / "tenants", self.run):
            private_directory(path, passage(self.users))
        self.create_sockets()
        return description

    def describe(self) -> HomeDescription:
        """Read home.json.

        Raises:
            HomeMissingError: there is none.
            HomeTooNewError: made by a later release.
            HomeDamagedError: not readable.
        """
        try:
            content = json.loads(self.description_file.read_text())
            found = int(content["format"])
        except FileNotFoundError:
            raise HomeMissingError(root=self.root) from None
        except (ValueError, TypeError, KeyError):
            raise HomeDamagedError(path=self.description_file) from None
        if found > FORMAT:
            raise HomeTooNewError(root=self.root, found=found, known=FORMAT)
        try:
            return HomeDescription.model_validate(content)
        except ValidationError:
            raise HomeDamagedError(path=self.description_file) from None

    def change_port(self, webserver_port: int) -> None:
        """The webserver's port from its next start on. Raises: as `describe()`."""
        changed = self.describe().model_copy(update={"webserver_port": webserver_port})
        write_private(self.description_file, changed.model_dump_json(indent=2) + "\n")

    def create_sockets(self) -> None:
        """Make the directory of the sockets, which lets nobody in, or pass where tenants have users of their own.

        Raises:
            UnsafeDirectoryError: in the shared temporary directory somebody else was there first.
        """
        private_directory(self.sockets, passage(self.users))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold this home alone while processes are started or stopped. Freed by the kernel if we die.

        Raises:
            HomeBusyError: somebody else holds it.
        """
        private_directory(self.root, passage(self.users))
        with (self.root / ".lock").open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise HomeBusyError(root=self.root) from None
            yield
