"""Bundles: folders of row types, migrations and assets. The platform is one, every runbook is one; same shape, one loader."""

from ntro_dagster.bundles.bundle import (
    Bundle,
    BundleNotFoundError,
    RunbookInvalidError,
    bundle_of,
    derivation_name,
    frontmatter,
    platform_bundle,
    runbook_bundle,
    runbook_bundles,
)
from ntro_dagster.bundles.runbook_md import Derived, Frontmatter

__all__ = [
    "Bundle",
    "BundleNotFoundError",
    "Derived",
    "Frontmatter",
    "RunbookInvalidError",
    "bundle_of",
    "derivation_name",
    "frontmatter",
    "platform_bundle",
    "runbook_bundle",
    "runbook_bundles",
]
