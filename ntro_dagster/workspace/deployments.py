"""Versions of runbooks that were pushed, and what was deployed where. Ids, slugs, digests: no word of what a runbook does.

What a tenant runs is decided in its own database, in the transaction that migrates it; here stands what was asked for and how
that ended. An act that is STARTED and whose process has died is settled by asking the tenant (`host.deployments.settle`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID, uuid4

from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import Mapped, mapped_column

from ntro_dagster.errors import NotFoundError, UsageError
from ntro_dagster.workspace.registry import SCHEMA, Base, Registry


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


class Version(Base):
    __tablename__ = "runbook_versions"
    __table_args__ = ({"schema": SCHEMA},)

    slug: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str]
    label: Mapped[str]
    files: Mapped[int]
    size: Mapped[int]
    pushed_at: Mapped[datetime] = mapped_column(default_factory=lambda: datetime.now(UTC))


class Deployment(Base):
    __tablename__ = "deployments"
    __table_args__ = ({"schema": SCHEMA},)

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(f"{SCHEMA}.tenants.id"))
    slug: Mapped[str]
    version: Mapped[str | None]
    act: Mapped[str]
    state: Mapped[str] = mapped_column(default=State.STARTED.value)
    error: Mapped[str | None] = mapped_column(default=None)
    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=uuid4)
    started_at: Mapped[datetime] = mapped_column(default_factory=lambda: datetime.now(UTC))
    ended_at: Mapped[datetime | None] = mapped_column(default=None)


class Deployments:
    """The registry's part about runbooks. Objects it returns are detached copies."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._sessions = registry.sessions

    def add_version(self, version: Version) -> bool:
        """Whether it is new; the same content again changes nothing."""
        with self._sessions.begin() as session:
            if session.get(Version, (version.slug, version.version)):
                return False
            session.add(version)
        return True

    def versions(self, slug: str | None = None) -> list[Version]:
        """By slug, newest first."""
        query = select(Version).order_by(Version.slug, Version.pushed_at.desc(), Version.version)
        with self._sessions.begin() as session:
            return list(session.scalars(query if slug is None else query.where(Version.slug == slug)))

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
        deployment = Deployment(self._registry.tenant(tenant).id, slug, version, act.value)
        with self._sessions.begin() as session:
            session.add(deployment)
        return deployment

    def end(self, deployment: UUID, error: str | None = None) -> None:
        """Done, or failed with the code `error`."""
        with self._sessions.begin() as session:
            known = session.get_one(Deployment, deployment)
            known.state = (State.FAILED if error else State.DONE).value
            known.error = error
            known.ended_at = datetime.now(UTC)

    def history(self, tenant: str, slug: str | None = None) -> list[Deployment]:
        """Of a tenant, newest first. Raises: `TenantNotFoundError`."""
        query = (
            select(Deployment)
            .where(Deployment.tenant_id == self._registry.tenant(tenant).id)
            .order_by(Deployment.started_at.desc(), Deployment.id)
        )
        with self._sessions.begin() as session:
            return list(session.scalars(query if slug is None else query.where(Deployment.slug == slug)))

    def active(self, tenant: str) -> dict[str, str]:
        """Version by slug, as far as the workspace knows. Raises: `TenantNotFoundError`."""
        active: dict[str, str] = {}
        for deployment in reversed(self.history(tenant)):
            if deployment.state == State.DONE:
                active.pop(deployment.slug, None)
                if deployment.version:
                    active[deployment.slug] = deployment.version
        return active
