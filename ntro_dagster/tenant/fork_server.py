"""The process that runs are forked from, forked itself: from the code server, once that has imported everything and before it has
a thread, a connection or its socket.

`multiprocessing` would start a fresh interpreter for it, which imports all of it a second time, and shares no memory with the
code server. It still does where new code is deployed (`tenant.reloading`): by then the code server has threads.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
import sys
import threading
import traceback
from collections.abc import Sequence
from multiprocessing import connection, forkserver
from typing import Any, NoReturn

import psutil

from ntro_dagster.tenant import run_worker
from ntro_dagster.tenant.reloading import fresh_code

NAME = "fork-server"
"""As `ps` shows it."""

_logger = logging.getLogger(__name__)


def is_fork_server(process: psutil.Process) -> bool:
    """For who looks from outside: one of either making."""
    return process.name() == NAME or "multiprocessing.forkserver" in " ".join(process.cmdline())


def start_fork_server(definitions: str, *, not_its: Sequence[int]) -> BaseException | None:
    """Import what runs need, and leave the process behind that makes them.

    Args: `not_its`: descriptors that it must not hold on to.

    Returns: why the definitions do not load; then nothing is left behind. Neither is it where something else is in the way, which
    the log tells: runs then come from a fresh interpreter.

    Raises: KeyboardInterrupt.
    """
    try:
        with fresh_code(definitions):
            importlib.import_module(definitions)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also where they want to end the process
        return error
    try:
        importlib.import_module("ntro_dagster.tenant.warm")
        if threading.active_count() > 1:
            raise RuntimeError(f"there are threads: {', '.join(each.name for each in threading.enumerate())}")
    except Exception:
        _logger.exception("Runs are not forked from a fork of this process, but of a fresh interpreter")
        return None
    _fork(not_its)
    return None


def stop_fork_server() -> None:
    """One that was forked for definitions of which something does not work after all."""
    known: Any = forkserver._forkserver
    known._stop()


def _fork(not_its: Sequence[int]) -> None:
    """What `multiprocessing.forkserver.ForkServer.ensure_running` does, by a fork."""
    known: Any = forkserver._forkserver
    ours, alive = os.pipe()  # the other end of it is held by the code server and by every run: they are gone when it ends
    with socket.socket(socket.AF_UNIX) as listener:
        address = connection.arbitrary_address("AF_UNIX")  # type: ignore[attr-defined]
        listener.bind(address)
        listener.listen()
        sys.stdout.flush()
        sys.stderr.flush()
        process = os.fork()
        if process == 0:
            for each in (alive, *not_its):
                os.close(each)
            _serve(listener.detach(), ours)
    os.close(ours)
    known._forkserver_address, known._forkserver_alive_fd, known._forkserver_pid = address, alive, process


def _serve(listener: int, alive: int) -> NoReturn:
    """Until nobody needs it. Nothing of the code server's is ended here: not its files, not what it does at its exit."""
    status = 1
    try:
        run_worker.forks_runs()
        run_worker.called(NAME)
        forkserver.main(listener, alive, [])
    except SystemExit:
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)
