"""What is wrong with this machine or this home, and the mend: `ntro doctor`.

A check looks and changes nothing. It reports what it found, never a credential, and never stops the others.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from typing import Any

from ntro_dagster.errors import NtroError
from ntro_dagster.host.home import SOCKET_PATH_LIMIT, Home, HomeMissingError, Role, TenantHome
from ntro_dagster.host.orphans import SUFFIX, ProcessRecord
from ntro_dagster.host.privacy import private_paths
from ntro_dagster.host.supervision import Supervisor

OLDEST_PYTHON = (3, 11)
LITTLE_DISK, LEAST_DISK = 5 << 30, 1 << 30
CONNECT_S = 5
RESTLESS = 3


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `mend`: what to do, empty where nothing is wrong."""

    name: str
    state: State
    finding: str
    mend: str = ""


def examine(home: Home) -> list[Check]:
    """Every check, the machine's first."""
    checks = [_guarded(check) for check in (_python, _bytecode, _timezones, _postgres_programs, _survey)]
    checks.append(_guarded(lambda: _disk(home)))
    try:
        home.describe()
    except HomeMissingError as error:
        return [*checks, Check("home", State.WARNING, error.explain(), error.advice())]
    except NtroError as error:
        return [*checks, Check("home", State.PROBLEM, error.explain(), error.advice())]
    for of_home in (_privacy, _socket_paths, _webserver_port):
        checks.append(_guarded(lambda look=of_home: look(home)))  # type: ignore[misc]
    running = Supervisor(home).running()
    checks += list(_processes(home))
    if running:
        checks += list(_databases(home))
    checks += [_guarded(lambda: _workspace_file(home)), _guarded(lambda: _instance_file(home)), _guarded(lambda: _os_users(home))]
    return checks


def _guarded(check: Callable[[], Check]) -> Check:
    try:
        return check()
    except NtroError as error:
        return Check(check.__name__.strip("_<>"), State.PROBLEM, error.explain(), error.advice())
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
        return Check(check.__name__.strip("_<>"), State.PROBLEM, what, "check that path's owner and permissions")


# -- the machine


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        return Check("python", State.PROBLEM, f"Python {found}", "install Python 3.11 or newer and build .venv again")
    return Check("python", State.OK, f"Python {found}")


def _bytecode() -> Check:
    """Without compiled files every process compiles Dagster anew: start-up takes twice as long."""
    if os.environ.get("PYTHONDONTWRITEBYTECODE"):
        return Check(
            "bytecode", State.WARNING, "PYTHONDONTWRITEBYTECODE is set: every start compiles Dagster anew",
            "unset PYTHONDONTWRITEBYTECODE where ntro is installed and started",
        )  # fmt: skip
    spec = find_spec("dagster")
    if spec and spec.origin and not Path(cache_from_source(spec.origin)).exists():
        folder = Path(spec.origin).parent.parent
        return Check(
            "bytecode", State.WARNING, "the installed packages are not compiled: every start takes twice as long",
            f"{sys.executable} -m compileall -q {folder}",
        )  # fmt: skip
    return Check("bytecode", State.OK, "packages are compiled")


def _timezones() -> Check:
    from datetime import UTC, datetime  # noqa: PLC0415
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415

    try:
        ZoneInfo("Europe/London")
    except (ZoneInfoNotFoundError, OSError):
        return Check("clock", State.PROBLEM, "no time zone data", "pip install tzdata")
    now = datetime.now(UTC)
    built = datetime.fromtimestamp(Path(__file__).stat().st_mtime, UTC)
    if now < built.replace(hour=0, minute=0) and (built - now).days >= 1:
        return Check(
            "clock", State.PROBLEM, f"the clock says {now:%Y-%m-%d}, before ntro was installed", "set the clock; use NTP"
        )
    return Check("clock", State.OK, f"{now:%Y-%m-%d %H:%M} UTC, time zones known")


def _postgres_programs() -> Check:
    from ntro_dagster.platforms.postgres.binaries import find_binaries  # noqa: PLC0415

    found = find_binaries()
    return Check("postgresql", State.OK, f"PostgreSQL {found.version}" + (" (wheel)" if found.package else " (system)"))


def _disk(home: Home) -> Check:
    place = home.root
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    finding = f"{free / (1 << 30):,.1f} GiB free at {place}"
    if free < LEAST_DISK:
        return Check("disk", State.PROBLEM, finding, "make room: PostgreSQL stops where the disk is full")
    if free < LITTLE_DISK:
        return Check("disk", State.WARNING, finding, "make room before a large ingest: it needs about 10 times the files' size")
    return Check("disk", State.OK, finding)


# -- the home


def _privacy(home: Home) -> Check:
    if not os.access(home.root, os.W_OK | os.X_OK):
        return Check("home", State.PROBLEM, f"{home.root} cannot be written", "run ntro as the user who made it")
    open_to_others = [
        path for path, wanted in private_paths(home, _tenants(home)) if stat.S_IMODE(path.lstat().st_mode) & ~wanted
    ]
    if open_to_others:
        first = open_to_others[0]
        return Check(
            "home", State.PROBLEM, f"others may get at {len(open_to_others)} private paths, {first} first",
            f"chmod -R go-rwx {home.root}" if first != home.root else f"chmod 700 {home.root}",
        )  # fmt: skip
    return Check("home", State.OK, f"{home.root}, writable and private")


def _socket_paths(home: Home) -> Check:
    longest = max((len(os.fsencode(tenant.socket)) for tenant in _tenants(home)), default=0)
    longest = max(longest, len(os.fsencode(home.supervisor_socket)))
    if longest > SOCKET_PATH_LIMIT + 12:
        return Check("sockets", State.PROBLEM, f"a socket's path has {longest} bytes", "move the home to a shorter path")
    return Check("sockets", State.OK, f"in {home.sockets}, {longest} bytes at most")


def _webserver_port(home: Home) -> Check:
    port = home.describe().webserver_port
    if "webserver" in dict(_recorded(home)):
        return Check("port", State.OK, f"{port}: the Dagster UI of this home")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return Check(
                "port", State.PROBLEM, f"port {port} for the Dagster UI: {str(error.strerror).lower()}", "ntro up --port N"
            )
    return Check("port", State.OK, f"{port} is free for the Dagster UI")


def _processes(home: Home) -> Iterator[Check]:
    statuses = Supervisor(home).status()
    if not statuses:
        left = ", ".join(f"{name} (pid {pid})" for name, pid in _recorded(home))
        if left:
            yield Check(
                "processes",
                State.PROBLEM,
                f"left over from a supervisor that died: {left}",
                "`ntro up` takes over; `ntro down` stops them",
            )
        else:
            yield Check(
                "processes", State.WARNING, "nothing runs, so the databases were not looked at", "`ntro up` starts everything"
            )
        return
    for process in statuses:
        log = f"see its log: {_log(home, process.name)}"
        why = f" ({process.last_exit})" if process.last_exit else ""
        if process.state not in {"RUNNING", "STARTING"}:
            yield Check(process.name, State.PROBLEM, f"{process.state.lower()}{why}", log)
        elif process.restarts >= RESTLESS:
            yield Check(process.name, State.WARNING, f"came back {process.restarts} times{why}", log)
        elif failure := _load_failure(home, process.name):
            code, error = failure
            finding = f"its definitions do not load: {code} (error {error})"
            yield Check(
                process.name, State.PROBLEM, finding, f"`ntro errors show {error}` with --tenant; then reload it in Dagster"
            )
        else:
            yield Check(process.name, State.OK, process.state.lower())


def _load_failure(home: Home, name: str) -> tuple[str, str] | None:
    return home.tenant(name.removeprefix("tenant-")).load_failure if name.startswith("tenant-") else None


def _log(home: Home, name: str) -> Path:
    if name.startswith("tenant-"):
        return home.tenant(name.removeprefix("tenant-")).output / "code_server.log"
    return home.logs / f"{name}.log"


def _recorded(home: Home) -> list[tuple[str, int]]:
    """Processes of the home that are alive, by their own records."""
    records = ((path.name.removesuffix(SUFFIX), ProcessRecord.read(path)) for path in sorted(home.run.glob(f"*{SUFFIX}")))
    return [(name, record.pid) for name, record in records if record and record.process()]


def _tenants(home: Home) -> list[TenantHome]:
    folder = home.root / "tenants"
    return [home.tenant(path.name) for path in sorted(folder.iterdir()) if path.is_dir()] if folder.is_dir() else []


# -- the databases


def _databases(home: Home) -> Iterator[Check]:
    """Each credential opens its own database, and no other."""
    workspace = home.root / "credentials" / "workspace"
    if not workspace.exists():
        yield Check("credential workspace", State.PROBLEM, "not there", "`ntro up` makes it")
        return
    yield _login("workspace", workspace)
    tenants = _tenants(home)
    targets = {tenant.slug: _database(tenant.credential(Role.APP)) for tenant in tenants}
    targets |= {"the workspace": _database(workspace), "postgres": "postgres"}
    for tenant in tenants:
        refused = [
            check for role in Role if (check := _login(f"{tenant.slug}/{role}", tenant.credential(role))).state is not State.OK
        ]
        yield from refused
        if not refused:
            yield Check(f"tenant {tenant.slug}", State.OK, f"database reachable as {', '.join(Role)}")
        yield _guarded(lambda tenant=tenant: _wall(tenant, targets))  # type: ignore[misc]


def _login(name: str, path: Path) -> Check:
    import psycopg  # noqa: PLC0415

    from ntro_dagster.platforms.postgres.database import translate  # noqa: PLC0415

    mend = f"restore {path} from a backup"
    try:
        with psycopg.connect(path.read_text().strip(), connect_timeout=CONNECT_S) as connection:
            connection.execute("SELECT 1")
    except FileNotFoundError:
        return Check(f"credential {name}", State.PROBLEM, f"{path} is not there", mend)
    except psycopg.OperationalError as error:
        known = translate(error)
        if known and known.code == "DATABASE_UNREACHABLE":
            return Check(
                f"credential {name}", State.PROBLEM, "the database does not answer", "`ntro status`; `ntro up` starts it"
            )
        return Check(f"credential {name}", State.PROBLEM, "the database refuses the login", mend)
    except (psycopg.ProgrammingError, UnicodeDecodeError):
        return Check(f"credential {name}", State.PROBLEM, f"{path} holds no database address", mend)
    return Check(f"credential {name}", State.OK, "opens its database")


def _wall(tenant: TenantHome, targets: dict[str, str | None]) -> Check:
    """With every login of the tenant at every other database: each must be refused."""
    import psycopg  # noqa: PLC0415

    opened = []
    for role in Role:
        address = _settings(tenant.credential(role))
        for name, database in targets.items():
            if address and database and database != targets[tenant.slug]:
                with suppress(psycopg.Error):
                    psycopg.connect(**(address | {"dbname": database, "connect_timeout": CONNECT_S})).close()
                    opened.append(f"{role} opens {name}")
    if opened:
        return Check(f"wall of {tenant.slug}", State.PROBLEM, "; ".join(opened), "REVOKE CONNECT there; see docs/decisions")
    return Check(f"wall of {tenant.slug}", State.OK, f"its logins are refused by {len(targets) - 1} other databases")


def _settings(path: Path) -> dict[str, Any] | None:
    import psycopg  # noqa: PLC0415
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

    try:
        return dict(conninfo_to_dict(path.read_text().strip()))
    except (OSError, UnicodeDecodeError, psycopg.ProgrammingError):
        return None


def _database(path: Path) -> str | None:
    settings = _settings(path)
    return str(settings["dbname"]) if settings and "dbname" in settings else None


def _survey() -> Check:
    from ntro_dagster.tenant.seclusion import possible  # noqa: PLC0415

    if possible():
        return Check(
            "survey",
            State.OK,
            "code that is asked what it defines reads no file but code (Landlock); unix sockets stay open",
        )
    return Check(
        "survey", State.WARNING, "this kernel has no Landlock: code that is asked what it defines could read files next door",
        "deploy runbooks you trust, or use Linux 5.13 or newer with Landlock on",
    )  # fmt: skip


# -- what Dagster reads


def _workspace_file(home: Home) -> Check:
    import yaml  # noqa: PLC0415

    from ntro_dagster.host.dagster_instance import workspace_config  # noqa: PLC0415

    known = _registered(home)
    found = yaml.safe_load(home.workspace_file.read_text()) if home.workspace_file.exists() else None
    wanted = workspace_config(home.tenant(slug) for slug in known) if known is not None else None
    if wanted is None:
        return Check("workspace.yaml", State.WARNING, "not compared: the registry does not answer", "`ntro up`, then again")
    if found != wanted:
        return Check("workspace.yaml", State.PROBLEM, "not in line with the registry", "`ntro up` writes it anew")
    return Check("workspace.yaml", State.OK, f"{len(known or [])} code locations, as registered")


def _instance_file(home: Home) -> Check:
    import yaml  # noqa: PLC0415

    from ntro_dagster.host.dagster_instance import instance_config  # noqa: PLC0415

    path = home.dagster / "dagster.yaml"
    if not path.exists() or yaml.safe_load(path.read_text()) != instance_config(home):
        return Check("dagster.yaml", State.PROBLEM, "not what this release writes", "`ntro down`, `ntro up` writes it anew")
    return Check("dagster.yaml", State.OK, "as this release writes it")


def _registered(home: Home) -> list[str] | None:
    """Slugs of the tenants in the registry; None where it does not answer."""
    import psycopg  # noqa: PLC0415

    from ntro_dagster.host.installation import Installation  # noqa: PLC0415

    try:
        registry = Installation(home).registry()
    except NtroError:
        return None
    try:
        return [tenant.slug for tenant in registry.tenants()]
    except psycopg.Error:
        return None
    finally:
        registry.dispose()


def _os_users(home: Home) -> Check:
    """Whether each tenant has a user of its own; where not, why, and what that costs."""
    from ntro_dagster.host.ownership import obstacle  # noqa: PLC0415
    from ntro_dagster.host.users import read_users  # noqa: PLC0415

    tenants, users = _tenants(home), home.users
    if users:
        strays = [str(path) for tenant in tenants for path in tenant.own if path.exists() and path.lstat().st_uid != tenant.user]
        if strays:
            return Check("os users", State.PROBLEM, f"{strays[0]} is not its tenant's", "`ntro down`, `ntro up` puts it right")
        why = obstacle(home.root, uid=users.workspace)
        if why:
            return Check("os users", State.PROBLEM, f"the tenants' users cannot run ntro: {why}", "open that path to them")
        return Check("os users", State.OK, f"each tenant runs as a user of its own; the workspace is {users.workspace}")
    why = obstacle(home.root)
    if os.geteuid() == 0 and read_users(home.users_file):
        why, mend = "of `ntro up --shared-user`", "`ntro down`, then `ntro up --own-users`"
    elif why:
        mend = "make that so (run as root, with Python, ntro and the home where others may pass), or keep to runbooks you trust"
    else:
        why, mend = "this home was started so", "`ntro down`, then `ntro up` gives each its own"
    if len(tenants) < 2:  # noqa: PLR2004
        return Check("os users", State.OK, f"one tenant at most; others would share its user, because {why}")
    cost = "code of one could read the files, the secrets and the memory of the others, and of the workspace"
    return Check("os users", State.WARNING, f"{len(tenants)} tenants share one user, because {why}: {cost}", mend)
