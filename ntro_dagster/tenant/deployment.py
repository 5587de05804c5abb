"""Brings a tenant's database up to what this release and its runbooks declare."""

from __future__ import annotations

import psycopg

from ntro_dagster.bundles import Bundle, frontmatter
from ntro_dagster.subledger.deployment import deploy
from ntro_dagster.subledger.registry import subledger_type
from ntro_dagster.tenant.entities import refresh_views


def bring_up_to_date(owner_dsn: str, *bundles: Bundle) -> None:
    """Migrations, row types, views, and which documents are read for which subledger. Running it again changes nothing.

    Raises: what `deploy` raises, `RunbookInvalidError`.
    """
    reads = [(bundle, frontmatter(bundle).reads) for bundle in bundles if bundle.slug]
    applied = deploy(owner_dsn, *bundles)
    with psycopg.connect(owner_dsn) as connection:
        if applied:
            refresh_views(connection)
        for bundle, named in reads:
            for subledger, sources in named.items():
                _read(connection, subledger_type(subledger, bundle.slug, bundle.version).table, sources)


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
                WHERE d.source = ANY(%s) AND r.entity_id IS NOT NULL GROUP BY 1, 2, 4 ON CONFLICT DO NOTHING""",
            [subledger, [source for (source,) in added]],
        )
