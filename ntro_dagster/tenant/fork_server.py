"""The process that runs are forked from, forked itself: from the code server, once that has imported everything and before it has
a thread, a connection or its socket.

`multiprocessing` would start a fresh interpreter for it, which imports all of it a second time, and shares no memory with the
code server. It still does where new code is deployed (`tenant.reloading`): by then the code server has threads.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import socket
import sys
import threading
import traceback
from multiprocessing import connection, forkserver
from typing import Any, NoReturn

import psutil

from ntro_dagster.tenant import run_worker
from ntro_dagster.tenant.reloading import fresh_code

NAME = "fork-server"
"""As `ps` shows it."""
_PR_SET_NAME = 15


def is_fork_server(process: psutil.Process) -> bool:
    """For who looks from outside: one of either making."""
    return process.name() == NAME or "multiprocessing.forkserver" in " ".join(process.cmdline())


def start_fork_server(definitions: str) -> bool:
    """Import what runs need, and leave the process behind that makes them. Returns: False where the definitions do not load, or
    have started a thread; then nothing is left behind. Raises: KeyboardInterrupt.
    """
    try:
        with fresh_code(definitions):
            importlib.import_module("ntro_dagster.tenant.warm")
    except KeyboardInterrupt:
        raise
    except BaseException:  # who loads them next tells of it (`tenant.loading`); also where they want to end the process
        return False
    if threading.active_count() > 1:
        return False
    _fork()
    return True


def _fork() -> None:
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
            os.close(alive)
            _serve(listener.detach(), ours)
    os.close(ours)
    known._forkserver_address, known._forkserver_alive_fd, known._forkserver_pid = address, alive, process


def _serve(listener: int, alive: int) -> NoReturn:
    """Until nobody needs it. Nothing of the code server's is ended here: not its files, not what it does at its exit."""
    status = 1
    try:
        run_worker.forks_runs()
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NAME, NAME.encode(), 0, 0, 0)
        forkserver.main(listener, alive, [])
    except SystemExit:
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)
