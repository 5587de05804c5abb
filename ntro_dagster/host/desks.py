"""Desks as processes of a home: their environment, their port, their address."""

from __future__ import annotations

import os
import sys

from ntro_dagster.boundary.tenant_logs import LOGS
from ntro_dagster.bundles.active import ACTIVE
from ntro_dagster.desk.settings import DATABASE_URL, DOCUMENTS, PORT, TENANT, UPLOADS, host_name
from ntro_dagster.host.home import Role, TenantHome
from ntro_dagster.host.launch import read_environment, write_environment
from ntro_dagster.host.ports import answers, free_port, is_free
from ntro_dagster.host.supervision import ProcessSpec

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


def desk_answers(tenant: TenantHome) -> bool:
    port = _port(tenant)
    return port is not None and answers(port)


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
