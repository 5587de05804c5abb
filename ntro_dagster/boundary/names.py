"""Names that both Dagster and the workspace go by. Free of Dagster, so that it costs nothing to know them."""

TENANT_TAG = "ntro/tenant"
WORK_TAG = "ntro/work"
PARTITION_TAG = "dagster/partition"


def entities_set(tenant: str) -> str:
    """Name of the tenant's dynamic partition set. Such names are instance-wide, so they carry the tenant."""
    return f"{tenant}__entities"
