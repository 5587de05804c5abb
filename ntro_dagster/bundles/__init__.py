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
from typing import Any

import yaml

from ntro_dagster.errors import NotFoundError, UsageError

_PACKAGE = Path(__file__).parents[1]


class BundleNotFoundError(NotFoundError):
    code = "RUNBOOK_NOT_FOUND"
    summary = "no runbook goes by that name"
    detail = "there is no runbook {slug!r}; known: {known}"
    mend = "check the spelling, or push the runbook first"


class RunbookInvalidError(UsageError):
    """Values: `slug`, `why`."""

    code = "RUNBOOK_INVALID"
    summary = "the runbook cannot be read"
    detail = "runbook {slug}: {why}"
    mend = "docs/runbooks.md shows what a runbook must hold"


@dataclass(frozen=True, slots=True)
class Frontmatter:
    """The head of `runbook.md`.

    Attributes:
        schedule: five cron fields, in `timezone` (IANA name).
        reads: for each subledger that is filled from documents, the sources of those documents.
    """

    slug: str
    name: str
    version: str
    schedule: str
    timezone: str
    reads: dict[str, tuple[str, ...]]


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


def frontmatter(bundle: Bundle) -> Frontmatter:
    """Raises `RunbookInvalidError`."""
    text = (bundle.root / "runbook.md").read_text()
    try:
        _, head, _ = text.split("---\n", 2)
        known: dict[str, Any] = yaml.safe_load(head)
        reads = {str(name): tuple(map(str, sources)) for name, sources in known.pop("reads", {}).items()}
        words = {name: str(known[name]) for name in Frontmatter.__dataclass_fields__ if name != "reads"}
    except (ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise RunbookInvalidError(slug=bundle.slug, why=f"runbook.md has no proper frontmatter ({error})") from None
    return Frontmatter(**words, reads=reads)


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
