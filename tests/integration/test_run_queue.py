"""Of runs that wait, ours starts those that Dagster's own code would, and reads no others."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.dagster_run import RunOpConcurrency
from dagster._core.utils import make_new_run_id
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from ntro_dagster.boundary import storage
from ntro_dagster.boundary.storage import prepare_instance
from ntro_dagster.host.dagster_instance import write_instance
from ntro_dagster.host.home import Home
from ntro_dagster.workspace.run_queue import read_what_may_start

PLACES, PLACES_OF_A_TENANT = 6, 4
TENANTS = ("acme", "beta", "gamma")


@dataclass
class Queue:
    """The queue of an installation. Attributes: `read`: runs that were read whole."""

    instance: DagsterInstance
    stock: Callable[..., list[DagsterRun]]
    daemon: QueuedRunCoordinatorDaemon
    read: int = 0

    def add(
        self,
        tenant: str,
        entity: str,
        *,
        status: DagsterRunStatus = DagsterRunStatus.QUEUED,
        priority: int = 0,
        pool: str | None = None,
    ) -> DagsterRun:
        server = GrpcServerCodeLocationOrigin(host="localhost", socket="/none", location_name=tenant)
        return self.instance.run_storage.add_run(
            DagsterRun(
                job_name="month_end",
                run_id=make_new_run_id(),
                status=status,
                tags={
                    "dagster/code_location": tenant,
                    "dagster/partition": f"{entity}|2026-10",
                    "dagster/priority": str(priority),
                },
                remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(server, "repository"), "month_end"),
                run_op_concurrency=None
                if pool is None
                else RunOpConcurrency(root_key_counts={pool: 1}, has_unconstrained_root_nodes=False, all_pools={pool}),
            )
        )

    def _chosen(self, by: Callable[..., list[DagsterRun]]) -> list[str]:
        return [run.run_id for run in by(self.daemon, self.instance, self.instance.get_concurrency_config(), None)]

    def ours(self) -> list[str]:
        return self._chosen(QueuedRunCoordinatorDaemon._get_runs_to_dequeue)

    def dagsters(self) -> list[str]:
        return self._chosen(self.stock)


@pytest.fixture
def queue(
    instance_database: Callable[[], AbstractContextManager[str]],
    as_workspace: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Queue]:
    home = Home(tmp_path)
    home.create()
    write_instance(home, max_concurrent_runs=PLACES, runs_per_tenant=PLACES_OF_A_TENANT)
    stock = QueuedRunCoordinatorDaemon._get_runs_to_dequeue
    monkeypatch.setattr(QueuedRunCoordinatorDaemon, "_get_runs_to_dequeue", stock)  # so that it is put back
    read_what_may_start()
    with instance_database() as url:
        prepare_instance(url)
        as_workspace(url)
        with DagsterInstance.from_config(str(home.dagster)) as instance:
            known = Queue(instance, stock, QueuedRunCoordinatorDaemon(interval_seconds=1, page_size=20))
            one = storage._PooledRunStorage._row_to_run

            def counted(self: storage._PooledRunStorage, row: Any) -> DagsterRun:
                known.read += 1
                return one(self, row)

            monkeypatch.setattr(storage._PooledRunStorage, "_row_to_run", counted)
            yield known


@pytest.mark.parametrize("seed", range(8))
def test_the_same_runs_in_the_same_order(queue: Queue, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    states = [DagsterRunStatus.STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.SUCCESS, DagsterRunStatus.CANCELING]
    for _ in range(60):
        queue.add(
            chance.choice(TENANTS),
            f"spv-{chance.randrange(12)}",
            status=DagsterRunStatus.QUEUED if chance.random() < 0.9 else chance.choice(states),
            priority=chance.choice([0, 0, 0, -1, 5]),
            pool=chance.choice([None, None, "ledger"]) if seed % 2 else None,
        )
    if seed % 4 == 3:
        queue.instance.event_log_storage.set_concurrency_slots("ledger", 1)
    if seed == 6:
        queue.daemon._location_timeouts["acme"] = time.time() + 3600
    begun = 0
    for _ in range(60):
        expected = queue.dagsters()
        assert queue.ours() == expected
        for run_id in expected[: chance.randint(1, PLACES)]:
            _starts(queue, run_id)
            begun += 1
        for run in queue.instance.get_runs():
            if run.status is not DagsterRunStatus.QUEUED and chance.random() < 0.4:
                queue.instance.run_storage.delete_run(run.run_id)
    assert begun >= 30


def _starts(queue: Queue, run_id: str) -> None:
    with queue.instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
        connection.exec_driver_sql("UPDATE runs SET status = 'STARTED' WHERE run_id = %s", (run_id,))


def test_no_others_are_read(queue: Queue) -> None:
    for number in range(120):
        queue.add("acme", f"spv-{number}")
    queue.read = 0
    assert len(queue.ours()) == PLACES_OF_A_TENANT
    assert queue.read == PLACES_OF_A_TENANT
    for run_id in queue.ours():
        _starts(queue, run_id)
    queue.read = 0
    assert queue.ours() == []
    assert queue.read == PLACES_OF_A_TENANT, "those at work"


def test_a_text_is_read_once_and_the_status_is_the_columns(queue: Queue) -> None:
    run = queue.add("acme", "spv-1")
    misses = storage._read_run.cache_info().misses
    assert queue.instance.get_run_by_id(run.run_id).status is DagsterRunStatus.QUEUED  # type: ignore[union-attr]
    _starts(queue, run.run_id)
    assert queue.instance.get_run_by_id(run.run_id).status is DagsterRunStatus.STARTED  # type: ignore[union-attr]
    assert storage._read_run.cache_info().misses == misses + 1
    queue.instance.add_run_tags(run.run_id, {"dagster/priority": "7"})
    assert queue.instance.get_run_by_id(run.run_id).tags["dagster/priority"] == "7"  # type: ignore[union-attr]
