"""No tenant slows another: turns with the writer, a bound on what waits, and bodies looked at before anybody's turn."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import islice
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from test_relay import Wire, _engine_events, _event
from world import World, names, serving, world

from ntro_dagster.boundary.pool import pooled_engine, transaction
from ntro_dagster.boundary.relay import connection, encoding, service
from ntro_dagster.boundary.relay.turns import TooManyWaitingError, Turns
from ntro_dagster.boundary.relay.writer import LARGEST_BATCH, MOST_WAITING, KeyReusedError, Write, Writer
from ntro_dagster.platforms.postgres.server import PostgresServer
from ntro_dagster.workspace.relay import RelayServer

DEADLINE_S = 30.0


@dataclass(frozen=True, eq=False)
class Item:
    tenant: str
    number: int


@given(st.lists(st.sampled_from("abc"), max_size=60), st.integers(1, 7))
def test_everybody_is_next_before_anybody_is_twice(tenants: list[str], most: int) -> None:
    turns: Turns[Item] = Turns(60)
    items = [Item(tenant, number) for number, tenant in enumerate(tenants)]
    for item in items:
        turns.put(item)
    turns.close()
    taken: list[Item] = []
    while batch := turns.take(most):
        assert len(batch) <= most
        taken += batch
    assert sorted(item.number for item in taken) == list(range(len(items)))
    left = Counter(tenants)
    since: dict[str, int] = {}
    for place, item in enumerate(taken):
        others = {tenant for tenant, number in left.items() if number and tenant != item.tenant}
        between = {each.tenant for each in taken[since.get(item.tenant, place) : place]}
        assert item.tenant not in since or others <= between
        left[item.tenant] -= 1
        since[item.tenant] = place
    for tenant in "abc":
        own = [item.number for item in taken if item.tenant == tenant]
        assert own == sorted(own)


def test_who_has_much_waiting_is_told_to_come_again_and_the_others_are_not() -> None:
    turns: Turns[Item] = Turns(3)
    for number in range(3):
        turns.put(Item("flood", number))
    with pytest.raises(TooManyWaitingError):
        turns.put(Item("flood", 3))
    turns.put(Item("quiet", 0))
    assert [item.tenant for item in turns.take(2)] == ["flood", "quiet"]


def test_what_failed_together_is_taken_one_by_one_and_a_newcomer_comes_between() -> None:
    turns: Turns[Item] = Turns(9)
    for number in range(4):
        turns.put(Item("flood", number))
    failed = turns.take(9)
    turns.put(Item("flood", 4))
    turns.put_back_alone(failed)
    turns.put(Item("quiet", 0))
    turns.close()
    batches = []
    while batch := turns.take(9):
        batches.append([(item.tenant, item.number) for item in batch])
    assert batches[:2] == [[("flood", 0)], [("quiet", 0)]]
    assert batches[2:] == [[("flood", 1)], [("flood", 2)], [("flood", 3)], [("flood", 4)]]


# -- the writer


@pytest.fixture(scope="module")
def here(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(postgres_server, tmp_path_factory.mktemp("turns")) as made:
        yield made


class Recorder:
    """A writer whose work is to say whose turn it was."""

    def __init__(self, here: World) -> None:
        self.engine = pooled_engine(here.url)
        self.writer = Writer(self.engine, here.workspace)
        self.done: list[str] = []

    def submit(self, tenant: str, more: Callable[[], None] = lambda: None, *, key: UUID | None = None) -> Write:
        def do() -> bytes:
            more()
            self.done.append(tenant)
            return encoding.dumps(None)

        write = Write(tenant, key or uuid4(), b"x" * 32, do)
        self.writer.submit(write)
        return write


def test_a_flood_keeps_a_quiet_tenant_for_one_transaction_at_most(here: World) -> None:
    recorder = Recorder(here)
    busy, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        busy.set()
        assert go_on.wait(DEADLINE_S)

    first = recorder.submit("flood", hold)
    assert busy.wait(DEADLINE_S)
    flood = [recorder.submit("flood") for _ in range(MOST_WAITING)]
    quiet = [recorder.submit("quiet") for _ in range(3)]
    with pytest.raises(TooManyWaitingError):
        recorder.submit("flood")
    go_on.set()
    for write in [first, *flood, *quiet]:
        assert write.done.result(DEADLINE_S) == b"null"
    order = recorder.done
    assert order[0] == "flood"  # was at work already
    for number in range(3):
        before = order[: [place for place, tenant in enumerate(order) if tenant == "quiet"][number]]
        assert before.count("flood") - 1 <= number + 1
    recorder.writer.close()


def test_whose_write_fails_in_the_database_pays_for_it_alone(here: World) -> None:
    recorder = Recorder(here)
    busy, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        busy.set()
        assert go_on.wait(DEADLINE_S)

    late: list[Write] = []
    tried: list[str] = []

    def fail() -> None:
        tried.append("again")
        if len(tried) == 2:  # alone, by now: somebody comes while the rest of it is still to be taken apart
            late.append(recorder.submit("late"))
        with transaction(recorder.engine) as shared:
            shared.execute(text("SELECT 1 / 0"))

    first = recorder.submit("flood", hold)
    assert busy.wait(DEADLINE_S)
    bad = [recorder.submit("flood", fail) for _ in range(5)]
    good = [recorder.submit("flood") for _ in range(5)]
    quiet = [recorder.submit("quiet") for _ in range(5)]
    go_on.set()
    for write in [first, *good, *quiet]:
        assert write.done.result(DEADLINE_S) == b"null"
    assert all(write.done.exception(DEADLINE_S) for write in bad)
    assert late[0].done.result(DEADLINE_S) == b"null"
    assert recorder.done.index("late") < recorder.done.index("flood", 1)  # the first that was not at fault
    with recorder.engine.connect() as database:
        kept = database.execute(
            text("SELECT count(*) FROM relay.writes WHERE key = ANY(CAST(:keys AS uuid[]))"),
            {"keys": [str(write.key) for write in [*bad, *good, *quiet]]},
        ).scalar_one()
    assert kept == len(good) + len(quiet)
    recorder.writer.close()


def test_a_key_used_again_breaks_nobody_elses_transaction(here: World) -> None:
    recorder = Recorder(here)
    known = recorder.submit("flood")
    assert known.done.result(DEADLINE_S) == b"null"
    busy, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        busy.set()
        assert go_on.wait(DEADLINE_S)

    first = recorder.submit("flood", hold)
    assert busy.wait(DEADLINE_S)
    once: list[str] = []
    quiet = recorder.submit("quiet", lambda: once.append("done"))
    again = Write("flood", known.key, b"y" * 32, lambda: b"null")
    recorder.writer.submit(again)
    go_on.set()
    assert first.done.result(DEADLINE_S) == quiet.done.result(DEADLINE_S) == b"null"
    assert isinstance(again.done.exception(DEADLINE_S), KeyReusedError)
    assert once == ["done"]  # a second time, if the transaction had been taken back
    recorder.writer.close()


# -- over the wire


@pytest.fixture
def relay(here: World) -> Iterator[RelayServer]:
    with serving(here) as server:
        yield server


def test_bodies_are_looked_at_while_the_writer_is_busy(here: World, relay: RelayServer) -> None:
    """Else a refusal would wait for its turn, and whoever sends much that is refused would take the others' time."""
    busy, go_on = threading.Event(), threading.Event()

    def hold() -> bytes:
        busy.set()
        assert go_on.wait(DEADLINE_S)
        return b"null"

    held = Write("beta", uuid4(), b"z" * 32, hold)
    relay._relay.writer.submit(held)
    assert busy.wait(DEADLINE_S)
    wire = Wire(here.socket("acme"))
    try:
        for body in (b"not json", b'{"map": []}'):
            assert wire.say("store_event", body, key=str(uuid4())) == (400, b'"RELAY_PROTOCOL"')
        assert not held.done.done()
    finally:
        go_on.set()
        wire.close()


def test_too_much_at_once_is_answered_429_and_all_of_it_is_stored(here: World, relay: RelayServer) -> None:
    body = _event(here)
    busy, go_on = threading.Event(), threading.Event()

    def hold() -> bytes:
        busy.set()
        assert go_on.wait(DEADLINE_S)
        return b"null"

    relay._relay.writer.submit(Write("beta", uuid4(), b"z" * 32, hold))
    assert busy.wait(DEADLINE_S)
    wires = [Wire(here.socket("acme")) for _ in range(MOST_WAITING + 4)]
    with ThreadPoolExecutor(len(wires)) as pool:
        answers = [pool.submit(wire.say, "store_event", body, key=str(uuid4())) for wire in wires]
        told_first = islice(as_completed(answers, DEADLINE_S), 4)  # nobody else can be answered yet
        assert [each.result() for each in told_first] == [(429, b'"RELAY_BUSY"')] * 4
        go_on.set()
        assert sorted(each.result(DEADLINE_S)[0] for each in answers) == [200] * MOST_WAITING + [429] * 4
    assert _engine_events(here, body) == MOST_WAITING
    assert not relay._relay.refused
    for wire in wires:
        wire.close()


def test_a_client_that_is_told_to_come_again_does(here: World, relay: RelayServer, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    inner = relay._relay._written

    async def first_busy(*given: object) -> bytes | None:
        if not told:
            told.append(429)
            raise TooManyWaitingError
        return await inner(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(relay._relay, "_written", first_busy)
    body = _event(here)
    with here.tenant("acme"):
        assert connection.call("store_event", body) == b"null"
    assert told == [429]
    assert _engine_events(here, body) == 1


def test_a_body_that_trickles_in_is_not_waited_for(here: World, relay: RelayServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "BODY_S", 0.2)
    with socket.socket(socket.AF_UNIX) as slow:
        slow.settimeout(DEADLINE_S)
        slow.connect(str(here.socket("acme")))
        slow.sendall(b"POST /v1/get_runs HTTP/1.1\r\nHost: relay\r\nContent-Length: 100\r\n\r\n{")
        assert slow.recv(100).startswith(b"HTTP/1.1 408")
        while slow.recv(100):
            pass


def test_what_was_done_is_still_told_when_it_would_be_refused_now(here: World) -> None:
    """A worker's answer got lost, and a new deployment does not know its step any more: the event is stored, and it goes on."""
    body, key = _event(here), str(uuid4())
    deployed = names("acme")
    with serving(here, lambda _: deployed):
        wire = Wire(here.socket("acme"))
        assert wire.say("store_event", body, key=key) == (200, b"null")
        deployed = frozenset()
        assert wire.say("store_event", body, key=str(uuid4())) == (403, b'"NOT_YOURS"')
        assert wire.say("store_event", body, key=key) == (200, b"null")
        assert _engine_events(here, body) == 1
        wire.close()


def test_a_batch_holds_more_than_one_tenant_may_have_waiting() -> None:
    """So that a flood and a quiet tenant always fit into one transaction."""
    assert LARGEST_BATCH > MOST_WAITING
