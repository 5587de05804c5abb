"""What a desk is told by its environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from ntro_dagster.boundary.tenant_logs import LOGS
from ntro_dagster.errors import UsageError

TENANT, DATABASE_URL, DOCUMENTS, PORT = "NTRO_TENANT", "NTRO_DESK_DATABASE_URL", "NTRO_DOCUMENTS", "NTRO_DESK_PORT"
UPLOADS = "NTRO_UPLOADS"


class DeskEnvironmentError(UsageError):
    """Values: `name`."""

    code = "DESK_ENVIRONMENT"
    summary = "the desk's environment is incomplete"
    detail = "{name} is not set"
    mend = "start desks with `ntro up`, which gives them their environment"


def host_name(tenant: str) -> str:
    """Of a tenant's desk on this machine. A name of its own, because cookies do not know ports."""
    return f"{tenant.replace('_', '-')}.localhost"


@dataclass(frozen=True, slots=True)
class Settings:
    """Attributes:
    database: URL of the desk's role.
    hosts: what a request may call us, without the port.
    logs: where runs print; None: nowhere that is known.
    uploads: where documents go that come in at the desk; None: beside the others.
    """

    tenant: str
    database: str = field(repr=False)
    documents: Path
    port: int
    hosts: tuple[str, ...]
    logs: Path | None = None
    uploads: Path | None = None

    @classmethod
    def from_environment(cls) -> Settings:
        """Raises: `DeskEnvironmentError`."""
        for name in (TENANT, DATABASE_URL, DOCUMENTS, PORT):
            if not os.environ.get(name):
                raise DeskEnvironmentError(name=name)
        tenant = os.environ[TENANT]
        return cls(
            tenant,
            os.environ[DATABASE_URL],
            Path(os.environ[DOCUMENTS]),
            int(os.environ[PORT]),
            (host_name(tenant),),
            Path(os.environ[LOGS]) if LOGS in os.environ else None,
            Path(os.environ[UPLOADS]) if UPLOADS in os.environ else None,
        )
