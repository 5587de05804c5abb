"""The one tenant that this process works for, bound by its environment at start and never changed."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from ntro_dagster.boundary.tenant_logs import aside, logs_directory
from ntro_dagster.errors import UsageError
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
