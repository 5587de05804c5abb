"""What a code server and a run tell each other, in real processes that a fork server makes."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ntro_dagster.tenant.pipes import PipedEvent, PipedQueue

SCRIPT = """
import multiprocessing, psutil, queue, sys, time
from ntro_dagster.tenant.run_worker import _ForkServerContext
from ntro_dagster.tenant.pipes import without_tracker

def work(said, stop):
    said.put("begun")
    from multiprocessing.resource_tracker import _resource_tracker
    said.put(_resource_tracker._fd)
    multiprocessing.get_context("spawn").Semaphore()
    said.put(_resource_tracker._pid is not None)
    said.put(stop.wait())
    stop.set()

def told(said):
    while True:
        try:
            return said.get_nowait()
        except queue.Empty:
            time.sleep(0.01)

if __name__ == "__main__":
    without_tracker()
    context = _ForkServerContext()
    context.set_forkserver_preload(["warm"])
    said, stop = context.Queue(), context.Event()
    process = multiprocessing.context.ForkServerProcess(target=work, args=(said, stop))
    process.start()
    print(told(said), told(said), told(said), stop.is_set())
    print(len(psutil.Process().children()))
    stop.set()
    print(told(said))
    process.join()
    print(process.exitcode, stop.is_set())
"""


def test_a_run_and_its_server_talk_and_nobody_watches(tmp_path: Path) -> None:
    script = tmp_path / "talk.py"
    script.write_text(SCRIPT)
    (tmp_path / "warm.py").write_text("from ntro_dagster.tenant.pipes import without_tracker; without_tracker()")
    command = [sys.executable, "-W", "error", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["begun None True False", "1", "True", "0 True"]


@pytest.fixture
def no_descriptor_left() -> Iterator[None]:
    before = psutil.Process().num_fds()
    yield
    assert psutil.Process().num_fds() == before


@pytest.mark.usefixtures("no_descriptor_left")
def test_an_event_stays_set_however_often_it_is() -> None:
    event = PipedEvent()
    assert event.wait(0) is False
    waiting = threading.Thread(target=event.wait)
    waiting.start()
    for _ in range(100_000):
        event.set()
    waiting.join(30)
    assert event.is_set()
    assert event.wait(0) is True
    assert not waiting.is_alive()
    with pytest.raises(NotImplementedError):
        event.clear()


@pytest.mark.usefixtures("no_descriptor_left")
def test_a_queue_keeps_the_order_and_says_when_it_is_empty() -> None:
    said = PipedQueue()
    for number in range(3):
        said.put(number)
    assert [said.get_nowait() for _ in range(3)] == [0, 1, 2]
    with pytest.raises(queue.Empty):
        said.get_nowait()
