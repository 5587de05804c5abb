"""`ntro` command lines as forks of one process that has imported what they import: most of what a cold one takes."""

from __future__ import annotations

import atexit
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final, NoReturn

LONGEST: Final = 1 << 20
"""Bytes of a request: arguments and environment."""
IMPORTED: Final = ("ntro_dagster.cli.main", "ntro_dagster.host.home", "dagster", "psycopg")


class WarmNtro:
    """The process, as those see it that ask it. It ends with this one."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LONGEST)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("NTRO_", "DAGSTER_"))}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=clean,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        atexit.register(self._end)

    def run(self, arguments: list[str], environment: Mapping[str, str], timeout: float) -> tuple[int, str, str]:
        """Exit code, standard output, standard error. Raises: subprocess.TimeoutExpired: the command was killed."""
        with TemporaryFile() as out, TemporaryFile() as err, Path(os.devnull).open() as nothing:
            answers, told = socket.socketpair()
            with answers, told:
                request = {"arguments": arguments, "environment": dict(environment), "directory": str(Path.cwd())}
                streams = [nothing.fileno(), out.fileno(), err.fileno(), told.fileno()]
                socket.send_fds(self._ours, [json.dumps(request).encode()], streams)
                told.close()
                answers.settimeout(30)
                process = int(answers.recv(100))
                answers.settimeout(timeout)
                try:
                    code = int(answers.recv(100))
                except TimeoutError:
                    os.kill(process, signal.SIGKILL)
                    raise subprocess.TimeoutExpired(["ntro", *arguments], timeout) from None
            out.seek(0)
            err.seek(0)
            return code, out.read().decode(), err.read().decode()

    def _end(self) -> None:
        self._ours.close()
        self._process.wait(30)


@cache
def warm_ntro() -> WarmNtro:
    return WarmNtro()


def serve(asked: socket.socket) -> None:
    """Fork for each request, and tell how the fork ended, until whoever asks is gone."""
    for name in IMPORTED:
        import_module(name)
    assert threading.active_count() == 1  # no other one is left behind by a fork
    waiting = selectors.DefaultSelector()
    waiting.register(asked, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is not asked:
                waiting.unregister(key.fileobj)
                process, told = key.data
                told.sendall(str(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])).encode())
                told.close()
                os.close(key.fd)
                continue
            request, streams, _, _ = socket.recv_fds(asked, LONGEST, 4)
            if not request:
                return
            told = socket.socket(fileno=streams[3])
            process = os.fork()
            if process == 0:
                told.close()
                asked.close()
                _be(json.loads(request), streams[:3])
            for stream in streams[:3]:
                os.close(stream)
            told.sendall(str(process).encode())
            waiting.register(os.pidfd_open(process), selectors.EVENT_READ, (process, told))


def _be(request: dict[str, Any], streams: list[int]) -> NoReturn:
    """One command line, from its first line to its exit code."""
    code = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["directory"])
        sys.argv = ["ntro", *request["arguments"]]
        from ntro_dagster.cli.main import main  # noqa: PLC0415 - imported before the fork

        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
