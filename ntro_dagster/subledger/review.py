"""People's decisions: filed as signals by the desk's role, applied by runs.

Filing writes a signal and the rows it speaks of, each with the digest of the content its author saw. Applying moves those
rows that still are what the author saw, and refuses the others with a code; both leave their record in the history.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from psycopg import sql
from psycopg.types.json import Jsonb
from pydantic import ValidationError

from ntro_dagster.errors import UsageError
from ntro_dagster.platforms.postgres.database import Actor, TenantDatabase, conditions, identifiers
from ntro_dagster.subledger.handle import SubledgerHandle
from ntro_dagster.subledger.raw import jsonable
from ntro_dagster.subledger.registry import SubledgerType
from ntro_dagster.subledger.row import Row
from ntro_dagster.subledger.staging import findings_of

TARGETS = {"approve": "APPROVED", "reject": "REJECTED", "exclude": "EXCLUDED", "accept": "PENDING"}
"""Where each kind of signal sends a row. An `edit` changes content and sends it nowhere."""


class FieldNotEditableError(UsageError):
    code = "FIELD_NOT_EDITABLE"
    summary = "that field is not for people to edit"
    detail = "{field!r} cannot be edited; these can: {editable}"
    mend = "name one of the editable fields"


class ReasonMissingError(UsageError):
    code = "REASON_MISSING"
    summary = "this decision needs a reason"
    mend = "say why with --reason"


class ValuesNotTakenError(UsageError):
    code = "VALUES_NOT_TAKEN"
    summary = "an edit needs values, and only an edit or an acceptance takes them"
    detail = "{signal}: an edit needs values, and only an edit or an acceptance takes them"
    mend = "give --set field=value with `edit` or `accept`, and with nothing else"


@dataclass(frozen=True, slots=True)
class Filed:
    """A signal that was filed, or would be: how many rows it speaks of."""

    signal_id: UUID
    entity_id: UUID
    period: str
    rows: int


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of the waiting signals of a partition."""

    signals: int = 0
    applied: int = 0
    refused: int = 0


def _sources(kind: SubledgerType, signal: str) -> list[str]:
    lifecycle = kind.model.lifecycle
    if signal == "edit":
        return list(lifecycle.editable)
    return [edge.source for edge in lifecycle.edges if edge.signal == signal]


async def file_signal(
    desk: TenantDatabase,
    kind: SubledgerType,
    signal: str,
    *,
    filed_by: str,
    reason: str | None = None,
    values: Mapping[str, Any] | None = None,
    ids: Sequence[UUID] | None = None,
    entity_id: UUID | None = None,
    period: str | None = None,
    status: str | None = None,
    dry_run: bool = False,
) -> list[Filed]:
    """File one decision over rows, given one by one or by a filter: one signal per entity and period.

    Only rows from whose status the decision leads on are taken.

    Args:
        desk: the database as the desk's role.
        values: for `edit`, and for `accept` where the repair and the acceptance are one act: field to new value, as text.

    Raises: `ReasonMissingError` (only `approve` needs none), `FieldNotEditableError`, `ValuesNotTakenError`.
    """
    if signal != "approve" and not (reason and reason.strip()):
        raise ReasonMissingError
    if bool(values) != (signal == "edit") and signal != "accept":
        raise ValuesNotTakenError(signal=signal)
    editable: Sequence[str] = getattr(kind.model, "editable", kind.model.content_fields())
    for name in values or ():
        if name not in editable:
            raise FieldNotEditableError(field=name, editable=", ".join(editable))
    sources = [source for source in _sources(kind, signal) if status in {None, source}]
    where, parameters = conditions({"id": ids, "entity_id": entity_id, "period": period, "status": sources})
    table = sql.Identifier("ledgers", kind.name)
    async with desk.transaction():
        partitions = await desk.fetch(
            sql.SQL("SELECT entity_id, period, count(*) AS rows FROM {} WHERE {} GROUP BY 1, 2 ORDER BY 2, 1").format(
                table, where
            ),
            parameters,
        )
        filed = [Filed(uuid4(), found["entity_id"], found["period"], found["rows"]) for found in partitions]
        if dry_run or not filed:
            return filed
        async with (await desk.connection()).cursor() as cursor:
            await cursor.executemany(
                "INSERT INTO system.signals (id, subledger, entity_id, period, kind, payload, reason, filed_by) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                [
                    (f.signal_id, kind.name, f.entity_id, f.period, signal, Jsonb(jsonable(values or {})), reason, filed_by)
                    for f in filed
                ],
            )
        await desk.execute(
            sql.SQL(
                "INSERT INTO system.signal_rows (signal_id, row_id, content_digest) "
                "SELECT s.id, t.id, {digest}(t) FROM (SELECT * FROM {table} WHERE {where}) t "
                "JOIN unnest(%s::uuid[], %s::uuid[], %s::text[]) AS s (id, entity_id, period) USING (entity_id, period)"
            ).format(digest=sql.Identifier("ledgers", f"{kind.name}_digest"), table=table, where=where),
            [*parameters, [f.signal_id for f in filed], [f.entity_id for f in filed], [f.period for f in filed]],
        )
    return filed


async def apply_signals(handle: SubledgerHandle, *, period: str) -> Applied:
    """Apply the partition's waiting signals, in the order they were filed, one transaction each."""
    waiting = await handle.database.fetch(
        "SELECT id, kind, payload, filed_by FROM system.signals "
        "WHERE subledger = %s AND entity_id = %s AND period = %s AND applied_at IS NULL ORDER BY seq",
        [handle.kind.name, handle.entity_id, period],
    )
    applied = refused = 0
    for signal in waiting:
        async with handle.database.transaction(Actor.run(handle.task_id), signal=signal["id"]):
            # Two runs may have read the same list: the lock makes the second see that the first is done.
            locked = await handle.database.fetch_one(
                "SELECT id FROM system.signals WHERE id = %s AND applied_at IS NULL FOR NO KEY UPDATE", [signal["id"]]
            )
            if locked is None:
                continue
            await _weigh(handle, signal)
            if signal["kind"] in {"edit", "accept"}:
                await _rewrite(handle, signal)
            else:
                await _move(handle, signal)
            await _record_outcomes(handle, signal)
            counted = await handle.database.fetch_one(
                "SELECT count(*) FILTER (WHERE outcome = 'APPLIED') AS applied, "
                "count(*) FILTER (WHERE outcome = 'REFUSED') AS refused FROM system.signal_rows WHERE signal_id = %s",
                [signal["id"]],
            )
            assert counted is not None  # noqa: S101
            await handle.database.execute(
                "UPDATE system.signals SET applied_at = now(), run_id = %s WHERE id = %s", [handle.task_id, signal["id"]]
            )
            applied += counted["applied"]
            refused += counted["refused"]
    return Applied(len(waiting), applied, refused)


def _names(handle: SubledgerHandle) -> dict[str, sql.Composable]:
    return {
        "table": sql.Identifier("ledgers", handle.kind.name),
        "digest": sql.Identifier("ledgers", f"{handle.kind.name}_digest"),
    }


async def _weigh(handle: SubledgerHandle, signal: Mapping[str, Any]) -> None:
    """Fills the temporary table `weighed`: the signal's rows, each with the code that refuses it, or none."""
    await handle.database.execute(
        sql.SQL(
            """CREATE TEMPORARY TABLE weighed ON COMMIT DROP AS
               SELECT r.row_id, CASE WHEN t.id IS NULL OR t.entity_id <> %(entity)s THEN 'ROW_NOT_FOUND'
                                     WHEN t.status <> ALL(%(sources)s) THEN 'ILLEGAL_TRANSITION'
                                     WHEN {digest}(t) <> r.content_digest THEN 'CONTENT_CHANGED'
                                     WHEN %(approve)s AND t.made_by IS NOT NULL AND system.has_made(t.id, %(by)s)
                                     THEN 'MAKER_IS_NOT_CHECKER' END AS code
                 FROM system.signal_rows r LEFT JOIN {table} t ON t.id = r.row_id WHERE r.signal_id = %(signal)s"""
        ).format(**_names(handle)),
        {
            "entity": handle.entity_id,
            "sources": _sources(handle.kind, signal["kind"]),
            "approve": signal["kind"] == "approve",
            "by": signal["filed_by"],
            "signal": signal["id"],
        },
    )
    await handle.database.execute("ANALYZE weighed")


async def _record_outcomes(handle: SubledgerHandle, signal: Mapping[str, Any]) -> None:
    await handle.database.execute(
        "UPDATE system.signal_rows r SET outcome = CASE WHEN w.code IS NULL THEN 'APPLIED' ELSE 'REFUSED' END, code = w.code "
        "FROM weighed w WHERE r.signal_id = %s AND r.row_id = w.row_id",
        [signal["id"]],
    )
    await handle.database.execute("DROP TABLE weighed")


async def _move(handle: SubledgerHandle, signal: Mapping[str, Any]) -> None:
    stamp = sql.SQL(", approved_by = %(by)s, approved_at = now()" if signal["kind"] == "approve" else "")
    await handle.database.execute(
        sql.SQL(
            "UPDATE {table} t SET status = %(to)s, task_id = %(task)s, updated_at = now(){stamp} "
            "FROM weighed w WHERE t.id = w.row_id AND w.code IS NULL"
        ).format(stamp=stamp, **_names(handle)),
        {"to": TARGETS[signal["kind"]], "task": handle.task_id, "by": signal["filed_by"]},
    )


async def _rewrite(handle: SubledgerHandle, signal: Mapping[str, Any]) -> None:
    """`edit` and `accept`: the new content is validated here, by the same model that staging uses."""
    names = _names(handle)
    accept = signal["kind"] == "accept"
    content = handle.kind.model.content_fields()
    rows = await handle.database.fetch(
        sql.SQL("SELECT t.* FROM {table} t JOIN weighed w ON w.row_id = t.id WHERE w.code IS NULL").format(**names)
    )
    judged = [(row["id"], _rewritten(handle.kind.model, row, signal["payload"], accept)) for row in rows]
    await handle.database.execute(
        "UPDATE weighed SET code = 'STILL_INVALID' WHERE row_id = ANY(%s)", [[row_id for row_id, new in judged if new is None]]
    )
    columns = ("id", "validation_errors", *content)
    stage = sql.Identifier("pg_temp", "rewrite")
    await handle.database.execute(
        sql.SQL("CREATE TEMPORARY TABLE rewrite ON COMMIT DROP AS SELECT {} FROM {table} WITH NO DATA").format(
            identifiers(columns), **names
        )
    )
    await handle.database.copy_in(stage, columns, ([_stored(new, name) for name in columns] for _, new in judged if new))
    await handle.database.execute(
        sql.SQL(
            "UPDATE {table} t SET {assign}, validation_errors = s.validation_errors, made_by = %(by)s, task_id = %(task)s, "
            "updated_at = now(){status} FROM {stage} s WHERE t.id = s.id"
        ).format(
            assign=sql.SQL(", ").join(sql.SQL("{0} = s.{0}").format(sql.Identifier(name)) for name in content),
            stage=stage,
            status=sql.SQL(", status = 'PENDING'" if accept else ""),
            **names,
        ),
        {"by": signal["filed_by"], "task": handle.task_id},
    )
    await handle.database.execute(sql.SQL("DROP TABLE {}").format(stage))


def _rewritten(model: type[Row], row: Mapping[str, Any], values: Mapping[str, Any], accept: bool) -> Row | None:
    """The row with the new values, or None where the result would not stand."""
    status = "PENDING" if accept else row["status"]
    try:
        new = model.model_validate({**row, **values, "status": status})
    except ValidationError:
        return None
    if accept:
        new.validation_errors = None
    elif row["validation_errors"]:
        new.validation_errors = [found for found in row["validation_errors"] if found.get("field") not in values]
        new.validation_errors += [found for found in _left(model, new) if found not in new.validation_errors]
    return new


def _left(model: type[Row], row: Row) -> list[dict[str, Any]]:
    """What still keeps the row from being complete."""
    try:
        model.model_validate({**row.model_dump(), "status": "PENDING"})
    except ValidationError as error:
        return findings_of(error)
    return []


def _stored(row: Row, name: str) -> Any:
    value = getattr(row, name)
    return Jsonb(jsonable(value)) if isinstance(value, dict | list) else value
