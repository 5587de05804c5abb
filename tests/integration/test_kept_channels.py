"""One channel to each code server, whoever asks; another when the server is another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._grpc.__generated__ import dagster_api_pb2
from dagster._grpc.__generated__.dagster_api_pb2_grpc import DagsterApiServicer, add_DagsterApiServicer_to_server
from dagster._grpc.client import DagsterGrpcClient

from ntro_dagster.workspace import kept_channels
from ntro_dagster.workspace.kept_channels import keep_channels


class Server(DagsterApiServicer):  # type: ignore[misc]
    """Answers with its own name. Attributes: `wait`: before it answers, until this is set; `port`: of its address."""

    port: int

    def __init__(self, name: str) -> None:
        self.name, self.wait, self.asked = name, threading.Event(), threading.Event()
        self.wait.set()

    def GetServerId(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's
        self.asked.set()
        self.wait.wait(30)
        return dagster_api_pb2.GetServerIdReply(server_id=self.name)


@contextmanager
def listening(where: Path | str, name: str) -> Iterator[Server]:
    """Args: `where`: a socket, or an address."""
    said, server = Server(name), grpc.server(ThreadPoolExecutor(4))
    add_DagsterApiServicer_to_server(said, server)
    said.port = server.add_insecure_port(f"unix:{where}" if isinstance(where, Path) else where)
    server.start()
    try:
        yield said
    finally:
        server.stop(None).wait(30)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The addresses to which a channel was opened. None of them closes before the test ends."""
    found: list[str] = []
    alive: list[Any] = []  # as a traceback may hold them, of a call that failed
    open_one: Callable[[str], Any] = kept_channels._opened

    def opens(address: str) -> Any:
        found.append(address)
        alive.append(open_one(address))
        return alive[-1]

    monkeypatch.setattr(DagsterGrpcClient, "_channel", DagsterGrpcClient._channel)  # so that it is put back
    monkeypatch.setattr(kept_channels, "_opened", opens)
    keep_channels()
    yield found
    for channel in alive:
        channel.close()


def test_one_for_all_who_ask_a_server(opened: list[str], tmp_path: Path) -> None:
    with listening(tmp_path / "a", "a"), listening(tmp_path / "b", "b"):
        for _ in range(3):
            assert DagsterGrpcClient(socket=str(tmp_path / "a")).get_server_id() == "a"
            assert DagsterGrpcClient(socket=str(tmp_path / "b")).get_server_id() == "b"
    assert opened == [f"unix:{tmp_path / 'a'}", f"unix:{tmp_path / 'b'}"]


def test_the_next_server_on_a_socket_is_asked_at_once(opened: list[str], tmp_path: Path) -> None:
    client = DagsterGrpcClient(socket=str(tmp_path / "s"))
    for name in ("first", "second", "third"):
        with listening(tmp_path / "s", name):
            assert client.get_server_id(timeout=5) == name
        for _ in range(5):  # gRPC would wait longer each time
            with pytest.raises(DagsterUserCodeUnreachableError):
                client.get_server_id(timeout=5)
    assert len(opened) > 3


def test_who_waits_for_an_answer_has_it_though_another_call_fails(opened: list[str], tmp_path: Path) -> None:
    client = DagsterGrpcClient(socket=str(tmp_path / "s"))
    with listening(tmp_path / "s", "slow") as server, ThreadPoolExecutor(1) as pool:
        server.wait.clear()
        waiting = pool.submit(client.get_server_id)
        assert server.asked.wait(30)
        with pytest.raises(DagsterUserCodeUnreachableError):
            client.ping("this server has not learnt it")
        server.wait.set()
        assert waiting.result(30) == "slow"
    assert len(opened) == 1


def test_who_asks_for_tls_is_not_answered_without(opened: list[str]) -> None:
    with listening("127.0.0.1:0", "plain") as server, pytest.raises(DagsterUserCodeUnreachableError):
        DagsterGrpcClient(port=server.port, host="127.0.0.1", use_ssl=True).get_server_id(timeout=5)
    assert opened == []
