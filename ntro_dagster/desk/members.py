"""Members of a tenant and their keys, kept by its operator with the owner's credential."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from ntro_dagster.desk.passwords import SHORTEST, hash_password
from ntro_dagster.desk.roles import MemberRole
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

    Raises: `MemberExistsError`, `LoginInvalidError`, `PasswordTooShortError`.
    """
    hashed = None if password is None else _hashed(password)
    with _as_owner(owner) as connection:
        try:
            connection.execute(
                "INSERT INTO system.members (login, name, role, password_hash, created_by) VALUES (%s, %s, %s, %s, %s)",
                [login, name, role.value, hashed, by],
            )
        except psycopg.errors.UniqueViolation:
            raise MemberExistsError(login=login) from None
        except psycopg.errors.CheckViolation:
            raise LoginInvalidError(login=login) from None


def set_password(owner: str, login: str, password: str) -> None:
    """Also ends the log-ins of that member. Raises: `MemberUnknownError`, `PasswordTooShortError`."""
    with _as_owner(owner) as connection:
        _known(
            connection.execute("UPDATE system.members SET password_hash = %s WHERE login = %s", [_hashed(password), login]), login
        )
        _end_sessions(connection, login)


def deactivate(owner: str, login: str) -> None:
    """For good: what the member filed stays, sessions and keys end. Raises: `MemberUnknownError`."""
    with _as_owner(owner) as connection:
        _known(connection.execute("UPDATE system.members SET active = FALSE WHERE login = %s", [login]), login)
        _end_sessions(connection, login)


def members(owner: str) -> list[dict[str, Any]]:
    """All of them, with how many keys each holds."""
    with _as_owner(owner) as connection:
        return connection.execute(
            """SELECT m.login, m.name, m.role, m.active, m.password_hash IS NOT NULL AS has_password, m.created_by, m.created_at,
                      count(s.id) AS keys
                 FROM system.members m
                 LEFT JOIN system.desk_sessions s ON s.login = m.login AND s.kind = 'key' AND s.ended_at IS NULL
                GROUP BY m.login ORDER BY m.login"""
        ).fetchall()


def make_key(owner: str, login: str, label: str) -> tuple[UUID, str]:
    """Id and secret of a new key. The secret is nowhere else: the database has its SHA-256. Raises: `MemberUnknownError`."""
    secret = f"ntro_{secrets.token_urlsafe(32)}"
    with _as_owner(owner) as connection:
        _known(connection.execute("SELECT FROM system.members WHERE login = %s AND active", [login]), login)
        made = connection.execute(
            "INSERT INTO system.desk_sessions (digest, login, kind, label) VALUES (%s, %s, 'key', %s) RETURNING id",
            [hashlib.sha256(secret.encode()).digest(), login, label],
        ).fetchone()
    if made is None:
        raise MemberUnknownError(login=login)
    return made["id"], secret


def keys(owner: str) -> list[dict[str, Any]]:
    """All of them, ended ones too."""
    with _as_owner(owner) as connection:
        return connection.execute(
            "SELECT id, login, label, made_at, seen_at, ended_at FROM system.desk_sessions WHERE kind = 'key' ORDER BY made_at"
        ).fetchall()


def revoke_key(owner: str, key: UUID) -> None:
    """At once. Raises: `KeyUnknownError`."""
    with _as_owner(owner) as connection:
        ended = connection.execute(
            "UPDATE system.desk_sessions SET ended_at = now() WHERE id = %s AND kind = 'key' AND ended_at IS NULL", [key]
        )
        if not ended.rowcount:
            raise KeyUnknownError(key=key)


def _end_sessions(connection: psycopg.Connection[dict[str, Any]], login: str) -> None:
    connection.execute("UPDATE system.desk_sessions SET ended_at = now() WHERE login = %s AND ended_at IS NULL", [login])


def _hashed(password: str) -> str:
    if len(password) < SHORTEST:
        raise PasswordTooShortError(shortest=SHORTEST)
    return hash_password(password)


def _known(cursor: psycopg.Cursor[dict[str, Any]], login: str) -> None:
    if not cursor.rowcount:
        raise MemberUnknownError(login=login)


@contextmanager
def _as_owner(url: str) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        yield connection
