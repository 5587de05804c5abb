"""Where bundles lie, and how their code is imported.

In a checkout the platform's own and those that come with it are the top-level folders; in an installed wheel they travel inside
the package as `shipped/`.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType

from ntro_dagster.bundles.runbook_md import Frontmatter, read_page
from ntro_dagster.errors import NotFoundError, UsageError

_PACKAGE = Path(__file__).parent.parent


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
class Bundle:
    """A folder with `subledgers/`, `migrations/` and, for a runbook, `assets.py`.

    Attributes:
        slug: None for the platform.
        version: id of a stored version, `v_` and 12 hexadecimal digits; None for a folder that may still change.
    """

    slug: str | None
    root: Path
    version: str | None = None

    @property
    def migrations(self) -> Path:
        return self.root / "migrations"

    @property
    def identifier(self) -> str:
        """The slug as a name of Python and SQL."""
        return (self.slug or "platform").replace("-", "_")

    @property
    def package(self) -> str:
        """Under which its modules are imported: two versions live side by side."""
        return f"ntro_bundle_{self.identifier}" + (f"__{self.version}" if self.version else "")

    def load(self, name: str) -> ModuleType | None:
        """Import `name` (`subledgers`, `assets`) of this bundle under the bundle's own package name; None if it has none."""
        known = _LOADED.get(self.package)
        if known is None or known.root != self.root or self.package not in sys.modules:
            self.forget()
            package = ModuleType(self.package)
            package.__path__ = [str(self.root)]
            sys.modules[self.package] = package
            _LOADED[self.package] = self
        qualified = f"{self.package}.{name}"
        if qualified in sys.modules:
            return sys.modules[qualified]
        # not by looking through the folder: the survey may not see what else lies there
        inner = self.root / name
        path = next((path for path in (inner / "__init__.py", inner.with_suffix(".py")) if path.is_file()), None)
        spec = importlib.util.spec_from_file_location(qualified, path) if path else None
        if spec is None or spec.loader is None:
            return None
        module = sys.modules[qualified] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            self.forget()
            raise
        setattr(sys.modules[self.package], name, module)
        return module

    def forget(self) -> None:
        """Have the next `load` read the files again."""
        for name in list(sys.modules):  # a copy: another thread may import something meanwhile
            if name == self.package or name.startswith(f"{self.package}."):
                del sys.modules[name]
        _LOADED.pop(self.package, None)
        importlib.invalidate_caches()


_LOADED: dict[str, Bundle] = {}


def derivation_name(slug: str, subledger: str) -> str:
    """Names a runbook's way to fill `subledger` from other rows."""
    return f"{slug.replace('-', '_')}__{subledger}"


def bundle_of(module: str) -> Bundle | None:
    """The bundle that a module was imported from; None where it is nobody's."""
    return _LOADED.get(module.partition(".")[0])


def frontmatter(bundle: Bundle) -> Frontmatter:
    """Raises `RunbookInvalidError`."""
    # Each step of a run asks for it, and the files of a version never change.
    return _frontmatter_of_version(bundle) if bundle.version else _frontmatter(bundle)


@lru_cache(maxsize=256)
def _frontmatter_of_version(bundle: Bundle) -> Frontmatter:
    return _frontmatter(bundle)


def _frontmatter(bundle: Bundle) -> Frontmatter:
    page = read_page(bundle.root)
    if page.head is None:
        first = page.problems[0]
        raise RunbookInvalidError(slug=bundle.slug, why=f"{first.file}:{first.line}: {first.message}")
    return page.head


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
