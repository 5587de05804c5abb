"""Names that both Dagster and the workspace go by. Free of Dagster, so that it costs nothing to know them."""

TENANT_TAG = "ntro/tenant"
WORK_TAG = "ntro/work"
PARTITION_TAG = "dagster/partition"

FIRST_PERIOD = "2010-01"
"""Months before are not offered; an entity's history starts when its first document is filed."""


def entities_set(tenant: str) -> str:
    """Name of the tenant's dynamic partition set. Such names are instance-wide, so they carry the tenant."""
    return f"{tenant}__entities"
