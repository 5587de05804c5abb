"""`ntro ingest --wait`: until runs have made rows of the documents, and how those rows fared."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ntro_dagster.cli.output import progress
from ntro_dagster.errors import TransientError
from ntro_dagster.ingest.outcome import IngestIssueSummary, IngestOutcome, IngestStatus

if TYPE_CHECKING:
    from ntro_dagster.platforms.postgres.database import TenantDatabase

POLL_S = 0.5


class StagingSlowError(TransientError):
    code = "STAGING_SLOW"
    summary = "not every document is staged yet"
    detail = "after {seconds} s, documents not staged yet: {documents}; they are filed, and nothing is lost"
    mend = "`ntro run list --tenant {tenant}` shows the runs; the same command again goes on waiting"


@dataclass(slots=True)
class Verdict:
    """How a document's rows fared."""

    accepted: int = 0
    rejected: int = 0
    issues: dict[str, int] = field(default_factory=dict)

    def on(self, outcome: IngestOutcome) -> IngestOutcome:
        """The outcome with its rows counted. `staged`, where it was this submission that brought the document in."""
        return replace(
            outcome,
            status=IngestStatus.STAGED if outcome.status is IngestStatus.ACCEPTED else outcome.status,
            accepted_rows=self.accepted,
            rejected_rows=self.rejected,
            issues=tuple(
                IngestIssueSummary(code, rows) for code, rows in sorted(self.issues.items(), key=lambda i: (-i[1], i[0]))
            ),
        )


async def wait_for_runs(database: TenantDatabase, documents: Sequence[str], patience: float) -> int:
    """Until no document waits, or `patience` seconds have passed. Returns how many wait still."""
    deadline = time.monotonic() + patience
    with progress(len(documents), "documents staged") as update:
        while True:
            row = await database.fetch_one(
                "SELECT count(DISTINCT document_id) AS waiting FROM ingest.intake "
                "WHERE document_id = ANY(%s::uuid[]) AND staged_at IS NULL",
                [documents],
            )
            waiting: int = row["waiting"] if row else 0
            update(len(documents) - waiting, "runs are at work" if waiting else "")
            if not waiting or time.monotonic() > deadline:
                return waiting
            await asyncio.sleep(POLL_S)


async def judged(database: TenantDatabase, documents: Sequence[str]) -> dict[str, Verdict]:
    """For every document that is staged: its rows that went on, those that need attention, and why."""
    from psycopg import sql  # noqa: PLC0415

    from ntro_dagster.subledger.lifecycle import Lifecycle  # noqa: PLC0415

    verdicts: defaultdict[str, Verdict] = defaultdict(Verdict)
    types = await database.fetch(
        "SELECT table_name, description -> 'lifecycle' AS lifecycle FROM system.subledger_types ORDER BY 1"
    )
    for name, lifecycle in [(row["table_name"], Lifecycle.from_json(row["lifecycle"])) for row in types]:
        asked = {"documents": list(documents), "in_doubt": lifecycle.in_doubt}
        for row in await database.fetch(sql.SQL(_ROWS).format(sql.Identifier("ledgers", name)), asked):
            verdict = verdicts[row["document"]]
            if row["attention"]:
                verdict.rejected += row["rows"]
            else:
                verdict.accepted += row["rows"]
        for row in await database.fetch(sql.SQL(_CODES).format(sql.Identifier("ledgers", name)), asked):
            issues = verdicts[row["document"]].issues
            issues[row["code"]] = issues.get(row["code"], 0) + row["rows"]
    for row in await database.fetch(_HOMELESS, {"documents": list(documents)}):
        verdict = verdicts[row["document"]]
        verdict.rejected += row["rows"]
        verdict.issues[row["code"]] = verdict.issues.get(row["code"], 0) + row["rows"]
    staged = await database.fetch(_STAGED, {"documents": list(documents)})
    return {row["document"]: verdicts[row["document"]] for row in staged}


# A row names its document in its source_ref, `doc:<uuid>#L<line>`; the partitions come first, because they have an index. A row
# that was reinstated is one that the document has not twice.
_WHERE = """
    WHERE (t.entity_id, t.period) IN (SELECT entity_id, period FROM ingest.intake WHERE document_id = ANY(%(documents)s::uuid[]))
      AND substr(t.source_ref, 5, 36) = ANY(%(documents)s::text[])
      AND NOT EXISTS (SELECT FROM system.reinstatements x WHERE x.successor_id = t.id)"""

_ROWS = f"""
    SELECT substr(t.source_ref, 5, 36) AS document, t.status = %(in_doubt)s AS attention, count(*) AS rows
      FROM {{}} t {_WHERE} GROUP BY 1, 2"""

_CODES = f"""
    SELECT substr(t.source_ref, 5, 36) AS document, f ->> 'code' AS code, count(DISTINCT t.id) AS rows
      FROM {{}} t CROSS JOIN jsonb_array_elements(t.validation_errors) f {_WHERE} AND t.status = %(in_doubt)s
     GROUP BY 1, 2"""

_HOMELESS = """
    SELECT document_id::text AS document, findings -> 0 ->> 'code' AS code, count(*) AS rows FROM ingest.submitted_records
     WHERE document_id = ANY(%(documents)s::uuid[]) AND (entity_id IS NULL OR period IS NULL) GROUP BY 1, 2"""

_STAGED = """
    SELECT document_id::text AS document FROM ingest.intake WHERE document_id = ANY(%(documents)s::uuid[])
     GROUP BY document_id HAVING bool_and(staged_at IS NOT NULL)"""
