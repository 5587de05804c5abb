"""Where the relay of a home listens for tenants on other hosts."""

from __future__ import annotations

import socket

from ntro_dagster.errors import TransientError
from ntro_dagster.host.installation import RELAY, Installation
from ntro_dagster.host.orphans import until
from ntro_dagster.host.permissions import write_private
from ntro_dagster.workspace.relay_listener import ListenerSettings

PATIENCE_S = 15.0


class NotListeningError(TransientError):
    """Values: `address`, `port`, `log`."""

    code = "RELAY_NOT_LISTENING"
    summary = "the relay does not listen yet"
    detail = "nothing answers on {address} port {port} yet"
    mend = "{log} says why; `ntro up` starts the relay where it does not run"


def listen(installation: Installation, settings: ListenerSettings) -> bool:
    """From now on, and after every start. Whether a running relay was told; without one it will at its start.

    Raises: RelayListenerError, NotListeningError.
    """
    settings.context()
    write_private(
        installation.home.relay_listener, settings.model_dump_json(indent=2) + "\n", readers=installation.home.workspace_user
    )
    if not _tell(installation):
        return False
    if not until(lambda: _answers(settings), PATIENCE_S):
        log = installation.home.logs / "relay.log"
        raise NotListeningError(address=settings.address, port=settings.port, log=log)
    return True


def stop_listening(installation: Installation) -> None:
    """Connections that are open stay until their keys are revoked or the relay ends."""
    installation.home.relay_listener.unlink(missing_ok=True)
    _tell(installation)


def _tell(installation: Installation) -> bool:
    if not any(process.name == RELAY and process.state == "RUNNING" for process in installation.supervisor.status()):
        return False
    installation.supervisor.signal(RELAY, "HUP")
    return True


def _answers(settings: ListenerSettings) -> bool:
    where = settings.address
    host = ("::1" if where.version == 6 else "127.0.0.1") if where.is_unspecified else str(where)  # noqa: PLR2004
    with socket.socket(socket.AF_INET6 if where.version == 6 else socket.AF_INET) as probe:  # noqa: PLR2004
        probe.settimeout(1.0)
        return probe.connect_ex((host, settings.port)) == 0
