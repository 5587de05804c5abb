"""What the workspace knows of its tenants and their entities: ids, slugs, states. No names and no text: see the wall.

Schema `registry` of the workspace's database.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID, uuid4

from sqlalchemy import DateTime, Engine, ForeignKey, UniqueConstraint, create_engine, make_url, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, Session, mapped_column, sessionmaker

from ntro_dagster.errors import NotFoundError, UsageError

SCHEMA = "registry"
CREATION_LOCK = 0x6E74726F  # advisory; two `CREATE ... IF NOT EXISTS` at once may still collide
TENANT_SLUG = re.compile(r"[a-z][a-z0-9_]{0,30}")
ENTITY_SLUG = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")


class SlugError(UsageError):
    """A slug that cannot be one. Values: `slug`, `pattern`."""

    code = "SLUG_INVALID"
    summary = "not a valid slug"
    detail = "{slug!r} is not a valid slug"
    mend = "Choose one that matches {pattern}; it can never be changed, so no client's name."


class TenantExistsError(UsageError):
    """Values: `slug`."""

    code = "TENANT_EXISTS"
    summary = "there is a tenant of that slug"
    detail = "there is a tenant {slug!r} already"
    mend = "Choose another slug, or go on with the tenant there is: `ntro tenant list`."


class EntityExistsError(UsageError):
    """Values: `tenant`, `slug`."""

    code = "ENTITY_EXISTS"
    summary = "the tenant has an entity of that slug"
    detail = "tenant {tenant!r} has an entity {slug!r} already, closed ones included"
    mend = "Choose another slug: one is never used twice."


class TenantNotFoundError(NotFoundError):
    """Values: `slug`."""

    code = "TENANT_NOT_FOUND"
    summary = "no tenant of that slug"
    detail = "there is no tenant {slug!r}"
    mend = "`ntro tenant list` shows those there are."


class EntityNotFoundError(NotFoundError):
    """Values: `tenant`, `slug`."""

    code = "ENTITY_NOT_FOUND"
    summary = "the tenant has no entity of that slug"
    detail = "tenant {tenant!r} has no entity {slug!r}"
    mend = "`ntro entity list --tenant {tenant}` shows those there are."


class DataPlatform(StrEnum):
    POSTGRES = "postgres"
    SNOWFLAKE = "snowflake"
    FABRIC = "fabric"


class Status(StrEnum):
    """Of a tenant or an entity. Nothing is deleted: history refers to it."""

    ACTIVE = "ACTIVE"
    CLOSED = "CLOSED"


class Base(MappedAsDataclass, DeclarativeBase):
    type_annotation_map = {datetime: DateTime(timezone=True)}  # noqa: RUF012 - SQLAlchemy's way


class Tenant(Base):
    __tablename__ = "tenants"
    __table_args__ = ({"schema": SCHEMA},)

    slug: Mapped[str] = mapped_column(unique=True)
    data_platform: Mapped[str]
    status: Mapped[str] = mapped_column(default=Status.ACTIVE.value)
    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=uuid4)
    created_at: Mapped[datetime] = mapped_column(default_factory=lambda: datetime.now(UTC))


class Entity(Base):
    __tablename__ = "entities"
    __table_args__ = (UniqueConstraint("tenant_id", "slug"), {"schema": SCHEMA})

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey(f"{SCHEMA}.tenants.id"))
    slug: Mapped[str]
    status: Mapped[str] = mapped_column(default=Status.ACTIVE.value)
    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=uuid4)
    created_at: Mapped[datetime] = mapped_column(default_factory=lambda: datetime.now(UTC))


class Registry:
    """The registry in the database at `url` (libpq's form). Objects it returns are detached copies."""

    def __init__(self, url: str) -> None:
        self._engine: Engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), pool_size=1)
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)

    @property
    def sessions(self) -> sessionmaker[Session]:
        """For the parts of the registry that have a module of their own."""
        return self._sessions

    def prepare(self) -> None:
        """Create the schema and its tables where they are missing."""
        from ntro_dagster.workspace import deployments  # noqa: F401, PLC0415 - has tables of its own, and needs this module

        with self._engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": CREATION_LOCK})
            connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
            Base.metadata.create_all(connection)

    def dispose(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def create_tenant(self, slug: str, data_platform: DataPlatform = DataPlatform.POSTGRES) -> Tenant:
        """Add a tenant.

        Raises:
            SlugError, TenantExistsError.
        """
        check_tenant_slug(slug)
        tenant = Tenant(slug=slug, data_platform=data_platform.value)
        try:
            with self._sessions.begin() as session:
                session.add(tenant)
        except IntegrityError:
            raise TenantExistsError(slug=slug) from None
        return tenant

    def tenants(self, *, closed: bool = False) -> list[Tenant]:
        """All tenants by slug, with the closed ones if asked."""
        query = select(Tenant).order_by(Tenant.slug)
        if not closed:
            query = query.where(Tenant.status == Status.ACTIVE.value)
        with self._sessions.begin() as session:
            return list(session.scalars(query))

    def tenant(self, slug: str) -> Tenant:
        """One tenant, closed or not.

        Raises:
            TenantNotFoundError
        """
        with self._sessions.begin() as session:
            tenant = session.scalar(select(Tenant).where(Tenant.slug == slug))
        if tenant is None:
            raise TenantNotFoundError(slug=slug)
        return tenant

    def close_tenant(self, slug: str) -> Tenant:
        """Close a tenant; again changes nothing.

        Raises:
            TenantNotFoundError
        """
        tenant = self.tenant(slug)
        tenant.status = Status.CLOSED.value
        with self._sessions.begin() as session:
            return session.merge(tenant)

    def create_entity(self, tenant_slug: str, slug: str) -> Entity:
        """Add an entity to a tenant.

        Raises:
            SlugError, TenantNotFoundError, EntityExistsError.
        """
        check_entity_slug(slug)
        entity = Entity(tenant_id=self.tenant(tenant_slug).id, slug=slug)
        try:
            with self._sessions.begin() as session:
                session.add(entity)
        except IntegrityError:
            raise EntityExistsError(tenant=tenant_slug, slug=slug) from None
        return entity

    def entities(self, tenant_slug: str, *, closed: bool = False) -> list[Entity]:
        """A tenant's entities by slug, with the closed ones if asked.

        Raises:
            TenantNotFoundError
        """
        query = select(Entity).where(Entity.tenant_id == self.tenant(tenant_slug).id).order_by(Entity.slug)
        if not closed:
            query = query.where(Entity.status == Status.ACTIVE.value)
        with self._sessions.begin() as session:
            return list(session.scalars(query))

    def entity(self, tenant_slug: str, slug: str) -> Entity:
        """One entity, closed or not.

        Raises:
            TenantNotFoundError, EntityNotFoundError.
        """
        query = select(Entity).where(Entity.tenant_id == self.tenant(tenant_slug).id, Entity.slug == slug)
        with self._sessions.begin() as session:
            entity = session.scalar(query)
        if entity is None:
            raise EntityNotFoundError(tenant=tenant_slug, slug=slug)
        return entity

    def close_entity(self, tenant_slug: str, slug: str) -> Entity:
        """Close an entity; again changes nothing. Its partitions stay.

        Raises:
            TenantNotFoundError, EntityNotFoundError.
        """
        entity = self.entity(tenant_slug, slug)
        entity.status = Status.CLOSED.value
        with self._sessions.begin() as session:
            return session.merge(entity)


def check_tenant_slug(slug: str) -> None:
    """Raises: SlugError."""
    _check(slug, TENANT_SLUG)


def check_entity_slug(slug: str) -> None:
    """Raises: SlugError."""
    _check(slug, ENTITY_SLUG)


def _check(slug: str, pattern: re.Pattern[str]) -> None:
    if not pattern.fullmatch(slug):
        raise SlugError(slug=slug, pattern=pattern.pattern)
