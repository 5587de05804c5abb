"""The relay killed (-9) again and again under a stream of runs: no event lost, none twice, none out of order, no run lost."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.events.log import EventLogEntry
from world import World, world

from ntro_dagster.boundary.relay import connection, encoding
from ntro_dagster.boundary.relay.calls import EVENTS
from ntro_dagster.boundary.relay.connection import Sent
from ntro_dagster.platforms.postgres.server import PostgresServer

STREAMS = 2
STEPS = 4


@contextmanager
def process(here: World) -> Iterator[subprocess.Popen[str]]:
    """A relay of its own; killed in the end."""
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(here.home.dagster),
        "NTRO_PLANE": "workspace",
        "NTRO_INSTANCE_URL": here.url,
        "NTRO_RELAY_SOCKETS": str(here.home.sockets),
    }
    command = [sys.executable, "-P", "-m", "ntro_dagster.workspace.relay"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as relay:
        try:
            assert relay.stderr
            while "serving beta" not in relay.stderr.readline():
                assert relay.poll() is None
            yield relay
        finally:
            relay.kill()


class Truth:
    """What was sent, by run, as the tenant's journal would keep it."""

    def __init__(self) -> None:
        self.sent: dict[str, list[EventLogEntry]] = defaultdict(list)
        self.count = 0
        self._more = threading.Condition()

    def __call__(self, message: Sent) -> None:
        with self._more:
            if message.call == "store_event" and message.body:
                self.sent[message.run_id or ""].append(encoding.loads(message.body)["event"])
                self.count += 1
                self._more.notify_all()

    def wait_for_another(self, number: int) -> None:
        with self._more:
            target = self.count + number
            assert self._more.wait_for(lambda: self.count >= target, timeout=60), "the streams stand still"


def identity(entry: EventLogEntry) -> tuple[str, float, str | None]:
    event = entry.dagster_event
    assert event
    return event.event_type_value, entry.timestamp, event.step_key


def killed_under_a_stream(server: PostgresServer, root: Path, kills: int, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = Truth()
    monkeypatch.setattr(connection, "keep", truth)
    monkeypatch.setattr(connection, "patience_s", 120.0)
    enough = threading.Event()
    runs: list[str] = []

    def stream(here: World, acme: DagsterInstance) -> None:
        while not enough.is_set():
            run = here.create_run("acme", STEPS)
            runs.append(run.run_id)
            here.execute(acme, run, "acme", STEPS)

    with world(server, root) as here, here.tenant("acme") as acme, ThreadPoolExecutor(STREAMS) as pool:
        streams = [pool.submit(stream, here, acme) for _ in range(STREAMS)]
        try:
            for number in range(kills):
                with process(here):
                    truth.wait_for_another(7 + 5 * (number % 4))
        finally:
            enough.set()
            with process(here):
                for each in streams:
                    each.result()
        assert len(runs) >= STREAMS
        for run_id in runs:
            run = here.workspace.get_run_by_id(run_id)
            assert run and run.status is DagsterRunStatus.SUCCESS
            stored = here.workspace.get_records_for_run(run_id, of_type=set(EVENTS)).records
            found = [identity(record.event_log_entry) for record in sorted(stored, key=lambda record: record.storage_id)]
            assert found == [identity(entry) for entry in truth.sent[run_id]]


def test_killed_four_times(postgres_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_under_a_stream(postgres_server, tmp_path, 4, monkeypatch)


@pytest.mark.long
def test_killed_twenty_times(postgres_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_under_a_stream(postgres_server, tmp_path, 20, monkeypatch)
