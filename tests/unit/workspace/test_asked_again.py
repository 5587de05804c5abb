"""A code server that answered with an error is asked again: nobody here can tell whether it will last."""

from __future__ import annotations

import queue

import pytest
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin
from dagster._core.workspace.workspace import CodeLocationEntry, CodeLocationLoadStatus, DefinitionsSource
from dagster._grpc import server_watcher
from dagster_shared.error import SerializableErrorInfo

from ntro_dagster.workspace.guarded import ask_again

LOCATION = "acme"


class Client:
    def get_server_id(self, timeout: int) -> str:
        return "one"


def entry(error: SerializableErrorInfo | None) -> CodeLocationEntry:
    return CodeLocationEntry(
        origin=GrpcServerCodeLocationOrigin(host="localhost", port=1, location_name=LOCATION),
        code_location=None,
        load_error=error,
        load_status=CodeLocationLoadStatus.LOADED,
        display_metadata={},
        update_timestamp=0.0,
        version_key="",
        definitions_source=DefinitionsSource.CODE_SERVER,
    )


@pytest.mark.parametrize(
    ("error", "asked"),
    [(SerializableErrorInfo("UNEXPECTED_ERROR", [], "UNEXPECTED_ERROR"), True), (None, False)],
)
def test_until_it_answers_well(monkeypatch: pytest.MonkeyPatch, error: SerializableErrorInfo | None, asked: bool) -> None:
    monkeypatch.setattr(server_watcher, "create_grpc_watch_thread", server_watcher.create_grpc_watch_thread)
    monkeypatch.setattr(server_watcher.check, "inst_param", lambda value, *_: value)
    ask_again()
    looks: queue.Queue[None] = queue.Queue()
    again: queue.Queue[str] = queue.Queue()

    def look(_: str) -> CodeLocationEntry:
        looks.put(None)
        return entry(error)

    def nothing(*_: str) -> None: ...

    stop, thread = server_watcher.create_grpc_watch_thread(
        LOCATION,
        Client(),  # type: ignore[arg-type]
        get_location_entry=look,
        refresh_code_location=again.put,
        on_disconnect=nothing,
        on_reconnected=nothing,
        on_updated=nothing,
        on_error=nothing,
        watch_interval=0.01,
        error_recovery_interval=0.0,
    )
    thread.start()
    for _ in range(3):
        looks.get(timeout=30)
    stop.set()
    thread.join(30)
    assert (again.qsize() > 0) is asked
