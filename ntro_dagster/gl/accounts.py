"""Changes of the chart, by a tenant's operator with the owner's credential. The database logs each and refuses unsound ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.rows import dict_row

from ntro_dagster.errors import NotFoundError, UsageError
from ntro_dagster.gl.chart import AccountRole
from ntro_dagster.gl.imports.accounts import NewAccount
from ntro_dagster.platforms.postgres.database import translate


class AccountNotFoundError(NotFoundError):
    """Values: `account`."""

    code = "ACCOUNT_NOT_FOUND"
    summary = "the chart has no such account"
    detail = "the chart has no account {account}"
    mend = "`ntro account list` shows those there are"


class AccountExistsError(UsageError):
    """Values: `account`."""

    code = "ACCOUNT_EXISTS"
    summary = "the chart has an account of that code"
    detail = "the chart has an account {account} already"
    mend = "`ntro account list` shows it; nothing was changed"


class RoleTakenError(UsageError):
    """Values: `role`, `account`."""

    code = "ACCOUNT_ROLE_TAKEN"
    summary = "another account has that role"
    detail = "the role {role} is another account's than {account}"
    mend = "take it away there first: `ntro account role CODE none`; only BANK may be had by several"


@contextmanager
def chart_of(owner: str, by: str) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    """One transaction over the chart. Args: `owner`: URL of the owner's role; `by`: who asks for the change.

    Raises: `RefusedByDatabaseError`.
    """
    try:
        with psycopg.connect(owner, row_factory=dict_row) as connection:
            connection.execute("SELECT set_config('ntro.actor', %s, TRUE)", [by])
            yield connection
    except psycopg.Error as error:
        raise translate(error) or error from None


def add_accounts(owner: str, accounts: Iterable[NewAccount], *, by: str) -> int:
    """All of them or none, parents before children; those that are there stay as they are. Returns how many are new."""
    with chart_of(owner, by) as connection:
        made = 0
        for account in accounts:
            made += connection.execute(
                "INSERT INTO ledgers.accounts (code, name, type, parent) VALUES (%s, %s, %s, %s) ON CONFLICT (code) DO NOTHING",
                [account.code, account.name, account.type, account.parent],
            ).rowcount
        return made


def add_account(owner: str, code: str, *, name: str, kind: str, parent: str | None, role: AccountRole | None, by: str) -> None:
    """Raises: `AccountExistsError`, `AccountNotFoundError` (the parent), `RoleTakenError`, `RefusedByDatabaseError`."""
    with chart_of(owner, by) as connection, _told(code, parent=parent, role=role):
        connection.execute(
            "INSERT INTO ledgers.accounts (code, name, type, parent, role) VALUES (%s, %s, %s, %s, %s)",
            [code, name, kind, parent, role],
        )


def set_active(owner: str, code: str, active: bool, *, by: str) -> None:
    """Raises: `AccountNotFoundError`."""
    _change(owner, code, "active = %s", active, by=by)


def set_role(owner: str, code: str, role: AccountRole | None, *, by: str) -> None:
    """Raises: `AccountNotFoundError`, `RoleTakenError`."""
    with _told(code, role=role):
        _change(owner, code, "role = %s", role, by=by)


def set_parent(owner: str, code: str, parent: str | None, *, by: str) -> None:
    """Raises: `AccountNotFoundError`, also for the parent; `RefusedByDatabaseError`."""
    with _told(code, parent=parent):
        _change(owner, code, "parent = %s", parent, by=by)


def chart(owner: str) -> Sequence[dict[str, Any]]:
    with chart_of(owner, "") as connection:
        return connection.execute("SELECT code, name, type, parent, role, active FROM ledgers.accounts ORDER BY code").fetchall()


def changes(owner: str, code: str | None) -> Sequence[dict[str, Any]]:
    """What was changed of an account, or of all, the first change first."""
    with chart_of(owner, "") as connection:
        return connection.execute(
            "SELECT code, before, after, actor, at FROM ledgers.account_changes "
            "WHERE %(code)s::text IS NULL OR code = %(code)s ORDER BY id",
            {"code": code},
        ).fetchall()


def _change(owner: str, code: str, what: str, value: Any, *, by: str) -> None:
    with chart_of(owner, by) as connection:
        if not connection.execute(f"UPDATE ledgers.accounts SET {what} WHERE code = %s", [value, code]).rowcount:
            raise AccountNotFoundError(account=code)


@contextmanager
def _told(code: str, *, parent: str | None = None, role: AccountRole | None = None) -> Iterator[None]:
    """The driver's errors in our words."""
    try:
        yield
    except psycopg.errors.ForeignKeyViolation:
        raise AccountNotFoundError(account=parent) from None
    except psycopg.errors.UniqueViolation as error:
        if error.diag.constraint_name == "accounts_role_idx":
            raise RoleTakenError(role=role, account=code) from None
        raise AccountExistsError(account=code) from None


def add_dimension(owner: str, name: str, title: str) -> None:
    """Declared once; again with another title, it takes that."""
    with chart_of(owner, "") as connection:
        connection.execute(
            "INSERT INTO ledgers.dimensions AS d (name, title) VALUES (%s, %s) "
            "ON CONFLICT (name) DO UPDATE SET title = EXCLUDED.title",
            [name, title],
        )


def dimensions(owner: str) -> Sequence[dict[str, Any]]:
    with chart_of(owner, "") as connection:
        return connection.execute("SELECT name, title FROM ledgers.dimensions ORDER BY name").fetchall()
