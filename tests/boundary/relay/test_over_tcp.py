"""The relay over TLS, with a key: nobody without one, nobody with another's, and what goes by the socket goes here too."""

from __future__ import annotations

import http.client
import logging
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from dagster import DagsterRunStatus
from pydantic import ValidationError
from test_chaos import another, everything_is_stored, relay, stream
from test_scope import ATTACKS, OPEN, Both
from world import World, serving, world

from ntro_dagster.boundary.names import entities_set
from ntro_dagster.boundary.relay import connection, encoding
from ntro_dagster.boundary.relay.connection import RelayAddressError, RelayKeyRefusedError
from ntro_dagster.platforms.postgres.server import PostgresServer
from ntro_dagster.workspace import relay_listener, relay_protocol
from ntro_dagster.workspace.registry import Registry
from ntro_dagster.workspace.relay import RelayServer
from ntro_dagster.workspace.relay_keys import RelayKeyNotFoundError, RelayKeys, digest_of
from ntro_dagster.workspace.relay_listener import STRANGERS, ListenerSettings, RelayListenerError
from ntro_dagster.workspace.relay_protocol import CONNECTIONS_PER_TENANT

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here to make a certificate with")

DEADLINE_S = 30.0
ASK = encoding.dumps({})


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ListenerSettings:
    """For 127.0.0.1, on a port that is free."""
    folder = tmp_path_factory.mktemp("certificate")
    made = ListenerSettings(port=0, certificate=folder / "certificate.pem", key=folder / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subject = ["-subj", "/CN=relay", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(made.key), "-out", str(made.certificate)]
    subprocess.run([*command, *subject, *files], check=True, capture_output=True)
    return made


@dataclass
class There:
    """A relay on TLS, and how to be somebody on another host."""

    both: Both
    server: RelayServer
    certificate: ListenerSettings
    folder: Path

    @property
    def here(self) -> World:
        return self.both.here

    @property
    def port(self) -> int:
        assert self.server.listener and self.server.listener.port
        return self.server.listener.port

    @contextmanager
    def keys(self) -> Iterator[RelayKeys]:
        registry = Registry(self.here.url)
        try:
            yield RelayKeys(registry)
        finally:
            registry.dispose()

    def key(self, tenant: str) -> tuple[UUID, str]:
        """A key that the relay knows by now."""
        with self.keys() as keys:
            made, secret = keys.create(tenant)
        assert self.server.listener
        live = self.server.listener.keys
        until(lambda: live.holder(secret.encode()) is not None)
        return made.id, secret

    def revoke(self, key_id: UUID, secret: str) -> None:
        """Returns when the relay has heard of it: it is told in the transaction that revokes, and listens."""
        with self.keys() as keys:
            keys.revoke(key_id)
        assert self.server.listener
        live = self.server.listener.keys
        until(lambda: live.holder(secret.encode()) is None)

    def wire(self, secret: str | None) -> Wire:
        return Wire(self.port, self.certificate.certificate, secret)

    def raw(self) -> ssl.SSLSocket:
        trust = ssl.create_default_context(cafile=self.certificate.certificate)
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S)
        return trust.wrap_socket(plain, server_hostname="127.0.0.1")

    def address(self, secret: str, port: int | None = None) -> dict[str, str]:
        """Environment of a tenant's process."""
        path = self.folder / f"key-{uuid4()}"
        path.write_text(secret + "\n")
        return {
            "NTRO_RELAY": f"https://127.0.0.1:{port or self.port}",
            connection.KEY_FILE: str(path),
            connection.CA_FILE: str(self.certificate.certificate),
        }


class Wire(http.client.HTTPSConnection):
    def __init__(self, port: int, trusted: Path, secret: str | None) -> None:
        super().__init__("127.0.0.1", port, timeout=DEADLINE_S, context=ssl.create_default_context(cafile=trusted))
        self.identity = {} if secret is None else {"Authorization": f"Bearer {secret}"}

    def say(self, call: str, body: bytes, *, key: str | None = None) -> tuple[int, bytes]:
        self.request("POST", f"/v1/{call}", body, self.identity | ({"Idempotency-Key": key} if key else {}))
        response = self.getresponse()
        return response.status, response.read()


def until(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not look():
        assert time.monotonic() < deadline, "deadline passed"
        threading.Event().wait(0.01)


@pytest.fixture(scope="module")
def there(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory, certificate: ListenerSettings
) -> Iterator[There]:
    folder = tmp_path_factory.mktemp("tcp")
    with world(postgres_server, folder / "home") as here, serving(here, listener=certificate) as server:
        here.workspace.event_log_storage.set_concurrency_slots("acme__b/pool", 1)
        for slug in ("acme", "beta"):
            here.workspace.add_dynamic_partitions(entities_set(slug), [f"{slug}-spv"])
            here.workspace.event_log_storage.set_concurrency_slots(f"{slug}/pool", 1)
        runs = {slug: here.create_run(slug) for slug in ("acme", "beta")}
        for slug, run in runs.items():
            with here.tenant(slug) as opened:
                here.execute(opened, run, slug)
        yield There(Both(here, runs["acme"], runs["beta"], here.create_run("beta", 3)), server, certificate, folder)


@pytest.fixture(scope="module")
def acme(there: There) -> str:
    return there.key("acme")[1]


@pytest.fixture
def as_acme(there: There, acme: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in there.address(acme).items():
        monkeypatch.setenv(name, value)
    connection.forget()
    yield
    connection.forget()


# -- who is let in


def test_a_key_is_chance_is_shown_once_and_is_nowhere(there: There) -> None:
    key_id, secret = there.key("acme")
    assert len(secret) == 43  # 256 bits in base64
    with there.keys() as keys:
        (found,) = [key for key in keys.list("acme") if key.id == key_id]
        assert found.digest == digest_of(secret.encode())
        assert found.revoked_at is None
        assert keys.list("beta") == []
        with pytest.raises(RelayKeyNotFoundError):
            keys.revoke(uuid4())
    assert secret not in str(found)
    assert secret not in str(there.here.dump())


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer x"},
        {"Authorization": "Basic {acme}"},
        {"Authorization": "{acme}"},
        {"Authorization": "Bearer {acme}x"},
        {"X-Key": "{acme}"},
    ],
)
def test_without_a_key_that_is_good_there_is_a_401_and_nothing_else(
    there: There, acme: str, headers: Mapping[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    assert there.server.listener
    before = there.server.listener.unknown
    wire = there.wire(None)
    with caplog.at_level(logging.DEBUG):
        wire.request("POST", "/v1/get_runs", ASK, {name: value.format(acme=acme) for name, value in headers.items()})
        response = wire.getresponse()
        assert (response.status, response.read()) == (401, b"")
    assert {name.lower() for name, _ in response.getheaders()} == {"content-length", "connection"}
    assert there.server.listener.unknown == before + 1
    assert acme not in caplog.text
    wire.close()


def test_no_body_is_read_of_somebody_without_a_key(there: There, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer comes while the body is still to come, and what comes after it is nobody's."""
    seen: list[bytes] = []
    monkeypatch.setattr(relay_protocol.RelayProtocol, "on_body", lambda _, body: seen.append(body))
    with there.raw() as raw:
        raw.sendall(b"POST /v1/get_runs HTTP/1.1\r\nHost: relay\r\nContent-Length: 1000000\r\n\r\nbegin")
        answer = b""
        while piece := raw.recv(1000):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 401")
    assert answer.endswith(b"\r\n\r\n")
    assert seen == []


def test_a_key_that_is_revoked_ends_its_connections_and_opens_no_other(there: There) -> None:
    key_id, secret = there.key("acme")
    _, other = there.key("acme")
    open_one, idle, others = there.wire(secret), there.wire(secret), there.wire(other)
    assert [wire.say("get_runs", ASK)[0] for wire in (open_one, idle, others)] == [200, 200, 200]
    with there.keys() as keys:
        first = keys.revoke(key_id).revoked_at
        assert keys.revoke(key_id).revoked_at == first
    assert idle.sock.recv(1) == b""  # without having asked
    assert others.say("get_runs", ASK)[0] == 200
    assert there.wire(secret).say("get_runs", ASK) == (401, b"")
    with pytest.raises((http.client.HTTPException, OSError)):
        open_one.auto_open = 0
        open_one.say("get_runs", ASK)
    for wire in (open_one, idle, others):
        wire.close()


def test_a_tenant_that_was_closed_has_no_key(
    postgres_server: PostgresServer, tmp_path: Path, certificate: ListenerSettings
) -> None:
    with world(postgres_server, tmp_path) as here, serving(here, listener=certificate) as server:
        there = There(Both(here, None, None, None), server, certificate, tmp_path)  # type: ignore[arg-type]
        _, secret = there.key("acme")
        wire = there.wire(secret)
        assert wire.say("get_runs", ASK)[0] == 200
        registry = Registry(here.url)
        registry.close_tenant("acme")
        registry.dispose()
        assert wire.sock.recv(1) == b""
        assert there.wire(secret).say("get_runs", ASK) == (401, b"")


def test_a_connection_is_of_one_key(there: There, acme: str) -> None:
    """Both are good: a connection that changes sides would be counted for the wrong tenant."""
    _, beta = there.key("beta")
    wire = there.wire(acme)
    assert wire.say("get_runs", ASK)[0] == 200
    wire.identity = there.wire(beta).identity
    assert wire.say("get_runs", ASK) == (401, b"")
    wire.close()


def test_one_tenant_has_so_many_connections_and_the_others_are_served(there: There, acme: str) -> None:
    _, beta = there.key("beta")
    crowd = [there.wire(acme) for _ in range(CONNECTIONS_PER_TENANT)]
    assert {wire.say("get_runs_count", ASK)[0] for wire in crowd} == {200}
    with pytest.raises((http.client.HTTPException, OSError)):
        there.wire(acme).say("get_runs_count", ASK)
    assert there.wire(beta).say("get_runs_count", ASK)[0] == 200
    for wire in crowd:
        wire.close()


# -- whose, and what


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_with_ones_own_key_is_refused_and_logged_and_changes_nothing(
    there: There, acme: str, attack: str, caplog: pytest.LogCaptureFixture
) -> None:
    call, given = ATTACKS[attack](there.both)
    before = there.here.dump()
    wire = there.wire(acme)
    with caplog.at_level(logging.WARNING, logger="ntro.relay"):
        assert wire.say(call, encoding.dumps(given), key=str(uuid4())) == (403, b'"NOT_YOURS"')
    wire.close()
    assert f"refused acme: {call}: NOT_YOURS" in caplog.text
    assert there.here.dump() == before


@pytest.mark.parametrize("question", OPEN)
def test_a_question_about_everybody_is_answered_about_the_keys_tenant(there: There, acme: str, question: str) -> None:
    call, given = OPEN[question](there.both)
    wire = there.wire(acme)
    status, answer = wire.say(call, encoding.dumps(given))
    wire.close()
    assert status == 200
    for theirs in ("beta", there.both.theirs.run_id, there.both.at_work.run_id):
        assert theirs not in answer.decode()


# -- what is no request


def test_plain_http_is_not_answered(there: There) -> None:
    with socket.create_connection(("127.0.0.1", there.port), timeout=DEADLINE_S) as plain:
        plain.sendall(b"POST /v1/get_runs HTTP/1.1\r\nHost: relay\r\nContent-Length: 0\r\n\r\n")
        said = b""
        try:
            while piece := plain.recv(1000):
                said += piece
        except ConnectionResetError:
            pass
    assert b"HTTP" not in said
    assert len(said) <= 7  # a TLS alert


def test_who_says_nothing_or_says_it_slowly_is_sent_away(there: There, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_listener, "HEADERS_S", 1.0)
    monkeypatch.setattr(relay_listener, "HANDSHAKE_S", 900.0)
    with there.raw() as mute, _ending():
        assert mute.recv(1) == b""
    with socket.create_connection(("127.0.0.1", there.port), timeout=DEADLINE_S) as silent, _ending():
        assert silent.recv(1) == b""
    with there.raw() as slow, _ending():
        slow.sendall(b"POST /v1/get_runs HTTP/1.1\r\nHost: rel")
        assert slow.recv(1) == b""


def test_headers_have_a_deadline_on_later_requests_too(there: There, acme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_protocol, "HEADERS_S", 0.3)
    wire = there.wire(acme)
    assert wire.say("get_runs_count", ASK)[0] == 200
    wire.sock.sendall(b"POST /v1/get_runs HTTP/1.1\r\nHost: rel")
    with _ending():
        assert wire.sock.recv(1) == b""
    wire.close()


def test_headers_without_end_are_not_kept(there: There, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (relay_listener, relay_protocol):
        monkeypatch.setattr(module, "HEADERS_S", 900.0)
    with there.raw() as raw, _ending():
        raw.sendall(b"POST /v1/get_runs HTTP/1.1\r\nX: " + b"x" * 2**16)
        assert raw.recv(1) == b""


def test_a_crowd_of_strangers_keeps_nobody_out(there: There, acme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_listener, "HEADERS_S", 900.0)
    monkeypatch.setattr(relay_listener, "HANDSHAKE_S", 900.0)
    crowd = [socket.create_connection(("127.0.0.1", there.port), timeout=DEADLINE_S) for _ in range(3 * STRANGERS)]
    try:
        assert there.wire(acme).say("get_runs_count", ASK)[0] == 200
        for early in crowd[:STRANGERS]:
            with _ending():
                assert early.recv(1) == b""
    finally:
        for each in crowd:
            each.close()


@contextmanager
def _ending() -> Iterator[None]:
    """A connection that ends may do so with a reset."""
    with suppress(ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
        yield


# -- where it listens


def test_there_is_no_listening_without_tls_and_none_beyond_this_machine_unasked(tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        ListenerSettings.model_validate({"port": 4443})
    assert str(ListenerSettings(certificate=tmp_path, key=tmp_path).address) == "127.0.0.1"


def test_a_file_that_is_none_of_ours_is_said_to_be(tmp_path: Path, certificate: ListenerSettings) -> None:
    assert ListenerSettings.read(tmp_path / "relay.json") is None
    (tmp_path / "relay.json").write_text('{"port": 1, "tls": false}')
    with pytest.raises(RelayListenerError):
        ListenerSettings.read(tmp_path / "relay.json")
    with pytest.raises(RelayListenerError):
        ListenerSettings(certificate=certificate.key, key=certificate.certificate).context()


# -- a worker on another host


def test_a_run_by_https_is_stored_whole(there: There, acme: str) -> None:
    enough = threading.Event()
    journal = there.folder / "journal-whole"
    with ThreadPoolExecutor(1) as pool:
        worker = pool.submit(stream, there.here, journal, enough, there.address(acme))
        try:
            another([journal], 10)
        finally:
            enough.set()
        runs = worker.result(DEADLINE_S)
    everything_is_stored(there.here, runs, [journal])


def test_a_worker_whose_key_was_revoked_is_told_so_at_once(there: There, monkeypatch: pytest.MonkeyPatch) -> None:
    key_id, secret = there.key("acme")
    address = there.address(secret)
    for name, value in address.items():
        monkeypatch.setenv(name, value)
    connection.forget()
    try:
        assert connection.call("get_runs_count", ASK)
        there.revoke(key_id, secret)
        with pytest.raises(RelayKeyRefusedError):
            connection.call("get_runs_count", ASK)
        Path(address[connection.KEY_FILE]).write_text(there.key("acme")[1])  # read again at the next call
        assert connection.call("get_runs_count", ASK)
        Path(address[connection.KEY_FILE]).unlink()
        connection.forget()
        with pytest.raises(RelayAddressError):
            connection.call("get_runs_count", ASK)
    finally:
        connection.forget()


def test_a_key_may_be_replaced_under_a_worker(there: There, monkeypatch: pytest.MonkeyPatch) -> None:
    key_id, secret = there.key("acme")
    address = there.address(secret)
    for name, value in address.items():
        monkeypatch.setenv(name, value)
    connection.forget()
    try:
        assert connection.call("get_runs_count", ASK)
        Path(address[connection.KEY_FILE]).write_text(there.key("acme")[1])
        there.revoke(key_id, secret)
        assert connection.call("get_runs_count", ASK)
    finally:
        connection.forget()


def test_the_relay_is_started_again_in_mid_run(
    postgres_server: PostgresServer, tmp_path: Path, certificate: ListenerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = tmp_path / "relay.json"
    file.write_text(certificate.model_copy(update={"port": port}).model_dump_json())
    monkeypatch.setenv("NTRO_RELAY_LISTENER", str(file))
    enough, journal = threading.Event(), tmp_path / "journal"
    with world(postgres_server, tmp_path / "home") as here, ThreadPoolExecutor(1) as pool:
        there = There(Both(here, None, None, None), None, certificate, tmp_path)  # type: ignore[arg-type]
        with there.keys() as keys:
            _, secret = keys.create("acme")
        worker = pool.submit(stream, here, journal, enough, there.address(secret, port))
        try:
            for number in range(3):
                with relay(here):
                    another([journal], 7 + 5 * number)
        finally:
            enough.set()
            with relay(here):
                runs = worker.result(90)
        everything_is_stored(here, runs, [journal])
        assert all(run.status is DagsterRunStatus.SUCCESS for run in here.workspace.get_runs())
    assert "NTRO_RELAY" not in os.environ
