"""Databases and login roles on any PostgreSQL >= 15 that an admin's URL reaches, embedded or the customer's own.

The wall between tenants is the right to CONNECT: each database has its own login roles, and nobody else may enter. The
cluster-wide group roles, to which migrations grant, therefore hold power only inside a database one may enter.

An admin needs CREATEDB and CREATEROLE, not more. Passwords leave this process only as SCRAM verifiers, so no server log
can hold one. Every function may be repeated, also after a crash: it completes what is missing and rotates passwords.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from ntro_dagster.errors import NtroError, TransientError, UsageError
from ntro_dagster.platforms.postgres.server import DiskFullError, postgres_url

WORKSPACE = "ntro_workspace"
TENANT_GROUPS = ("ntro_app", "ntro_desk", "ntro_auditor")
SHARED_DATABASES = ("postgres", "template1")
CONNECTION_LIMITS = {"owner": 5, "app": 60, "desk": 20, "auditor": 10}
WORKSPACE_CONNECTION_LIMIT = 60
BUILTIN_LOCALE_VERSION = 170_000
SCRAM_ITERATIONS_VERSION = 160_000
PROVISIONING_LOCK = 0x6E74726F  # "ntro"

Admin = psycopg.Connection[tuple[object, ...]]
logger = logging.getLogger(__name__)


class PostgresUnreachableError(TransientError):
    """The server does not take our connection. Values: `host`, `port`, `reason`."""

    code = "POSTGRES_UNREACHABLE"
    summary = "no connection to PostgreSQL"
    detail = "no connection to PostgreSQL at {host}:{port}: {reason}"
    mend = "Check that the server runs, that this machine may reach {host}:{port}, and the role and password in the URL."


class AdminRightsError(NtroError):
    """The admin's role is not allowed to provision. Values: `role`, `reason`."""

    code = "ADMIN_RIGHTS_MISSING"
    summary = "the admin role may not create databases and roles"
    detail = "role {role} may not provision: {reason}"
    mend = "As a superuser: ALTER ROLE {role} CREATEDB CREATEROLE; then run the command again."


class NameTakenError(UsageError):
    """A role or database goes by our name and is not ours. Values: `name`, `reason`."""

    code = "DATABASE_NAME_TAKEN"
    summary = "a role or database of that name exists and was not made by ntro"
    detail = "{name} exists and was not made by ntro: {reason}"
    mend = "Rename or drop {name} on that server, or use another server."


class BadKeyError(UsageError):
    """A key that cannot name a database. Values: `key`."""

    code = "BAD_DATABASE_KEY"
    summary = "not a database key"
    detail = "{key!r} is not a database key"
    mend = "Use an opaque key such as t_1a2b3c4d: a letter, then up to 39 of a-z, 0-9 and _; not pg_... or ntro..."


@dataclass(frozen=True)
class DatabaseCredentials:
    """A tenant's database and one libpq URL, password included, for each of its login roles. `repr` hides the URLs."""

    database: str
    owner: str = field(repr=False)
    app: str = field(repr=False)
    desk: str = field(repr=False)
    auditor: str = field(repr=False)


def provision_database(admin_dsn: str, *, key: str) -> DatabaseCredentials:
    """A tenant's database `key`, with the login roles `<key>_owner`, `_app`, `_desk` and `_auditor`.

    Args:
        admin_dsn: libpq URL or connection string of the admin.
        key: opaque, since every tenant's role can list the names of databases and roles.

    Raises:
        BadKeyError, NameTakenError, PostgresUnreachableError, AdminRightsError, DiskFullError.
    """
    _check_key(key)
    with _administration(admin_dsn) as admin:
        for group in TENANT_GROUPS:
            _ensure_group(admin, group)
        urls = {}
        for name, limit in CONNECTION_LIMITS.items():
            member_of = f"ntro_{name}" if name != "owner" else None
            password = _ensure_login(admin, f"{key}_{name}", limit=limit, group=member_of)
            urls[name] = _url(admin_dsn, database=key, role=f"{key}_{name}", password=password)
        members = [f"{key}_{name}" for name in CONNECTION_LIMITS if name != "owner"]
        _ensure_database(admin, key, owner=f"{key}_owner", members=members, temporary=[f"{key}_app"])
        _as_owner(urls["owner"], "REVOKE CREATE ON SCHEMA public FROM PUBLIC")  # before the next gives it another password
    return DatabaseCredentials(database=key, **urls)


def provision_workspace(admin_dsn: str) -> str:
    """The workspace's database: Dagster's tables in schema `public`, the registry in `registry`, the relay's in `relay`.

    No role of a tenant gets at any of it.

    Returns:
        URL of its owner, role `ntro_workspace`.

    Raises:
        NameTakenError, PostgresUnreachableError, AdminRightsError, DiskFullError.
    """
    with _administration(admin_dsn) as admin:
        password = _ensure_login(admin, WORKSPACE, limit=WORKSPACE_CONNECTION_LIMIT)
        _ensure_database(admin, WORKSPACE, owner=WORKSPACE, members=[])
        url = _url(admin_dsn, database=WORKSPACE, role=WORKSPACE, password=password)
        _as_owner(url, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    return url


def drop_former_logins(admin_dsn: str) -> list[str]:
    """The logins with which an earlier release let tenants' processes into the workspace's database; nothing uses them any more.

    Returns: their names.

    Raises:
        PostgresUnreachableError, AdminRightsError.
    """
    with _administration(admin_dsn) as admin:
        found = admin.execute(
            """SELECT login.rolname FROM pg_auth_members m JOIN pg_roles login ON login.oid = m.member
                 JOIN pg_roles former ON former.oid = m.roleid AND former.rolname = 'ntro_instance'
                WHERE login.rolcanlogin AND login.rolname LIKE '%\\_instance' ORDER BY 1"""
        ).fetchall()
        for (name,) in found:
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(str(name))))
    return [str(name) for (name,) in found]


def _check_key(key: str) -> None:
    if not re.fullmatch(r"(?!pg_|ntro)[a-z][a-z0-9_]{0,39}", key) or key in SHARED_DATABASES:
        raise BadKeyError(key=key)


def _url(admin_dsn: str, *, database: str, role: str, password: str) -> str:
    """The admin's URL with all its options (hosts, TLS), for another role. Its own secrets stay behind."""
    settings = {name: str(value) for name, value in conninfo_to_dict(admin_dsn).items()}
    for secret in ("passfile", "sslkey", "sslcert", "sslpassword"):
        settings.pop(secret, None)
    return postgres_url(settings | {"dbname": database, "user": role, "password": password})


@contextmanager
def _errors(dsn: str) -> Iterator[None]:
    """Our errors for psycopg's, which quote host, role and statement."""
    target = conninfo_to_dict(dsn)
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise AdminRightsError(role=target.get("user"), reason=error.diag.message_primary) from None
    except psycopg.errors.DiskFull:
        raise DiskFullError(directory=f"{target.get('host')}:{target.get('port')}") from None
    except psycopg.OperationalError as error:
        raise PostgresUnreachableError(host=target.get("host"), port=target.get("port"), reason=str(error)) from None


@contextmanager
def _administration(admin_dsn: str) -> Iterator[Admin]:
    """An admin's connection, one provisioning at a time, with the shared databases shut."""
    with _errors(admin_dsn), psycopg.connect(admin_dsn, autocommit=True) as admin:
        admin.execute("SET lock_timeout = '60s'")
        admin.execute("SELECT pg_advisory_lock(%s)", [PROVISIONING_LOCK])
        _shut_shared_databases(admin)
        yield admin


def _as_owner(url: str, *statements: str) -> None:
    """Run `statements` as the new database's owner; which also proves that its password works."""
    with _errors(url), psycopg.connect(url) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def _shut_shared_databases(admin: Admin) -> None:
    still_open = "SELECT datname FROM pg_database WHERE datname = ANY(%s) AND has_database_privilege('public', oid, 'CONNECT')"
    for (name,) in admin.execute(still_open, [list(SHARED_DATABASES)]).fetchall():
        admin.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(sql.Identifier(str(name))))
    if admin.execute(still_open, [list(SHARED_DATABASES)]).fetchone():
        # A managed service may keep these for itself. They hold nothing of ours, so this is no reason to stop.
        logger.warning("the admin role may not close `postgres` or `template1` to other roles; both hold no client data")


def _exists(admin: Admin, catalog: str, column: str, name: str) -> bool:
    query = sql.SQL("SELECT 1 FROM {} WHERE {} = %s").format(sql.Identifier(catalog), sql.Identifier(column))
    return admin.execute(query, [name]).fetchone() is not None


def _ensure_group(admin: Admin, group: str) -> None:
    if not _exists(admin, "pg_roles", "rolname", group):
        admin.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(group)))


def _ensure_login(admin: Admin, role: str, *, limit: int, group: str | None = None) -> str:
    """Create `role`, or give it a new password; returns the password.

    Not NOINHERIT: on 15 an owner without inheritance cannot create anything in schema public.
    """
    password = secrets.token_urlsafe(32)
    if admin.info.server_version >= SCRAM_ITERATIONS_VERSION:
        # They make guessing slow, which a password of 256 random bits does not need, and each connection 3 ms slower.
        admin.execute("SET scram_iterations = 1")
    verifier = admin.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    known = admin.execute(
        "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls FROM pg_roles WHERE rolname = %s",
        [role],
    ).fetchone()
    if known and known[0]:
        raise NameTakenError(name=role, reason="it has rights that ntro gives to no role")
    # ALTER cannot name SUPERUSER and its like, even to deny them, unless the admin is a superuser.
    verb, rights = ("ALTER", "") if known else ("CREATE", "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS")
    with admin.transaction():
        admin.execute(
            sql.SQL("{} ROLE {} LOGIN {} CONNECTION LIMIT {} PASSWORD {}").format(
                sql.SQL(verb), sql.Identifier(role), sql.SQL(rights), limit, verifier
            )
        )
        if group:
            admin.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), sql.Identifier(role)))
    return password


def _ensure_database(admin: Admin, name: str, *, owner: str, members: Collection[str], temporary: Collection[str] = ()) -> None:
    """Database `name`: `owner` and `members` may connect, `temporary` may also create temporary tables, nobody else."""
    database = sql.Identifier(name)
    (superuser,) = admin.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() or (False,)
    if not superuser:  # only a member of a role can give a database to it
        admin.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(owner)))
    found = admin.execute("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s", [name]).fetchone()
    if found is None:
        locale = "LOCALE 'C'"
        if admin.info.server_version >= BUILTIN_LOCALE_VERSION:
            locale += " LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"
        admin.execute(
            # Shut until PUBLIC is out: who slips in keeps the session, and would get at what migrations grant later.
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8' {} ALLOW_CONNECTIONS false").format(
                database, sql.Identifier(owner), sql.SQL(locale)
            )
        )
    elif found[0] != owner:
        raise NameTakenError(name=name, reason="another role owns it")
    strangers = admin.execute(
        "SELECT DISTINCT pg_get_userbyid(entry.grantee) FROM pg_database, aclexplode(datacl) AS entry"
        " WHERE datname = %s AND entry.grantee <> 0 AND pg_get_userbyid(entry.grantee) <> ALL(%s)",
        [name, [owner, *members]],
    ).fetchall()
    with admin.transaction():
        admin.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
        for (stranger,) in strangers:
            admin.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM {}").format(database, sql.Identifier(str(stranger))))
        for role in members:
            admin.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, sql.Identifier(role)))
        for role in temporary:
            admin.execute(sql.SQL("GRANT TEMPORARY ON DATABASE {} TO {}").format(database, sql.Identifier(role)))
    admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(database))
