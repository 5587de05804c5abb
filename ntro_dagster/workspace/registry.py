"""What the workspace knows of its tenants and their entities: ids, slugs, states. No names and no text: see the wall.

Schema `registry` of the workspace's database (registry.sql). Without an object-relational mapper: nearly every command of `ntro`
asks the registry, and SQLAlchemy would take most of its time to import.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from ntro_dagster.errors import NotFoundError, UsageError

_TABLES = Path(__file__).with_name("registry.sql")
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


def now() -> datetime:
    """Of the registry's own columns: with a zone."""
    return datetime.now(UTC)


@dataclass
class Tenant:
    slug: str
    data_platform: str
    status: str = Status.ACTIVE.value
    id: UUID = field(default_factory=uuid4)
    created_at: datetime = field(default_factory=now)


@dataclass
class Entity:
    tenant_id: UUID
    slug: str
    status: str = Status.ACTIVE.value
    id: UUID = field(default_factory=uuid4)
    created_at: datetime = field(default_factory=now)


Row = TypeVar("Row")


class Registry:
    """The registry in the database at `url` (libpq's form), on one connection, opened when first asked. Threads take turns."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._turn = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """For the parts of the registry that have a module of their own. Raises: psycopg.Error."""
        with self._turn:
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(self._url, autocommit=True)
            with self._connection.transaction():
                yield self._connection

    def rows(self, kind: type[Row], query: str, parameters: dict[str, Any] | None = None) -> list[Row]:
        """What the query finds, as objects with a field for each of its columns."""
        with self.transaction() as connection, connection.cursor(row_factory=class_row(kind)) as cursor:
            return cursor.execute(query.encode(), parameters).fetchall()

    def prepare(self) -> None:
        """Create the schema and its tables where they are missing."""
        with self.transaction() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [CREATION_LOCK])
            connection.execute("SET LOCAL client_min_messages = warning")
            connection.execute(_TABLES.read_bytes())

    def dispose(self) -> None:
        """Close the connection."""
        with self._turn:
            if self._connection is not None:
                self._connection.close()

    def create_tenant(self, slug: str, data_platform: DataPlatform = DataPlatform.POSTGRES) -> Tenant:
        """Add a tenant.

        Raises:
            SlugError, TenantExistsError.
        """
        check_tenant_slug(slug)
        tenant = Tenant(slug, data_platform.value)
        try:
            with self.transaction() as connection:
                insert(connection, "tenants", tenant)
        except psycopg.errors.UniqueViolation:
            raise TenantExistsError(slug=slug) from None
        return tenant

    def tenants(self, *, closed: bool = False) -> list[Tenant]:
        """All tenants by slug, with the closed ones if asked."""
        return self.rows(Tenant, f"{_TENANTS} WHERE %(closed)s OR status = 'ACTIVE' ORDER BY slug", {"closed": closed})

    def tenant(self, slug: str) -> Tenant:
        """One tenant, closed or not.

        Raises:
            TenantNotFoundError
        """
        for tenant in self.rows(Tenant, f"{_TENANTS} WHERE slug = %(slug)s", {"slug": slug}):
            return tenant
        raise TenantNotFoundError(slug=slug)

    def close_tenant(self, slug: str) -> Tenant:
        """Close a tenant; again changes nothing.

        Raises:
            TenantNotFoundError
        """
        tenant = self.tenant(slug)
        with self.transaction() as connection:
            connection.execute("UPDATE registry.tenants SET status = 'CLOSED' WHERE id = %s", [tenant.id])
        return replace(tenant, status=Status.CLOSED.value)

    def create_entity(self, tenant_slug: str, slug: str) -> Entity:
        """Add an entity to a tenant.

        Raises:
            SlugError, TenantNotFoundError, EntityExistsError.
        """
        check_entity_slug(slug)
        entity = Entity(self.tenant(tenant_slug).id, slug)
        try:
            with self.transaction() as connection:
                insert(connection, "entities", entity)
        except psycopg.errors.UniqueViolation:
            raise EntityExistsError(tenant=tenant_slug, slug=slug) from None
        return entity

    def entities(self, tenant_slug: str, *, closed: bool = False) -> list[Entity]:
        """A tenant's entities by slug, with the closed ones if asked.

        Raises:
            TenantNotFoundError
        """
        query = f"{_ENTITIES} WHERE tenant_id = %(tenant)s AND (%(closed)s OR status = 'ACTIVE') ORDER BY slug"
        return self.rows(Entity, query, {"tenant": self.tenant(tenant_slug).id, "closed": closed})

    def entity(self, tenant_slug: str, slug: str) -> Entity:
        """One entity, closed or not.

        Raises:
            TenantNotFoundError, EntityNotFoundError.
        """
        query = f"{_ENTITIES} WHERE tenant_id = %(tenant)s AND slug = %(slug)s"
        for entity in self.rows(Entity, query, {"tenant": self.tenant(tenant_slug).id, "slug": slug}):
            return entity
        raise EntityNotFoundError(tenant=tenant_slug, slug=slug)

    def close_entity(self, tenant_slug: str, slug: str) -> Entity:
        """Close an entity; again changes nothing. Its partitions stay.

        Raises:
            TenantNotFoundError, EntityNotFoundError.
        """
        entity = self.entity(tenant_slug, slug)
        with self.transaction() as connection:
            connection.execute("UPDATE registry.entities SET status = 'CLOSED' WHERE id = %s", [entity.id])
        return replace(entity, status=Status.CLOSED.value)


_TENANTS = "SELECT slug, data_platform, status, id, created_at FROM registry.tenants"
_ENTITIES = "SELECT tenant_id, slug, status, id, created_at FROM registry.entities"


def insert(connection: psycopg.Connection[Any], table: str, row: Any, *, unless_known: bool = False) -> bool:
    """One object as a row of a table of the registry, whose columns its fields name.

    Args: `unless_known`: where the table has such a row, nothing happens.

    Returns: whether it was added.
    """
    names = [each.name for each in fields(row)]
    query = sql.SQL("INSERT INTO registry.{} ({}) VALUES ({}){}").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, names)),
        sql.SQL(", ").join([sql.Placeholder()] * len(names)),
        sql.SQL(" ON CONFLICT DO NOTHING" if unless_known else ""),
    )
    return connection.execute(query, [getattr(row, name) for name in names]).rowcount == 1


def check_tenant_slug(slug: str) -> None:
    """Raises: SlugError."""
    _check(slug, TENANT_SLUG)


def check_entity_slug(slug: str) -> None:
    """Raises: SlugError."""
    _check(slug, ENTITY_SLUG)


def _check(slug: str, pattern: re.Pattern[str]) -> None:
    if not pattern.fullmatch(slug):
        raise SlugError(slug=slug, pattern=pattern.pattern)
