"""What a process holds: its environment, its command line, what it has open, its memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

CHUNK = 2**22


def family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def holds(process: psutil.Process, secret: bytes) -> bool:
    """Whether it stands in the environment, the command line or anywhere in the memory of a process."""
    told = [Path(f"/proc/{process.pid}/{name}").read_bytes() for name in ("environ", "cmdline")]
    return any(secret in part for part in told) or any(secret in part for part in _memory(process.pid))


def _memory(pid: int) -> Iterator[bytes]:
    overlap = 256
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            area, rights, *_ = line.split()
            start, end = (int(part, 16) for part in area.split("-"))
            if "w" not in rights or "[v" in line:  # what was written: the rest is files as they lie on the disk
                continue
            position = start
            while position < end:
                try:
                    memory.seek(position)
                    yield memory.read(min(CHUNK, end - position))
                except OSError:  # gone, or not to be read
                    break
                position += CHUNK - overlap


def libraries(process: psutil.Process) -> str:
    return Path(f"/proc/{process.pid}/maps").read_text()
