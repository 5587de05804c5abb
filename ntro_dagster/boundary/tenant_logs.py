"""Where a tenant's processes log: a directory of the tenant's own, named by their environment."""

from __future__ import annotations

import os
from pathlib import Path

LOGS = "NTRO_LOGS"


def logs_directory() -> Path | None:
    """The directory, in a tenant's process; None in any other."""
    named = os.environ.get(LOGS)
    return Path(named) if named and os.environ.get("NTRO_TENANT") else None


def run_log(logs: Path, run_id: str) -> Path:
    """What a run printed."""
    return logs / "runs" / f"{run_id}.log"


def ticks_log(logs: Path) -> Path:
    """What sensors and schedules logged."""
    return logs / "ticks.log"


def aside(logs: Path) -> Path:
    """Records of the journal that wait for the database."""
    return logs / "aside"
