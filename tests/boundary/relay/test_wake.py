"""The word `wake`: it has no content, is told of nobody but who said it, and no flood of it arrives."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator

import pytest
from dagster import DagsterEvent, DagsterEventType
from test_relay import Wire
from world import World, serving, world

from ntro_dagster.boundary.notifications import Notifications
from ntro_dagster.boundary.relay.calls import WAKE
from ntro_dagster.boundary.relay.waker import CHANNEL, ENDED, LEAST_S
from ntro_dagster.platforms.postgres.server import PostgresServer
from ntro_dagster.workspace.relay import RelayServer

DEADLINE_S = 30.0


@pytest.fixture(scope="module")
def here(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(postgres_server, tmp_path_factory.mktemp("wake")) as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
def relay(here: World) -> Iterator[RelayServer]:
    with serving(here) as server:
        yield server


@pytest.fixture
def heard(here: World) -> Iterator[queue.Queue[frozenset[str]]]:
    """What the daemon hears, call by call; everything that is on its way has arrived."""
    calls: queue.Queue[frozenset[str]] = queue.Queue()
    listening = Notifications(here.url, CHANNEL, calls.put, name="test")
    listening.start()
    assert calls.get(timeout=DEADLINE_S) == frozenset()
    yield calls
    listening.close()


def say(here: World, tenant: str, call: str = WAKE, body: bytes = b"", method: str = "POST") -> tuple[int, bytes]:
    wire = Wire(here.socket(tenant))
    try:
        return wire.say(call, body, method=method)
    finally:
        wire.close()


def until(heard: queue.Queue[frozenset[str]], tenant: str) -> list[str]:
    """Everybody that is heard of, in order, up to `tenant`."""
    found: list[str] = []
    while tenant not in found:
        found += sorted(heard.get(timeout=DEADLINE_S), key=lambda slug: slug == tenant)
    return found


def test_the_daemon_hears_who_it_was_and_nothing_else(here: World, heard: queue.Queue[frozenset[str]]) -> None:
    assert say(here, "acme") == (200, b"null")
    assert until(heard, "acme") == ["acme"]


def test_a_wake_with_content_is_refused(here: World, heard: queue.Queue[frozenset[str]]) -> None:
    for body in (b"x", b'{"tenant": "beta"}'):
        assert say(here, "acme", body=body) == (413, b'"RELAY_PROTOCOL"')
    assert say(here, "acme", method="GET")[0] == 403
    assert say(here, "acme", call=f"{WAKE}/beta")[0] == 403
    say(here, "beta")
    assert until(heard, "beta") == ["beta"]


def test_of_a_flood_one_a_second_arrives_and_the_last_is_not_lost(here: World, heard: queue.Queue[frozenset[str]]) -> None:
    say(here, "acme")
    assert until(heard, "acme") == ["acme"]
    wire = Wire(here.socket("acme"))
    began = time.monotonic()
    for _ in range(300):
        assert wire.say(WAKE, b"")[0] == 200
    flooded_s = time.monotonic() - began
    wire.close()
    arrived = until(heard, "acme")
    while True:
        try:
            arrived += sorted(heard.get(timeout=2 * LEAST_S))
        except queue.Empty:
            break
    assert set(arrived) == {"acme"}
    assert len(arrived) <= flooded_s / LEAST_S + 2


def test_the_end_of_a_run_wakes_its_tenant(here: World, heard: queue.Queue[frozenset[str]]) -> None:
    run = here.create_run("acme")
    with here.tenant("acme") as acme:
        here.execute(acme, run, "acme")
    assert until(heard, "acme") == ["acme"]


def test_each_end_of_a_run_is_told_to_the_queue_at_once(here: World) -> None:
    ends: queue.Queue[frozenset[str]] = queue.Queue()
    listening = Notifications(here.url, ENDED, ends.put, name="test")
    listening.start()
    assert ends.get(timeout=DEADLINE_S) == frozenset()
    try:
        for _ in range(3):  # within a second, of which the sensors hear once
            run = here.create_run("acme")
            with here.tenant("acme") as acme:
                acme.report_dagster_event(DagsterEvent(DagsterEventType.RUN_START.value, run.job_name), run.run_id)
                acme.report_dagster_event(DagsterEvent(DagsterEventType.RUN_SUCCESS.value, run.job_name), run.run_id)
            assert ends.get(timeout=DEADLINE_S) == {""}, "without a word of whose"
        assert ends.empty(), "nothing but ends"
    finally:
        listening.close()


@pytest.mark.parametrize("kind", [DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED])
def test_every_end_counts_and_nothing_else(
    here: World, relay: RelayServer, kind: DagsterEventType, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: queue.Queue[str] = queue.Queue()

    def report(slug: str, said: DagsterEventType) -> None:
        run = here.create_run(slug)
        with here.tenant(slug) as opened:
            opened.report_dagster_event(DagsterEvent(said.value, run.job_name), run.run_id)

    report("acme", DagsterEventType.RUN_START)  # once it is stored, the ends of the tests before have been told
    monkeypatch.setattr(relay._relay.writer, "_ended", ended.put)
    report("acme", DagsterEventType.RUN_START)
    report("beta", kind)
    assert ended.get(timeout=DEADLINE_S) == "beta"
