"""Whether a home's tenants run as users of their own, decided when nothing runs: `ntro up`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import ntro_dagster
from ntro_dagster.bundles import platform_bundle, runbook_bundles
from ntro_dagster.errors import UsageError
from ntro_dagster.host.home import Home
from ntro_dagster.host.users import FIRST, UsersImpossibleError, first_users, identity, read_users, write_users

PROBE_S = 60.0

_PROBE = """
import json, os, sys
from importlib.util import find_spec
import ntro_dagster.host.launch, psycopg
passed, read = json.loads(sys.argv[1])
closed = [path for path in passed if not os.access(path, os.X_OK)]
closed += [path for path in read if not os.access(path, os.R_OK | (os.X_OK if os.path.isdir(path) else 0))]
closed += [name for name in ("dagster", "grpc") if not os.access(find_spec(name).origin, os.R_OK)]
print(json.dumps(closed))
"""


class UsersFixedError(UsageError):
    code = "OS_USERS_FIXED"
    summary = "users cannot change while processes run"
    mend = "`ntro down` first, then `ntro up` with the same options"


def choose_users(
    home: Home, *, running: bool, shared: bool | None, base: int | None, progress: Callable[[str], None] = lambda _: None
) -> None:
    """Write users.json as it is to be in force from now on.

    A home that has users is never quietly started without: what its tenants rely on would be gone.

    Args:
        shared: True: everything as root; False: users; None: as before, and users where this machine can.
        base: the workspace's number, tenants' come after it; None: chosen. Only heeded when there was none.

    Raises: `UsersFixedError`, `UsersImpossibleError`, `UsersDamagedError`.
    """
    if os.geteuid() != 0:
        if shared is False:
            raise UsersImpossibleError(why="ntro was not started by root")
        return
    found = read_users(home.users_file)
    in_force = found is not None and not found.shared
    if running:
        if shared in {None, not in_force}:
            return
        raise UsersFixedError
    if shared or (shared is None and found is not None and found.shared):
        if in_force or found is None:  # written either way, so that doctor knows it was a choice
            # handed over again should they come back: root's own code writes everywhere meanwhile
            known = found or first_users(base)
            write_users(home.users_file, known.model_copy(update={"shared": True, "settled": []}))
        return
    why = obstacle(home.root, uid=found.base if found else base)
    if why is None:
        if not in_force:
            write_users(home.users_file, found.model_copy(update={"shared": False}) if found else first_users(base))
    elif in_force or shared is False:
        raise UsersImpossibleError(why=why)
    else:
        progress(f"all tenants share this user, because {why}")


def obstacle(root: Path, *, uid: int | None = None) -> str | None:
    """Why no other user (`uid`, say) could run tenants of the home in `root` on this machine; None: one could."""
    if os.geteuid() != 0:
        return "ntro was not started by root"
    if not sys.platform.startswith("linux"):
        return "this is built for Linux"
    platform = platform_bundle().root
    read = [Path(ntro_dagster.__file__), platform / "migrations", platform / "subledgers"]
    read += [bundle.root for bundle in runbook_bundles()]
    passed = [*reversed(root.parents)]
    uid = FIRST if uid is None else uid
    try:
        ran = subprocess.run(
            [sys.executable, "-P", "-c", _PROBE, json.dumps([[str(path) for path in paths] for paths in (passed, read)])],
            **identity(uid),
            env={"PATH": os.environ.get("PATH", os.defpath)},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_S,
            check=True,
        )
        closed = json.loads(ran.stdout)
    except PermissionError:
        return _shut(Path(sys.executable)) or _shut(Path(sys.executable).resolve()) or f"{sys.executable} cannot be run by others"
    except OSError as error:  # a container without such numbers
        return f"the system refuses user {uid}: {error.strerror}"
    except (subprocess.SubprocessError, ValueError):
        inside = (_shut(Path(place)) for place in [sys.prefix, sys.base_prefix, ntro_dagster.__file__])
        return next(filter(None, inside), "Python or ntro's code cannot be read by others")
    return f"{closed[0]} is closed to other users" if closed else None


def _shut(path: Path) -> str | None:
    """The first directory on the way to `path` that others may not pass."""
    for directory in [*reversed(path.parents), *([path] if path.is_dir() else [])]:
        if not directory.stat().st_mode & 0o001:
            return f"{path} lies below {directory}, which is closed to other users"
    return None
