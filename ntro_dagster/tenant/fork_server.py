"""The process that runs are forked from, forked itself: from the code server, once that has imported everything and before it has
a thread, a connection or its socket.

`multiprocessing` would start a fresh interpreter for it, which imports all of it a second time, and shares no memory with the
code server. Where new code is deployed the code server has threads, so the fork server is asked to fork its successor (ADR 036).
"""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import socket
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, forkserver, util
from typing import Any, NoReturn

import psutil

from ntro_dagster.tenant import run_worker
from ntro_dagster.tenant.fresh_code import forget_made, fresh_code

NAME = "fork-server"
"""As `ps` shows it."""

MOST_SUCCESSORS = 50
"""One after the other; then a fresh interpreter begins anew: each keeps some MB of the code before."""
PATIENCE_S = 10.0
"""For a fork that was asked for; a fork server that has only just begun has to import its own code first."""

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


def replace_fork_server(definitions: str) -> None:
    """From now on runs come from a new one, which has imported what the definitions are now. Runs at work keep the old one alive;
    it ends with the last of them.
    """
    known: Any = forkserver._forkserver
    old = _ForkServer(known._forkserver_address, known._forkserver_alive_fd, known._forkserver_pid)
    if old.process is None:
        return
    successor = _successor(definitions) if _lives(old.process) and _may_fork_again() else None
    with known._lock:
        found = successor or _ForkServer(None, None, None)
        known._forkserver_address, known._forkserver_alive_fd, known._forkserver_pid = found.address, found.alive, found.process
    os.close(old.alive)  # each of its runs holds this pipe too
    if not util.is_abstract_socket_namespace(old.address):
        os.unlink(old.address)  # noqa: PTH108
    threading.Thread(target=os.waitpid, args=(old.process, 0), name="ntro-retired-fork-server", daemon=True).start()
    known.ensure_running()


@dataclass(frozen=True, slots=True)
class _ForkServer:
    """As `multiprocessing` knows one. `alive`: the end of a pipe by which it notices that nobody needs it any more."""

    address: Any
    alive: Any
    process: Any


def _fork(not_its: Sequence[int]) -> None:
    """What `multiprocessing.forkserver.ForkServer.ensure_running` does, by a fork."""
    known: Any = forkserver._forkserver
    ours, alive = os.pipe()  # the other end of it is held by the code server and by every run: they are gone when it ends
    with _listening() as listener:
        address = listener.getsockname()
        sys.stdout.flush()
        sys.stderr.flush()
        process = os.fork()
        if process == 0:
            for each in (alive, *not_its):
                os.close(each)
            _serve(listener.detach(), ours)
    os.close(ours)
    known._forkserver_address, known._forkserver_alive_fd, known._forkserver_pid = address, alive, process


@contextmanager
def _listening() -> Iterator[socket.socket]:
    """A socket where runs may be asked for."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(connection.arbitrary_address("AF_UNIX"))  # type: ignore[attr-defined]
        listener.listen()
        yield listener


_generation = 0  # how many successors lie between this fork server and the code server


def _successor(definitions: str) -> _ForkServer | None:
    """One forked from the fork server there is. None where that cannot be had: the next is a fresh interpreter then."""
    if sys.platform != "linux":
        return None
    ours, alive = os.pipe()
    said, tell = multiprocessing.Pipe(duplex=False)
    try:
        with _listening() as listener, run_worker.adopting(), connection.Connection(ours, writable=False) as end:
            address = listener.getsockname()
            parent: Any = multiprocessing.get_context("forkserver").Process(
                target=_fork_again, args=(definitions, listener, end, tell)
            )
            parent.start()
            tell.close()
            if not said.poll(PATIENCE_S):
                raise TimeoutError
            process = said.recv()
            parent.join(PATIENCE_S)
        if not _lives(process):
            raise ChildProcessError
    except (OSError, EOFError):
        os.close(alive)  # whoever was forked after all ends by that
        _logger.exception("Runs are not forked from a fork of the fork server, but of a fresh interpreter")
        return None
    finally:
        said.close()
    return _ForkServer(address, alive, process)


def _lives(child: int) -> bool:
    """Raises: ChildProcessError where it is not ours."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def _may_fork_again() -> bool:
    global _generation  # noqa: PLW0603
    _generation = (_generation + 1) % (MOST_SUCCESSORS + 1)
    return _generation > 0


def _fork_again(definitions: str, listener: socket.socket, end: connection.Connection, tell: connection.Connection) -> None:
    """In a process that the fork server forked as it would for a run: fork once more and end, so that the code server adopts the
    one that is left.
    """
    process = os.fork()
    if process:
        tell.send(process)
        return
    status = 1
    try:
        tell.close()
        known: Any = forkserver._forkserver
        os.close(known._forkserver_alive_fd)  # our predecessor's
        os.close(multiprocessing.parent_process().sentinel)  # type: ignore[union-attr] # of a run that we are not
        known._forkserver_address = known._forkserver_alive_fd = known._forkserver_pid = None
        with fresh_code(definitions):
            importlib.import_module(definitions)
        forget_made()
        importlib.import_module("ntro_dagster.tenant.warm").warm()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        if status:
            sys.stderr.flush()
            os._exit(status)
    _serve(listener.detach(), os.dup(end.fileno()))


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
