"""What a tenant's code location serves: the runbooks of the tenant that NTRO_TENANT names."""

from ntro_dagster.bundles import platform_bundle, runbook_bundles
from ntro_dagster.orchestration.month_end import tenant_definitions
from ntro_dagster.subledger.registry import load_types

load_types(platform_bundle(), *runbook_bundles())

defs = tenant_definitions(*runbook_bundles())
