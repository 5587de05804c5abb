"""What the code server answers, kept verbatim: sensors, schedules and definitions leave a tenant this way, not by its runs.

The recorder sits where an answer has become bytes. A thread of its own writes them; the answer waits for it a moment
(`WAIT_S`), so that as a rule it is kept before it leaves, and never longer: while the database is away each different answer is
made a file once and the equal ones are counted, until it is back.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, NoReturn

import grpc  # type: ignore[import-untyped]
import psycopg

from ntro_dagster.orchestration.failures import Place, StepFailedError, code_of, keep
from ntro_dagster.platforms.postgres.journal import Journal, JournalUnavailableError, Row

WAIT_S = 0.003
RETRY_S = 1.0
LOOK_S = 30.0
"""How often, where nothing is answered, it is looked whether something lies aside."""
STOP_S = 5.0
HEALTH = "/grpc.health.v1.Health/"
"""gRPC's own service, which says whether the server serves."""
BEFORE = " before the wall"
"""After a method's name: what was said, where it is not what was sent."""
_MOST_KNOWN = 10_000

logger = logging.getLogger("ntro.answers")

Key = tuple[str, bytes]
Behaviour = Callable[[Any, Any], Any]


@dataclass
class _Answer:
    key: Key
    content: bytes
    at: str
    kept: threading.Event = field(default_factory=threading.Event)


class AnswerRecorder:
    """Keeps answers. One per code server; `start()` it, and `stop()` it when no answer is given any more."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._queue: queue.SimpleQueue[_Answer | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="ntro-answers", daemon=True)
        self._known: set[Key] = set()
        self._uncounted: Counter[Key] = Counter()
        self._lost = 0
        self._aside: set[Key] = set()
        self._away = True  # until the first look, so that what lies aside from before is taken back

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what is left."""
        self._queue.put(None)
        self._thread.join(STOP_S)

    def note(self, method: str, content: bytes) -> None:
        """Keep one answer. Never raises, never takes longer than `WAIT_S` and the digest."""
        answer = _Answer((method, hashlib.sha256(content).digest()), content, datetime.now(UTC).isoformat())
        self._queue.put(answer)
        if not self._away:
            answer.kept.wait(WAIT_S)

    def _work(self) -> None:
        self._come_back()
        going = True
        while going:
            answers, going = self._next()
            try:
                self._take(answers)
            except Exception:  # without this thread every answer would wait, and pile up
                logger.exception("answers were not kept")
                self._lost += len(answers)
            for answer in answers:
                answer.kept.set()
        self._journal.close()

    def _take(self, answers: list[_Answer]) -> None:
        if self._away or self._journal.lies_aside():  # a run's worker may have found no database where we did
            self._come_back()
        together = Counter(answer.key for answer in answers)
        for answer in {answer.key: answer for answer in answers}.values():
            self._keep(answer, together[answer.key])

    def _next(self) -> tuple[list[_Answer], bool]:
        """All that waits, at least one unless the database is away; and whether more may come."""
        found = []
        try:
            found.append(self._queue.get(timeout=RETRY_S if self._away else LOOK_S))
            while True:
                found.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        return [answer for answer in found if answer is not None], None not in found

    def _keep(self, answer: _Answer, times: int) -> None:
        if not self._away:
            try:
                self._write(answer, times)
            except psycopg.Error as error:
                self._away = True
                logger.warning("answers are put aside: the database does not take them (%s)", type(error).__name__)
            else:
                return
        if answer.key in self._aside:
            self._uncounted[answer.key] += times
            return
        try:
            self._journal.put_aside("answers", self._row(answer, times), why="the database is away")
            self._aside.add(answer.key)
        except JournalUnavailableError:
            if not self._lost:
                logger.error("answers are lost: they can be put aside nowhere")
            self._lost += times

    def _write(self, answer: _Answer, times: int) -> None:
        again = answer.key in self._known
        if again and self._journal.write("answers again", self._row(answer, times), patience=0.0):
            return
        self._journal.write("answers", self._row(answer, times), patience=0.0)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known.add(answer.key)

    @staticmethod
    def _row(answer: _Answer, times: int) -> Row:
        method, digest = answer.key
        return {"method": method, "digest": digest, "content": answer.content, "at": answer.at, "times": times}

    def _come_back(self) -> None:
        """See whether the database is there; if so, give it what lies aside and what was only counted."""
        try:
            taken = self._journal.take_back()
            for (method, digest), times in list(self._uncounted.items()):
                row: Row = {"method": method, "digest": digest, "at": datetime.now(UTC).isoformat(), "times": times}
                self._journal.write("answers again", row, patience=0.0)
                del self._uncounted[method, digest]
            self._journal.ping()
        except psycopg.Error:
            return
        self._away = False
        self._aside.clear()
        if taken or self._lost:
            logger.warning("the database took back %d records; %d answers were lost", taken, self._lost)
        self._lost = 0


Rebuild = Callable[[str, Any, Sequence[Any]], Any]
"""From a method's name, the question and the answers: the one that may leave in their place, or None where they may."""


class _Interceptor(grpc.ServerInterceptor):  # type: ignore[misc]
    def __init__(self, note: Callable[[str, bytes], None], rebuild: Rebuild, may_be_asked: Callable[[str], bool]) -> None:
        self._note = note
        self._rebuild = rebuild
        self._may_be_asked = may_be_asked

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        method, inner = handler_call_details.method, handler.response_serializer
        kind = _kind(handler)
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        if method.startswith(HEALTH):
            return handler
        if not self._may_be_asked(method):
            return make(_refuse, handler.request_deserializer, inner)

        def serialized(answer: Any) -> bytes:
            content: bytes = inner(answer) if inner else answer
            self._note(method, content)
            return content

        walled = (self._walled_stream if handler.response_streaming else self._walled)(getattr(handler, kind), method)
        return make(walled, handler.request_deserializer, serialized)

    # gRPC sends the text of whatever a method raises along with its status.

    def _walled(self, inner: Behaviour, method: str) -> Behaviour:
        def answer(request: Any, context: Any) -> Any:
            try:
                said = inner(request, context)
                told = self._told(method, request, [said])
                return said if told is None else told
            except Exception as error:
                _abort(error, context, method)

        return answer

    def _walled_stream(self, inner: Behaviour, method: str) -> Behaviour:
        def answers(request: Any, context: Any) -> Iterator[Any]:
            try:
                said = list(inner(request, context))
                told = self._told(method, request, said)
                yield from said if told is None else [told]
            except Exception as error:
                _abort(error, context, method)

        return answers

    def _told(self, method: str, request: Any, said: Sequence[Any]) -> Any:
        """What may leave; what was said is kept where it is not the same."""
        told = self._rebuild(method, request, said)
        if told is not None and list(said) != [told]:
            for each in said:
                self._note(f"{method}{BEFORE}", each.SerializeToString())
        return told


def _kind(handler: Any) -> str:
    asked, answered = ("stream" if streams else "unary" for streams in (handler.request_streaming, handler.response_streaming))
    return f"{asked}_{answered}"


def _refuse(_: Any, context: Any) -> NoReturn:
    context.abort(grpc.StatusCode.PERMISSION_DENIED, "not asked of a tenant")
    raise AssertionError  # not reached: `abort` raises


def _abort(error: Exception, context: Any, method: str) -> NoReturn:
    if context.code() is not None:  # the method's own `context.abort()`
        raise error
    failed = StepFailedError(code_of(error), keep(error, Place(step=method)))
    context.abort(grpc.StatusCode.UNKNOWN, str(failed))
    raise failed  # not reached: `abort` raises


@contextmanager
def recorded(recorder: AnswerRecorder, rebuild: Rebuild, may_be_asked: Callable[[str], bool] = lambda _: True) -> Iterator[None]:
    """Servers made in here rebuild their answers and record them.

    (DagsterGrpcServer makes its `grpc.server` itself and takes no interceptor.)
    """
    make = grpc.server
    grpc.server = partial(make, interceptors=[_Interceptor(recorder.note, rebuild, may_be_asked)])
    try:
        yield
    finally:
        grpc.server = make
