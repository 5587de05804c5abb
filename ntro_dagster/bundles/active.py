"""Which bundles this process works with: the versions that were deployed to its tenant, as a file says.

The tenant's database is what decides (`system.active_runbooks`); the file follows it, for processes that have no
database, or must not ask: the survey, the fork server of runs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from ntro_dagster.bundles.bundle import Bundle, platform_bundle, runbook_bundles
from ntro_dagster.errors import NtroError

ACTIVE = "NTRO_ACTIVE"
"""Environment variable of a tenant's processes: the file that lists the runbooks they work with."""


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
    """

    bundles: tuple[Bundle, ...] = ()
    schedules: tuple[dict[str, Any], ...] = ()

    @property
    def code(self) -> str:
        """Names the whole of the code: this release and every active version."""
        named = [installed("ntro-dagster"), *sorted((str(b.slug), str(b.version)) for b in self.bundles)]
        return "s_" + hashlib.sha256(json.dumps(named).encode()).hexdigest()[:12]

    def to_json(self) -> str:
        runbooks = [{"slug": b.slug, "version": b.version, "root": str(b.root)} for b in self.bundles]
        return json.dumps({"runbooks": runbooks, "schedules": list(self.schedules)}, indent=2, sort_keys=True) + "\n"

    @classmethod
    def read(cls, path: Path) -> ActiveSet:
        """What `to_json` wrote; nothing, where there is no file yet. Raises `ActiveSetError`."""
        try:
            known = json.loads(path.read_text())
            bundles = (Bundle(each["slug"], Path(each["root"]), each["version"]) for each in known["runbooks"])
            return cls(tuple(sorted(bundles, key=lambda bundle: str(bundle.slug))), tuple(known.get("schedules", ())))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, KeyError, TypeError):
            raise ActiveSetError(path=path) from None


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
