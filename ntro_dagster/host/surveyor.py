"""The process that surveys are forked from (`tenant.surveyor`), one for each process of ours that asks for any."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping

from ntro_dagster.host.launch import basics

BLOCK = 1 << 16


class SurveyorGoneError(Exception):
    """It died, or was never there: whoever asked may start a process for the one survey."""


class Surveyor:
    """Any thread may ask; the first starts it."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._running: tuple[subprocess.Popen[bytes], socket.socket] | None = None

    def close(self) -> None:
        """End the process, which otherwise ends with ours."""
        if self._running is not None:
            process, asking = self._running
            self._running = None
            asking.close()
            process.kill()
            process.wait()

    def ask(self, environment: Mapping[str, str], complaints: int, *, user: int | None, seconds: float) -> bytes:
        """What the survey writes until it ends.

        Args: `environment`: the whole of it; `complaints`: descriptor for whatever the code says; `user`: whom it becomes.

        Raises: `SurveyorGoneError`; subprocess.TimeoutExpired, when it was killed.
        """
        answer, end = os.pipe()
        try:
            process = self._begin({"environment": dict(environment), "user": user}, end, complaints, seconds)
        except OSError as error:
            os.close(answer)
            raise SurveyorGoneError from error
        finally:
            os.close(end)
        try:
            return _read(answer, seconds)
        except BaseException:  # also a Ctrl-C
            if process is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(process, signal.SIGKILL)
            raise
        finally:
            os.close(answer)
            if process is not None:
                os.close(process)

    def _begin(self, request: Mapping[str, object], answer: int, complaints: int, seconds: float) -> int | None:
        """A descriptor of the process, None where it has ended already. Raises: OSError."""
        with self._turn:
            if self._running is None:
                self._running = _started()
            try:
                asking = self._running[1]
                asking.settimeout(seconds)
                socket.send_fds(asking, [json.dumps(request).encode()], [answer, complaints])
                said, process, _, _ = socket.recv_fds(asking, 1, 1)
                if not said:
                    raise ConnectionResetError
            except OSError:
                self.close()
                raise
        return process[0] if process else None


def _started() -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        process = subprocess.Popen(
            [sys.executable, "-m", "ntro_dagster.tenant.surveyor", str(its.fileno())],
            env=basics(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # where it cannot be had, the process for the one survey tells why
            pass_fds=[its.fileno()],
            start_new_session=True,  # a Ctrl-C is ours
        )
    return process, ours


def _read(answer: int, seconds: float) -> bytes:
    """Raises: subprocess.TimeoutExpired."""
    deadline = time.monotonic() + seconds
    blocks: list[bytes] = []
    with selectors.DefaultSelector() as selector:
        selector.register(answer, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            block = os.read(answer, BLOCK)
            if not block:
                return b"".join(blocks)
            blocks.append(block)
    raise subprocess.TimeoutExpired("survey", seconds)
