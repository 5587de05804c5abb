"""`ntro demo`: two clients' month-ends, from raw files to trial balances."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from ntro_dagster.demo.month_end import run
from ntro_dagster.host.home import Home


def run_demo(home: Path | None, once: bool) -> None:
    """Raises what the steps raise; everything that was started is stopped then."""
    run(Home.find(home), once=once, console=Console())
