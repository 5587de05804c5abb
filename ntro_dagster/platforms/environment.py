"""The one tenant that this process works for, bound by its environment at start and never changed."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path

import psycopg

from ntro_dagster.boundary.tenant_logs import aside, logs_directory
from ntro_dagster.errors import NtroError, UsageError
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.platforms.postgres.journal import Journal


class TenantNotBoundError(UsageError):
    code = "TENANT_NOT_BOUND"
    summary = "this process is not bound to that tenant"
    detail = "this process works for {bound}, not for {asked}"
    mend = "start it through `ntro up`, which gives each tenant's process its own environment"


def bound_tenant() -> str:
    """Slug of the tenant in NTRO_TENANT. Raises `TenantNotBoundError`."""
    slug = os.environ.get("NTRO_TENANT")
    if not slug:
        raise TenantNotBoundError(bound="no tenant", asked="any")
    return slug


def database_from_environment(tenant_slug: str | None = None) -> TenantDatabase:
    """The tenant's database as the app role, from NTRO_PLATFORM_URL."""
    bound = bound_tenant()
    if tenant_slug not in {None, bound}:
        raise TenantNotBoundError(bound=bound, asked=tenant_slug)
    return TenantDatabase(_platform_url(bound))


_kept: dict[tuple[int, str], list[TenantDatabase]] = defaultdict(list)
"""Connections that nobody uses at the moment, by process: a fork leaves its parent's alone."""


@asynccontextmanager
async def kept_database() -> AsyncIterator[TenantDatabase]:
    """The tenant's database over a connection that this process keeps for the next use, as long as all goes well.

    A new connection costs more than most of what is asked over it.
    """
    kept = _kept[os.getpid(), _platform_url(bound_tenant())]
    database = await _of_kept(kept) or database_from_environment()
    try:
        await database.connection()
        yield database
    except BaseException:
        await database.close()
        raise
    if kept:  # two were in use at once, which is rare, and each is 5 MB for as long as it is kept
        await database.close()
    else:
        kept.append(database)


async def _of_kept(kept: list[TenantDatabase]) -> TenantDatabase | None:
    """One that still answers, as it was when it was opened."""
    while kept:
        database = kept.pop()
        try:
            await database.execute("RESET ALL")
        except (NtroError, psycopg.Error):
            await database.close()
        else:
            return database
    return None


def journal_from_environment() -> Journal:
    """The tenant's journal, the same one for the whole process. Raises `TenantNotBoundError`."""
    return _journal(_platform_url(bound_tenant()), logs_directory())


@lru_cache(maxsize=8)
def _journal(url: str, logs: Path | None) -> Journal:
    return Journal(url, aside=aside(logs) if logs else None)


def _platform_url(bound: str) -> str:
    url = os.environ.get("NTRO_PLATFORM_URL")
    if not url:
        raise TenantNotBoundError(bound="a tenant without a database address", asked=bound)
    return url
