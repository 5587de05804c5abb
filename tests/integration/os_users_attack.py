"""What a process of one user can do to what belongs to others: prints, as JSON, whatever it could. Argument: what to try."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path


def read(path: str) -> bool:
    place = Path(path)
    return bool(list(place.iterdir()) if place.is_dir() else place.open("rb").close()) or True


def write(path: str) -> bool:
    place = Path(path)
    if place.is_dir():
        (place / "planted").touch()
        (place / "planted").unlink()
    else:
        place.open("ab").close()
    return True


def connect(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(path)
    return True


def environ(pid: str) -> bool:
    return bool(Path("/proc", pid, "environ").read_bytes())


def memory(pid: str) -> bool:
    """One page of its stack."""
    stack = next(line for line in Path("/proc", pid, "maps").read_text().splitlines() if line.endswith("[stack]"))
    first, last = (int(part, 16) for part in stack.split()[0].split("-"))
    with Path("/proc", pid, "mem").open("rb", buffering=0) as mem:
        mem.seek(last - 4096)
        return bool(mem.read(4096)) and first < last


def signal(pid: str) -> bool:
    os.kill(int(pid), 0)
    return True


TRICKS = {trick.__name__: trick for trick in (read, write, connect, environ, memory, signal)}

if __name__ == "__main__":
    could = []
    for name, target in json.loads(sys.argv[1]):
        try:
            if TRICKS[name](target):
                could.append([name, target])
        except OSError:
            continue
    print(json.dumps(could))
