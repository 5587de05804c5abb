"""The relay killed (-9) again and again under a stream of runs: no event lost, none twice, none out of order, no run lost."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import pytest
from dagster import DagsterRunStatus
from dagster._core.events.log import EventLogEntry
from world import World, world

from ntro_dagster.boundary.relay import encoding
from ntro_dagster.boundary.relay.calls import EVENTS
from ntro_dagster.platforms.postgres.server import PostgresServer

STREAMS = 2
STEPS = 4
DEADLINE_S = 90.0


@contextmanager
def relay(here: World) -> Iterator[None]:
    """A relay in a process of its own, killed in the end."""
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(here.home.dagster),
        "NTRO_PLANE": "workspace",
        "NTRO_INSTANCE_URL": here.url,
        "NTRO_RELAY_SOCKETS": str(here.home.sockets),
        "NTRO_SURVEYS": str(here.home.surveys),
    }
    command = [sys.executable, "-P", "-m", "ntro_dagster.workspace.relay"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            while "serving acme" not in process.stderr.readline():
                assert process.poll() is None
            threading.Thread(target=process.stderr.read, daemon=True).start()  # so that it never waits for a reader
            yield
        finally:
            process.kill()


def stream(here: World, journal: Path, enough: threading.Event, address: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """Runs, one after the other, by a worker of acme; their ids. `address`: where it finds the relay, if not at its socket."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NTRO_")}
    environment |= {**here.home.tenant("acme").places, "PYTHONPATH": str(Path(__file__).parent), **address}
    command = [
        sys.executable,
        str(Path(__file__).with_name("stream.py")),
        str(here.home.dagster),
        "acme",
        str(STEPS),
        str(journal),
    ]
    runs = []
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdin and worker.stdout
        while not enough.is_set():
            runs.append(here.create_run("acme", STEPS).run_id)
            worker.stdin.write(f"{runs[-1]}\n")
            worker.stdin.flush()
            assert worker.stdout.readline().strip() == runs[-1]
        worker.stdin.close()
    assert worker.returncode == 0
    return runs


def sent(journals: list[Path]) -> list[tuple[str, EventLogEntry]]:
    lines = [line.split() for journal in journals if journal.exists() for line in journal.read_text().splitlines(keepends=True)]
    return [(run_id, event) for run_id, body in lines for event in encoding.loads(base64.b64decode(body))["events"]]


def another(journals: list[Path], calls: int) -> None:
    """Wait until that many more were made."""

    def count() -> int:
        return sum(journal.read_bytes().count(b"\n") for journal in journals if journal.exists())

    target, deadline = count() + calls, time.monotonic() + DEADLINE_S
    while count() < target:
        assert time.monotonic() < deadline, "the streams stand still"
        time.sleep(0.01)


def identity(entry: EventLogEntry) -> tuple[str, float, str | None]:
    event = entry.dagster_event
    assert event
    return event.event_type_value, entry.timestamp, event.step_key


def everything_is_stored(here: World, runs: list[str], journals: list[Path]) -> None:
    """What the workers sent of these runs, in its order, once, and nothing else."""
    said = defaultdict(list)
    for run_id, entry in sent(journals):
        said[run_id].append(identity(entry))
    for run_id in runs:
        run = here.workspace.get_run_by_id(run_id)
        assert run and run.status is DagsterRunStatus.SUCCESS
        stored = here.workspace.get_records_for_run(run_id, of_type=set(EVENTS)).records
        in_order = sorted(stored, key=lambda record: record.storage_id)
        assert [identity(record.event_log_entry) for record in in_order] == said[run_id]


def killed_under_a_stream(server: PostgresServer, root: Path, kills: int) -> None:
    enough = threading.Event()
    journals = [root / f"journal-{number}" for number in range(STREAMS)]
    with world(server, root) as here, ThreadPoolExecutor(STREAMS) as pool:
        streams = [pool.submit(stream, here, journal, enough) for journal in journals]
        try:
            for number in range(kills):
                with relay(here):
                    another(journals, 3 + 2 * (number % 4))
        finally:
            enough.set()
            with relay(here):
                runs = [run_id for each in streams for run_id in each.result(DEADLINE_S)]
        assert len(runs) >= STREAMS
        everything_is_stored(here, runs, journals)


def test_killed_four_times(postgres_server: PostgresServer, tmp_path: Path) -> None:
    killed_under_a_stream(postgres_server, tmp_path, 4)


@pytest.mark.long
def test_killed_twenty_times(postgres_server: PostgresServer, tmp_path: Path) -> None:
    killed_under_a_stream(postgres_server, tmp_path, 20)
