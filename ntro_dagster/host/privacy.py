"""Who may do what in a home: the one table by which directories are made, and by which doctor looks at them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ntro_dagster.host.permissions import Access
from ntro_dagster.host.users import Users

if TYPE_CHECKING:
    from ntro_dagster.host.home import Home, TenantHome

PRIVATE_FILE, READ_BY_GROUP = 0o600, 0o640


def passage(users: Users | None) -> Access:
    """Of the host's directories with something of a tenant's below."""
    return Access(mode=0o711) if users else Access()


def for_workspace(users: Users | None) -> Access:
    """Of what the workspace's processes read."""
    return Access(gid=users.workspace, mode=0o750) if users else Access()


def tenant_directories(tenant: TenantHome, users: Users | None, before: int | None = None) -> dict[Path, Access]:
    """The host writes in its own, the tenant in its own, and neither in the other's.

    Args: `before`: the tenant's user, where users were in force earlier.
    """
    hosts = (tenant.credentials, tenant.output)
    read = (tenant.root, tenant.documents, tenant.surveys, tenant.bundles, tenant.active.parent, tenant.secrets)
    uid = users.tenants.get(tenant.slug) if users else None
    if users is None or uid is None:
        return dict.fromkeys((*read, *hosts, *tenant.own), Access(before=() if before is None else (before,)))
    return {
        tenant.root: Access(gid=uid, mode=0o710),
        **dict.fromkeys(hosts, Access()),
        tenant.surveys: Access(gid=uid, mode=0o750),
        tenant.active.parent: Access(gid=uid, mode=0o750),
        tenant.bundles: Access(gid=uid, mode=0o2750),  # what is unpacked gets the same group
        tenant.documents: Access(gid=uid, mode=0o2750),  # what is filed gets the same group
        tenant.logs: Access(uid, uid),
        tenant.artifacts: Access(uid, uid),
        tenant.uploads: Access(uid, uid),
        tenant.books: Access(uid, uid),
        tenant.secrets: Access(gid=uid, mode=0o750),
        # the workspace's processes come in here, too: the relay listens beside the code server
        tenant.socket.parent: Access(uid, users.workspace, 0o770),
    }


def private_paths(home: Home, tenants: list[TenantHome]) -> Iterator[tuple[Path, int]]:
    """What is there that holds secrets or clients' values, with the most that may be allowed on it."""
    users = home.users
    read = READ_BY_GROUP if users else PRIVATE_FILE
    wanted = {home.root: passage(users).mode, home.sockets: passage(users).mode}
    wanted |= dict.fromkeys((home.dagster, home.surveys), for_workspace(users).mode)
    wanted |= dict.fromkeys((home.description_file, home.users_file), PRIVATE_FILE)
    wanted |= dict.fromkeys(
        (home.relay_listener, home.workspace_file, home.dagster / "dagster.yaml", *sorted(home.surveys.glob("*.json"))), read
    )
    for folder in (home.root / "credentials", home.run / "env", *(tenant.credentials for tenant in tenants)):
        wanted |= dict.fromkeys(sorted(folder.glob("*")), PRIVATE_FILE)
    for tenant in tenants:
        wanted[tenant.process_env] = PRIVATE_FILE
        wanted |= {path: access.mode for path, access in tenant_directories(tenant, users).items()}
    yield from ((path, mode) for path, mode in wanted.items() if path.exists())
