"""Processes of a home for the tests, without an installation's provisioning."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from ntro_dagster.host.home import Home
from ntro_dagster.host.launch import write_environment
from ntro_dagster.host.supervision import ProcessSpec

if TYPE_CHECKING:
    from ntro_dagster.platforms.postgres.server import PostgresServer

POSTGRES = "postgres"
WEBSERVER = "webserver"
DAEMON = "daemon"
RELAY = "relay"
DATABASE_FIRST = 100  # started before, and stopped after, everything else (500)

PYTHON = [sys.executable, "-P", "-m"]


def tenant_process_name(slug: str) -> str:
    return f"tenant-{slug}"


def postgres_process(home: Home, server: PostgresServer) -> ProcessSpec:
    """The embedded cluster, which must be initialised."""
    environment = home.process_env(POSTGRES)
    write_environment(environment, {})
    user = server.run_as()
    return ProcessSpec(
        name=POSTGRES,
        argv=server.foreground_command(),
        environment=environment,
        log=home.logs / "postgres.log",
        order=DATABASE_FIRST,
        start_seconds=1,
        stop_signal=signal.SIGINT.name.removeprefix("SIG"),  # "fast": ends sessions, writes a checkpoint
        stop_seconds=60,
        user=user.pw_name if user else None,
    )


def webserver_process(home: Home, instance_url: str) -> ProcessSpec:
    """Dagster's webserver, on 127.0.0.1 and the port in home.json; it has no logins of its own."""
    port = str(home.describe().webserver_port)
    argv = [*PYTHON, "dagster_webserver", "-h", "127.0.0.1", "-p", port, "-w", str(home.workspace_file)]
    return _dagster_process(home, WEBSERVER, argv, instance_url)


def daemon_process(home: Home, instance_url: str) -> ProcessSpec:
    """Dagster's daemon: queue, sensors, schedules, run monitoring."""
    return _dagster_process(home, DAEMON, [*PYTHON, "dagster._daemon", "run", "-w", str(home.workspace_file)], instance_url)


def relay_process(home: Home, instance_url: str) -> ProcessSpec:
    """Between the code servers and Dagster's storage; serves the tenants of the registry."""
    environment = home.process_env(RELAY)
    write_environment(environment, _workspace(home, instance_url) | {"NTRO_RELAY_SOCKETS": str(home.sockets)})
    argv = [*PYTHON, "ntro_dagster.workspace.relay"]
    return ProcessSpec(
        name=RELAY, argv=argv, environment=environment, log=home.logs / "relay.log", order=DATABASE_FIRST, start_seconds=1
    )


def _workspace(home: Home, instance_url: str) -> dict[str, str]:
    return {
        "DAGSTER_HOME": str(home.dagster),
        "NTRO_PLANE": "workspace",
        "NTRO_INSTANCE_URL": instance_url,
        "NTRO_SURVEYS": str(home.surveys),
    }


def _dagster_process(home: Home, name: str, argv: list[str], instance_url: str) -> ProcessSpec:
    environment = home.process_env(name)
    write_environment(environment, _workspace(home, instance_url))
    return ProcessSpec(name=name, argv=argv, environment=environment, log=home.logs / f"{name}.log")


def code_server_process(home: Home, slug: str, environment: dict[str, str]) -> ProcessSpec:
    """A tenant's code server.

    Args:
        home: the installation.
        slug: of the tenant.
        environment: what else the tenant's code needs: its credentials, its settings. Nothing is inherited.
    """
    tenant = home.tenant(slug)
    tenant.create()
    write_environment(tenant.process_env, tenant.places | environment)
    return ProcessSpec(
        name=tenant_process_name(slug),
        # no -P: Dagster takes sys.path[0] for the script's directory and removes it before it loads definitions
        argv=[sys.executable, "-m", "ntro_dagster.tenant.code_server"],
        environment=tenant.process_env,
        log=tenant.logs / "code_server.log",
    )
