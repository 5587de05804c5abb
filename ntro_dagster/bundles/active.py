"""Which bundles this process works with: the versions that were deployed to its tenant, as a file says.

The tenant's database is what decides (`system.active_runbooks`); the file follows it, for processes that have no
database, or must not ask: the survey, the fork server of runs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from ntro_dagster.boundary.names import ACTIVE
from ntro_dagster.bundles.bundle import Bundle, platform_bundle, runbook_bundles
from ntro_dagster.errors import NtroError


class ActiveSetError(NtroError):
    """Values: `path`."""

    code = "ACTIVE_SET_UNREADABLE"
    summary = "the list of active runbooks cannot be read"
    detail = "{path} is not a list of active runbooks"
    mend = "`ntro up` writes it anew from the tenant's database"


@dataclass(frozen=True, slots=True)
class ActiveSet:
    """Attributes:
    bundles: the runbooks, by slug.
    schedules: what is scheduled of them, as `orchestration.schedules` reads it.
    pinned: other versions, for the entities that are bound to them.
    """

    bundles: tuple[Bundle, ...] = ()
    schedules: tuple[dict[str, Any], ...] = ()
    pinned: tuple[Bundle, ...] = ()

    @property
    def code(self) -> str:
        """Names the whole of the code: this release and every version at work."""
        named = [installed("ntro-dagster"), *sorted((str(b.slug), str(b.version)) for b in (*self.bundles, *self.pinned))]
        return "s_" + hashlib.sha256(json.dumps(named).encode()).hexdigest()[:12]

    @property
    def definitions(self) -> str:
        """Names all that definitions are made of: the code, and when it is started."""
        return f"{self.code} {json.dumps(list(self.schedules), sort_keys=True)}"

    def to_json(self) -> str:
        written = {
            "runbooks": [_written(bundle) for bundle in self.bundles],
            "pinned": [_written(bundle) for bundle in self.pinned],
            "schedules": list(self.schedules),
        }
        return json.dumps(written, indent=2, sort_keys=True) + "\n"

    @classmethod
    def read(cls, path: Path) -> ActiveSet:
        """What `to_json` wrote; nothing, where there is no file yet. Raises `ActiveSetError`."""
        try:
            known = json.loads(path.read_text())
            return cls(_read(known["runbooks"]), tuple(known.get("schedules", ())), _read(known.get("pinned", ())))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, KeyError, TypeError):
            raise ActiveSetError(path=path) from None


def _written(bundle: Bundle) -> dict[str, str | None]:
    return {"slug": bundle.slug, "version": bundle.version, "root": str(bundle.root)}


def _read(known: Iterable[dict[str, str]]) -> tuple[Bundle, ...]:
    bundles = [Bundle(each["slug"], Path(each["root"]), each["version"]) for each in known]
    return tuple(sorted(bundles, key=lambda bundle: (str(bundle.slug), str(bundle.version))))


def active_set() -> ActiveSet:
    """What NTRO_ACTIVE names; without it, the runbooks of the checkout: for tests and for trying things out.

    Raises: `ActiveSetError`.
    """
    path = os.environ.get(ACTIVE)
    return ActiveSet.read(Path(path)) if path else ActiveSet(tuple(runbook_bundles()))


def work_with(active: ActiveSet) -> None:
    """This process has loaded these; from now on `loaded_set` tells."""
    _loaded[:] = [active]


def loaded_set() -> ActiveSet:
    """What this process has loaded, whatever has become active since. Raises `ActiveSetError`."""
    return _loaded[0] if _loaded else active_set()


_loaded: list[ActiveSet] = []


def with_platform(bundles: Sequence[Bundle]) -> list[Bundle]:
    return [platform_bundle(), *bundles]
