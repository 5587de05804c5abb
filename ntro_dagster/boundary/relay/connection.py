"""One call to the workspace's half, and another try, and another: a restart of the workspace costs time, never an event.

The address comes from the environment: NTRO_RELAY is `unix:PATH`, or `https://HOST:PORT` with NTRO_RELAY_KEY_FILE (a file with
the tenant's key) and NTRO_RELAY_CA (a file with the certificate to trust).
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from uuid import UUID, uuid4

from ntro_dagster.boundary import vocabulary as words
from ntro_dagster.boundary.names import RELAY
from ntro_dagster.boundary.relay import encoding
from ntro_dagster.errors import NtroError, TransientError, UsageError

KEY_FILE = "NTRO_RELAY_KEY_FILE"
CA_FILE = "NTRO_RELAY_CA"

LONG_PATIENCE_S = 900.0
"""In a run worker: a run that waits is worth more than one that is lost."""
SHORT_PATIENCE_S = 20.0
"""In a thread that answers the workspace, which itself gives up after 60 s."""
CLEANUP_THREAD = "grpc-server-cleanup"
"""Dagster's thread that reports dead runs. It ends for good at its first error, so it is given a worker's patience."""

_COME_AGAIN = frozenset(
    {
        *(HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT),
        *(HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT),
    }
)
ANSWER_S = 10.0
"""Longer than the relay ever needs; what is asked again under the same key is not done twice."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0


class RelayAddressError(UsageError):
    """Values: `name`."""

    code = "RELAY_ADDRESS"
    summary = "this process does not know where the workspace's relay is"
    detail = "{name} is not set, or is not an address"
    mend = "start tenants' processes with `ntro up`, which gives them their environment"


class RelayAwayError(TransientError):
    code = "RELAY_AWAY"
    summary = "the workspace's relay does not answer"
    mend = "`ntro status` shows the process `relay`; what was asked for may or may not have been done"


class RelayRefusedError(NtroError):
    """The workspace's half said no. Values: `call`, `reason` (a code)."""

    code = "RELAY_REFUSED"
    summary = "the workspace refuses what a tenant's process asked of it"
    detail = "the workspace refused {call}: {reason}"
    mend = (
        "`ntro down`, then `ntro up`, where it is DEFINITION_NOT_DEPLOYED; a tenant's code may touch its own runs and assets only"
    )


class RelayKeyRefusedError(NtroError):
    code = "RELAY_KEY_REFUSED"
    summary = "the workspace does not know the key of this tenant's process, or it was revoked"
    mend = "`ntro relay key create` in the workspace's home makes another; its file is the one that NTRO_RELAY_KEY_FILE names"


@dataclass(frozen=True)
class Sent:
    """What is about to be sent.

    Attributes:
        key: the same for each try of one call.
        call: name of a method of Dagster's storages.
        run_id: of an event.
        body: every byte of the message.
        told: the event as Dagster made it, before the wall, or several, a line each; None for other calls.
    """

    key: UUID
    call: str
    run_id: str | None
    body: bytes
    told: str | None


def _keep_nothing(_: Sent) -> None: ...


keep: Callable[[Sent], None] = _keep_nothing
"""What is done with each message before it is sent: a tenant's process puts its journal here."""

patience_s: float = SHORT_PATIENCE_S
"""How long this process tries; run workers set it to `LONG_PATIENCE_S`."""

_local = threading.local()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("relay", timeout=ANSWER_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _open() -> tuple[http.client.HTTPConnection, dict[str, str]]:
    kind, _, where = os.environ.get(RELAY, "").partition(":")
    if kind == "unix":
        return _UnixConnection(where), {}
    host, _, port = where.removeprefix("//").rpartition(":")
    if kind != "https" or not host or not port.isdigit():
        raise RelayAddressError(name=RELAY)
    if not os.environ.get(KEY_FILE):
        raise RelayAddressError(name=KEY_FILE)
    trust = ssl.create_default_context(cafile=os.environ.get(CA_FILE))
    try:
        key = Path(os.environ[KEY_FILE]).read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise RelayAddressError(name=KEY_FILE) from None
    return http.client.HTTPSConnection(host, int(port), timeout=ANSWER_S, context=trust), {"Authorization": f"Bearer {key}"}


def _connection() -> tuple[http.client.HTTPConnection, dict[str, str]]:
    """One for each thread; a forked process makes its own."""
    if getattr(_local, "owner", None) != os.getpid():
        _local.opened, _local.owner = _open(), os.getpid()
    opened: tuple[http.client.HTTPConnection, dict[str, str]] = _local.opened
    return opened


def forget() -> None:
    """Close this thread's connection; the next call looks for the address anew."""
    if getattr(_local, "owner", None) == os.getpid():
        _local.opened[0].close()
    _local.owner = None


def call(
    name: str, body: bytes, *, run_id: str | None = None, told: Callable[[], str] | None = None, key: UUID | None = None
) -> bytes:
    """Ask until there is an answer.

    Args: `key`: that of an earlier call, which this one completes if it was not done.

    Raises:
        RelayAwayError: none came within this process's patience.
        RelayRefusedError: the answer is no.
        RelayAddressError: nowhere to ask.
    """
    key = key or uuid4()
    _keep(key, name, run_id, body, told)
    patience = LONG_PATIENCE_S if threading.current_thread().name == CLEANUP_THREAD else patience_s
    deadline, pause = time.monotonic() + patience, FIRST_PAUSE_S
    while True:
        answer = _try(name, body, key)
        if answer is not None:
            return answer
        if time.monotonic() + pause > deadline:
            raise RelayAwayError
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)


def keep_to_ourselves(name: str, run_id: str, told: Callable[[], str]) -> None:
    """What nothing may be sent of."""
    _keep(uuid4(), name, run_id, b"", told)


def _keep(key: UUID, name: str, run_id: str | None, body: bytes, told: Callable[[], str] | None) -> None:
    if keep is not _keep_nothing:
        keep(Sent(key, name, run_id, body, told() if told else None))


def _try(name: str, body: bytes, key: UUID) -> bytes | None:
    """None: no answer, or one that says to come back."""
    connection, identity = _connection()
    headers = {"Idempotency-Key": str(key), "Content-Type": "application/json", **identity}
    try:
        connection.request("POST", f"/v1/{name}", body, headers)
        response = connection.getresponse()
        said = response.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return None
    if response.status == HTTPStatus.OK:
        return said
    if response.status == HTTPStatus.UNAUTHORIZED:
        _look_for_another_key(identity)
        return None
    if response.status in _COME_AGAIN:
        return None
    raise RelayRefusedError(call=name, reason=_reason(said))


def _look_for_another_key(refused: dict[str, str]) -> None:
    """Whoever replaces a key writes the file first and revokes then: the file is read again, and decides.

    Raises: RelayKeyRefusedError.
    """
    forget()
    if _connection()[1] == refused:
        forget()
        raise RelayKeyRefusedError


def _reason(said: bytes) -> str:
    try:
        return words.code(encoding.loads(said))
    except encoding.RelayProtocolError:
        return words.UNEXPECTED
