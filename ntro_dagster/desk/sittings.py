"""Who is at the desk: log-ins and keys, found by the SHA-256 of the token that comes with a request."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import timedelta

from ntro_dagster.desk.passwords import matches
from ntro_dagster.errors import NtroError, UsageError
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.lifecycle import ACCEPT, APPROVE, EDIT, UNDO

LASTS = timedelta(hours=12)
IDLE = timedelta(hours=2)
TRIES, WITHIN = 10, timedelta(minutes=15)

MAY_APPROVE, MAY_DECIDE = frozenset({"approver"}), frozenset({"approver", "preparer", "agent"})


class LoginRefusedError(UsageError):
    """Says neither whether there is such a member nor which half was wrong."""

    code = "LOGIN_REFUSED"
    summary = "name or password is not right"
    mend = "try again; an administrator can set a new password with `ntro member password`"


class LoginsExhaustedError(NtroError):
    code = "LOGINS_EXHAUSTED"
    summary = "too many failed log-ins"
    mend = "wait a quarter of an hour, then try again"


@dataclass(frozen=True, slots=True)
class Sitting:
    """A member at the desk.

    Attributes:
        stands_in: an approver has let this preparer approve, and it is not over.
        token: the secret that the request brought.
    """

    login: str
    name: str
    role: str
    kind: str
    stands_in: bool
    token: str = field(repr=False)

    @property
    def csrf(self) -> str:
        """What a page sends back to show that it is ours: nobody else's page can read it, and it opens nothing by itself."""
        return hmac.new(self.token.encode(), b"csrf", hashlib.sha256).hexdigest()

    @property
    def may_approve(self) -> bool:
        return self.role in MAY_APPROVE or self.stands_in

    def may_file(self, signal: str) -> bool:
        """As the database says, which is what refuses; this one only greys out a button."""
        if signal in {APPROVE, UNDO}:
            return self.may_approve
        return self.role in MAY_APPROVE or self.role == "preparer" or (self.role == "agent" and signal in {EDIT, ACCEPT})

    @property
    def may_decide(self) -> bool:
        return self.role in MAY_DECIDE


async def log_in(database: TenantDatabase, name: str, password: str) -> str:
    """The token of a new session. Raises: `LoginRefusedError`, `LoginsExhaustedError`."""
    login = f"user:{name.strip().lower().removeprefix('user:')}"
    failed = await database.fetch_one(
        "SELECT count(*) AS times FROM system.failed_logins WHERE login = %s AND at > now() - %s", [login, WITHIN]
    )
    if failed and failed["times"] >= TRIES:
        raise LoginsExhaustedError
    member = await database.fetch_one(
        "SELECT password_hash FROM system.members WHERE login = %s AND active AND role <> 'agent'", [login]
    )
    if not await asyncio.to_thread(matches, member["password_hash"] if member else None, password):
        await database.execute("INSERT INTO system.failed_logins (login) VALUES (%s)", [login[:80]])
        raise LoginRefusedError
    token = secrets.token_urlsafe(32)
    await database.execute(
        "INSERT INTO system.desk_sessions (digest, login, expires_at) VALUES (%s, %s, now() + %s)",
        [_digest(token), login, LASTS],
    )
    return token


async def log_out(database: TenantDatabase, token: str) -> None:
    await database.execute(
        "UPDATE system.desk_sessions SET ended_at = now() WHERE digest = %s AND kind = 'session' AND ended_at IS NULL",
        [_digest(token)],
    )


async def sitting(database: TenantDatabase, token: str) -> Sitting | None:
    """Whose token it is; None where it is nobody's, or was, or the member is active no more."""
    found = await database.fetch_one(
        """SELECT m.login, m.name, m.role, s.kind, s.seen_at < now() - INTERVAL '1 minute' AS stale,
                  EXISTS (SELECT FROM system.active_delegations d WHERE d.to_login = m.login) AS stands_in
             FROM system.desk_sessions s JOIN system.members m ON m.login = s.login AND m.active
            WHERE s.digest = %s AND s.ended_at IS NULL AND (s.expires_at IS NULL OR s.expires_at > now())
              AND (s.kind = 'key' OR s.seen_at > now() - %s)""",
        [_digest(token), IDLE],
    )
    if found is None:
        return None
    if found.pop("stale"):
        await database.execute(
            "UPDATE system.desk_sessions SET seen_at = now() WHERE digest = %s AND ended_at IS NULL", [_digest(token)]
        )
    return Sitting(token=token, **found)


async def label_of(database: TenantDatabase, member: Sitting) -> str:
    """What its key was made for."""
    found = await database.fetch_one("SELECT label FROM system.desk_sessions WHERE digest = %s", [_digest(member.token)])
    return str(found["label"]) if found else ""


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
