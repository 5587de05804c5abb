"""Runs through the relay: whole, in order, once; and what it says of itself."""

from __future__ import annotations

import http.client
import inspect
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from dagster import AssetKey, DagsterEventType, DagsterRunStatus
from dagster._core.storage.event_log.base import EventLogStorage
from dagster._core.storage.runs.base import RunStorage
from dagster._core.storage.schedules.base import ScheduleStorage
from dagster._core.test_utils import create_run_for_test
from hypothesis import given
from hypothesis import strategies as st
from world import World, serving, world

from ntro_dagster.boundary.names import CODE_LOCATION_TAG, PARTITION_TAG
from ntro_dagster.boundary.relay import connection, encoding
from ntro_dagster.boundary.relay.calls import CALLS, DIFFERENT_FLAGS, EVENT_CALLS, FLAGS, RUN_CALLS, TELL_AND_ASK, WRITES
from ntro_dagster.boundary.relay.client import NotForTenantsError, RelayStorage, partitions_at_work
from ntro_dagster.boundary.relay.connection import RelayAddressError, RelayAwayError
from ntro_dagster.boundary.relay.view import TenantView
from ntro_dagster.boundary.storage import PooledPostgresStorage
from ntro_dagster.platforms.postgres.server import PostgresServer
from ntro_dagster.workspace.relay_protocol import CONNECTIONS_PER_TENANT


@pytest.fixture(scope="module")
def here(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(postgres_server, tmp_path_factory.mktemp("relay")) as made, serving(made):
        yield made


def test_a_run_through_the_relay_is_stored_whole(here: World) -> None:
    run = here.create_run("acme")
    with here.tenant("acme") as acme:
        here.execute(acme, run, "acme")
        seen = acme.get_run_by_id(run.run_id)
        assert seen and seen.status is DagsterRunStatus.SUCCESS
    stored = here.workspace.get_run_record_by_id(run.run_id)
    assert stored and stored.dagster_run.status is DagsterRunStatus.SUCCESS
    assert stored.start_time and stored.end_time
    told = [entry.dagster_event.event_type for entry in here.workspace.all_logs(run.run_id) if entry.dagster_event]
    kinds = [kind for kind in told if "PLANNED" not in kind.value]  # those are the workspace's own
    assert kinds[0] is DagsterEventType.RUN_START
    assert kinds[-1] is DagsterEventType.RUN_SUCCESS
    assert kinds.count(DagsterEventType.ASSET_MATERIALIZATION) == 2
    assert kinds.count(DagsterEventType.STEP_SUCCESS) == 2
    latest = here.workspace.get_latest_materialization_event(AssetKey(["acme", "ledgers", "things_2"]))
    assert latest and latest.run_id == run.run_id


def test_every_event_is_stored_in_the_order_in_which_it_was_said(here: World) -> None:
    runs = [here.create_run("acme", 5) for _ in range(3)]
    with here.tenant("acme") as acme:
        for run in runs:
            here.execute(acme, run, "acme", 5)
    for run in runs:
        records = here.workspace.get_records_for_run(run.run_id).records
        moments = [record.timestamp for record in sorted(records, key=lambda record: record.storage_id)]
        assert moments == sorted(moments)


def test_partitions_at_work_are_those_of_runs_that_have_not_ended(here: World) -> None:
    def run(tenant: str, partition: str, status: DagsterRunStatus) -> None:
        tags = {CODE_LOCATION_TAG: tenant, PARTITION_TAG: partition}
        create_run_for_test(here.workspace, job_name="month_end", status=status, tags=tags)

    for partition, status in (
        ("spv-1|2026-10", DagsterRunStatus.STARTING),
        ("spv-1|2026-10", DagsterRunStatus.STARTED),
        ("spv-2|2026-10", DagsterRunStatus.CANCELING),
        ("spv-3|2026-10", DagsterRunStatus.FAILURE),
        ("spv-4|2026-10", DagsterRunStatus.SUCCESS),
    ):
        run("acme", partition, status)
    run("beta", "spv-5|2026-10", DagsterRunStatus.STARTED)
    with here.tenant("acme") as acme:
        assert partitions_at_work(acme, "acme") == {"spv-1|2026-10", "spv-2|2026-10"}
    assert partitions_at_work(here.workspace, "acme") == {"spv-1|2026-10", "spv-2|2026-10"}


def test_flags_are_those_of_the_database_it_stands_for(here: World) -> None:
    ours, theirs = RelayStorage(), PooledPostgresStorage(here.url)
    for flag in FLAGS.keys() - DIFFERENT_FLAGS:
        assert getattr(ours.event_log_storage, flag) == getattr(theirs.event_log_storage, flag), flag
    for base, mine, its in (
        (EventLogStorage, ours.event_log_storage, theirs.event_log_storage),
        (RunStorage, ours.run_storage, theirs.run_storage),
        (ScheduleStorage, ours.schedule_storage, theirs.schedule_storage),
    ):
        flags = [name for name, kind in vars(base).items() if isinstance(kind, property)]
        for flag in set(flags) - DIFFERENT_FLAGS - {"default_run_scoped_event_tailer_offset"}:
            if base is EventLogStorage or not flag.startswith("supports"):
                assert getattr(mine, flag) == getattr(its, flag), flag


@pytest.mark.parametrize("storage", ["run_storage", "event_log_storage", "schedule_storage"])
def test_whatever_is_not_for_tenants_is_refused_before_it_is_sent(storage: str) -> None:
    half = getattr(RelayStorage(), storage)
    base = type(half).__mro__[1]
    refused = 0
    for name in base.__abstractmethods__ - CALLS - FLAGS.keys() - {"watch", "end_watch", "dispose"}:
        with pytest.raises(NotForTenantsError):
            getattr(half, name)()
        refused += 1
    assert refused >= 15


def test_the_workspaces_half_has_a_method_for_each_call_and_no_other() -> None:
    methods = {name: kind for name, kind in vars(TenantView).items() if not name.startswith("_")}
    assert methods.keys() == CALLS - {TELL_AND_ASK}
    assert WRITES <= CALLS
    for base, names in ((RunStorage, RUN_CALLS), (EventLogStorage, EVENT_CALLS)):
        for name in names:
            assert list(inspect.signature(methods[name]).parameters) == list(inspect.signature(getattr(base, name)).parameters), (
                name
            )


def test_a_process_without_an_address_can_do_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NTRO_RELAY", raising=False)
    connection.forget()
    with pytest.raises(RelayAddressError):
        RelayStorage().run_storage.get_runs()


def test_without_a_relay_a_call_ends_when_patience_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NTRO_RELAY", f"unix:{tmp_path}/nobody.sock")
    monkeypatch.setattr(connection, "patience_s", 0.2)
    connection.forget()
    with pytest.raises(RelayAwayError):
        RelayStorage().run_storage.get_runs()
    connection.forget()


# -- what is said on the wire


class Wire(http.client.HTTPConnection):
    """Somebody on a tenant's socket who does not use our client."""

    def __init__(self, path: Path) -> None:
        super().__init__("relay", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))

    def say(self, call: str, body: bytes, *, key: str | None = None, method: str = "POST") -> tuple[int, bytes]:
        self.request(method, f"/v1/{call}", body, {"Idempotency-Key": key} if key else {})
        response = self.getresponse()
        return response.status, response.read()


@pytest.fixture
def wire(here: World) -> Iterator[Wire]:
    opened = Wire(here.socket("acme"))
    yield opened
    opened.close()


def _event(here: World) -> bytes:
    """An event that a run of acme's may store."""
    run = here.create_run("acme")
    here.workspace.report_engine_event("x", run)
    (record, *_) = here.workspace.get_records_for_run(run.run_id, of_type=DagsterEventType.ENGINE_EVENT).records
    return encoding.dumps({"event": record.event_log_entry})


def _engine_events(here: World, body: bytes) -> int:
    run_id = encoding.loads(body)["event"].run_id
    return len(here.workspace.get_records_for_run(run_id, of_type=DagsterEventType.ENGINE_EVENT).records) - 1


def test_asked_twice_under_one_key_it_is_done_once(here: World, wire: Wire) -> None:
    body, key = _event(here), str(uuid4())
    for _ in range(3):
        assert wire.say("store_event", body, key=key) == (200, b"null")
    assert _engine_events(here, body) == 1
    assert wire.say("store_event", body, key=str(uuid4()))[0] == 200
    assert _engine_events(here, body) == 2


def test_another_call_under_the_same_key_is_a_conflict(here: World, wire: Wire) -> None:
    body, key = _event(here), str(uuid4())
    wire.say("store_event", body, key=key)
    assert wire.say("store_event", _event(here), key=key) == (409, b'"RELAY_KEY_REUSED"')


def test_an_answer_is_given_again(here: World, wire: Wire) -> None:
    here.workspace.event_log_storage.set_concurrency_slots("acme/pool", 1)
    run, key = here.create_run("acme"), str(uuid4())
    body = encoding.dumps({"concurrency_key": "acme/pool", "run_id": run.run_id, "step_key": "acme__ledgers__things_1"})
    first = wire.say("claim_concurrency_slot", body, key=key)
    assert first[0] == 200
    assert encoding.loads(first[1]).is_claimed
    assert wire.say("claim_concurrency_slot", body, key=key) == first


@pytest.mark.parametrize(
    ("call", "body", "status"),
    [
        ("get_runs", b"", 400),
        ("get_runs", b"not json", 400),
        ("get_runs", b'{"map": [["no_such_argument", 1]]}', 400),
        ("get_runs", b'{"map": [["filters", {"record": ["Popen", {"args": "x"}]}]]}', 400),
        ("get_runs", b'{"map": [["filters", {"whole": "{\\"__class__\\": \\"Popen\\"}"}]]}', 400),
        ("get_runs", b'{"map": [["bucket_by", "anything"]]}', 403),
        ("get_runs", b"[" * 100_000, 400),
        ("store_event", b'{"map": []}', 400),  # without a key
        ("delete_run", b'{"map": []}', 403),
        ("../registry", b"", 403),
        ("get_runs", b" " * (5 * 2**20), 413),
    ],
)
def test_what_is_not_of_the_language_is_refused_in_one_word(wire: Wire, call: str, body: bytes, status: int) -> None:
    found, answer = wire.say(call, body)
    assert found == status
    assert answer in {b'"RELAY_PROTOCOL"', b'"RELAY_REFUSED"', b'"NOT_YOURS"'}


def test_reading_is_for_post_alone(wire: Wire) -> None:
    assert wire.say("get_runs", b"", method="GET")[0] == 403


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_whatever_is_said_is_understood_or_refused(said: object) -> None:
    try:
        encoding.loads(json.dumps(said).encode())
    except encoding.RelayProtocolError as error:
        assert error.__cause__ is None


@given(st.dictionaries(st.text(), st.lists(st.integers() | st.text() | st.none() | st.floats(allow_nan=False))))
def test_what_one_half_says_the_other_understands(value: object) -> None:
    assert encoding.loads(encoding.dumps(value)) == value


def test_text_is_no_name_of_a_pool_or_step(here: World) -> None:
    with here.tenant("acme") as acme:
        for pool, step in (("acme/Smith owes 4", "s"), ("acme/pool", "Smith owes 4"), ("Smith", "s")):
            with pytest.raises(NotForTenantsError):
                acme.event_log_storage.claim_concurrency_slot(pool, str(uuid4()), step)


def test_a_relay_that_ends_sends_nobody_away(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with world(postgres_server, tmp_path) as there, serving(there) as relay:
        wire = Wire(there.socket("acme"))
        assert wire.say("get_runs", encoding.dumps({}))[0] == 200
        relay._relay.closing = True
        assert wire.say("get_runs", encoding.dumps({}))[0] == 503
        wire.close()


def test_one_tenant_takes_up_few_connections_and_the_others_are_served(here: World) -> None:
    crowd = [socket.socket(socket.AF_UNIX) for _ in range(CONNECTIONS_PER_TENANT + 5)]
    try:
        for each in crowd:
            each.settimeout(10)
            each.connect(str(here.socket("acme")))
        beta = Wire(here.socket("beta"))
        assert beta.say("get_runs", encoding.dumps({}))[0] == 200
        beta.close()
        assert all(each.recv(1) == b"" for each in crowd[CONNECTIONS_PER_TENANT:])
        crowd[0].sendall(b"POST /v1/get_pool_config HTTP/1.1\r\nHost: relay\r\nContent-Length: 10\r\n\r\n" + encoding.dumps({}))
        assert crowd[0].recv(12) == b"HTTP/1.1 200"
    finally:
        for each in crowd:
            each.close()
