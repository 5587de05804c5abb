"""The process a run is executed in: how it is started, and that it never outlives its code server.

Dagster starts run workers as children of the code server by `multiprocessing`, fresh interpreters ("spawn") that import
everything anew. `start_context()` gives the same with "forkserver": a clean helper process that has the tenant's
definitions (`tenant.fork_server`, `tenant.warm`) forks for each run.

A worker whose server has gone is invisible to Dagster, and a second worker may take up its run. So it is killed with
it, by SIGKILL: the database rolls back what was open, as after any crash.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext, ForkServerContext, ForkServerProcess, SpawnContext, SpawnProcess

from ntro_dagster.tenant.limits import RunLimits
from ntro_dagster.tenant.pipes import PipedEvent, PipedQueue, without_tracker

START_METHOD = "NTRO_RUN_START_METHOD"
PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 1, 15, 36
RUN = "run"
"""What `ps` calls the process of one."""

_maker = os.getpid()  # in a forked worker: the fork server, which has imported this, or says that it is (`forks_runs`)


def forks_runs() -> None:
    """This process does, from now on."""
    global _maker  # noqa: PLW0603
    _maker = os.getpid()


def die_with_parents() -> None:
    """Arrange for SIGKILL when the code server dies, or the fork server between it and us."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    forked = os.getpid() != _maker
    if forked and sys.platform == "linux":
        # Only for the fork server: the signal tells of the *thread* that made us, and a spawned worker is made by a
        # thread of the code server's pool.
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != _maker:  # it died before we asked
            os.kill(os.getpid(), signal.SIGKILL)

    def watch() -> None:
        wait([parent.sentinel])  # a pipe whose other end the code server holds
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="ntro-parent-watch", daemon=True).start()


def called(name: str) -> None:
    """This process, by `ps` and whoever else asks the system; up to 15 letters."""
    if sys.platform == "linux":
        _prctl(PR_SET_NAME, name.encode())


@contextmanager
def adopting() -> Iterator[None]:
    """Of those below this process, whoever loses its parent in here becomes a child of this process."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        _prctl(PR_SET_CHILD_SUBREAPER, 0)


def _prctl(option: int, value: int | bytes) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


@contextmanager
def reporting() -> Iterator[None]:
    """Keep what is sent, and send it together; keep to what a run may use; and outlive a restart of the workspace: a run waits
    for it longer than who answers somebody may.
    """
    from ntro_dagster.boundary.relay import connection, gathering  # noqa: PLC0415 - needs Dagster
    from ntro_dagster.tenant.journal import keep_transcript  # noqa: PLC0415

    RunLimits.from_environment().apply()
    keep_transcript()
    connection.patience_s = connection.LONG_PATIENCE_S
    gathering.begin()
    try:
        yield
    finally:
        gathering.end()


class ForkedRunWorker(ForkServerProcess):
    def run(self) -> None:
        called(RUN)
        die_with_parents()
        with reporting():
            super().run()


class SpawnedRunWorker(SpawnProcess):
    def run(self) -> None:
        die_with_parents()
        with reporting():
            super().run()


class _ForkServerContext(ForkServerContext):
    Process = ForkedRunWorker
    Event = PipedEvent
    Queue = PipedQueue  # type: ignore[assignment]


class _SpawnContext(SpawnContext):
    Process = SpawnedRunWorker


def runs_are_forked() -> bool:
    """Unless NTRO_RUN_START_METHOD says spawn."""
    return os.environ.get(START_METHOD, "forkserver") != "spawn"


def start_context() -> BaseContext:
    """What the code server makes its run workers with."""
    if not runs_are_forked():
        return _SpawnContext()
    without_tracker()
    context = _ForkServerContext()
    context.set_forkserver_preload(["ntro_dagster.tenant.warm"])
    return context
