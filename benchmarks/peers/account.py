"""CPU seconds of everything that is started in a `with` block, this process included, by the kernel's own account.

A control group of version 1 (`cpuacct`), where root may make one: whatever ends, or is nobody's child any more, still counts.
Elsewhere None, and what is known of processes by name has to do.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

GROUPS = Path("/sys/fs/cgroup/cpuacct")
LEAVING_PATIENCE_S = 10.0

Account = Callable[[], float | None]


@contextmanager
def account() -> Iterator[Account]:
    """Yields: seconds so far, or None. Whoever is still there at the end was started by the block, and is killed."""
    group = GROUPS / f"ntro-bench-{os.getpid()}"
    home = _group_of_this_process()
    try:
        group.mkdir()
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError:
        with suppress(OSError):
            group.rmdir()
        yield lambda: None
        return
    try:
        yield lambda: int((group / "cpuacct.usage").read_text()) / 1e9
    finally:
        (home / "cgroup.procs").write_text(str(os.getpid()))
        _empty(group)
        group.rmdir()


def _group_of_this_process() -> Path:
    lines = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
    paths = [path for _, controllers, path in lines if "cpuacct" in controllers.split(",")]
    return GROUPS / paths[0].lstrip("/") if paths else GROUPS


def _empty(group: Path) -> None:
    deadline = time.monotonic() + LEAVING_PATIENCE_S
    while pids := (group / "cgroup.procs").read_text().split():
        if time.monotonic() > deadline:
            for pid in pids:
                with suppress(psutil.NoSuchProcess):
                    psutil.Process(int(pid)).kill()
        time.sleep(0.1)
