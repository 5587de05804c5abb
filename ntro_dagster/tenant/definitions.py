"""What a tenant's code location serves: the runbooks of the tenant that NTRO_TENANT names."""

from dagster import Definitions

from ntro_dagster.bundles import platform_bundle, runbook_bundles
from ntro_dagster.orchestration.runbook import runbook_definitions
from ntro_dagster.subledger.registry import load_types

load_types(platform_bundle(), *runbook_bundles())

defs = Definitions.merge(*(runbook_definitions(bundle) for bundle in runbook_bundles()))
