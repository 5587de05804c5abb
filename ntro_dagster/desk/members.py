"""Members of a tenant and their keys, kept by its operator with the owner's credential."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from ntro_dagster.desk.passwords import SHORTEST, hash_password
from ntro_dagster.desk.roles import OPERATOR, MemberRole
from ntro_dagster.errors import NotFoundError, UsageError


class MemberExistsError(UsageError):
    """Values: `login`."""

    code = "MEMBER_EXISTS"
    summary = "there is a member of that login"
    detail = "there is a member {login} already"
    mend = "`ntro member list` shows it; logins are never used twice"


class MemberUnknownError(NotFoundError):
    """Values: `login`."""

    code = "MEMBER_NOT_FOUND"
    summary = "no member has that login"
    detail = "there is no member {login}"
    mend = "`ntro member list` shows those there are"


class LoginInvalidError(UsageError):
    """Values: `login`."""

    code = "LOGIN_INVALID"
    summary = "that cannot be a login"
    detail = "{login} cannot be a login"
    mend = "lower-case letters, digits, `.`, `_` and `-`, at most 62; an agent's begins with agent:, everybody else's with user:"


class MemberNameInvalidError(UsageError):
    """Values: none; a name is a person's."""

    code = "MEMBER_NAME_INVALID"
    summary = "that cannot be a member's name"
    mend = "a name is not blank, and has at most 200 characters"


class AgentHasNoPasswordError(UsageError):
    """Values: `login`."""

    code = "AGENT_HAS_NO_PASSWORD"
    summary = "agents have no password"
    detail = "{login} is an agent, and agents have no password"
    mend = "agents come with a key: `ntro member key create {login}`"


class KeyIsForAgentsError(UsageError):
    """Values: `login`, `label`: the one that makes a key an operator's."""

    code = "KEY_IS_FOR_AGENTS"
    summary = "keys are for agents and operators"
    detail = "{login} is a person who decides, and with a key a program would decide in that name"
    mend = "make the program a member: `ntro member add LOGIN --role agent`; an operator's key: --label {label}"


class KeyUnknownError(NotFoundError):
    """Values: `key`."""

    code = "KEY_NOT_FOUND"
    summary = "no key of that id"
    detail = "no key {key} that still opens anything"
    mend = "`ntro member key list` shows them"


class PasswordTooShortError(UsageError):
    """Values: `shortest`."""

    code = "PASSWORD_TOO_SHORT"
    summary = "the password is too short"
    detail = "a password has at least {shortest} characters"
    mend = "a few words in a row are long and easy to keep"


def add_member(owner: str, login: str, *, name: str, role: MemberRole, password: str | None, by: str) -> None:
    """Args: `owner`: URL of the owner's role; `by`: who asks for it.

    Raises: `MemberExistsError`, `LoginInvalidError`, `MemberNameInvalidError`, `AgentHasNoPasswordError`,
        `PasswordTooShortError`.
    """
    hashed = None if password is None else _hashed(password)
    with as_owner(owner) as connection:
        try:
            connection.execute(
                "INSERT INTO system.members (login, name, role, password_hash, created_by) VALUES (%s, %s, %s, %s, %s)",
                [login, name, role.value, hashed, by],
            )
        except psycopg.errors.UniqueViolation:
            raise MemberExistsError(login=login) from None
        except psycopg.errors.CheckViolation as error:
            _refuse(error, login)
            raise


def set_password(owner: str, login: str, password: str) -> None:
    """Also ends the log-ins of that member; its keys stay.

    Raises: `MemberUnknownError`, `AgentHasNoPasswordError`, `PasswordTooShortError`.
    """
    hashed = _hashed(password)
    with as_owner(owner) as connection:
        try:
            found = connection.execute("UPDATE system.members SET password_hash = %s WHERE login = %s", [hashed, login])
        except psycopg.errors.CheckViolation as error:
            _refuse(error, login)
            raise
        _known(found, login)
        _end_sessions(connection, login, keys=False)


def deactivate(owner: str, login: str) -> None:
    """For good: what the member filed stays, sessions and keys end. Raises: `MemberUnknownError`."""
    with as_owner(owner) as connection:
        _known(connection.execute("UPDATE system.members SET active = FALSE WHERE login = %s", [login]), login)
        _end_sessions(connection, login, keys=True)


def members(owner: str) -> list[dict[str, Any]]:
    """All of them, with how many keys each holds."""
    with as_owner(owner) as connection:
        return connection.execute(
            """SELECT m.login, m.name, m.role, m.active, m.password_hash IS NOT NULL AS has_password, m.created_by, m.created_at,
                      count(s.id) AS keys
                 FROM system.members m
                 LEFT JOIN system.desk_sessions s ON s.login = m.login AND s.kind = 'key' AND s.ended_at IS NULL
                GROUP BY m.login ORDER BY m.login"""
        ).fetchall()


def check_key_holder(owner: str, login: str, label: str) -> None:
    """What an operator asks for: a key for a person who decides is an operator's (label `ops`), or is not made.

    Raises: `MemberUnknownError`, `KeyIsForAgentsError`.
    """
    with as_owner(owner) as connection:
        found = connection.execute("SELECT role FROM system.members WHERE login = %s AND active", [login])
        _known(found, login)
        (member,) = found.fetchall()
    if member["role"] in {MemberRole.APPROVER, MemberRole.PREPARER} and label != OPERATOR:
        raise KeyIsForAgentsError(login=login, label=OPERATOR)


def make_key(owner: str, login: str, label: str) -> tuple[UUID, str]:
    """Id and secret of a new key. The secret is nowhere else: the database has its SHA-256. Raises: `MemberUnknownError`."""
    secret = f"ntro_{secrets.token_urlsafe(32)}"
    with as_owner(owner) as connection:
        _known(connection.execute("SELECT FROM system.members WHERE login = %s AND active", [login]), login)
        (made,) = connection.execute(
            "INSERT INTO system.desk_sessions (digest, login, kind, label) VALUES (%s, %s, 'key', %s) RETURNING id",
            [hashlib.sha256(secret.encode()).digest(), login, label],
        ).fetchall()
    return made["id"], secret


def keys(owner: str) -> list[dict[str, Any]]:
    """All of them, ended ones too."""
    with as_owner(owner) as connection:
        return connection.execute(
            "SELECT id, login, label, made_at, seen_at, ended_at FROM system.desk_sessions WHERE kind = 'key' ORDER BY made_at"
        ).fetchall()


def revoke_key(owner: str, key: UUID) -> None:
    """At once. Raises: `KeyUnknownError`."""
    with as_owner(owner) as connection:
        ended = connection.execute(
            "UPDATE system.desk_sessions SET ended_at = now() WHERE id = %s AND kind = 'key' AND ended_at IS NULL", [key]
        )
        if not ended.rowcount:
            raise KeyUnknownError(key=key)


def as_owner(url: str) -> psycopg.Connection[dict[str, Any]]:
    """A transaction of the owner's role, for a `with`; rows come as dicts."""
    return psycopg.connect(url, row_factory=dict_row)


def _end_sessions(connection: psycopg.Connection[dict[str, Any]], login: str, *, keys: bool) -> None:
    connection.execute(
        "UPDATE system.desk_sessions SET ended_at = now() WHERE login = %s AND ended_at IS NULL AND (%s OR kind <> 'key')",
        [login, keys],
    )


def _refuse(error: psycopg.errors.CheckViolation, login: str) -> None:
    """In our words where one of them is meant (migrations/013_members.sql), by the names that PostgreSQL gave its rules."""
    match error.diag.constraint_name:
        case "members_name_check":
            raise MemberNameInvalidError from None
        case "members_login_check" | "members_check":
            raise LoginInvalidError(login=login) from None
        case "members_check1":
            raise AgentHasNoPasswordError(login=login) from None


def _hashed(password: str) -> str:
    if len(password) < SHORTEST:
        raise PasswordTooShortError(shortest=SHORTEST)
    return hash_password(password)


def _known(cursor: psycopg.Cursor[dict[str, Any]], login: str) -> None:
    if not cursor.rowcount:
        raise MemberUnknownError(login=login)
