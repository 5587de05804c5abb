"""Has imported what every survey imports, and forks a process for each: `python -m ntro_dagster.tenant.surveyor SOCKET`.

Whoever starts it asks over the socket (`host.surveyor`), and it ends when nobody holds the other end. It has no data, no
credential and no tenant; what one tenant is asked with is wiped before the next is asked.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
from functools import partial

from ntro_dagster.startup import import_plain, pause_collector
from ntro_dagster.tenant.forked import live_out

LONGEST_REQUEST = 64 * 2**10
PRELOADED = (
    "dagster._core.remote_representation.external_data",
    "ntro_dagster.orchestration.month_end",
    "ntro_dagster.tenant.survey",
)


def serve(asked: socket.socket) -> None:
    """A message is a request with two descriptors, for the answer and for complaints; the answer to it is one of the process."""
    request = bytearray(LONGEST_REQUEST)
    while True:
        size, ancillary, _, _ = asked.recvmsg_into([request], socket.CMSG_SPACE(2 * 4))
        if not size:
            return
        given = [int.from_bytes(data[at : at + 4], sys.byteorder) for _, _, data in ancillary for at in (0, 4)]
        process = os.fork()
        if not process:
            asked.close()
            live_out(partial(_survey, request[:size], *given))
        request[:size] = bytes(size)
        for each in given:
            os.close(each)
        try:
            known = os.pidfd_open(process)
        except ProcessLookupError:  # it is over
            asked.send(b"-")
            continue
        socket.send_fds(asked, [b"+"], [known])
        os.close(known)


def _survey(asked: bytearray, answer: int, complaints: int) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(answer, 1)
    os.dup2(complaints, 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    request = json.loads(asked)
    os.environ.clear()
    os.environ.update(request["environment"])
    if (user := request["user"]) is not None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    importlib.invalidate_caches()
    from ntro_dagster.tenant.survey import main as survey  # noqa: PLC0415 - it is there

    survey()


def main() -> None:
    os.umask(0o077)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    pause_collector()
    import_plain("dagster._core.storage.base_storage", *PRELOADED)
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        serve(asked)


if __name__ == "__main__":
    main()
