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
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.handle import SubledgerHandle
from ntro_dagster.subledger.lifecycle import APPROVE, REINSTATE, UNDO
from ntro_dagster.subledger.raw import jsonable
from ntro_dagster.subledger.registry import SubledgerType
from ntro_dagster.subledger.reinstating import WITHOUT_SUCCESSOR, insert_successors, stage_successors
from ntro_dagster.subledger.row import Row
from ntro_dagster.subledger.staging import findings_of


class FieldNotEditableError(UsageError):
    code = "FIELD_NOT_EDITABLE"
    summary = "that field is not for people to edit"
    detail = "{field!r} cannot be edited; these can: {editable}"
    mend = "name one of the editable fields"


class SignalUnknownError(UsageError):
    code = "SIGNAL_UNKNOWN"
    summary = "the subledger knows no such decision"
    detail = "{subledger} knows no decision {signal!r}"
    mend = "one of: {known}"


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
    """What became of the waiting signals of a partition.

    Attributes:
        signals: those that this run applied; others may have been withdrawn, or applied by another run, before their turn.
        signed: rows that one has approved, and that wait for a second.
    """

    signals: int = 0
    applied: int = 0
    refused: int = 0
    signed: int = 0


def check_signal(kind: SubledgerType | TypeDescription, signal: str) -> None:
    """Raises: `SignalUnknownError`."""
    known = kind.lifecycle.signals
    if signal not in known:
        raise SignalUnknownError(subledger=kind.name, signal=signal, known=", ".join(known))


def check_decision(
    kind: SubledgerType | TypeDescription, signal: str, reason: str | None, values: Mapping[str, Any] | None
) -> None:
    """What can be told of a decision before its rows are known.

    Raises: `ReasonMissingError` (only `approve` needs none), `FieldNotEditableError`, `ValuesNotTakenError`,
        `SignalUnknownError`.
    """
    check_signal(kind, signal)
    if signal != "approve" and not (reason and reason.strip()):
        raise ReasonMissingError
    if bool(values) != (signal == "edit") and signal != "accept":
        raise ValuesNotTakenError(signal=signal)
    for name in values or ():
        if name not in kind.editable:
            raise FieldNotEditableError(field=name, editable=", ".join(kind.editable))


async def file_signal(
    desk: TenantDatabase,
    kind: SubledgerType | TypeDescription,
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

    Raises: what `check_decision` raises.
    """
    check_decision(kind, signal, reason, values)
    sources = [source for source in kind.lifecycle.sources(signal) if status in {None, source}]
    where, parameters = conditions({"id": ids, "entity_id": entity_id, "period": period, "status": sources})
    if signal == REINSTATE:
        where = sql.SQL("{} AND {}").format(where, WITHOUT_SUCCESSOR)
    table = sql.Identifier("ledgers", kind.table)
    if dry_run:
        return [
            Filed(uuid4(), found["entity_id"], found["period"], found["rows"])
            for found in await desk.fetch(
                sql.SQL("SELECT entity_id, period, count(*) AS rows FROM {} WHERE {} GROUP BY 1, 2 ORDER BY 2, 1").format(
                    table, where
                ),
                parameters,
            )
        ]
    # One statement, so that what is counted, what is signed and its digest are of one instant.
    filed = await desk.fetch(
        sql.SQL(
            """WITH chosen AS MATERIALIZED (
                   SELECT t.id, t.entity_id, t.period, {digest}(t) AS digest FROM (SELECT * FROM {table} WHERE {where}) t
               ), signals AS (
                   INSERT INTO system.signals (id, subledger, entity_id, period, kind, payload, reason, filed_by)
                   SELECT gen_random_uuid(), %s, entity_id, period, %s, %s, %s, %s
                     FROM (SELECT DISTINCT entity_id, period FROM chosen ORDER BY 2, 1) p
                   RETURNING id, entity_id, period
               ), signed AS (
                   INSERT INTO system.signal_rows (signal_id, row_id, content_digest)
                   SELECT s.id, c.id, c.digest FROM chosen c JOIN signals s USING (entity_id, period)
               )
               SELECT s.id AS signal_id, entity_id, period, count(*) AS rows FROM chosen JOIN signals s USING (entity_id, period)
                GROUP BY 1, 2, 3 ORDER BY 3, 2"""
        ).format(digest=sql.Identifier("ledgers", f"{kind.table}_digest"), table=table, where=where),
        [*parameters, kind.table, signal, Jsonb(jsonable(values or {})), reason, filed_by],
    )
    return [Filed(**found) for found in filed]


async def apply_signals(handle: SubledgerHandle, *, period: str) -> Applied:
    """Apply the partition's waiting signals, in the order they were filed, one transaction each."""
    waiting = await handle.database.fetch(
        "SELECT id, kind, payload, filed_by, on_behalf_of FROM system.signals WHERE subledger = %s AND entity_id = %s "
        f"AND period = %s AND {UNDECIDED} ORDER BY seq",
        [handle.kind.table, handle.entity_id, period],
    )
    signals = applied = refused = signed = 0
    for signal in waiting:
        async with handle.database.transaction(Actor.run(handle.task_id), signal=signal["id"]):
            # Two runs may have read the same list, and whoever filed it may be withdrawing it: the lock makes the second see
            # what the first has done.
            locked = await handle.database.fetch_one(
                f"SELECT id FROM system.signals WHERE id = %s AND {UNDECIDED} FOR NO KEY UPDATE", [signal["id"]]
            )
            if locked is None:
                continue
            await _hold(handle, signal)
            decided, first, changed = await _carry_out(handle, signal)
            await handle.database.execute(
                "UPDATE system.signals SET applied_at = now(), run_id = %s WHERE id = %s", [handle.task_id, signal["id"]]
            )
            signals += 1
            applied += changed
            signed += first
            refused += decided - changed - first
    return Applied(signals, applied, refused, signed)


async def _carry_out(handle: SubledgerHandle, signal: Mapping[str, Any]) -> tuple[int, int, int]:
    """How many rows were decided upon, how many of them were signed only, and how many changed."""
    if signal["kind"] == REINSTATE:
        barred = await stage_successors(handle, signal)
        decided, first = await _decide(handle, signal, barred, "ALREADY_REINSTATED")
        return decided, first, await insert_successors(handle, signal)
    rewrites = signal["kind"] in {"edit", "accept"}
    still_invalid = await _stage_rewrite(handle, signal) if rewrites else []
    decided, first = await _decide(handle, signal, still_invalid, "STILL_INVALID")
    return decided, first, await (_rewrite if rewrites else _move)(handle, signal)


UNDECIDED = "applied_at IS NULL AND withdrawn_at IS NULL"
"""Condition on a signal: neither applied nor withdrawn."""


def names_of(kind: SubledgerType | TypeDescription) -> dict[str, sql.Composable]:
    """For statements: the subledger's `table`, and its functions `digest`, `amount` and `currency` of a row."""
    functions = {name: sql.Identifier("ledgers", f"{kind.table}_{name}") for name in ("digest", "amount", "currency")}
    return {"table": sql.Identifier("ledgers", kind.table), **functions}


async def _hold(handle: SubledgerHandle, signal: Mapping[str, Any]) -> None:
    """Locks the rows that another run may be moving at this moment: approved ones, which may be posted, and those that need
    two approvals, of which another run may be applying the other. What is decided after this stands.
    """
    lifecycle = handle.kind.lifecycle
    if signal["kind"] == APPROVE:
        contested = sql.SQL(_NEEDS_TWO)
    elif lifecycle.approved in lifecycle.sources(signal["kind"]):
        contested = sql.SQL("t.status = %(approved)s")
    else:
        return
    await handle.database.execute(
        sql.SQL(
            "SELECT t.id FROM {table} t JOIN system.signal_rows r ON r.row_id = t.id "
            "WHERE r.signal_id = %(signal)s AND {contested} ORDER BY t.id FOR NO KEY UPDATE OF t"
        ).format(contested=contested.format(**names_of(handle.kind)), **names_of(handle.kind)),
        {"signal": signal["id"], "approved": lifecycle.approved},
    )


_NEEDS_TWO = "(SELECT EXISTS (SELECT FROM system.approval_limits)) AND system.needs_two({amount}(t), {currency}(t), t.entity_id)"


async def _decide(handle: SubledgerHandle, signal: Mapping[str, Any], barred: Sequence[UUID], bar: str) -> tuple[int, int]:
    """Writes the outcome of each row of the signal: APPLIED, SIGNED where a second approver is still to come, or REFUSED and why:
    `bar` for those that are `barred`. Returns how many rows that are, and how many of them were signed.
    """
    # OFFSET 0: else the planner writes each of its columns out wherever it is named, and a row's digest is taken three times.
    decided = await handle.database.fetch_one(
        sql.SQL(
            """WITH decided AS (
               UPDATE system.signal_rows r SET (outcome, code) = (
                   SELECT CASE WHEN code IS NOT NULL THEN 'REFUSED' WHEN alone AND signed THEN 'REFUSED'
                               WHEN alone THEN 'SIGNED' ELSE 'APPLIED' END,
                          CASE WHEN code IS NULL AND alone AND signed THEN 'ALREADY_SIGNED' ELSE code END
                     FROM (
                       SELECT CASE WHEN t.status <> ALL(%(sources)s) THEN 'ILLEGAL_TRANSITION'
                                   WHEN {digest}(t) <> r.content_digest THEN 'CONTENT_CHANGED'
                                   WHEN %(approve)s AND t.made_by IS NOT NULL AND
                                        (system.has_made(t.id, %(by)s)
                                         OR %(behalf)s::text IS NOT NULL AND system.has_made(t.id, %(behalf)s))
                                   THEN 'MAKER_IS_NOT_CHECKER'
                                   WHEN %(approve)s AND {names_unknown_account} THEN 'ACCOUNT_UNKNOWN'
                                   WHEN t.id = ANY(%(barred)s) THEN %(bar)s END AS code,
                              %(approve)s AND {needs_two}
                                 AND NOT system.is_cosigned(t.id, {digest}(t), %(by)s, %(behalf)s) AS alone,
                              %(approve)s AND {needs_two}
                                 AND system.has_signed(t.id, {digest}(t), %(by)s, %(behalf)s) AS signed
                       OFFSET 0) c)
                 FROM {table} t WHERE r.signal_id = %(signal)s AND t.id = r.row_id AND t.entity_id = %(entity)s
               RETURNING r.outcome)
               SELECT count(*) AS rows, count(*) FILTER (WHERE outcome = 'SIGNED') AS signed FROM decided"""
        ).format(
            names_unknown_account=_names_unknown_account(handle.kind.model),
            needs_two=sql.SQL(_NEEDS_TWO).format(**names_of(handle.kind)),
            **names_of(handle.kind),
        ),
        {
            "entity": handle.entity_id,
            "sources": handle.kind.lifecycle.sources(signal["kind"]),
            "approve": signal["kind"] == APPROVE,
            "by": signal["filed_by"],
            "behalf": signal["on_behalf_of"],
            "barred": list(barred),
            "bar": bar,
            "signal": signal["id"],
        },
    )
    missing = await handle.database.execute(
        "UPDATE system.signal_rows SET outcome = 'REFUSED', code = 'ROW_NOT_FOUND' WHERE signal_id = %s AND outcome IS NULL",
        [signal["id"]],
    )
    return (decided["rows"] + missing, decided["signed"]) if decided else (missing, 0)


def _names_unknown_account(model: type[Row]) -> sql.Composable:
    """Whether row `t` names an account that could not be posted to: better told to the approver than to the posting run. What
    reverses a journal is posted also to an account that was closed since.
    """
    open_to = "active OR t.reverses IS NOT NULL" if "reverses" in model.model_fields else "active"
    unknown = "({}) NOT IN (SELECT code FROM ledgers.accounts WHERE " + open_to + ")"
    conditions: list[sql.Composable] = [sql.SQL("FALSE")]
    for path in model.accounts:
        column, _, key = path.partition("[].")
        named = sql.Identifier("t", column)
        if key:
            exists = "EXISTS (SELECT FROM jsonb_array_elements({}) i WHERE " + unknown.format("i ->> {}") + ")"
            conditions.append(sql.SQL(exists).format(named, sql.Literal(key)))
        else:
            conditions.append(sql.SQL(unknown).format(named))
    return sql.SQL("({})").format(sql.SQL(" OR ").join(conditions))


def _target(handle: SubledgerHandle, signal: Mapping[str, Any]) -> sql.Composable:
    """Where row `t` goes. A status the signal does not lead on from stays NULL, which no row may have."""
    steps = handle.kind.lifecycle.targets(signal["kind"]).items()
    whens = [sql.SQL("WHEN {} THEN {}").format(sql.Literal(source), sql.Literal(target)) for source, target in steps]
    return sql.SQL("CASE t.status {} END").format(sql.SQL(" ").join(whens)) if whens else sql.NULL


_APPLIED = sql.SQL("system.signal_rows r WHERE r.signal_id = %(signal)s AND r.outcome = 'APPLIED' AND t.id = r.row_id")


_STAMPS = {APPROVE: ", approved_by = %(by)s, approved_at = now()", UNDO: ", approved_by = NULL, approved_at = NULL"}


async def _move(handle: SubledgerHandle, signal: Mapping[str, Any]) -> int:
    stamp = sql.SQL(_STAMPS.get(signal["kind"], ""))
    return await handle.database.execute(
        sql.SQL("UPDATE {table} t SET status = {to}, task_id = %(task)s, updated_at = now(){stamp} FROM {applied}").format(
            to=_target(handle, signal), stamp=stamp, applied=_APPLIED, **names_of(handle.kind)
        ),
        {"task": handle.task_id, "by": signal["filed_by"], "signal": signal["id"]},
    )


async def _stage_rewrite(handle: SubledgerHandle, signal: Mapping[str, Any]) -> list[UUID]:
    """`edit` and `accept`: the new content is validated here, by the same model that staging uses, and laid into the
    temporary table `rewrite`. Returns the rows for which it does not stand.
    """
    names = names_of(handle.kind)
    rows = await handle.database.fetch(
        sql.SQL("SELECT t.* FROM {table} t JOIN system.signal_rows r ON r.row_id = t.id WHERE r.signal_id = %s").format(**names),
        [signal["id"]],
    )
    model = handle.kind.model
    accepted = model.lifecycle.targets(signal["kind"])
    judged = [(row["id"], _rewritten(model, row, signal["payload"], accepted.get(row["status"]))) for row in rows]
    columns = ("id", "validation_errors", *handle.kind.model.content_fields())
    await handle.database.execute(
        sql.SQL("CREATE TEMPORARY TABLE rewrite ON COMMIT DROP AS SELECT {} FROM {table} WITH NO DATA").format(
            identifiers(columns), **names
        )
    )
    await handle.database.copy_in(_REWRITE, columns, ([_stored(new, name) for name in columns] for _, new in judged if new))
    return [row_id for row_id, new in judged if new is None]


_REWRITE = sql.Identifier("pg_temp", "rewrite")


async def _rewrite(handle: SubledgerHandle, signal: Mapping[str, Any]) -> int:
    changed = await handle.database.execute(
        sql.SQL(
            "UPDATE {table} t SET {assign}, validation_errors = s.validation_errors, made_by = %(by)s, task_id = %(task)s, "
            "updated_at = now(){status} FROM {stage} s, {applied} AND s.id = t.id"
        ).format(
            assign=sql.SQL(", ").join(
                sql.SQL("{0} = s.{0}").format(sql.Identifier(name)) for name in handle.kind.model.content_fields()
            ),
            stage=_REWRITE,
            status=sql.SQL(", status = {}").format(_target(handle, signal)) if signal["kind"] == "accept" else sql.SQL(""),
            applied=_APPLIED,
            **names_of(handle.kind),
        ),
        {"by": signal["filed_by"], "task": handle.task_id, "signal": signal["id"]},
    )
    await handle.database.execute(sql.SQL("DROP TABLE {}").format(_REWRITE))
    return changed


def _rewritten(model: type[Row], row: Mapping[str, Any], values: Mapping[str, Any], accepted: str | None) -> Row | None:
    """The row with the new values, or None where the result would not stand. Args: `accepted`: where acceptance sends it."""
    try:
        new = model.model_validate({**row, **values, "status": accepted or row["status"]})
    except ValidationError:
        return None
    if accepted:
        new.validation_errors = None
    elif row["validation_errors"]:
        new.validation_errors = [found for found in row["validation_errors"] if found.get("field") not in values]
        new.validation_errors += [found for found in _left(model, new) if found not in new.validation_errors]
    return new


def _left(model: type[Row], row: Row) -> list[dict[str, Any]]:
    """What still keeps the row from being complete."""
    try:
        model.model_validate({**row.model_dump(), "status": model.lifecycle.clean})
    except ValidationError as error:
        return findings_of(error)
    return []


def _stored(row: Row, name: str) -> Any:
    value = getattr(row, name)
    return Jsonb(jsonable(value)) if isinstance(value, dict | list) else value
