"""Ports of this machine's loopback."""

from __future__ import annotations

import socket
from collections.abc import Container

from ntro_dagster.errors import NtroError

SEARCHED = 200


class NoPortFreeError(NtroError):
    """Values: `first`, `last`."""

    code = "NO_PORT_FREE"
    summary = "no port is free for a process of this home"
    detail = "none of the ports {first} to {last} of 127.0.0.1 is free"
    mend = "`ss -ltn` shows who listens; stop what is not needed, and start again"


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(first: int, taken: Container[int | None] = ()) -> int:
    """The first free port from `first` on, so that two homes on one machine do not meet. Raises: `NoPortFreeError`."""
    for port in range(first, first + SEARCHED):
        if port not in taken and is_free(port):
            return port
    raise NoPortFreeError(first=first, last=first + SEARCHED - 1)
