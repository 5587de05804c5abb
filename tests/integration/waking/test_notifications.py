"""A listener of a database: hears what is said, survives the end of its connection, says that it may have missed something."""

from __future__ import annotations

import queue
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg
import pytest

from ntro_dagster.boundary.notifications import Notifications
from ntro_dagster.platforms.postgres.server import PostgresServer

DEADLINE_S = 30.0
CHANNEL = "a channel"
NOTHING: frozenset[str] = frozenset()


@dataclass
class Heard:
    """A listener, and who talks to it."""

    url: str
    name: str
    calls: queue.Queue[frozenset[str]] = field(default_factory=queue.Queue)
    trouble: bool = False

    def hear(self, said: frozenset[str]) -> None:
        self.calls.put(said)
        if self.trouble:
            raise RuntimeError

    def next(self) -> frozenset[str]:
        return self.calls.get(timeout=DEADLINE_S)

    def say(self, *words: str) -> None:
        """In one transaction."""
        with psycopg.connect(self.url) as connection:
            for word in words:
                connection.execute("SELECT pg_notify(%s, %s)", [CHANNEL, word])

    def terminate(self) -> int:
        with psycopg.connect(self.url) as connection:
            return connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s", [self.name]
            ).rowcount


@pytest.fixture
def heard(postgres_server: PostgresServer) -> Iterator[Heard]:
    made = Heard(postgres_server.admin_dsn(), f"listener {secrets.token_hex(4)}")
    listening = Notifications(made.url, CHANNEL, made.hear, name=made.name)
    listening.start()
    assert made.next() == NOTHING  # connected
    yield made
    listening.close()


def test_what_is_said_together_is_heard_together(heard: Heard) -> None:
    heard.say("acme", "beta", "acme")
    assert heard.next() == {"acme", "beta"}
    heard.say("")
    assert heard.next() == {""}
    assert heard.calls.empty()


def test_it_comes_back_when_its_session_is_ended_and_says_so(heard: Heard) -> None:
    for word in ("one", "two"):
        assert heard.terminate() == 1
        assert heard.next() == NOTHING
        heard.say(word)
        assert heard.next() == {word}


def test_trouble_of_who_is_called_does_not_end_it(heard: Heard) -> None:
    heard.trouble = True
    heard.say("one")
    assert heard.next() == {"one"}
    heard.say("two")
    assert heard.next() == {"two"}


def test_it_waits_for_a_database_that_is_not_there_yet(postgres_server: PostgresServer) -> None:
    name = f"later_{secrets.token_hex(4)}"
    calls: queue.Queue[frozenset[str]] = queue.Queue()
    listening = Notifications(postgres_server.admin_dsn(name), CHANNEL, calls.put, name=name)
    listening.start()
    with psycopg.connect(postgres_server.admin_dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
        assert calls.get(timeout=DEADLINE_S) == NOTHING
        listening.close()
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def test_it_keeps_a_distance_and_forgets_nothing(postgres_server: PostgresServer) -> None:
    made = Heard(postgres_server.admin_dsn(), f"slow {secrets.token_hex(4)}")
    listening = Notifications(made.url, CHANNEL, made.hear, name=made.name, least_s=0.3)
    listening.start()
    assert made.next() == NOTHING  # before that, what is said is not heard
    words = {f"word {number}" for number in range(40)}
    for word in sorted(words):
        made.say(word)
    told: list[frozenset[str]] = []
    while not words <= frozenset().union(*told):
        told.append(made.next())
    assert len(told) < len(words) / 2
    listening.close()
