"""Versions of runbooks that were pushed, and what was deployed where. Ids, slugs, digests: no word of what a runbook does.

What a tenant runs is decided in its own database, in the transaction that migrates it; here stands what was asked for and how
that ended. An act that is STARTED and whose process has died is settled by asking the tenant (`host.deployments.settle`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid4

from ntro_dagster.errors import NotFoundError, UsageError
from ntro_dagster.workspace.registry import Registry, insert, now


class VersionNotFoundError(NotFoundError):
    """Values: `what`, `known`."""

    code = "VERSION_NOT_FOUND"
    summary = "no such version was pushed"
    detail = "there is no {what}; pushed: {known}"
    mend = "`ntro workflow list` shows what was pushed; `ntro workflow push DIR` pushes a folder"


class VersionAmbiguousError(UsageError):
    """Values: `what`, `known`."""

    code = "VERSION_AMBIGUOUS"
    summary = "several versions go by that name"
    detail = "{what} may be any of {known}"
    mend = "name one by its id"


class Act(StrEnum):
    DEPLOY = "deploy"
    ROLLBACK = "rollback"
    WITHDRAW = "withdraw"


class State(StrEnum):
    """How an act ended. Nothing is half done: what has not ended yet did or did not happen in the tenant's database."""

    STARTED = "STARTED"
    DONE = "DONE"
    FAILED = "FAILED"


@dataclass
class Version:
    slug: str
    version: str
    digest: str
    label: str
    files: int
    size: int
    pushed_at: datetime = field(default_factory=now)


@dataclass
class Deployment:
    tenant_id: UUID
    slug: str
    version: str | None
    act: str
    state: str = State.STARTED.value
    error: str | None = None
    id: UUID = field(default_factory=uuid4)
    started_at: datetime = field(default_factory=now)
    ended_at: datetime | None = None


class Deployments:
    """The registry's part about runbooks."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def add_version(self, version: Version) -> bool:
        """Whether it is new; the same content again changes nothing."""
        with self.registry.transaction() as connection:
            return insert(connection, "runbook_versions", version, unless_known=True)

    def versions(self, slug: str | None = None) -> list[Version]:
        """By slug, newest first."""
        query = """
            SELECT slug, version, digest, label, files, size, pushed_at FROM registry.runbook_versions
            WHERE slug = coalesce(%(slug)s, slug) ORDER BY slug, pushed_at DESC, version"""
        return self.registry.rows(Version, query, {"slug": slug})

    def version(self, slug: str, wanted: str | None = None) -> Version:
        """The version of that id, beginning of an id, or label; the newest where none is named.

        Raises: `VersionNotFoundError`, `VersionAmbiguousError`.
        """
        versions = self.versions(slug)
        found = versions[:1] if wanted is None else [v for v in versions if wanted == v.label or v.version.startswith(wanted)]
        exact = [v for v in found if v.version == wanted]
        what = slug if wanted is None else f"{slug}@{wanted}"
        if not found:
            raise VersionNotFoundError(what=what, known=", ".join(f"{v.version} ({v.label})" for v in versions) or "nothing")
        if len(found) > 1 and not exact:
            raise VersionAmbiguousError(what=what, known=", ".join(v.version for v in found))
        return (exact or found)[0]

    def start(self, tenant: str, slug: str, version: str | None, act: Act) -> Deployment:
        """Raises: `TenantNotFoundError`."""
        deployment = Deployment(self.registry.tenant(tenant).id, slug, version, act.value)
        with self.registry.transaction() as connection:
            insert(connection, "deployments", deployment)
        return deployment

    def end(self, deployment: UUID, error: str | None = None) -> None:
        """Done, or failed with the code `error`."""
        state = (State.FAILED if error else State.DONE).value
        with self.registry.transaction() as connection:
            connection.execute(
                "UPDATE registry.deployments SET state = %s, error = %s, ended_at = %s WHERE id = %s",
                [state, error, now(), deployment],
            )

    def history(self, tenant: str, slug: str | None = None) -> list[Deployment]:
        """Of a tenant, newest first. Raises: `TenantNotFoundError`."""
        query = """
            SELECT tenant_id, slug, version, act, state, error, id, started_at, ended_at FROM registry.deployments
            WHERE tenant_id = %(tenant)s AND slug = coalesce(%(slug)s, slug) ORDER BY started_at DESC, id"""
        return self.registry.rows(Deployment, query, {"tenant": self.registry.tenant(tenant).id, "slug": slug})

    def active(self, tenant: str) -> dict[str, str]:
        """Version by slug, as far as the workspace knows. Raises: `TenantNotFoundError`."""
        active: dict[str, str] = {}
        for deployment in reversed(self.history(tenant)):
            if deployment.state == State.DONE:
                active.pop(deployment.slug, None)
                if deployment.version:
                    active[deployment.slug] = deployment.version
        return active
