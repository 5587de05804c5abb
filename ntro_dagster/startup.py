"""How our programs begin: without Python's search for garbage, until everything is imported; and without what only looks well.

Dagster's modules are half a million objects that all stay, and the search visits them again and again while they come: a
fifth of what a start costs (docs/performance.md).
"""

from __future__ import annotations

import gc
import importlib
import sys
from typing import Final

ORNAMENTS: Final = ("pygments", "rich", "watchfiles")
"""For errors in colour, and for servers that start again when their code changes: nothing that ours do."""


def import_plain(*names: str) -> None:
    """Import modules, without `ORNAMENTS`, which some libraries take along where they find them: 7 MB and a tenth of a second of
    every process with Dagster. Whoever wants one of them imports it later.
    """
    absent = [each for each in ORNAMENTS if each not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type] # None: there is no such module
    try:
        for name in names:
            importlib.import_module(name)
    finally:
        for each in absent:
            del sys.modules[each]


def pause_collector() -> None:
    """From here on what refers to itself stays in memory, until `resume_collector`."""
    gc.disable()


def resume_collector() -> None:
    """What there is now was imported, and is never searched again."""
    gc.freeze()
    gc.enable()


def collect_rarely() -> None:
    """For a program that is over in a second, most of which it imports: a million new objects go by before the first search."""
    gc.set_threshold(1_000_000)


def leave_unsearched() -> None:
    """Python searches everything a last time when it ends, which takes a third of a second where Dagster is among it."""
    gc.freeze()
