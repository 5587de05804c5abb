"""The answers of a real gRPC server: kept verbatim, each once, and never held up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from kept_tenant import NOWHERE, Kept

from ntro_dagster.platforms.postgres.journal import Journal
from ntro_dagster.tenant import answers
from ntro_dagster.tenant.answers import AnswerRecorder, recorded


def eventually(look: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, "deadline passed"
        time.sleep(0.02)


def plain(answer: bytes) -> bytes:
    return answer


def refuses(question: bytes, context: Any) -> bytes:
    if question == b"abort":
        context.abort(grpc.StatusCode.NOT_FOUND, "our own words")
    raise ValueError("Blue Heron Ltd")


def refuses_later(question: bytes, context: Any) -> Iterator[bytes]:
    yield question
    refuses(question, context)


class Asked:
    """A server that answers with what it is asked, and a client of it."""

    def __init__(self, socket: Path, service: str) -> None:
        self.service = service
        channel = grpc.insecure_channel(f"unix:{socket}")
        self.one = channel.unary_unary(f"/{service}/One", plain, plain)
        self.many = channel.unary_stream(f"/{service}/Many", plain, plain)
        self.refuses = channel.unary_unary(f"/{service}/Refuses", plain, plain)
        self.refuses_later = channel.unary_stream(f"/{service}/RefusesLater", plain, plain)
        self.channel = channel


@contextmanager
def serving(recorder: AnswerRecorder, socket: Path) -> Iterator[Asked]:
    service = f"test.S{uuid4().hex}"

    def many(question: bytes, _: Any) -> Iterator[bytes]:
        yield question
        yield question + b" again"

    with recorded(recorder, lambda *_: None):
        server = grpc.server(ThreadPoolExecutor(4))
    handlers = {
        "One": grpc.unary_unary_rpc_method_handler(lambda question, _: question, plain, plain),
        "Refuses": grpc.unary_unary_rpc_method_handler(refuses, plain, plain),
        "RefusesLater": grpc.unary_stream_rpc_method_handler(refuses_later, plain, plain),
        "Many": grpc.unary_stream_rpc_method_handler(many, plain, plain),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_insecure_port(f"unix:{socket}")
    recorder.start()
    server.start()
    asked = Asked(socket, service)
    try:
        yield asked
    finally:
        asked.channel.close()
        server.stop(None).wait(10)
        recorder.stop()


def found(kept: Kept, asked: Asked) -> dict[tuple[str, bytes], int]:
    rows = kept.fetch("SELECT method, content, times FROM system.answers WHERE method LIKE %s", f"/{asked.service}/%")
    return {(method.rpartition("/")[2], content): times for method, content, times in rows}


def test_answers_are_kept_verbatim_and_equal_ones_once(kept: Kept, tmp_path: Path) -> None:
    recorder = AnswerRecorder(kept.journal)
    with serving(recorder, tmp_path / "s") as asked:
        assert asked.one(b"IDLE") == b"IDLE"
        eventually(lambda: ("One", b"IDLE") in found(kept, asked))
        for _ in range(4):
            assert asked.one(b"IDLE") == b"IDLE"
        asked.one(b"\x00\xff")
        assert list(asked.many(b"part")) == [b"part", b"part again"]
    assert found(kept, asked) == {
        ("One", b"IDLE"): 5,
        ("One", b"\x00\xff"): 1,
        ("Many", b"part"): 1,
        ("Many", b"part again"): 1,
    }
    assert kept.fetch(
        "SELECT digest, first_at < last_at FROM system.answers WHERE method = %s AND content = 'IDLE'", f"/{asked.service}/One"
    ) == [(sha256(b"IDLE").digest(), True)]


def test_what_a_method_raises_leaves_as_a_code_and_an_id(kept: Kept, tmp_path: Path) -> None:
    with serving(AnswerRecorder(kept.journal), tmp_path / "s") as asked:
        for ask in (lambda: asked.refuses(b"x"), lambda: list(asked.refuses_later(b"x"))):
            with pytest.raises(grpc.RpcError) as refused:
                ask()
            code, _, error = refused.value.details().removesuffix(")").partition(" (error ")
            assert (refused.value.code(), code) == (grpc.StatusCode.UNKNOWN, "ValueError")
            assert kept.fetch("SELECT story, split_part(step, '/', 2) FROM system.errors WHERE id = %s", error) == [
                ("Blue Heron Ltd", asked.service)
            ]
            assert "Heron" not in str(refused.value)
        with pytest.raises(grpc.RpcError) as own:
            asked.refuses(b"abort")
        assert (own.value.code(), own.value.details()) == (grpc.StatusCode.NOT_FOUND, "our own words")


def test_only_servers_made_in_it_are_recorded(kept: Kept) -> None:
    before = grpc.server
    with pytest.raises(ZeroDivisionError), recorded(AnswerRecorder(kept.journal), lambda *_: None):
        assert grpc.server is not before
        raise ZeroDivisionError
    assert grpc.server is before


def test_a_server_that_lost_its_session_goes_on(kept: Kept, tmp_path: Path) -> None:
    with serving(AnswerRecorder(kept.journal), tmp_path / "s") as asked:
        asked.one(b"IDLE")
        eventually(lambda: found(kept, asked) == {("One", b"IDLE"): 1})
        assert kept.end_sessions() >= 1
        asked.one(b"IDLE")
        asked.one(b"other")
        eventually(lambda: sum(found(kept, asked).values()) == 3)


def test_an_outage_fails_and_slows_no_answer_and_is_told_once(
    kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(answers, "RETRY_S", 0.05)
    journal = Journal(kept.credentials.app, aside=kept.logs / "aside")
    with serving(AnswerRecorder(journal), tmp_path / "s") as asked:
        asked.one(b"IDLE")
        eventually(lambda: found(kept, asked) == {("One", b"IDLE"): 1})
        journal.url = NOWHERE
        kept.end_sessions()
        for number in range(200):
            assert asked.one(b"IDLE") == b"IDLE"
            assert asked.one(b"other %d" % (number % 2)) == b"other %d" % (number % 2)
        eventually(lambda: len(kept.set_aside()) == 3)  # three different ones, however often
        assert len([record for record in caplog.records if "put aside" in record.message]) == 1
        journal.url = kept.credentials.app
        eventually(lambda: found(kept, asked) == {("One", b"IDLE"): 201, ("One", b"other 0"): 100, ("One", b"other 1"): 100})
        eventually(lambda: kept.set_aside() == [])
        asked.one(b"IDLE")
        eventually(lambda: found(kept, asked)["One", b"IDLE"] == 202)
    assert len([record for record in caplog.records if "took back" in record.message]) == 1


def test_a_database_that_hangs_slows_an_answer_by_a_moment_only(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hangs(Journal):
        def write(self, *_: Any, **__: Any) -> int:
            started.append(1)
            time.sleep(1.0)  # what a hanging server looks like from here
            return 1

    started: list[int] = []
    waits: list[float | None] = []
    recorder = AnswerRecorder(Hangs(kept.credentials.app))
    recorder.start()
    eventually(lambda: not recorder._away)
    real = answers.threading.Event.wait
    monkeypatch.setattr(answers.threading.Event, "wait", lambda self, timeout=None: waits.append(timeout) or real(self, timeout))
    for _ in range(5):
        recorder.note("/x/Y", b"IDLE")
    assert waits.count(answers.WAIT_S) == 5
    assert started == [1]  # the other four wait behind the first, in the recorder's thread
    assert answers.WAIT_S < 0.005
    recorder.stop()


def test_what_lay_aside_before_the_start_is_taken_back(kept: Kept) -> None:
    content, method = uuid4().bytes, f"/x/{uuid4().hex}"
    row = {"method": method, "digest": sha256(content).digest(), "content": content, "at": "2026-01-01T00:00:00Z", "times": 3}
    kept.journal.put_aside("answers", row, why="x")
    recorder = AnswerRecorder(kept.journal)
    recorder.start()
    eventually(lambda: kept.fetch("SELECT content, times FROM system.answers WHERE method = %s", method) == [(content, 3)])
    recorder.stop()
    assert kept.set_aside() == []
