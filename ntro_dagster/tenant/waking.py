"""Has the workspace look at this tenant's sensors as soon as there may be work for them, instead of at their next tick.

The database says that there is (migrations/020_wake.sql), this process listens and says so to the relay: the word `wake`, without
content. Where any part of that is down, work waits for the tick. Environment: NTRO_WAKE=off has every work wait for it.
"""

from __future__ import annotations

import logging
import os

from ntro_dagster.boundary.notifications import Notifications
from ntro_dagster.boundary.relay import connection
from ntro_dagster.boundary.relay.calls import WAKE
from ntro_dagster.errors import NtroError

CHANNEL = "ntro_work"
NAME = "ntro wake"
SWITCH = "NTRO_WAKE"
LEAST_S = 0.5
"""Between two words to the relay, which passes on one a second: what many documents or decisions say is said once."""

logger = logging.getLogger("ntro.waking")


def start_waking(url: str) -> Notifications | None:
    """From now on, until the process ends. None: it is switched off.

    Args:
        url: of the tenant's database, as any role that may log in.
    """
    if os.environ.get(SWITCH) == "off":
        return None
    listening = Notifications(url, CHANNEL, _tell, name=NAME, least_s=LEAST_S)
    listening.start()
    return listening


def _tell(_: frozenset[str]) -> None:
    """Also when the connection has just been made: what was said before nobody heard."""
    try:
        connection.call(WAKE, b"")
    except NtroError as error:
        logger.warning("the workspace was not woken: %s", error.explain())
