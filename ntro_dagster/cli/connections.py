"""From a home to what a command talks to: the installation, the registry, a tenant's database as one role."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from ntro_dagster.cli.invocation import invocation
from ntro_dagster.cli.output import said
from ntro_dagster.errors import NtroError

if TYPE_CHECKING:
    from ntro_dagster.host.home import Role, TenantHome
    from ntro_dagster.host.installation import Installation
    from ntro_dagster.platforms.postgres.database import TenantDatabase
    from ntro_dagster.tenant.entities import Entity
    from ntro_dagster.workspace.feed import Feed
    from ntro_dagster.workspace.registry import Registry

T = TypeVar("T")


class CredentialUnusableError(NtroError):
    """Values: `path`, `why`; never what the file holds."""

    code = "CREDENTIAL_UNUSABLE"
    summary = "a credential file cannot be used"
    detail = "{path} cannot be used: {why}"
    mend = "`ntro doctor` checks the credentials of a home; restore the file from a backup"


def installation() -> Installation:
    """The home's installation, said to be there. Raises `HomeMissingError`."""
    from ntro_dagster.host.installation import Installation  # noqa: PLC0415

    found = Installation(invocation.home, said())
    found.home.describe()
    return found


@contextmanager
def registry(of: Installation) -> Iterator[Registry]:
    """The workspace's registry. Raises `NotRunningError` where nothing runs."""
    opened = of.registry()
    try:
        with _not_running():
            yield opened
    finally:
        opened.dispose()


@contextmanager
def feed(of: Installation) -> Iterator[Feed]:
    """The status feed. Raises `NotRunningError` where nothing runs."""
    from ntro_dagster.workspace.feed import Feed  # noqa: PLC0415

    with _not_running(), Feed.of(of) as opened:
        yield opened


def tenant_home(slug: str) -> TenantHome:
    """The tenant's part of the home. Raises `TenantNotFoundError`, `HomeMissingError`.

    Asked of the home, not of the workspace: who works for a tenant need not hold the workspace's credential.
    """
    home = invocation.home
    home.describe()
    tenants = home.root / "tenants"
    if slug not in ({path.name for path in tenants.iterdir()} if tenants.is_dir() else set()):
        from ntro_dagster.workspace.registry import TenantNotFoundError  # noqa: PLC0415

        raise TenantNotFoundError(slug=slug)
    return home.tenant(slug)


def as_role(tenant: str, role: Role, work: Callable[[TenantDatabase], Awaitable[T]]) -> T:
    """Does `work` in the tenant's database, logged in as `role`.

    Raises: `TenantNotFoundError`, `NotRunningError`, `CredentialUnusableError`, and what `work` raises.
    """
    from ntro_dagster.platforms.postgres.database import TenantDatabase  # noqa: PLC0415

    url = database_url(tenant, role)

    async def run() -> T:
        async with TenantDatabase(url) as database:
            return await work(database)

    with _not_running():
        return asyncio.run(run())


def database_url(tenant: str, role: Role) -> str:
    """Where the tenant's database is for one role. Raises: `TenantNotFoundError`, `CredentialUnusableError`."""
    import psycopg  # noqa: PLC0415

    path = tenant_home(tenant).credential(role)
    try:
        url = path.read_text().strip()
    except FileNotFoundError:
        raise CredentialUnusableError(path=path, why="it is not there") from None
    except UnicodeDecodeError:
        raise CredentialUnusableError(path=path, why="it is not text") from None
    try:
        psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:  # its text quotes the file
        raise CredentialUnusableError(path=path, why="it holds no database address") from None
    return url


async def entity_of(database: TenantDatabase, slug: str, *, tenant: str) -> Entity:
    """Raises `EntityUnknownError`."""
    from ntro_dagster.tenant.entities import entity_by_slug  # noqa: PLC0415

    return await entity_by_slug(database, slug, tenant=tenant)


@contextmanager
def _not_running() -> Iterator[None]:
    """A database that does not answer in a home whose supervisor does not run was never started, and is told so."""
    from ntro_dagster.cli.failures import familiar  # noqa: PLC0415
    from ntro_dagster.platforms.postgres.database import DatabaseUnreachableError  # noqa: PLC0415

    try:
        yield
    except Exception as error:
        known = error if isinstance(error, NtroError) else familiar(error)
        if isinstance(known, DatabaseUnreachableError):
            from ntro_dagster.host.installation import NotRunningError  # noqa: PLC0415
            from ntro_dagster.host.supervision import Supervisor  # noqa: PLC0415

            if not Supervisor(invocation.home).running():
                raise NotRunningError(root=invocation.home.root) from None
        raise
