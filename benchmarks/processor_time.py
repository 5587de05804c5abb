"""CPU seconds that an installation has used, by kind of process, those of its processes that have ended included.

Nothing is sampled: the kernel adds what a process used to its parent's account when the parent waits for it, so own times and
those of waited-for children of whoever lives are all there is. Read when no run is at work.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import psutil

from benchmarks.subject import SLUG
from ntro_dagster.host.installation import Installation
from ntro_dagster.tenant.fork_server import is_fork_server

CODE_SERVER, FORK_SERVER, RUNS, SUPERVISOR = "code server", "fork server", "runs", "supervisor"


def used(installation: Installation) -> dict[str, float]:
    """Since their start."""
    while True:
        try:
            return _used(installation)
        except psutil.NoSuchProcess:  # ended as it was looked at: its time is its parent's by now
            continue


def _used(installation: Installation) -> dict[str, float]:
    kinds = {process.pid: process.name for process in installation.status() if process.pid}
    seconds: defaultdict[str, float] = defaultdict(float)
    for pid, name in kinds.items():
        process = psutil.Process(pid)
        if name == f"tenant-{SLUG}":
            _add_tenant(seconds, process)
        else:
            seconds[name] += _own(process) + _waited_for(process) + sum(map(_whole, process.children(recursive=True)))
    supervisor = psutil.Process(next(iter(kinds))).parent()
    if supervisor:
        seconds[SUPERVISOR] += _whole(supervisor)
    return dict(seconds)


def between(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {kind: seconds - before.get(kind, 0.0) for kind, seconds in after.items()}


def _add_tenant(seconds: defaultdict[str, float], code_server: psutil.Process) -> None:
    seconds[CODE_SERVER] += _own(code_server)
    seconds[RUNS] += _waited_for(code_server)
    for child in code_server.children():
        helper = is_fork_server(child) or "resource_tracker" in " ".join(child.cmdline())
        seconds[FORK_SERVER if helper else RUNS] += _own(child)
        seconds[RUNS] += _waited_for(child) + sum(map(_whole, child.children(recursive=True)))


def _own(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _waited_for(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.children_user + times.children_system)


def _whole(process: psutil.Process) -> float:
    return _own(process) + _waited_for(process)


def whole_tree(process: psutil.Process) -> float:
    """Of one process and all that it started, as far as those were waited for or live."""
    return _whole(process) + sum(map(_whole, process.children(recursive=True)))
