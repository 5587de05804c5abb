"""The way back from a final status that carries no journal: a new row, made of the one that was turned down or left out.

The old row stays as it is. The new one waits for a person to accept it, and is a row like any other from then on; the database
keeps which one it was made of (`system.reinstatements`), and refuses a second successor of one row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from psycopg import sql

from ntro_dagster.platforms.postgres.database import identifiers
from ntro_dagster.platforms.postgres.ledger_store import ledger
from ntro_dagster.subledger.handle import SubledgerHandle
from ntro_dagster.subledger.row import row_ids

MARK = "~reinstated:"

_OF_ITS_OWN = ("id", "task_id", "status", "source_ref", "created_at", "updated_at")
_BY_PEOPLE_AND_POSTING = ("made_by", "approved_by", "approved_at", "posted_to_gl", "posted_journal_ref")

WITHOUT_SUCCESSOR = sql.SQL("id NOT IN (SELECT row_id FROM system.reinstatements)")
"""Condition on a row of a subledger."""


def original_ref(source_ref: str) -> str:
    """Where a row came from first: without the mark of having been reinstated."""
    return re.sub(rf"{MARK}\d+$", "", source_ref)


async def stage_successors(handle: SubledgerHandle, signal: Mapping[str, Any]) -> list[UUID]:
    """Lays what the rows of the signal would become into the temporary table `successor`. Returns those that cannot become it:
    they have a successor, or something else stands in its place.

    No row is locked: runs take a partition's signals in one order, each under its lock, so the second sees what the first has
    done; and a second successor would be refused by the key of `system.reinstatements`.
    """
    database = handle.database
    rows = await database.fetch(
        sql.SQL(
            "SELECT t.id, t.entity_id, t.period, t.source_ref FROM {} t JOIN system.signal_rows r ON r.row_id = t.id "
            "WHERE r.signal_id = %s"
        ).format(ledger(handle.table)),
        [signal["id"]],
    )
    known = await database.fetch(
        "SELECT successor_id, cardinality(forebears) AS times FROM system.reinstatements WHERE successor_id = ANY(%s)",
        [[row["id"] for row in rows]],
    )
    times = {row["successor_id"]: row["times"] + 1 for row in known}
    await database.execute("CREATE TEMPORARY TABLE successor (row_id UUID, id UUID, source_ref TEXT) ON COMMIT DROP")
    await database.copy_in(
        _STAGE,
        ("row_id", "id", "source_ref"),
        ([row["id"], _successor_id(handle, row), _successor_ref(row, times.get(row["id"], 1))] for row in rows),
    )
    barred = await database.fetch(
        sql.SQL(
            "SELECT s.row_id FROM {stage} s WHERE EXISTS (SELECT FROM system.reinstatements x WHERE x.row_id = s.row_id) "
            "OR EXISTS (SELECT FROM {table} t WHERE t.id = s.id)"
        ).format(stage=_STAGE, table=ledger(handle.table))
    )
    return [row["row_id"] for row in barred]


_STAGE = sql.Identifier("pg_temp", "successor")


def _successor_id(handle: SubledgerHandle, row: Mapping[str, Any]) -> UUID:
    """Derived from the old row, which may share its `source_ref` with another."""
    return row_ids(row["entity_id"], row["period"], handle.kind.table)(f"row:{row['id']}{MARK}")


def _successor_ref(row: Mapping[str, Any], times: int) -> str:
    first = original_ref(row["source_ref"]) if row["source_ref"] else f"row:{row['id']}"
    return f"{first}{MARK}{times}"


async def insert_successors(handle: SubledgerHandle, signal: Mapping[str, Any]) -> int:
    """One for each row to which the signal applies. Copied by the database, column by column, so that nothing is read and written
    anew on the way: also what this version of the type does not know.
    """
    database, table = handle.database, ledger(handle.table)
    names = [
        row["name"]
        for row in await database.fetch(
            "SELECT attname AS name FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped "
            "AND attgenerated = '' AND attidentity = '' AND attname <> ALL(%s) ORDER BY attnum",
            [table.as_string(), [*_OF_ITS_OWN, *_BY_PEOPLE_AND_POSTING]],
        )
    ]
    inserted = await database.execute(
        sql.SQL(
            "INSERT INTO {table} (id, task_id, status, source_ref, {columns}) "
            "SELECT s.id, %(task)s, %(in_doubt)s, s.source_ref, {copied} FROM {table} t JOIN {stage} s ON s.row_id = t.id "
            "JOIN system.signal_rows r ON r.signal_id = %(signal)s AND r.row_id = t.id AND r.outcome = 'APPLIED'"
        ).format(table=table, stage=_STAGE, columns=identifiers(names), copied=identifiers(names, prefix="t")),
        {"task": handle.task_id, "in_doubt": handle.kind.lifecycle.in_doubt, "signal": signal["id"]},
    )
    await database.execute(
        sql.SQL(
            "INSERT INTO system.reinstatements (row_id, successor_id, signal_id) "
            "SELECT s.row_id, s.id, r.signal_id FROM {} s JOIN system.signal_rows r "
            "ON r.signal_id = %s AND r.row_id = s.row_id AND r.outcome = 'APPLIED'"
        ).format(_STAGE),
        [signal["id"]],
    )
    await database.execute(sql.SQL("DROP TABLE {}").format(_STAGE))
    return inserted
