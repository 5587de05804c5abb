"""Whether a home's tenants run as users of their own, decided when nothing runs: `ntro up`."""

from __future__ import annotations

import os
from collections.abc import Callable

from ntro_dagster.errors import UsageError
from ntro_dagster.host.home import Home
from ntro_dagster.host.users import UsersImpossibleError, first_users, obstacle, read_users, write_users


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
