"""Everything about one row: where it came from, what was done to it, what was said of it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from psycopg import sql

from ntro_dagster.desk.documents import media_type
from ntro_dagster.desk.rows import alike, plain, plain_row, row_of
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.reinstating import original_ref

MOST_ALIKE = 20


async def row_story(database: TenantDatabase, kind: TypeDescription, row_id: UUID) -> dict[str, Any]:
    """Raises: `RowUnknownError`."""
    row = await row_of(database, kind, row_id)
    kept = await database.fetch_one(
        sql.SQL("SELECT raw_payload FROM {} WHERE id = %s").format(sql.Identifier("ledgers", kind.table)), [row_id]
    )
    return row | {
        "raw_payload": kept["raw_payload"] if kept else None,
        "source": await _source(database, row["source_ref"]),
        "timeline": await _timeline(database, kind, row_id),
        "edits": await _edits(database, kind, row_id),
        "comments": await _comments(database, kind, row_id),
        "duplicates": await _duplicates(database, kind, row_id),
    }


async def _source(database: TenantDatabase, source_ref: str | None) -> dict[str, Any] | None:
    """The document of a `doc:<uuid>#L<line>`, also where the row was reinstated."""
    document, _, line = original_ref(source_ref or "").removeprefix("doc:").partition("#L")
    try:
        document_id = UUID(document)
    except ValueError:
        return None
    found = await database.fetch_one("SELECT id, name FROM ingest.submitted_documents WHERE id = %s", [document_id])
    if found is None:
        return None
    return {
        "document_id": plain(found["id"]),
        "name": found["name"],
        "line": int(line) if line.isdigit() else None,
        "media_type": media_type(found["name"]),
        "page": None,
    }


async def _timeline(database: TenantDatabase, kind: TypeDescription, row_id: UUID) -> list[dict[str, Any]]:
    rows = await database.fetch(
        """SELECT c.at, c.actor, c.actor_kind, h.action, h.from_status, h.to_status, c.reason, h.code, c.run_id, c.signal_id,
                  s.kind
             FROM system.history h JOIN system.changes c ON c.id = h.change_id LEFT JOIN system.signals s ON s.id = c.signal_id
            WHERE h.row_id = %s AND c.subledger = %s ORDER BY c.id""",
        [row_id, kind.table],
    )
    kin = await _kin(database, row_id)
    steps = [
        {
            "at": plain(row["at"]),
            "actor": row["actor"],
            "actor_kind": row["actor_kind"],
            "action": row["kind"] if row["kind"] and row["action"] in {"EDIT", "TRANSITION"} else row["action"],
            "from": row["from_status"],
            "to": row["to_status"],
            "reason": row["reason"],
            "code": row["code"],
            "run_id": plain(row["run_id"]),
            "signal_id": plain(row["signal_id"]),
            "row": kin.get(row["action"]),
        }
        for row in rows
    ]
    return sorted([*steps, *await _assignments(database, kind, row_id)], key=lambda step: step["at"])


async def _kin(database: TenantDatabase, row_id: UUID) -> dict[str, str]:
    """The row that was made of this one, and the one that this one was made of, by the action of the history."""
    found = await database.fetch_one(
        """SELECT (SELECT successor_id FROM system.reinstatements WHERE row_id = %(row)s) AS successor,
                  (SELECT row_id FROM system.reinstatements WHERE successor_id = %(row)s) AS original""",
        {"row": row_id},
    )
    return {"REINSTATED": plain(found["successor"]), "REINSTATES": plain(found["original"])} if found else {}


async def _assignments(database: TenantDatabase, kind: TypeDescription, row_id: UUID) -> list[dict[str, Any]]:
    rows = await database.fetch(
        """SELECT at, assigned_by, assignee, system.kind_of(assigned_by) AS kind FROM system.assignments
            WHERE subledger = %s AND row_id = %s ORDER BY id""",
        [kind.table, row_id],
    )
    empty = dict.fromkeys(("from", "code", "run_id", "signal_id", "reason", "row"))
    return [
        empty
        | {"at": plain(row["at"]), "actor": row["assigned_by"], "actor_kind": row["kind"]}
        | {"action": "ASSIGNED" if row["assignee"] else "NOT_ASSIGNED", "to": row["assignee"]}
        for row in rows
    ]


async def _edits(database: TenantDatabase, kind: TypeDescription, row_id: UUID) -> list[dict[str, Any]]:
    """New values that members filed, applied or not."""
    rows = await database.fetch(
        sql.SQL(
            """SELECT s.filed_at AS at, s.filed_by AS by, s.id AS signal_id, s.kind, s.payload AS values, r.outcome
                 FROM {} t JOIN system.signals s ON s.entity_id = t.entity_id AND s.period = t.period
                 JOIN system.signal_rows r ON r.signal_id = s.id AND r.row_id = t.id
                WHERE t.id = %s AND s.subledger = %s AND s.payload <> '{{}}' ORDER BY s.seq"""
        ).format(sql.Identifier("ledgers", kind.table)),
        [row_id, kind.table],
    )
    return [plain_row(row) for row in rows]


async def _comments(database: TenantDatabase, kind: TypeDescription, row_id: UUID) -> list[dict[str, Any]]:
    rows = await database.fetch(
        "SELECT id, at, by, text FROM system.row_comments WHERE subledger = %s AND row_id = %s ORDER BY at", [kind.table, row_id]
    )
    return [plain_row(row) for row in rows]


async def _duplicates(database: TenantDatabase, kind: TypeDescription, row_id: UUID) -> list[dict[str, Any]]:
    source = alike(kind)
    if source is None:
        return []
    rows = await database.fetch(
        sql.SQL(
            "SELECT o.id, o.period, o.status, o.source_ref, to_jsonb(o) ->> 'posted_journal_ref' AS posted_journal_ref {} "
            "WHERE t.id = %s ORDER BY o.period, o.created_at LIMIT %s"
        ).format(source),
        [row_id, MOST_ALIKE],
    )
    return [plain_row(row) for row in rows]
