"""What a month's work is begun with: the runs that may be asked for, those that were, and the documents that came in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ntro_dagster.desk.activity import TOUCHED
from ntro_dagster.desk.sittings import Sitting
from ntro_dagster.desk.task_requests import MAY_ASK
from ntro_dagster.platforms.postgres.database import TenantDatabase

MOST_REQUESTS, MOST_DOCUMENTS = 6, 20
WATCHED_S = 90
"""How long a page looks on after the last thing happened: rows appear, and sensors follow."""


async def month_work(database: TenantDatabase, member: Sitting, entity: Mapping[str, Any], period: str) -> dict[str, Any]:
    """Workflows, with a button where the member may; requests and documents, and whether anything of them is under way."""
    asked = {"entity": entity["id"], "period": period, "watched": WATCHED_S}
    requests = await database.fetch(_REQUESTS, {**asked, "most": MOST_REQUESTS})
    documents = await database.fetch(_DOCUMENTS, {**asked, "most": MOST_DOCUMENTS})
    return {
        "may_ask": member.role in MAY_ASK and entity["status"] == "ACTIVE",
        "workflows": await database.fetch(_WORKFLOWS, asked),
        "sources": [row["source"] for row in await database.fetch("SELECT DISTINCT source FROM ingest.readers ORDER BY 1")],
        "requests": requests,
        "documents": documents,
        "under_way": any(row["watched"] for row in (*requests, *documents)),
    }


_WORKFLOWS = """
SELECT w.id, w.runbook, w.cron, w.timezone, w.paused,
       EXISTS (SELECT FROM system.task_requests q
                WHERE q.workflow_id = w.id AND q.period = %(period)s AND q.settled_at IS NULL) AS waits
  FROM system.workflows w WHERE w.entity_id = %(entity)s AND w.closed_at IS NULL ORDER BY w.runbook"""

_REQUESTS = f"""
SELECT q.id, q.runbook, q.filed_by, q.filed_at, q.settled_at, q.run_id, q.code,
       coalesce(q.settled_at, q.filed_at + INTERVAL '1 hour') > now() - %(watched)s * INTERVAL '1 second' AS watched,
       (SELECT count(*) FROM system.changes c JOIN system.history h ON h.change_id = c.id
         WHERE c.run_id = q.run_id AND {TOUCHED}) AS changes,
       (SELECT array_agg(DISTINCT x.code) FROM system.errors x WHERE x.run_id = q.run_id) AS errors
  FROM system.task_requests q WHERE q.entity_id = %(entity)s AND q.period = %(period)s ORDER BY q.seq DESC LIMIT %(most)s"""

# Waiting documents are watched for an hour: a sensor that is switched off is no reason to ask for ever.
_DOCUMENTS = """
SELECT d.id, d.name, d.source, d.submitted_by, d.submitted_at, i.records, i.staged_at,
       i.staged_at IS NULL AND d.submitted_at > now() - INTERVAL '1 hour'
           OR i.staged_at > now() - %(watched)s * INTERVAL '1 second' AS watched
  FROM (SELECT document_id, max(records) AS records,
               CASE WHEN bool_and(staged_at IS NOT NULL) THEN max(staged_at) END AS staged_at
          FROM ingest.intake WHERE entity_id = %(entity)s AND period = %(period)s GROUP BY 1) i
  JOIN ingest.submitted_documents d ON d.id = i.document_id ORDER BY d.submitted_at DESC, d.id LIMIT %(most)s"""
