"""What a tenant's code location serves: the active runbooks of the tenant that NTRO_TENANT names."""

from ntro_dagster.bundles.active import active_set, with_platform, work_with
from ntro_dagster.orchestration.month_end import tenant_definitions
from ntro_dagster.subledger.registry import load_types

active = active_set()
work_with(active)
load_types(*with_platform(active.bundles))

defs = tenant_definitions(active)
