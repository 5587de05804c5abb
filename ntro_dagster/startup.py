"""How our programs begin: without Python's search for garbage, until everything is imported.

Dagster's modules are half a million objects that all stay, and the search visits them again and again while they come: a
fifth of what a start costs (docs/performance.md).
"""

from __future__ import annotations

import gc


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
