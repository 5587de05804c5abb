"""Dagster's daemon behind the second guard: `python -m ntro_dagster.workspace.daemon -w WORKSPACE.yaml`.

Environment: DAGSTER_HOME, NTRO_INSTANCE_URL, NTRO_SURVEYS.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ntro_dagster.boundary.names import INSTANCE_URL
from ntro_dagster.startup import pause_collector, resume_collector
from ntro_dagster.workspace.guarded import install_guard, workspace_file
from ntro_dagster.workspace.waking import wake_early


def main(arguments: list[str]) -> None:
    pause_collector()
    install_guard(arguments)
    from dagster._daemon.cli import cli  # noqa: PLC0415 - after the guard

    from ntro_dagster.workspace.run_queue import read_what_may_start  # noqa: PLC0415

    follow(workspace_file(arguments))
    read_what_may_start()
    wake_early(os.environ[INSTANCE_URL])
    resume_collector()
    cli(["run", *arguments], obj={}, prog_name="dagster-daemon")


def follow(workspace: Path) -> None:
    """Have the daemon look at its locations within 5 s of a write to the file `workspace`, not only once a minute.

    Else a new tenant's first minute has no sensors. Takes the place of a method of Dagster's, for which it has no setting.
    """
    from dagster._daemon.controller import DagsterDaemonController  # noqa: PLC0415

    once_a_minute, read_at = DagsterDaemonController.check_workspace_freshness, workspace.stat().st_mtime_ns

    def check_workspace_freshness(self: DagsterDaemonController, last_workspace_update_time: float) -> float:
        nonlocal read_at
        if (written_at := workspace.stat().st_mtime_ns) != read_at:
            last_workspace_update_time, read_at = 0.0, written_at
        return once_a_minute(self, last_workspace_update_time)

    DagsterDaemonController.check_workspace_freshness = check_workspace_freshness  # type: ignore[method-assign]


if __name__ == "__main__":
    main(sys.argv[1:])
