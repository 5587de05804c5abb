"""Why a bundle's code does not load, and where: its own file and line, for who deploys it. Never for the workspace."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ntro_dagster.bundles import Bundle
from ntro_dagster.bundles.places import place_of
from ntro_dagster.errors import NtroError, UsageError

_BUNDLES = "ntro_bundle_"
LONGEST_REASON = 2_000


class ForeignImportError(UsageError):
    """Values: `name`."""

    code = "FOREIGN_IMPORT"
    summary = "a bundle imports another bundle"
    detail = "{name} is another bundle's code"
    mend = "copy what is needed: each bundle is deployed, and goes back, by itself"


@contextmanager
def bundles_apart() -> Iterator[None]:
    """In here no bundle's module can import one of another bundle: it may be another version tomorrow, or be gone."""
    original = builtins.__import__

    def guarded(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        importer = str((globals or {}).get("__name__", "")).partition(".")[0]
        wanted = name.partition(".")[0]
        if level == 0 and wanted.startswith(_BUNDLES) and importer.startswith(_BUNDLES) and wanted != importer:
            raise ForeignImportError(name=name)
        return original(name, globals, locals, fromlist, level)

    builtins.__import__ = guarded
    try:
        yield
    finally:
        builtins.__import__ = original


def load_failure(error: BaseException, bundles: Sequence[Bundle]) -> dict[str, Any]:
    """`why`, and where it is known `slug`, `file`, `line`: the last of a bundle's own lines that led there."""
    why = f"{error.explain()} ({error.code})" if isinstance(error, NtroError) else f"{type(error).__name__}: {_said(error)}"
    told: dict[str, Any] = {"why": why[:LONGEST_REASON]}
    for bundle in bundles:
        if place := place_of(error, bundle.root):
            return told | {"slug": bundle.slug, "file": place[0], "line": place[1]}
    return told


def _said(error: BaseException) -> str:
    return error.msg if isinstance(error, SyntaxError) else str(error)
