"""One run for a tick, an entity and a month, decided where runs are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest
from dagster import DagsterRun
from dagster._core.errors import DagsterRunAlreadyExists
from dagster._core.utils import make_new_run_id

from ntro_dagster.boundary.storage import PooledPostgresStorage, prepare_instance

TICK = "2026-11-05T08:00:00+00:00"


@pytest.fixture
def storage(instance_database: Callable[[], AbstractContextManager[str]]) -> Iterator[PooledPostgresStorage]:
    with instance_database() as url:
        prepare_instance(url)
        yield PooledPostgresStorage(url)


def run(*, partition: str = "spv-1|2026-10", tick: str | None = TICK, tenant: str = "acme", **more: str) -> DagsterRun:
    tags = {"dagster/code_location": tenant, "dagster/partition": partition}
    if tick:
        tags[".dagster/scheduled_execution_time"] = tick
    return DagsterRun(job_name=more.pop("job", "nav"), run_id=make_new_run_id(), tags=tags, **more)


def test_many_ask_at_once_and_are_given_the_same_run(storage: PooledPostgresStorage) -> None:
    with ThreadPoolExecutor(8) as threads:
        given = list(threads.map(lambda _: storage.run_storage.add_run(run()).run_id, range(16)))
    (only,) = storage.run_storage.get_runs()
    assert set(given) == {only.run_id}
    assert only.tags[".dagster/scheduled_execution_time"] == TICK


def test_what_differs_is_another_run(storage: PooledPostgresStorage) -> None:
    first = storage.run_storage.add_run(run())
    others = [
        run(tick="2026-11-06T08:00:00+00:00"),
        run(partition="spv-2|2026-10"),
        run(partition="spv-1|2026-09"),
        run(tenant="beta"),
        run(job="other"),
        run(tick=None),
        run(tick=None),
        run(parent_run_id=first.run_id, root_run_id=first.run_id),  # run again in Dagster's pages
    ]
    for other in others:
        assert storage.run_storage.add_run(other).run_id == other.run_id
    assert len(storage.run_storage.get_runs()) == 1 + len(others)


def test_a_run_that_was_deleted_may_be_made_again(storage: PooledPostgresStorage) -> None:
    first = storage.run_storage.add_run(run())
    storage.run_storage.delete_run(first.run_id)
    second = storage.run_storage.add_run(run())
    assert second.run_id != first.run_id
    assert storage.run_storage.add_run(run()).run_id == second.run_id


def test_a_run_that_could_not_be_stored_holds_nothing(storage: PooledPostgresStorage) -> None:
    there = storage.run_storage.add_run(run(tick=None))
    with pytest.raises(DagsterRunAlreadyExists):
        storage.run_storage.add_run(run()._replace(run_id=there.run_id))
    assert storage.run_storage.add_run(other := run()).run_id == other.run_id
