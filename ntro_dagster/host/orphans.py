"""Children that outlived their supervisor: how they are recognised, and stopped."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from ntro_dagster.errors import NtroError
from ntro_dagster.host.permissions import write_private

POLL = 0.05  # seconds between two looks at a condition
CLOCK_TOLERANCE = 1.0  # seconds; psutil derives start times from the wall clock of boot
SUFFIX = ".pid.json"
LAUNCHER, RECORD_OPTION, STOP_OPTION = "ntro_dagster.host.launch", "--record", "--stop-signal"


class SupervisorStopError(NtroError):
    """Processes outlived the deadline. Values: `names`."""

    code = "SUPERVISOR_STOP_FAILED"
    summary = "some processes did not stop in time"
    detail = "still running after the deadline: {names}"
    mend = "Try again; `ntro status` shows their process ids."


@dataclass(frozen=True)
class ProcessRecord:
    """What a child leaves in its pid file: enough to recognise it later, and never to mistake another for it.

    Attributes:
        created: start of the process, seconds since the epoch, as psutil tells it.
        starts: how often this child was started since its supervisor was.
    """

    pid: int
    created: float
    starts: int
    stop_signal: str

    @classmethod
    def read(cls, path: Path) -> ProcessRecord | None:
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        write_private(path, json.dumps(asdict(self)))

    def process(self) -> psutil.Process | None:
        """The process, if it is alive and the very same, not a later one under a recycled pid."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < CLOCK_TOLERANCE
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


def stop_orphans(directory: Path, timeout: float = 30.0) -> None:
    """Stop whatever of the pid files in `directory` is still alive, the database last, and clear the files away.

    Raises:
        SupervisorStopError: one survives even SIGKILL.
    """
    left = [*_launching(directory)]  # first: one that leaves its record in between is found by that
    files = list(directory.glob(f"*{SUFFIX}"))
    left += [(path.name.removesuffix(SUFFIX), record) for path in files if (record := ProcessRecord.read(path)) is not None]
    for is_database in (False, True):
        _stop([(name, record) for name, record in left if (name == "postgres") is is_database], timeout)
    for path in files:
        path.unlink(missing_ok=True)


def _launching(directory: Path) -> Iterator[tuple[str, ProcessRecord]]:
    """Of a busy machine: children that will leave a record in `directory`, and have not yet (`host.launch`)."""
    for process in psutil.process_iter(["cmdline", "uids", "create_time"]):
        known = process.info
        words = known["cmdline"] or []
        if LAUNCHER not in words or RECORD_OPTION not in words or known["uids"].real != os.getuid():
            continue
        path = Path(words[words.index(RECORD_OPTION) + 1])
        if path.parent == directory:
            stop_signal = words[words.index(STOP_OPTION) + 1]
            yield path.name.removesuffix(SUFFIX), ProcessRecord(process.pid, known["create_time"], 0, stop_signal)


def _stop(left: Iterable[tuple[str, ProcessRecord]], timeout: float) -> None:
    processes = [(name, record, process) for name, record in left if (process := record.process())]
    for _, record, process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.Signals[f"SIG{record.stop_signal}"])
    if until(lambda: all(gone(process) for _, _, process in processes), timeout):
        return
    stubborn = {name: process for name, _, process in processes if not gone(process)}
    for process in stubborn.values():
        with suppress(psutil.NoSuchProcess):
            for child in process.children(recursive=True):
                child.kill()
            process.kill()
    if not until(lambda: all(gone(process) for process in stubborn.values()), timeout):
        raise SupervisorStopError(names=", ".join(stubborn))


def gone(process: psutil.Process) -> bool:
    """Dead, or a zombie that nobody reaps (a container without an init)."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def until(condition: Callable[[], bool], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL)
    return True
