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
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection, forkserver, util
from pathlib import Path
from typing import Any

import psutil

from ntro_dagster.tenant import run_worker
from ntro_dagster.tenant.forked import live_out
from ntro_dagster.tenant.fresh_code import forget_made, fresh_code

NAME = "fork-server"
"""As `ps` shows it."""

MOST_SUCCESSORS = 10
"""One after the other; then a fresh interpreter begins anew: each stands on its predecessor's stack and keeps its code."""
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
        from ntro_dagster.tenant.made_once import told_of  # noqa: PLC0415 - Dagster takes a second to import

        told_of(sys.modules[definitions].defs.get_repository_def())
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
    global _generation, _libraries
    known: Any = forkserver._forkserver
    if known._forkserver_pid is None:
        return
    libraries, successor = _installed(), None
    if libraries is not None and libraries == _libraries and _generation < MOST_SUCCESSORS and _lives(known._forkserver_pid):
        successor = _successor(definitions)
    found = successor or _ForkServer(None, None, None)
    with known._lock:
        old = _ForkServer(known._forkserver_address, known._forkserver_alive_fd, known._forkserver_pid)  # if one died, the next
        known._forkserver_address, known._forkserver_alive_fd, known._forkserver_pid = found.address, found.alive, found.process
    _generation, _libraries = (_generation + 1 if successor else 0), libraries
    os.close(old.alive)  # each of its runs holds this pipe too
    if not util.is_abstract_socket_namespace(old.address):
        os.unlink(old.address)  # noqa: PTH108
    threading.Thread(target=_await, args=(old.process,), name="ntro-retired-fork-server", daemon=True).start()
    known.ensure_running()


_generation = 0
"""How many successors lie between this fork server and a fresh interpreter."""
_libraries: object = None
"""What was installed when the fork server, or the first of its line, imported it (`_installed`)."""


def _installed() -> object:
    """Changes with every library that is installed or removed. None: nobody can tell, so nothing imported before may be kept."""
    if os.environ.get("PYTHONPATH"):
        return None
    places = [Path(entry) for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
    return [(place, place.stat().st_mtime_ns) for place in places if place.is_dir()]


def _lives(process: int) -> bool:
    """Of a child of ours; one that does not is left to whoever waits for it."""
    with suppress(ChildProcessError):
        return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    return False


def _await(process: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(process, 0)


@dataclass(frozen=True, slots=True)
class _ForkServer:
    """As `multiprocessing` knows one. `alive`: the end of a pipe by which it notices that nobody needs it any more."""

    address: Any
    alive: Any
    process: Any


def _fork(not_its: Sequence[int]) -> None:
    """What `multiprocessing.forkserver.ForkServer.ensure_running` does, by a fork."""
    global _libraries  # noqa: PLW0603
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
            live_out(partial(_serve, listener.detach(), ours))
    os.close(ours)
    known._forkserver_address, known._forkserver_alive_fd, known._forkserver_pid = address, alive, process
    _libraries = _installed()


@contextmanager
def _listening() -> Iterator[socket.socket]:
    """A socket where runs may be asked for."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(connection.arbitrary_address("AF_UNIX"))  # type: ignore[attr-defined]
        listener.listen()
        yield listener


def _successor(definitions: str) -> _ForkServer | None:
    """One forked from the fork server there is. None where that cannot be had: the next is a fresh interpreter then."""
    if sys.platform != "linux":
        return None
    attempt: Future[_ForkServer] = Future()
    threading.Thread(target=_try, args=(attempt, definitions), name="ntro-fork-server-successor", daemon=True).start()
    try:
        return attempt.result(PATIENCE_S)
    except Exception:
        attempt.add_done_callback(_give_up)
        _logger.exception("Runs are not forked from a fork of the fork server, but of a fresh interpreter")
        return None


def _try(attempt: Future[_ForkServer], definitions: str) -> None:
    try:
        attempt.set_result(_forked_again(definitions))
    except BaseException as error:
        attempt.set_exception(error)


def _give_up(attempt: Future[_ForkServer]) -> None:
    """Of one that came too late."""
    if attempt.exception() is None:
        late = attempt.result()
        os.close(late.alive)
        _await(late.process)


def _forked_again(definitions: str) -> _ForkServer:
    """Raises: OSError, EOFError."""
    with _listening() as listener:
        address = listener.getsockname()
        ours, alive = os.pipe()
        said, tell = multiprocessing.Pipe(duplex=False)
        try:
            with said, connection.Connection(ours, writable=False) as end, run_worker.adopting():
                parent: Any = multiprocessing.get_context("forkserver").Process(
                    target=_fork_again, args=(definitions, listener, end, tell)
                )
                parent.start()
                tell.close()
                process = said.recv()
                parent.join()
            if os.waitpid(process, os.WNOHANG) != (0, 0):  # it is our child, and lives
                raise ChildProcessError
        except BaseException:
            os.close(alive)  # whoever was forked after all ends by that
            os.unlink(address)  # noqa: PTH108
            raise
    return _ForkServer(address, alive, process)


def _fork_again(definitions: str, listener: socket.socket, end: connection.Connection, tell: connection.Connection) -> None:
    """In a process that the fork server forked as it would for a run: fork once more and end, so that the code server adopts the
    one that is left.
    """
    process = os.fork()
    if process == 0:
        live_out(partial(_succeed, definitions, listener, end, tell))
    tell.send(process)


def _succeed(definitions: str, listener: socket.socket, end: connection.Connection, tell: connection.Connection) -> None:
    tell.close()
    known: Any = forkserver._forkserver
    os.close(known._forkserver_alive_fd)  # our predecessor's
    os.close(multiprocessing.parent_process().sentinel)  # type: ignore[union-attr] # of a run that we are not
    known._forkserver_address = known._forkserver_alive_fd = known._forkserver_pid = None
    with fresh_code(definitions):
        importlib.import_module(definitions)
    forget_made()
    importlib.import_module("ntro_dagster.tenant.warm").warm()
    alive = os.dup(end.fileno())
    end.close()
    _serve(listener.detach(), alive)


def _serve(listener: int, alive: int) -> None:
    """Until nobody needs it."""
    run_worker.forks_runs()
    run_worker.called(NAME)
    with suppress(SystemExit):  # its way to say so
        forkserver.main(listener, alive, [])
