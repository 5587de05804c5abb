"""Which partitions a sensor starts a run for, given what waits and what has run."""

from collections.abc import Iterator
from unittest.mock import patch

import pytest
from dagster import DagsterInstance, DagsterRunStatus, RunRequest
from dagster._core.test_utils import create_run_for_test

from ntro_dagster.boundary.names import CODE_LOCATION_TAG, PARTITION_TAG, TENANT_TAG, WORK_TAG
from ntro_dagster.orchestration import sensors
from ntro_dagster.orchestration.work import Waiting, Work

JOB = "expense_processor"
WAITS = Waiting("spv-1", "2026-10", ("expenses",))


@pytest.fixture(autouse=True)
def acme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NTRO_TENANT", "acme")


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def past_run(instance: DagsterInstance, status: DagsterRunStatus, work: Work = Work.POSTING, tenant: str = "acme") -> None:
    tags = {CODE_LOCATION_TAG: tenant, TENANT_TAG: tenant, WORK_TAG: work.value, PARTITION_TAG: "spv-1|2026-10"}
    create_run_for_test(instance, job_name=JOB, status=status, tags=tags)


def requests(instance: DagsterInstance, *waiting: Waiting) -> list[RunRequest]:
    return list(sensors._requests(instance, JOB, Work.POSTING, waiting or [WAITS]))


def test_work_without_a_run_gets_one(instance: DagsterInstance) -> None:
    (request,) = requests(instance)
    assert request.partition_key == "spv-1|2026-10"
    assert request.run_key == "posting:spv-1|2026-10:0"


@pytest.mark.parametrize("status", [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING])
def test_work_under_way_gets_no_second_run(instance: DagsterInstance, status: DagsterRunStatus) -> None:
    past_run(instance, status)
    assert requests(instance) == []


def test_a_run_of_another_kind_on_the_partition_is_waited_for(instance: DagsterInstance) -> None:
    past_run(instance, DagsterRunStatus.STARTED, Work.REVIEW)
    assert requests(instance) == []


def test_another_tenants_run_on_a_partition_of_that_name_does_not_matter(instance: DagsterInstance) -> None:
    past_run(instance, DagsterRunStatus.STARTED, tenant="borough")
    assert len(requests(instance)) == 1


def test_more_work_after_a_run_is_a_new_generation(instance: DagsterInstance) -> None:
    past_run(instance, DagsterRunStatus.SUCCESS)
    assert [request.run_key for request in requests(instance)] == ["posting:spv-1|2026-10:1"]


def test_a_run_that_died_once_is_started_again_at_once(instance: DagsterInstance) -> None:
    past_run(instance, DagsterRunStatus.FAILURE)
    assert len(requests(instance)) == 1


def test_a_run_that_keeps_failing_is_given_a_rest(instance: DagsterInstance) -> None:
    for _ in range(3):
        past_run(instance, DagsterRunStatus.FAILURE)
    assert requests(instance) == []


def test_the_rest_ends(instance: DagsterInstance) -> None:
    for _ in range(3):
        past_run(instance, DagsterRunStatus.FAILURE)
    with patch.object(sensors, "LONGEST_BACKOFF", sensors.timedelta(0)):
        assert len(requests(instance)) == 1


def test_every_partition_is_asked_by_itself(instance: DagsterInstance) -> None:
    past_run(instance, DagsterRunStatus.STARTED)
    found = requests(instance, WAITS, Waiting("spv-2", "2026-10", ("expenses",)), Waiting("spv-1", "2026-09", ("expenses",)))
    assert [request.partition_key for request in found] == ["spv-2|2026-10", "spv-1|2026-09"]


@pytest.mark.parametrize(
    ("work", "assets"),
    [
        (Work.INTAKE, ["ingest/submitted_records", "ledgers/expenses"]),
        (Work.REVIEW, ["review/expenses_decisions"]),
        (Work.POSTING, ["ledgers/journals"]),
        (Work.CLOSE, ["ledgers/trial_balance"]),
    ],
)
def test_a_run_does_only_what_waits(instance: DagsterInstance, work: Work, assets: list[str]) -> None:
    (request,) = sensors._requests(instance, JOB, work, [WAITS])
    assert [key.to_user_string() for key in request.asset_selection or []] == [f"acme/{asset}" for asset in assets]
