"""Names that both Dagster and the workspace go by. Free of Dagster, so that it costs nothing to know them."""

from __future__ import annotations

from uuid import UUID

TENANT_TAG = "ntro/tenant"
WORK_TAG = "ntro/work"
VERSION_TAG = "ntro/version"
"""On every run: the version of the runbook, or the name of the whole set for the platform's own jobs."""
PARTITION_TAG = "dagster/partition"
RUN_KEY_TAG = "dagster/run_key"
_REQUEST = "request:"
PLANE, WORKSPACE = "NTRO_PLANE", "workspace"
INSTANCE_URL = "NTRO_INSTANCE_URL"
"""Environment of the workspace's processes: whose they are, and the address of its database."""
ARTIFACTS = "NTRO_ARTIFACTS"
"""Environment variable: a tenant's own directory for files that Dagster makes."""
BOOKS, SECRETS = "NTRO_BOOKS", "NTRO_SECRETS"
"""Environment variables: a tenant's own directories for ledgers in files, and for what it logs in to other systems with."""
ACTIVE = "NTRO_ACTIVE"
"""Environment variable of a tenant's processes: the file that lists the runbooks they work with (`bundles.active`)."""
SURVEYS = "NTRO_SURVEYS"
"""Environment variable: the directory of the surveys that a process goes by (`boundary.answers.survey`)."""
RELAY_SOCKETS, RELAY_SOCKET = "NTRO_RELAY_SOCKETS", "relay.sock"
"""Environment variable of the relay: the directory of the tenants' own directories; and its socket's name in each."""
RELAY_LISTENER = "NTRO_RELAY_LISTENER"
"""Environment variable of the relay: the file that says where it listens for tenants on other hosts; it need not exist."""
RELAY = "NTRO_RELAY"
"""Environment variable of a tenant's processes: where the workspace's relay listens for it."""
CODE_LOCATION_TAG = "dagster/code_location"
"""Dagster's own, on every run: the tenant's slug."""
UNIT_TAG = "ntro/unit"
"""`tenant|entity|period`: two runs of one unit never run at once (dagster.yaml limits it to one)."""


def unit(tenant: str, partition: str) -> dict[str, str]:
    """The tag that keeps runs of one tenant's partition apart; other tenants have partitions of the same name."""
    return {UNIT_TAG: f"{tenant}|{partition}"}


def monthly_key(partition: str, version: str | None) -> str:
    """Run key of what a schedule starts: entity and month, and the version of the runbook where it has one."""
    return f"monthly:{partition}" + (f":{version}" if version else "")


def request_key(request: UUID) -> str:
    """Run key of what somebody asked for at the desk."""
    return f"{_REQUEST}{request}"


def request_of(run_key: str | None) -> UUID | None:
    """The request that a run key names; None where it names none."""
    try:
        return UUID(run_key.removeprefix(_REQUEST)) if run_key and run_key.startswith(_REQUEST) else None
    except ValueError:
        return None


def entities_set(tenant: str) -> str:
    """Name of the tenant's dynamic partition set. Such names are instance-wide, so they carry the tenant."""
    return f"{tenant}__entities"
