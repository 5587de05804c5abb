"""Where bundles lie: the platform's own (`subledgers/` + `migrations/`) and the runbooks', same shape, one loader.

In a checkout they are the top-level folders; in an installed wheel they travel inside the package as `shipped/`.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from ntro_dagster.errors import NotFoundError

_PACKAGE = Path(__file__).parent


class BundleNotFoundError(NotFoundError):
    code = "RUNBOOK_NOT_FOUND"
    summary = "no runbook goes by that name"
    detail = "there is no runbook {slug!r}; known: {known}"
    mend = "check the spelling, or push the runbook first"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A folder with `subledgers/`, `migrations/` and, for a runbook, `assets.py`. `slug` is None for the platform."""

    slug: str | None
    root: Path

    @property
    def migrations(self) -> Path:
        return self.root / "migrations"

    @property
    def package(self) -> str:
        return "ntro_bundle_" + (self.slug or "platform").replace("-", "_")

    def load(self, name: str) -> ModuleType | None:
        """Import `name` (`subledgers`, `assets`) of this bundle under the bundle's own package name; None if it has none."""
        if self.package not in sys.modules:
            package = ModuleType(self.package)
            package.__path__ = [str(self.root)]
            sys.modules[self.package] = package
        qualified = f"{self.package}.{name}"
        if importlib.util.find_spec(qualified) is None:
            return None
        return importlib.import_module(qualified)


def _home() -> Path:
    shipped = _PACKAGE / "shipped"
    return shipped if shipped.is_dir() else _PACKAGE.parent


@cache
def platform_bundle() -> Bundle:
    return Bundle(None, _home())


def runbook_bundles() -> list[Bundle]:
    """Every runbook at hand, by slug."""
    return [Bundle(path.parent.name, path.parent) for path in sorted(_home().glob("runbooks/*/runbook.md"))]


def runbook_bundle(slug: str) -> Bundle:
    """Raises `BundleNotFoundError`."""
    bundles = {bundle.slug: bundle for bundle in runbook_bundles()}
    if slug not in bundles:
        raise BundleNotFoundError(slug=slug, known=", ".join(str(known) for known in bundles))
    return bundles[slug]
