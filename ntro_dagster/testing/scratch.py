"""Throw-away tenant databases: a PostgreSQL of the user's own, kept between calls, that cares for nothing after a crash.

    <cache>/ntro/scratch-<version>/
      data/, superuser.password      the cluster (`platforms.postgres`)
      template.json                  0600: the database that others are copied from, its roles' URLs, of which code it is
      in-use                         locked shared by whoever uses the server; the last one out stops it

The first call on a machine makes the cluster, the first call of a release the template; every other copies it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

import ntro_dagster
from ntro_dagster.bundles import platform_bundle
from ntro_dagster.gl.chart import install_chart
from ntro_dagster.platforms.postgres.binaries import find_binaries
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials, provision_database
from ntro_dagster.platforms.postgres.server import PostgresServer, postgres_url
from ntro_dagster.tenant.deployment import bring_up_to_date

TENANT = "rehearsal"
"""Slug of the tenant that a throw-away database is of."""

LONGEST_STATEMENT_MS = 60_000
_CARELESS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "shared_buffers": "64MB"}


class ScratchServer(PostgresServer):
    """A server that never waits for the disk."""

    def foreground_command(self) -> list[str]:
        careless = [part for name, value in _CARELESS.items() for part in ("-c", f"{name}={value}")]
        return [*super().foreground_command(), *careless]


def scratch_directory() -> Path:
    """Where the user's throw-away databases are: $NTRO_SCRATCH, else a folder of the user's cache."""
    if chosen := os.environ.get("NTRO_SCRATCH"):
        return Path(chosen)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "ntro" / f"scratch-{find_binaries().major}"


@contextmanager
def scratch_database(directory: Path | None = None) -> Iterator[DatabaseCredentials]:
    """A tenant's database with the platform's tables and chart of accounts, gone afterwards.

    Raises: what starting PostgreSQL raises.
    """
    directory = directory or scratch_directory()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (directory / "in-use").open("w") as in_use:
        fcntl.flock(in_use, fcntl.LOCK_SH)
        server = ScratchServer(directory)
        try:
            server.start()
            template = _template(server, directory)
            copy = _copy(server, template)
            try:
                yield copy
            finally:
                _drop(server, copy.database)
        finally:
            if _last_one(in_use):
                server.stop()


def _last_one(in_use: IO[str]) -> bool:
    try:
        fcntl.flock(in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _template(server: ScratchServer, directory: Path) -> DatabaseCredentials:
    """The database to copy, made anew where the code that made it is not today's."""
    kept = directory / "template.json"
    code = _code_at_hand()
    with (directory / "template.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(kept.read_text())
            if known.pop("code") == code:
                return DatabaseCredentials(**known)
        made = provision_database(server.admin_dsn(), key=f"t_{code[:12]}")
        bring_up_to_date(made.owner, platform_bundle())
        _introduce(made.owner)
        # Written last: where it is, the template is whole.
        partial = kept.with_suffix(".new")
        partial.touch(mode=0o600)
        partial.write_text(json.dumps({"code": code, **asdict(made)}))
        partial.replace(kept)
        _drop_others(server, made.database)
        return made


def _introduce(owner: str) -> None:
    """The tenant's name and its chart of accounts."""
    with psycopg.connect(owner) as connection:
        connection.execute(
            "INSERT INTO system.tenant (id, slug, name) VALUES (%s, %s, 'Rehearsal') ON CONFLICT (id) DO NOTHING",
            [uuid.uuid5(uuid.NAMESPACE_OID, TENANT), TENANT],
        )
        install_chart(connection)


def _copy(server: ScratchServer, template: DatabaseCredentials) -> DatabaseCredentials:
    """A copy of the template under a name of its own, for the template's roles."""
    name = f"{template.database}_{secrets.token_hex(6)}"
    owner, *members = (
        str(conninfo_to_dict(url)["user"]) for url in (template.owner, template.app, template.desk, template.auditor)
    )
    with psycopg.connect(server.admin_dsn(), autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY file_copy").format(
                *map(sql.Identifier, (name, template.database, owner))
            )
        )
        admin.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))
        for member in members:
            admin.execute(
                sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(sql.Identifier(name), sql.Identifier(member))
            )
        admin.execute(
            sql.SQL("ALTER DATABASE {} SET statement_timeout = {}").format(
                sql.Identifier(name), sql.Literal(LONGEST_STATEMENT_MS)
            )
        )
    urls = {role: _elsewhere(getattr(template, role), name) for role in ("owner", "app", "desk", "auditor")}
    return replace(template, database=name, **urls)


def _elsewhere(url: str, database: str) -> str:
    settings = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    return postgres_url(settings | {"dbname": database})


def _drop(server: ScratchServer, name: str) -> None:
    with suppress(psycopg.OperationalError), psycopg.connect(server.admin_dsn(), autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _drop_others(server: ScratchServer, template: str) -> None:
    """Templates of earlier releases, and what calls that were killed left behind; not what others are just using."""
    with psycopg.connect(server.admin_dsn(), autocommit=True) as admin:
        found = admin.execute(
            "SELECT datname FROM pg_database WHERE datname LIKE 't\\_%%' AND datname NOT LIKE %s "
            "AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datname = pg_database.datname)",
            [f"{template}%"],
        ).fetchall()
        for (name,) in found:
            with suppress(psycopg.Error):
                admin.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))


def _code_at_hand() -> str:
    """Digest of all that makes a template what it is: migrations, and the code that applies and attaches."""
    package, platform = Path(ntro_dagster.__file__).parent, platform_bundle().root
    folders = [
        platform / "migrations",
        platform / "subledgers",
        *(package / part for part in ("subledger", "platforms", "tenant", "gl")),
    ]
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix in {".py", ".sql", ".csv"}:
                digest.update(f"{folder.name}/{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()
