"""Who may enter which database, attacked with real credentials."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from ntro_dagster.platforms.postgres.roles import (
    AdminRightsError,
    BadKeyError,
    DatabaseCredentials,
    NameTakenError,
    PostgresUnreachableError,
    drop_former_logins,
    provision_database,
    provision_workspace,
)
from ntro_dagster.platforms.postgres.server import PostgresServer, postgres_url

ROLES = ("owner", "app", "desk", "auditor")
MakeDatabase = Callable[[], DatabaseCredentials]


@pytest.fixture(scope="module")
def acme(make_database: MakeDatabase) -> DatabaseCredentials:
    return make_database()


@pytest.fixture(scope="module")
def other(make_database: MakeDatabase) -> DatabaseCredentials:
    return make_database()


@pytest.fixture(scope="module")
def workspace(postgres_server: PostgresServer) -> str:
    """URL of the workspace's owner, with a table of Dagster's and one of the registry's in place."""
    url = provision_workspace(postgres_server.admin_dsn())
    with psycopg.connect(url) as owner:
        owner.execute("CREATE TABLE IF NOT EXISTS runs (id bigserial PRIMARY KEY, body text)")
        owner.execute("CREATE SCHEMA IF NOT EXISTS registry")
        owner.execute("CREATE TABLE IF NOT EXISTS registry.api_keys (hash text)")
    return url


@pytest.fixture
def bare_server(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """A server nobody has provisioned yet."""
    directory = Path(postgres_server.directory, "bare", tmp_path_factory.mktemp("bare").name)
    server = PostgresServer(directory)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def refused(dsn: str, **changes: str) -> str:
    """The SQL state with which a connection is refused."""
    settings = {name: str(value) for name, value in conninfo_to_dict(dsn).items()} | changes
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(postgres_url(settings)).close()
    text = str(caught.value)
    return "password" if "password authentication failed" in text else "connect" if "CONNECT priv" in text else text


def test_each_role_enters_its_own_database(acme: DatabaseCredentials) -> None:
    for role in ROLES:
        with psycopg.connect(getattr(acme, role)) as connection:
            row = connection.execute("SELECT current_user, current_database()").fetchone()
            assert row == (f"{acme.database}_{role}", acme.database)


@pytest.mark.parametrize("role", ROLES)
def test_wrong_password(acme: DatabaseCredentials, other: DatabaseCredentials, role: str) -> None:
    assert refused(getattr(acme, role), password="wrong") == "password"
    assert refused(getattr(acme, role), user=f"{other.database}_{role}", dbname=other.database) == "password"


@pytest.mark.parametrize("role", ROLES)
def test_no_other_database(acme: DatabaseCredentials, other: DatabaseCredentials, workspace: str, role: str) -> None:
    elsewhere = [other.database, "postgres", "template1", str(conninfo_to_dict(workspace)["dbname"])]
    assert [refused(getattr(acme, role), dbname=name) for name in elsewhere] == ["connect"] * 4


def test_the_workspace_role_enters_no_tenant(acme: DatabaseCredentials, workspace: str) -> None:
    assert refused(workspace, dbname=acme.database) == "connect"
    assert refused(workspace, dbname="postgres") == "connect"


@pytest.mark.parametrize(
    "attack",
    [
        "CREATE ROLE intruder LOGIN",
        "CREATE DATABASE intruder",
        "ALTER ROLE {mine} SUPERUSER",
        "ALTER ROLE {mine} CREATEROLE",
        "ALTER ROLE {mine} CONNECTION LIMIT 500",
        "ALTER ROLE {theirs} PASSWORD 'mine'",
        "GRANT {theirs} TO {mine}",
        "SET ROLE {theirs}",
        "SET ROLE {their_app}",
        "SET ROLE postgres",
        "SET ROLE ntro_workspace",
        "SET SESSION AUTHORIZATION {theirs}",
        "SET log_statement = 'all'",
        "COPY pg_class TO '/tmp/intruder'",
        "COPY pg_class TO PROGRAM 'cat'",
        "SELECT pg_read_file('postgresql.conf')",
        "SELECT rolpassword FROM pg_authid",
        "ALTER DATABASE {their_database} OWNER TO {mine}",
    ],
)
@pytest.mark.parametrize("role", ROLES)
def test_no_role_climbs(acme: DatabaseCredentials, other: DatabaseCredentials, workspace: str, role: str, attack: str) -> None:
    names = {"theirs": f"{other.database}_owner", "their_app": f"{other.database}_app"}
    names |= {"their_database": other.database, "mine": f"{acme.database}_{role}"}
    connection = psycopg.connect(getattr(acme, role), autocommit=True)
    with connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(attack.format(**names).encode())


def test_temporary_tables_are_for_the_app(acme: DatabaseCredentials) -> None:
    with psycopg.connect(acme.app) as connection:
        connection.execute("CREATE TEMPORARY TABLE t (x int)")
    for url in (acme.desk, acme.auditor):
        with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("CREATE TEMPORARY TABLE t (x int)")


def test_only_the_owner_makes_tables(acme: DatabaseCredentials) -> None:
    with psycopg.connect(acme.owner) as owner:
        owner.execute("CREATE TABLE public.made (x int)")
        owner.execute("CREATE SCHEMA made")
    for url in (acme.app, acme.desk, acme.auditor):
        for attempt in (b"CREATE TABLE public.mine (x int)", b"CREATE SCHEMA mine"):
            with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(attempt)


def test_a_grant_to_a_group_reaches_the_tenants_own_role(acme: DatabaseCredentials) -> None:
    with psycopg.connect(acme.owner) as owner:
        owner.execute("CREATE TABLE for_groups (x int)")
        owner.execute("GRANT SELECT ON for_groups TO ntro_app, ntro_desk")
    for url in (acme.app, acme.desk):
        with psycopg.connect(url) as connection:
            connection.execute("SELECT * FROM for_groups")
    with psycopg.connect(acme.auditor) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT * FROM for_groups")


def test_other_sessions_statements_are_hidden(acme: DatabaseCredentials, other: DatabaseCredentials) -> None:
    with psycopg.connect(other.app) as theirs, psycopg.connect(acme.owner) as mine:
        theirs.execute("SELECT 'their secret'")
        seen = mine.execute("SELECT query FROM pg_stat_activity WHERE datname = %s", [other.database]).fetchall()
        assert seen == [("<insufficient privilege>",)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            mine.execute("SELECT pg_terminate_backend(%s)", [theirs.info.backend_pid])


def test_connection_limits(acme: DatabaseCredentials) -> None:
    open_connections = [psycopg.connect(acme.owner) for _ in range(5)]
    try:
        assert "too many connections" in refused(acme.owner)
    finally:
        for connection in open_connections:
            connection.close()


def test_no_role_of_a_tenant_enters_the_workspace(acme: DatabaseCredentials, workspace: str) -> None:
    database = conninfo_to_dict(workspace)["dbname"]
    for role in ROLES:
        assert refused(getattr(acme, role), dbname=str(database)) == "connect"


def test_workspace_twice_keeps_tables(postgres_server: PostgresServer, workspace: str) -> None:
    renewed = provision_workspace(postgres_server.admin_dsn())
    assert refused(workspace) == "password"
    with psycopg.connect(renewed) as owner:
        owner.execute("SELECT * FROM registry.api_keys")
        owner.execute("SELECT * FROM runs")


def test_provisioning_again_rotates_passwords_and_keeps_data(
    postgres_server: PostgresServer, tenant_credentials: DatabaseCredentials
) -> None:
    first = tenant_credentials
    with psycopg.connect(first.owner) as owner:
        owner.execute("CREATE TABLE kept (x int)")
    second = provision_database(postgres_server.admin_dsn(), key=first.database)
    for role in ROLES:
        assert refused(getattr(first, role)) == "password"
        psycopg.connect(getattr(second, role)).close()
    with psycopg.connect(second.owner) as owner:
        owner.execute("SELECT * FROM kept")


def test_provisioning_again_shuts_out_who_was_let_in(
    postgres_server: PostgresServer, tenant_credentials: DatabaseCredentials, other: DatabaseCredentials
) -> None:
    mine = tenant_credentials
    with psycopg.connect(mine.owner) as owner:
        owner.execute(f"GRANT CONNECT ON DATABASE {mine.database} TO {other.database}_app, PUBLIC".encode())
    psycopg.connect(postgres_url({**_plain(other.app), "dbname": mine.database})).close()
    provision_database(postgres_server.admin_dsn(), key=mine.database)
    assert refused(other.app, dbname=mine.database) == "connect"


class Crash(BaseException):
    """The process dies."""


def test_a_crash_at_any_statement_leaves_no_gap_and_is_mended(
    postgres_server: PostgresServer, other: DatabaseCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, crashes = psycopg.Connection.execute, 0
    for last in range(1, 200):
        key, statements = f"t_crash_{last}", 0

        def execute(self: Any, query: Any, *args: Any, last: int = last, **options: Any) -> Any:
            nonlocal statements
            statements += 1
            if statements > last:
                raise Crash
            return real(self, query, *args, **options)

        with monkeypatch.context() as bent:
            bent.setattr(psycopg.Connection, "execute", execute)
            try:
                provision_database(postgres_server.admin_dsn(), key=key)
                break
            except Crash:
                crashes += 1
        with psycopg.connect(postgres_server.admin_dsn(), autocommit=True) as admin:
            half_made = admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [key]).fetchone()
            if half_made:
                assert refused(other.app, dbname=key)
            credentials = provision_database(postgres_server.admin_dsn(), key=key)
            for role in ROLES:
                psycopg.connect(getattr(credentials, role)).close()
            assert refused(other.app, dbname=key) == "connect"
            admin.execute(f"DROP DATABASE {key}".encode())
    assert crashes > 15


def test_logins_of_an_earlier_release_are_dropped(bare_server: PostgresServer) -> None:
    admin_dsn = bare_server.admin_dsn()
    workspace, tenant = provision_workspace(admin_dsn), provision_database(admin_dsn, key="t_a")
    with psycopg.connect(admin_dsn) as admin, psycopg.connect(workspace) as owner:
        admin.execute("CREATE ROLE ntro_instance NOLOGIN")
        for name in ("t_a_instance", "t_b_instance"):
            admin.execute(f"CREATE ROLE {name} LOGIN IN ROLE ntro_instance".encode())
        admin.execute("CREATE ROLE dba_instance LOGIN")
        admin.commit()
        owner.execute("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO ntro_instance")
        owner.execute("CREATE TABLE of_all (x int)")
    assert drop_former_logins(admin_dsn) == ["t_a_instance", "t_b_instance"]
    assert drop_former_logins(admin_dsn) == []
    with psycopg.connect(admin_dsn) as admin:
        assert admin.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE '%_instance' ORDER BY 1").fetchall() == [
            ("dba_instance",),
            ("ntro_instance",),
        ]
    psycopg.connect(tenant.app).close()


def test_many_at_once(postgres_server: PostgresServer) -> None:
    keys = ["t_same", "t_same", "t_p1", "t_p2"]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda key: provision_database(postgres_server.admin_dsn(), key=key), keys))
    for credentials in made[2:]:
        psycopg.connect(credentials.app).close()


def test_an_admin_without_superuser_provisions_everything(bare_server: PostgresServer) -> None:
    """A managed service's admin: CREATEDB and CREATEROLE, and `postgres` and `template1` are not its own."""
    with psycopg.connect(bare_server.admin_dsn()) as superuser:
        superuser.execute("CREATE ROLE boss LOGIN CREATEDB CREATEROLE PASSWORD 'secret'")
        superuser.execute("CREATE ROLE clerk LOGIN PASSWORD 'secret'")
    boss = bare_server.dsn("postgres", "boss", "secret")
    for _ in range(2):
        workspace = provision_workspace(boss)
        ours, theirs = (provision_database(boss, key=key) for key in ("t_a", "t_b"))
    assert refused(theirs.app, dbname="t_a") == "connect"
    assert refused(ours.owner, dbname="ntro_workspace") == "connect"
    psycopg.connect(workspace).close()
    with pytest.raises(AdminRightsError) as caught:
        provision_database(bare_server.dsn("postgres", "clerk", "secret"), key="t_c")
    assert "clerk" in caught.value.advice()


def test_the_server_never_sees_a_password(bare_server: PostgresServer) -> None:
    with psycopg.connect(bare_server.admin_dsn(), autocommit=True) as admin:
        admin.execute("ALTER SYSTEM SET log_statement = 'all'")
        admin.execute("ALTER SYSTEM SET log_min_messages = 'info'")
        admin.execute("SELECT pg_reload_conf()")
    credentials = provision_database(bare_server.admin_dsn(), key="t_a")
    log = bare_server.log.read_text()
    assert 'CREATE ROLE "t_a_app"' in log
    for role in ROLES:
        assert str(conninfo_to_dict(getattr(credentials, role))["password"]) not in log


def test_credentials_do_not_show_passwords(acme: DatabaseCredentials) -> None:
    assert repr(acme) == str(acme) == f"DatabaseCredentials(database='{acme.database}')"


@pytest.mark.parametrize("key", ["", "T_1", "1a", "acme fund", "pg_x", "ntro", "ntro_x", "postgres", "a" * 41, 'a"b', "a\n"])
def test_bad_keys(postgres_server: PostgresServer, key: str) -> None:
    with pytest.raises(BadKeyError):
        provision_database(postgres_server.admin_dsn(), key=key)


def test_names_of_others_are_left_alone(postgres_server: PostgresServer) -> None:
    with psycopg.connect(postgres_server.admin_dsn(), autocommit=True) as admin:
        admin.execute("CREATE ROLE t_dba_app SUPERUSER")
        admin.execute("CREATE DATABASE t_foreign")
    for key in ("t_dba", "t_foreign"):
        with pytest.raises(NameTakenError):
            provision_database(postgres_server.admin_dsn(), key=key)


def test_no_server(postgres_server: PostgresServer) -> None:
    with pytest.raises(PostgresUnreachableError) as caught:
        provision_database(postgres_server.admin_dsn().replace(str(postgres_server.port), "1"), key="t_a")
    assert ":1" in caught.value.explain()
    wrong = postgres_server.dsn("postgres", "postgres", "wrong")
    with pytest.raises(PostgresUnreachableError):
        provision_database(wrong, key="t_a")


def _plain(dsn: str) -> dict[str, str]:
    return {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
