"""Brings a tenant's database up to what this release declares, and to what a runbook's version declares: whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from ntro_dagster.bundles import Bundle, frontmatter
from ntro_dagster.bundles.archive import Manifest
from ntro_dagster.errors import TransientError, UsageError
from ntro_dagster.platforms.migrations import hold_migrations, lacking, migrate_within
from ntro_dagster.subledger.deployment import attach, attach_again, compare, deploy
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.registry import table_name
from ntro_dagster.tenant.declarations import Declarations, declare
from ntro_dagster.tenant.entities import drop_views, refresh_views
from ntro_dagster.tenant.parameters import refuse_unfit

LOCK_PATIENCE_S = 5


class RowsOpenError(UsageError):
    """Values: `table`, `rows`."""

    code = "ROWS_STILL_OPEN"
    summary = "rows are open in a subledger that would go"
    detail = "{table} has {rows} rows that are not final, and the version to be active does not know it"
    mend = "bring these rows to their end first, or keep the type in the runbook"


class DocumentsWaitingError(UsageError):
    """Values: `table`, `documents`."""

    code = "DOCUMENTS_STILL_WAITING"
    summary = "documents wait for a subledger that would not be filled any more"
    detail = "{documents} documents wait to be read into {table}, and the version to be active does not fill it"
    mend = "let the waiting runs end first, or keep the asset in the runbook"


class TablesInUseError(TransientError):
    """Values: `seconds`."""

    code = "TABLES_IN_USE"
    summary = "runs at work hold tables that the deployment must change"
    detail = "runs at work have held tables that the deployment must change for more than {seconds} s"
    mend = "nothing was changed; try again when these runs have ended"


@dataclass(frozen=True, slots=True)
class Change:
    """What a deployment does to one tenant's database.

    Attributes:
        id: the workspace's, by which the act is known in both places.
        act: deploy, rollback or withdraw.
        version: id; None where the runbook is withdrawn.
        migrations: the version's folder of them.
        types: the row types of the version, and `reads`: the sources of documents for each table that it fills.
        pinned: the row types of other versions of it that go on working: they must still fit.
        declared: how its sources are read, and which rows it makes of others.
    """

    id: UUID
    act: str
    slug: str
    version: str | None = None
    manifest: Manifest | None = None
    migrations: Path | None = None
    types: Sequence[TypeDescription] = ()
    pinned: Sequence[TypeDescription] = ()
    reads: Mapping[str, Sequence[str]] = field(default_factory=dict)
    declared: Declarations = field(default_factory=Declarations)
    by: str = "operator"


def bring_up_to_date(owner_dsn: str, *bundles: Bundle) -> None:
    """Migrations, row types (also those that runbooks deployed under an earlier release), views, and which documents are read
    for which subledger. Running it again changes nothing.

    Raises: what `deploy` and `declare` raise, `RunbookInvalidError`.
    """
    applied = deploy(owner_dsn, *bundles)
    with psycopg.connect(owner_dsn) as connection:
        hold_migrations(connection)
        attach_again(connection)
        if applied:
            refresh_views(connection)
        for bundle in bundles:
            if bundle.slug is None:
                continue
            head = frontmatter(bundle)
            named = {name for target, each in head.derives.items() for name in (target, *each.rows)}
            tables = {name: _table(connection, bundle, name) for name in {*head.reads, *named}}
            declare(connection, bundle.slug, Declarations.of(head, tables))
            for subledger, sources in head.reads.items():
                _read(connection, tables[subledger], sources, bundle.slug)


def _table(connection: psycopg.Connection, bundle: Bundle, subledger: str) -> str:
    own = table_name(subledger, bundle.slug)
    known = connection.execute("SELECT 1 FROM system.subledger_types WHERE table_name = %s", [own]).fetchone()
    return own if known else subledger


def carry_out(owner_dsn: str, change: Change) -> list[str]:
    """In one transaction: migrations, row types, readers, and the note that it was done. Returns the migrations applied.

    Carrying out the same change again does nothing. Where it raises, nothing of it stays.

    Raises: what `migrate_within`, `attach` and `declare` raise, `RowsOpenError`, `DocumentsWaitingError`,
        `TablesInUseError`, `ParametersUnsatisfiedError`.
    """
    try:
        return _carry_out(owner_dsn, change)
    except psycopg.errors.LockNotAvailable:
        raise TablesInUseError(seconds=LOCK_PATIENCE_S) from None


def _carry_out(owner_dsn: str, change: Change) -> list[str]:
    applied: list[str] = []
    with psycopg.connect(owner_dsn) as connection:
        # whoever waits for a table holds up everyone who comes after: not for long
        connection.execute(f"SET LOCAL lock_timeout = '{LOCK_PATIENCE_S}s'".encode())
        hold_migrations(connection)
        if connection.execute("SELECT 1 FROM system.deployments WHERE deployment_id = %s", [change.id]).fetchone():
            return []
        if change.version and change.manifest and change.migrations:
            if lacking(connection, change.slug, change.migrations):
                drop_views(connection, change.slug.replace("-", "_") + "__")
            applied = migrate_within(connection, change.slug, change.migrations)
            attach(connection, change.types, surplus=True, unchanged=not applied)
            compare(connection, change.pinned, surplus=True)
            refuse_unfit(connection, change.slug, change.version, change.migrations.parent)
            connection.execute(
                "INSERT INTO system.runbook_versions (slug, version, label, manifest) VALUES (%s, %s, %s, %s) "
                "ON CONFLICT DO NOTHING",
                [change.slug, change.version, change.manifest.label, Jsonb(dict(change.manifest.files))],
            )
        _retire(connection, change)
        declare(connection, change.slug, change.declared)
        for table, sources in change.reads.items():
            _read(connection, table, sources, change.slug)
        connection.execute(
            "INSERT INTO system.deployments (deployment_id, slug, version, act, deployed_by) VALUES (%s, %s, %s, %s, %s)",
            [change.id, change.slug, change.version, change.act, change.by],
        )
        if applied:
            refresh_views(connection)
    return applied


def _retire(connection: psycopg.Connection, change: Change) -> None:
    """What the runbook had and has no more: types, and documents that it read. Nothing may be left open behind it."""
    kept = [kind.table for kind in change.types]
    for table, description in connection.execute(
        "SELECT table_name, description FROM system.subledger_types "
        "WHERE owner_runbook = %s AND active AND table_name <> ALL(%s)",
        [change.slug, kept],
    ).fetchall():
        moving = list({edge.source for edge in TypeDescription.from_json(description).lifecycle.edges})
        count = sql.SQL("SELECT count(*) FROM {} WHERE status = ANY(%s)").format(sql.Identifier("ledgers", table))
        ((rows,),) = connection.execute(count, [moving]).fetchall()
        if rows:
            raise RowsOpenError(table=table, rows=rows)
        connection.execute("UPDATE system.subledger_types SET active = FALSE WHERE table_name = %s", [table])
    still_read = [f"{source} {table}" for table, sources in change.reads.items() for source in sources]
    gone = connection.execute(
        "DELETE FROM ingest.readers WHERE runbook = %s AND source || ' ' || subledger <> ALL(%s) RETURNING subledger",
        [change.slug, still_read],
    ).fetchall()
    for (table,) in gone:
        if table not in change.reads:
            waiting = "SELECT count(DISTINCT document_id) FROM ingest.intake WHERE subledger = %s AND staged_at IS NULL"
            ((documents,),) = connection.execute(waiting, [table]).fetchall()
            if documents:
                raise DocumentsWaitingError(table=table, documents=documents)


def _read(connection: psycopg.Connection, subledger: str, sources: Sequence[str], runbook: str) -> None:
    """From now on, and what was filed before: a runbook that comes later misses nothing."""
    added = connection.execute(
        "INSERT INTO ingest.readers (source, subledger, runbook) SELECT unnest(%s::text[]), %s, %s "
        "ON CONFLICT DO NOTHING RETURNING source",
        [list(sources), subledger, runbook],
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
