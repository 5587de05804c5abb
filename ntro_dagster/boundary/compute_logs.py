"""What a run prints: to a file of the tenant's, and never to the workspace.

`compute_logs:` of dagster.yaml names `TenantComputeLogs` for every process of an installation. In a tenant's process
(NTRO_TENANT and NTRO_LOGS in its environment) it turns file descriptors 1 and 2 to `<logs>/runs/<run id>.log` while steps run,
so that C code and child processes are heard too. Everywhere else it captures nothing; and nowhere does it read such a file:
whoever asks through Dagster is told the command that shows it.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from dagster._core.storage.compute_log_manager import (
    CapturedLogContext,
    CapturedLogMetadata,
    CapturedLogSubscription,
    ComputeIOType,
    ComputeLogManager,
)
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from ntro_dagster.boundary import vocabulary as words
from ntro_dagster.boundary.tenant_logs import logs_directory, run_log, ticks_log

SHOWN = "The output of this run stays with its tenant. To see it: ntro run logs {run} --tenant TENANT\n"
"""All that Dagster's pages say about it."""


class TenantComputeLogs(ComputeLogManager[Any], ConfigurableClass):
    """`compute_logs:` of dagster.yaml, without configuration."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        return self._inst_data

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> TenantComputeLogs:
        return cls(inst_data=inst_data)

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Iterator[CapturedLogContext]:
        logs, run_id = logs_directory(), words.uuid(log_key[0]) if log_key else None
        with ExitStack() as capture:
            if logs and run_id:
                capture.enter_context(_turned_to(_appended(run_log(logs, run_id))))
                capture.enter_context(_loggers_heard())
            yield CapturedLogContext(log_key=log_key)

    @contextmanager
    def open_log_stream(self, log_key: Sequence[str], io_type: ComputeIOType) -> Iterator[IO[Any] | None]:
        """What sensors and schedules log."""
        logs = logs_directory()
        if logs is None:
            yield None
            return
        with os.fdopen(_appended(ticks_log(logs)), "a", encoding="utf-8", errors="backslashreplace") as stream:
            yield stream

    def is_capture_complete(self, log_key: Sequence[str]) -> bool:
        return True

    def get_log_data_for_type(
        self, log_key: Sequence[str], io_type: ComputeIOType, offset: int, max_bytes: int | None
    ) -> tuple[bytes | None, int]:
        said = SHOWN.format(run=(words.uuid(log_key[0]) if log_key else None) or "RUN").encode()
        end = len(said) if max_bytes is None else offset + max_bytes
        return said[offset:end], min(end, len(said))

    def get_log_metadata(self, log_key: Sequence[str]) -> CapturedLogMetadata:
        return CapturedLogMetadata()

    def get_log_keys_for_log_key_prefix(self, log_key_prefix: Sequence[str], io_type: ComputeIOType) -> Sequence[list[str]]:
        return []

    def delete_logs(self, log_key: Sequence[str] | None = None, prefix: Sequence[str] | None = None) -> None:
        """Nothing: whoever deletes a run in the workspace does not delete what the tenant keeps."""

    def subscribe(self, log_key: Sequence[str], cursor: str | None = None) -> CapturedLogSubscription:
        return CapturedLogSubscription(self, log_key, cursor)

    def unsubscribe(self, subscription: CapturedLogSubscription) -> None: ...


def _appended(path: Path) -> int:
    """A descriptor that appends to `path`, which only its owner may read."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


@contextmanager
def _turned_to(target: int) -> Iterator[None]:
    """Descriptors 1 and 2 write to `target`, which is closed in the end; line by line, so that a kill loses no line."""
    before = {number: os.dup(number) for number in (1, 2)}
    lazy = [stream for stream in (sys.stdout, sys.stderr) if getattr(stream, "line_buffering", True) is False]
    try:
        _flush()
        for number in before:
            os.dup2(target, number)
        for stream in lazy:
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        yield
    finally:
        _flush()
        for number, original in before.items():
            os.dup2(original, number)
            os.close(original)
        for stream in lazy:
            stream.reconfigure(line_buffering=False)  # type: ignore[union-attr]
        os.close(target)


def _flush() -> None:
    """Python's buffers and those of C, which would come out in the wrong place otherwise, or never."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    with suppress(OSError):
        ctypes.CDLL(None).fflush(None)


@contextmanager
def _loggers_heard() -> Iterator[None]:
    """Every logger from INFO on; Python by itself would drop what is below WARNING."""
    root, level = logging.getLogger(), logging.getLogger().level
    handler = logging.StreamHandler(_CurrentStderr())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.addHandler(handler)
    root.setLevel(min(level, logging.INFO) if level else logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


class _CurrentStderr:
    """`sys.stderr` as it is at the time."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()
