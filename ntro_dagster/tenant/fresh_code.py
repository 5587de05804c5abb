"""Code of a tenant's that is imported again, in a process that has imported it before."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

BUNDLES = "ntro_bundle_"


@contextmanager
def fresh_code(definitions: str) -> Iterator[None]:
    """In here bundles and definitions are read again; where that fails, they are again what they were.

    What was made of them before goes on living where it is in use.
    """
    from ntro_dagster.subledger.registry import fresh_types  # noqa: PLC0415

    def forget() -> dict[str, ModuleType]:
        names = [name for name in list(sys.modules) if name.startswith(BUNDLES) or name == definitions]
        return {name: sys.modules.pop(name) for name in names}

    before = forget()
    importlib.invalidate_caches()
    try:
        with fresh_types():
            yield
    except BaseException:
        forget()
        sys.modules.update(before)
        raise


def forget_made() -> None:
    """Dagster remembers the definitions that it was asked for."""
    from dagster._core.definitions.reconstruct import ReconstructableJob  # noqa: PLC0415

    ReconstructableJob.get_definition.cache_clear()
    ReconstructableJob.get_repository_definition.cache_clear()
