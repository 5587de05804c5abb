"""Entities in the tenant's database: the row, the spellings it goes by, its schema with its views."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import psycopg
from psycopg import sql

from ntro_dagster.errors import NotFoundError, UsageError
from ntro_dagster.platforms.postgres.database import TenantDatabase

_SLUG_LENGTH = 63
_IDENTIFIER_LENGTH = 63
_BETWEEN = re.compile(r"[\W_]+")
_NOT_IN_SLUG = re.compile(r"[^a-z0-9-]")

GENERAL_LEDGER_VIEWS = ("journals", "trial_balance")


class SpellingTakenError(UsageError):
    """Values: `name`, `tenant`, `slug`."""

    code = "SPELLING_TAKEN"
    summary = "another entity goes by that name already"
    detail = "in tenant {tenant}, {name!r} is how documents spell the entity {slug}"
    mend = "documents could not tell the two apart: choose a name or slug that differs in a letter or digit"


class EntityUnknownError(NotFoundError):
    code = "ENTITY_UNKNOWN"
    summary = "an entity is not known to this tenant"
    detail = "not known to tenant {tenant}: {names}"
    mend = "create them with `ntro entity create`, or ingest again with --create-entities"


@dataclass(frozen=True, slots=True)
class Entity:
    """An entity as runs and people see it. `currency`: ISO 4217, what its documents are in unless they say otherwise.
    `first_month`: of its year, 1 to 12.
    """

    id: UUID
    slug: str
    name: str
    currency: str
    status: str = "ACTIVE"
    first_month: int = 1


def spelling(name: str) -> str:
    """The form under which spellings of one name meet: case, accents, punctuation and blanks do not count. Letters of every
    script do.
    """
    decomposed = unicodedata.normalize("NFKD", name).casefold().replace("&", " and ").replace("+", " plus ")
    letters = "".join(mark for mark in decomposed if not unicodedata.combining(mark))
    return _BETWEEN.sub(" ", letters).strip()


def slug_of(name: str) -> str:
    """A slug for a name; never empty, at most 63 characters. Where letters had to go it gets a hash, so that names that differ
    keep slugs that differ.
    """
    known = spelling(name)
    slug = _NOT_IN_SLUG.sub("", known.replace(" ", "-")).strip("-")
    if slug and slug.replace("-", " ") == known and len(slug) <= _SLUG_LENGTH:
        return slug
    return f"{slug[: _SLUG_LENGTH - 9]}-{hashlib.sha256((known or name).encode()).hexdigest()[:8]}".lstrip("-")


def schema_name(tenant: str, slug: str) -> str:
    """`acme` + `spv-1` -> `acme_spv_1`; a slug that does not survive the change unharmed gets a hash behind it."""
    plain = f"{tenant}_{slug}".replace("-", "_").replace(".", "_")
    if plain == f"{tenant}_{slug}".replace("-", "_") and "_" not in slug and len(plain) <= _IDENTIFIER_LENGTH:
        return plain
    return f"{plain[: _IDENTIFIER_LENGTH - 9]}_{hashlib.sha256(slug.encode()).hexdigest()[:8]}"


def create_entities(owner_dsn: str, tenant: str, entities: Sequence[Entity]) -> None:
    """All of them or none, as the database's owner. An entity that is there already is left as it is."""
    with psycopg.connect(owner_dsn) as connection:
        for entity in entities:
            schema = schema_name(tenant, entity.slug)
            connection.execute(
                "INSERT INTO system.entities (id, slug, name, currency, schema_name, first_month) "
                "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (id) DO NOTHING",
                [entity.id, entity.slug, entity.name, entity.currency, schema, entity.first_month],
            )
            _add_spellings(connection, tenant, entity)
            connection.execute(
                sql.SQL("CREATE SCHEMA IF NOT EXISTS {0}; GRANT USAGE ON SCHEMA {0} TO ntro_app, ntro_desk, ntro_auditor").format(
                    sql.Identifier(schema)
                )
            )
        refresh_views(connection, [entity.id for entity in entities])


def _add_spellings(connection: psycopg.Connection, tenant: str, entity: Entity) -> None:
    for name in filter(spelling, (entity.name, entity.slug)):
        connection.execute(
            "INSERT INTO system.entity_spellings VALUES (%s, %s) ON CONFLICT DO NOTHING", [spelling(name), entity.id]
        )
        holder = connection.execute(
            "SELECT e.id, e.slug FROM system.entity_spellings s JOIN system.entities e ON e.id = s.entity_id "
            "WHERE s.spelling = %s",
            [spelling(name)],
        ).fetchone()
        if holder and holder[0] != entity.id:
            raise SpellingTakenError(tenant=tenant, name=name, slug=holder[1])


def refresh_views(connection: psycopg.Connection, ids: Sequence[UUID] | None = None) -> None:
    """Each entity's schema shows that entity's rows of every subledger and of the general ledger. All entities if no ids."""
    tables = [
        row[0]
        for row in connection.execute(
            "SELECT table_name FROM information_schema.columns WHERE table_schema = 'ledgers' AND column_name = 'task_id'"
        )
    ]
    found = connection.execute(
        "SELECT id, schema_name FROM system.entities WHERE %(ids)s::uuid[] IS NULL OR id = ANY(%(ids)s)",
        {"ids": list(ids) if ids is not None else None},
    ).fetchall()
    for entity_id, schema in found:
        for table in (*tables, *GENERAL_LEDGER_VIEWS):
            connection.execute(
                sql.SQL(
                    "CREATE OR REPLACE VIEW {view} AS SELECT * FROM {table} WHERE entity_id = {entity}; "
                    "GRANT SELECT ON {view} TO ntro_app, ntro_desk, ntro_auditor"
                ).format(
                    view=sql.Identifier(schema, table),
                    table=sql.Identifier("ledgers", table),
                    entity=sql.Literal(str(entity_id)),
                )
            )


def drop_views(connection: psycopg.Connection, prefix: str) -> None:
    """The entities' views of the tables whose names begin so: a column under a view can neither change nor go."""
    found = connection.execute(
        "SELECT v.schemaname, v.viewname FROM pg_views v JOIN system.entities e ON e.schema_name = v.schemaname "
        "WHERE starts_with(v.viewname, %s)",
        [prefix],
    )
    for schema, view in found.fetchall():
        connection.execute(sql.SQL("DROP VIEW {}").format(sql.Identifier(schema, view)))


def close_entity(owner_dsn: str, slug: str) -> None:
    """From now on nothing is posted for it; what is there stays."""
    with psycopg.connect(owner_dsn) as connection:
        connection.execute("UPDATE system.entities SET status = 'CLOSED' WHERE slug = %s", [slug])


async def entity_by_slug(database: TenantDatabase, slug: str, *, tenant: str) -> Entity:
    """Raises `EntityUnknownError`."""
    row = await database.fetch_one(
        "SELECT id, slug, name, currency, status, first_month FROM system.entities WHERE slug = %s", [slug]
    )
    if row is None:
        raise EntityUnknownError(tenant=tenant, names=slug)
    return Entity(**row)


async def entities_by_spelling(database: TenantDatabase, names: Iterable[str]) -> dict[str, Entity]:
    """For each name that is known: its entity."""
    wanted = {name: spelling(name) for name in names}
    rows = await database.fetch(
        "SELECT s.spelling, e.id, e.slug, e.name, e.currency, e.status FROM system.entity_spellings s "
        "JOIN system.entities e ON e.id = s.entity_id WHERE s.spelling = ANY(%s)",
        [sorted(set(wanted.values()))],
    )
    known = {row.pop("spelling"): Entity(**row) for row in rows}
    return {name: known[key] for name, key in wanted.items() if key in known}


async def entities_named(database: TenantDatabase, names: Iterable[str]) -> dict[str, Entity]:
    """By spelling; a name that leaves no spelling behind (no Latin letter or digit in it) goes by its slug."""
    wanted = sorted(names)
    known = await entities_by_spelling(database, wanted)
    slugs = {slug_of(name): name for name in wanted if name not in known and not spelling(name)}
    rows = await database.fetch(
        "SELECT id, slug, name, currency, status FROM system.entities WHERE slug = ANY(%s)", [sorted(slugs)]
    )
    return known | {slugs[row["slug"]]: Entity(**row) for row in rows}
