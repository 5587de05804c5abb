"""How many approve, and who for whom: limits and delegations, written down by a tenant's operator with the owner's credential."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg

from ntro_dagster.desk.members import MemberUnknownError, as_owner
from ntro_dagster.errors import NotFoundError, UsageError
from ntro_dagster.platforms.postgres.database import translate


class DelegationInvalidError(UsageError):
    """Values: `giver`, `taker`."""

    code = "DELEGATION_INVALID"
    summary = "an approver delegates to a preparer, and both are active members"
    detail = "{giver} cannot delegate to {taker}: an approver delegates to a preparer, and both are active"
    mend = "`ntro member list` shows the roles"


class DelegationUnknownError(NotFoundError):
    """Values: `delegation`."""

    code = "DELEGATION_NOT_FOUND"
    summary = "no delegation of that id goes on"
    detail = "no delegation {delegation} goes on"
    mend = "`ntro approval list` shows them"


def set_limit(owner: str, currency: str, amount: Decimal | None, *, by: str) -> None:
    """Above `amount` of `currency` two approve; None: one does, whatever the amount.

    Args: `owner`: URL of the owner's role; `currency`: ISO 4217; `by`: who asks for it.
    """
    with as_owner(owner) as connection:
        connection.execute(
            "INSERT INTO system.approval_limit_changes (currency, amount, recorded_by) VALUES (%s, %s, %s)",
            [currency, amount, by],
        )


def delegate(owner: str, giver: str, taker: str, *, begins: datetime | None, ends: datetime, reason: str, by: str) -> UUID:
    """`taker` may approve for `giver` from `begins` (now) to `ends`.

    Raises: `DelegationInvalidError`, `MemberUnknownError`.
    """
    with as_owner(owner) as connection:
        found = connection.execute("SELECT login FROM system.members WHERE login = ANY(%s)", [[giver, taker]]).fetchall()
        known = {row["login"] for row in found}
        for login in (giver, taker):
            if login not in known:
                raise MemberUnknownError(login=login)
        try:
            (made,) = connection.execute(
                "INSERT INTO system.delegations (from_login, to_login, begins_at, ends_at, reason, recorded_by) "
                "VALUES (%s, %s, coalesce(%s, now()), %s, %s, %s) RETURNING id",
                [giver, taker, begins, ends, reason, by],
            ).fetchall()
        except psycopg.Error as error:
            refused = translate(error)
            if refused is not None and refused.code == DelegationInvalidError.code:
                raise DelegationInvalidError(giver=giver, taker=taker) from None
            raise
    return UUID(str(made["id"]))


def end_delegation(owner: str, delegation: UUID, *, reason: str, by: str) -> None:
    """Before its time, at once; what was approved under it stays. Raises: `DelegationUnknownError`."""
    with as_owner(owner) as connection:
        ended = connection.execute(
            "INSERT INTO system.delegation_ends (delegation_id, reason, recorded_by) "
            "SELECT id, %s, %s FROM system.delegations WHERE id = %s AND ends_at > now() ON CONFLICT DO NOTHING",
            [reason, by, delegation],
        )
        if not ended.rowcount:
            raise DelegationUnknownError(delegation=delegation)


def limits(owner: str) -> list[dict[str, Any]]:
    """The limit of each currency that has one."""
    with as_owner(owner) as connection:
        return connection.execute("SELECT * FROM system.approval_limits ORDER BY currency").fetchall()


def delegations(owner: str) -> list[dict[str, Any]]:
    """All of them, the newest first; `active`: whether it holds now."""
    with as_owner(owner) as connection:
        return connection.execute(
            """SELECT d.id, d.from_login, d.to_login, d.begins_at, d.ends_at, d.reason, d.recorded_by, d.recorded_at,
                      e.recorded_at AS ended_at, e.reason AS ended_because,
                      EXISTS (SELECT FROM system.active_delegations a WHERE a.id = d.id) AS active
                 FROM system.delegations d LEFT JOIN system.delegation_ends e ON e.delegation_id = d.id
                ORDER BY d.recorded_at DESC"""
        ).fetchall()
