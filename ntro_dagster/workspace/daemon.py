"""Dagster's daemon behind the second guard: `python -m ntro_dagster.workspace.daemon -w WORKSPACE.yaml`.

Environment: DAGSTER_HOME, NTRO_INSTANCE_URL, NTRO_SURVEYS.
"""

from __future__ import annotations

import sys

from ntro_dagster.workspace.guarded import install_guard


def main(arguments: list[str]) -> None:
    install_guard(arguments)
    from dagster._daemon.cli import cli  # noqa: PLC0415 - after the guard

    cli(["run", *arguments], obj={}, prog_name="dagster-daemon")


if __name__ == "__main__":
    main(sys.argv[1:])
