"""Which partitions a sensor starts a run for, given what waits and what has run."""

from collections.abc import Iterator, Sequence
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
    failed_later(monkeypatch, set())


def failed_later(monkeypatch: pytest.MonkeyPatch, run_ids: set[str]) -> None:
    """What the tenant's database knows of where runs failed."""

    async def known(asked: Sequence[str], work: Work) -> set[str]:
        return run_ids & set(asked)

    monkeypatch.setattr(sensors, "_failed_later", known)


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def past_run(instance: DagsterInstance, status: DagsterRunStatus, work: Work = Work.POSTING, tenant: str = "acme") -> str:
    tags = {CODE_LOCATION_TAG: tenant, TENANT_TAG: tenant, WORK_TAG: work.value, PARTITION_TAG: "spv-1|2026-10"}
    return create_run_for_test(instance, job_name=JOB, status=status, tags=tags).run_id


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


def test_runs_that_failed_after_the_work_was_done_are_no_reason_to_rest(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed_later(monkeypatch, {past_run(instance, DagsterRunStatus.FAILURE) for _ in range(5)})
    assert len(requests(instance)) == 1


def test_partitions_with_many_runs_are_asked_for_one_by_one(instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "_TOGETHER", 4)
    for _ in range(3):
        past_run(instance, DagsterRunStatus.SUCCESS)
    waiting = [WAITS, Waiting("spv-2", "2026-10", ("expenses",))]
    found = [request.run_key for request in requests(instance, *waiting)]
    past_run(instance, DagsterRunStatus.SUCCESS)
    after = [request.run_key for request in requests(instance, *waiting)]
    assert found == ["posting:spv-1|2026-10:3", "posting:spv-2|2026-10:0"]
    assert after == ["posting:spv-1|2026-10:4", "posting:spv-2|2026-10:0"]


def test_two_failures_of_the_work_itself_are(instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    failed_later(monkeypatch, {past_run(instance, DagsterRunStatus.FAILURE)})
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
        (Work.REVIEW, ["review/expenses_decisions", "ledgers/journals", "ledgers/trial_balance"]),
        (Work.POSTING, ["ledgers/journals", "ledgers/trial_balance"]),
        (Work.CLOSE, ["ledgers/trial_balance"]),
    ],
)
def test_a_run_does_what_waits_and_what_may_follow_from_it(instance: DagsterInstance, work: Work, assets: list[str]) -> None:
    (request,) = sensors._requests(instance, JOB, work, [WAITS])
    assert request.asset_check_keys == []
    assert [key.to_user_string() for key in request.asset_selection or []] == [f"acme/{asset}" for asset in assets]


@pytest.mark.parametrize("work", [work for work in Work if work is not Work.PROPOSALS])
def test_what_a_run_does_is_a_part_that_was_likely(instance: DagsterInstance, work: Work) -> None:
    """Of a job with all of it; a job that has no more than intake has no other parts."""
    every = {key for each in Work for name in ("expenses", "rents") for key in sensors._OWN[each]([name])}
    (request,) = sensors._requests(instance, JOB, work, [WAITS])
    parts = list(sensors.likely_parts(every))
    assert set(request.asset_selection or ()) in parts
    assert len(parts) == len(set(map(frozenset, parts))) <= 20
    assert list(sensors.likely_parts(set(sensors._OWN[Work.INTAKE](["rents"])))) == [set(sensors._OWN[Work.INTAKE](["rents"]))]


def test_one_that_looks_for_long_does_not_keep_the_others_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "LONGEST_TURN_S", 0.01)
    with sensors._in_turn():
        with sensors._in_turn():
            assert sensors._turn.locked()
        assert sensors._turn.locked(), "it is not the other's to end"
    assert not sensors._turn.locked()
