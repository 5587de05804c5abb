"""What a runbook's frontmatter says of its documents and rows, as the tenant's database keeps it."""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
from psycopg.types.json import Jsonb

from ntro_dagster.bundles import Frontmatter, RunbookInvalidError, derivation_name
from ntro_dagster.errors import UsageError
from ntro_dagster.ingest.sources import Source


class SourceTakenError(UsageError):
    """Values: `source`, `runbook`, `other`."""

    code = "SOURCE_TAKEN"
    summary = "two runbooks say differently how one source is read"
    detail = "{runbook} and {other} differ in how documents of source {source} are read"
    mend = "give one of the sources another name, or declare it as the other runbook does"


def declare(connection: psycopg.Connection, head: Frontmatter, tables: Mapping[str, str]) -> None:
    """How its sources are read, what it reads from them, and which rows it makes of others. Running it again changes nothing.

    Args: `tables`: the table of each subledger that the frontmatter names.

    Raises: `SourceInvalidError`, `SourceTakenError`, `RunbookInvalidError`.
    """
    for name, declared in head.sources.items():
        _declare_source(connection, head.slug, name, Source.of(name, declared))
    for subledger, sources in head.reads.items():
        _read(connection, tables[subledger], sources)
    _declare_derivations(connection, head, tables)


def withdraw(connection: psycopg.Connection, slug: str) -> None:
    """What a runbook that is no longer active would have made of rows is not waited for any more."""
    _declare_derivations(connection, None, {}, slug=slug)


def _declare_source(connection: psycopg.Connection, slug: str, name: str, source: Source) -> None:
    written = connection.execute(
        """INSERT INTO ingest.sources AS s (source, runbook, declared) VALUES (%s, %s, %s)
           ON CONFLICT (source) DO UPDATE SET declared = EXCLUDED.declared
            WHERE s.runbook = EXCLUDED.runbook OR s.declared = EXCLUDED.declared RETURNING 1""",
        [name, slug, Jsonb(source.as_dict())],
    ).fetchone()
    if written is None:
        other = connection.execute("SELECT runbook FROM ingest.sources WHERE source = %s", [name]).fetchone()
        raise SourceTakenError(source=name, runbook=slug, other=other and other[0])


def _read(connection: psycopg.Connection, subledger: str, sources: tuple[str, ...]) -> None:
    """From now on, and what was filed before: a runbook that comes later misses nothing."""
    added = connection.execute(
        "INSERT INTO ingest.readers (source, subledger) SELECT unnest(%s::text[]), %s ON CONFLICT DO NOTHING RETURNING source",
        [list(sources), subledger],
    ).fetchall()
    if added:
        connection.execute(
            """INSERT INTO ingest.intake (document_id, entity_id, subledger, period, records)
               SELECT r.document_id, r.entity_id, %s, r.period, count(*)
                 FROM ingest.submitted_records r JOIN ingest.submitted_documents d ON d.id = r.document_id
                WHERE d.source = ANY(%s) AND r.entity_id IS NOT NULL AND r.period IS NOT NULL
                GROUP BY 1, 2, 4 ON CONFLICT DO NOTHING""",
            [subledger, [source for (source,) in added]],
        )


def _declare_derivations(
    connection: psycopg.Connection, head: Frontmatter | None, tables: Mapping[str, str], *, slug: str | None = None
) -> None:
    prefix = derivation_name(head.slug if head else str(slug), "")
    wanted = {}
    for target, derived in (head.derives if head else {}).items():
        unknown = sorted({target, *derived.rows} - tables.keys())
        if unknown:
            raise RunbookInvalidError(
                slug=head.slug if head else slug, why=f"runbook.md derives from unknown subledgers: {', '.join(unknown)}"
            )
        wanted[prefix + target] = ([tables[each] for each in derived.rows], derived.earlier)
    known = connection.execute(
        "SELECT DISTINCT derivation FROM system.derivation_inputs WHERE starts_with(derivation, %s)", [prefix]
    ).fetchall()
    for name in sorted({name for (name,) in known} | wanted.keys()):
        inputs, earlier = wanted.get(name, ([], False))
        connection.execute("SELECT system.declare_derivation(%s, %s::text[], %s)", [name, inputs, earlier])
