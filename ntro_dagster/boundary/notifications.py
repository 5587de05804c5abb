"""Listening to a channel of a PostgreSQL database for as long as the process lives: a thread and a connection, and no work while
nothing is said.

A hint, never a promise: what is said while the connection is away is not heard; whoever listens is called with nothing when it is
back.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql

logger = logging.getLogger("ntro.notifications")

CONNECT_S = 5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
_ALIVE: dict[str, Any] = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000}
"""A server that vanished without a word is missed within a minute."""


class Notifications:
    """`Notifications(url, "channel", heard, name="ntro wake").start()`"""

    def __init__(
        self, url: str, channel: str, heard: Callable[[frozenset[str]], None], *, name: str, least_s: float = 0.0
    ) -> None:
        """Args:
        heard: called on a thread of its own with the payloads of all that was said since the last time.
        name: of the connection, as PostgreSQL shows it.
        least_s: seconds between two calls; what is said in between is one call.
        """
        self._url = url
        self._channel = channel
        self._heard = heard
        self._name = name
        self._least_s = least_s
        self._ending = threading.Event()
        self._end, self._ended = socket.socketpair()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Return once nothing more will be heard."""
        self._ending.set()
        self._end.close()
        self._thread.join()
        self._ended.close()

    def _work(self) -> None:
        pause = FIRST_PAUSE_S
        while not self._ending.is_set():
            try:
                with psycopg.connect(
                    self._url, autocommit=True, application_name=self._name, connect_timeout=CONNECT_S, **_ALIVE
                ) as connection:
                    connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
                    pause = FIRST_PAUSE_S
                    self._listen(connection)
            except psycopg.Error:
                logger.warning("%s: the database does not answer; trying again in %.1f s", self._name, pause)
                self._ending.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)

    def _listen(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        waiting = select.poll()  # psycopg's own way to wait looks up ten times a second
        waiting.register(connection.fileno(), select.POLLIN)
        waiting.register(self._ended, select.POLLIN)
        self._pass_on(frozenset())
        while not self._ending.is_set():
            waiting.poll()
            said = frozenset(each.payload for each in connection.notifies(timeout=0))
            if said:  # else it was the server's own business
                self._pass_on(said)

    def _pass_on(self, said: frozenset[str]) -> None:
        try:
            self._heard(said)
        except Exception:
            logger.exception("%s: what was heard could not be passed on", self._name)
        self._ending.wait(self._least_s)
