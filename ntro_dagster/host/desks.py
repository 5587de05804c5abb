"""Desks as processes of a home: their environment, their port, their address."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import psutil

from ntro_dagster.boundary.names import ACTIVE
from ntro_dagster.boundary.tenant_logs import LOGS
from ntro_dagster.desk.settings import DATABASE_URL, DOCUMENTS, PORT, TENANT, UPLOADS, host_name
from ntro_dagster.host.home import Role, TenantHome
from ntro_dagster.host.launch import read_environment, write_environment
from ntro_dagster.host.ports import free_port, is_free
from ntro_dagster.host.supervision import ProcessSpec, ProcessStatus, Supervisor

ORDER = 600
FIRST_PORT = int(os.environ.get("NTRO_FIRST_DESK_PORT", "8600"))
"""Where the search for free ports begins: two homes that start at one moment could find the same."""


def furnish_desk(tenant: TenantHome, *, running: bool) -> None:
    """Write the desk's environment. It keeps its port, unless another program has taken it while the desk was down."""
    port = _port(tenant)
    if port is None or not (running or is_free(port)):
        others = (tenant.home.tenant(path.name) for path in (tenant.home.root / "tenants").iterdir())
        port = free_port(FIRST_PORT, [_port(other) for other in others])
    wanted = {
        TENANT: tenant.slug,
        DATABASE_URL: tenant.credential(Role.DESK).read_text().strip(),
        DOCUMENTS: str(tenant.documents),
        UPLOADS: str(tenant.uploads),
        PORT: str(port),
        ACTIVE: str(tenant.active),
        LOGS: str(tenant.logs),
    }
    write_environment(tenant.desk_env, wanted)


def _port(tenant: TenantHome) -> int | None:
    return int(read_environment(tenant.desk_env)[PORT]) if tenant.desk_env.exists() else None


def desk_address(tenant: TenantHome) -> str:
    return f"http://{host_name(tenant.slug)}:{_port(tenant)}"


def silent_desks(tenants: Sequence[TenantHome], processes: Sequence[ProcessStatus]) -> list[TenantHome]:
    """Those on whose port it is not the tenant's own desk that listens."""
    pids = {process.name: process.pid for process in processes}
    return [tenant for tenant in tenants if _port(tenant) not in _listening(pids.get(desk_name(tenant.slug)))]


def give_way(tenants: Sequence[TenantHome], processes: Sequence[ProcessStatus], supervisor: Supervisor) -> None:
    """Another port for each desk that found its own taken when it came to bind it.

    Between a look at a port and its use lie seconds.
    """
    exited = {process.name for process in processes if process.last_exit}
    for tenant in tenants:
        port = _port(tenant)
        if desk_name(tenant.slug) in exited and port and not is_free(port):
            furnish_desk(tenant, running=False)
            supervisor.restart(desk_name(tenant.slug))


def _listening(pid: int | None) -> set[int]:
    """Ports."""
    if not pid:
        return set()
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return set()
    return {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}


def desk_name(slug: str) -> str:
    return f"desk-{slug}"


def desk_process(tenant: TenantHome) -> ProcessSpec:
    return ProcessSpec(
        name=desk_name(tenant.slug),
        argv=[sys.executable, "-P", "-m", "ntro_dagster.desk.server"],
        environment=tenant.desk_env,
        log=tenant.output / "desk.log",
        order=ORDER,
        start_seconds=2,
        uid=tenant.user,
    )
