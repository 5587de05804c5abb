"""Journals that a person hands in: rows of `journal_proposals` of which the database knows who made them.

A program stages them, in doubt; the person accepts what stands up, by a decision like any other. So whoever handed a journal in
is its maker, and cannot approve it. Again after a crash, or with the same journals, it completes what is missing and changes
nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from pydantic import ValidationError

from ntro_dagster.errors import UsageError
from ntro_dagster.platforms.postgres.database import Actor, TenantDatabase
from ntro_dagster.subledger.handle import SubledgerHandle
from ntro_dagster.subledger.registry import SubledgerType
from ntro_dagster.subledger.review import apply_signals, file_signal
from ntro_dagster.subledger.staging import Payload, Staged, findings_of

LEDGER = "journal_proposals"
ACCEPT = "accept"

HANDED_IN = {"code": "HANDED_IN", "field": None, "message": "waits to be accepted by whoever handed it in"}
"""The one finding of a journal with which nothing is wrong."""


class MakerUnknownError(UsageError):
    """Values: `login`."""

    code = "NOT_A_MEMBER"
    summary = "only members decide at this tenant"
    detail = "{login} is no active member, and from the first member on only members hand journals in"
    mend = "name a member: `ntro member list` shows them; nothing was filed"


class MakerMayNotError(UsageError):
    """Values: `login`."""

    code = "ROLE_MAY_NOT"
    summary = "the member's role may not file this decision"
    detail = "the role of {login} may not hand journals in"
    mend = "approvers, preparers and agents may; nothing was filed"


@dataclass(frozen=True, slots=True)
class Proposed:
    """What became of the journals. `accepted`: that are PENDING now, and were not before."""

    staged: Staged
    accepted: int = 0


async def check_maker(desk: TenantDatabase, login: str) -> None:
    """Raises: `MakerUnknownError`, `MakerMayNotError`; what the database would say too, but before anything is done."""
    found = await desk.fetch_single(
        "SELECT EXISTS (SELECT FROM system.members) AS closed, "
        "(SELECT system.may_file(role, %(kind)s) FROM system.members WHERE login = %(login)s AND active) AS may",
        {"login": login, "kind": ACCEPT},
    )
    if found["closed"] and found["may"] is None:
        raise MakerUnknownError(login=login)
    if found["closed"] and not found["may"]:
        raise MakerMayNotError(login=login)


def doubts(kind: SubledgerType, payload: Payload, *, entity_id: UUID, period: str, run_id: UUID) -> list[dict[str, Any]]:
    """What the row type itself finds wrong with a journal that is to be reviewed."""
    try:
        kind.model.model_validate(
            {**payload.values, "entity_id": entity_id, "period": period, "task_id": run_id, "status": kind.lifecycle.clean}
        )
    except ValidationError as error:
        return findings_of(error)
    return []


async def propose(
    handle: SubledgerHandle,
    desk: TenantDatabase,
    payloads: AsyncIterable[Payload] | Iterable[Payload],
    *,
    period: str,
    source: str,
    by: str,
    reason: str,
) -> Proposed:
    """Stage journals, and file and apply the acceptance of those that only wait for it.

    Args:
        handle: on `journal_proposals`, for the entity, as the app's role.
        desk: the same database as the desk's role, which files decisions.
        payloads: with `HANDED_IN` as the one finding where nothing is wrong.
        source: what the `source_ref` of each begins with.
        by: who hands them in, and cannot approve them.

    Raises: `MakerUnknownError`, `MakerMayNotError`, and what staging and filing raise.
    """
    await check_maker(desk, by)
    async with handle.database.transaction(Actor(f"for {by}", "program", handle.task_id, reason)):
        staged = await handle.stage(payloads, period=period)
    rows = await desk.fetch(
        "SELECT t.id FROM ledgers.journal_proposals t WHERE t.entity_id = %s AND t.period = %s AND t.status = %s "
        "AND t.made_by IS NULL AND t.validation_errors = %s AND starts_with(t.source_ref, %s) "
        "AND NOT EXISTS (SELECT FROM system.signal_rows r JOIN system.signals s ON s.id = r.signal_id "
        "WHERE r.row_id = t.id AND s.applied_at IS NULL AND s.withdrawn_at IS NULL) ORDER BY t.id",
        [handle.entity_id, period, handle.kind.lifecycle.in_doubt, Jsonb([HANDED_IN]), source],
    )
    if rows:
        ids = [row["id"] for row in rows]
        await file_signal(desk, handle.kind, ACCEPT, filed_by=by, reason=reason, ids=ids)
    return Proposed(staged, (await apply_signals(handle, period=period)).applied)
