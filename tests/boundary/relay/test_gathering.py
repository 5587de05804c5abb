"""What a run worker says goes out together: in its order, once, and soon; what it was just told it does not ask again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from dagster import (
    AssetKey,
    AssetMaterialization,
    AssetsDefinition,
    DagsterEvent,
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    DataVersion,
    Definitions,
    DynamicPartitionsDefinition,
    JobDefinition,
    MaterializeResult,
    MultiPartitionsDefinition,
    StaticPartitionsDefinition,
    asset,
    define_asset_job,
    in_process_executor,
)
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.events import EngineEventData, StepMaterializationData
from dagster._core.execution.api import execute_run_iterator
from world import World, serving, world

from ntro_dagster.boundary.names import CODE_LOCATION_TAG, PARTITION_TAG, entities_set
from ntro_dagster.boundary.relay import client, connection, gathering
from ntro_dagster.boundary.relay.calls import STORE_EVENTS, TELL_AND_ASK
from ntro_dagster.boundary.relay.connection import RelayRefusedError
from ntro_dagster.boundary.relay.gathering import MOST_EVENTS, Gathering
from ntro_dagster.platforms.postgres.server import PostgresServer

DEADLINE_S = 30.0
ENGINE, START, SUCCESS = DagsterEventType.ENGINE_EVENT, DagsterEventType.RUN_START, DagsterEventType.RUN_SUCCESS
THING = AssetKey(["acme", "ledgers", "things_1"])


@pytest.fixture(scope="module")
def here(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(postgres_server, tmp_path_factory.mktemp("gathering")) as made, serving(made):
        yield made


@pytest.fixture
def acme(here: World) -> Iterator[DagsterInstance]:
    with here.tenant("acme") as opened:
        yield opened


@pytest.fixture
def gathers(monkeypatch: pytest.MonkeyPatch) -> Gathering:
    made = Gathering()
    monkeypatch.setattr(gathering, "gathering", made)
    return made


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch, gathers: Gathering) -> Gathering:
    """Nothing goes by itself, and no answer gets old."""
    for name in ("HELD_S", "FRESH_S"):
        monkeypatch.setattr(gathering, name, 10 * DEADLINE_S)
    return gathers


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    made: Counter[str] = Counter()
    call = connection.call

    def counted(name: str, *given: Any, **more: Any) -> bytes:
        made[name] += 1
        return call(name, *given, **more)

    monkeypatch.setattr(client, "call", counted)
    monkeypatch.setattr(gathering, "call", counted)
    return made


def say(opened: DagsterInstance, run: DagsterRun, kind: DagsterEventType = ENGINE, job: str | None = None) -> None:
    data = EngineEventData() if kind is ENGINE else None
    opened.report_dagster_event(DagsterEvent(kind.value, job or run.job_name, event_specific_data=data), run.run_id)


def stored(here: World, run: DagsterRun) -> list[DagsterEventType]:
    records = here.workspace.get_records_for_run(run.run_id).records
    events = [record.event_log_entry.dagster_event for record in sorted(records, key=lambda record: record.storage_id)]
    return [event.event_type for event in events if event and "PLANNED" not in event.event_type_value]


def test_a_run_makes_few_calls_and_all_of_it_is_stored_in_order(
    here: World, acme: DagsterInstance, gathers: Gathering, calls: Counter[str]
) -> None:
    run = here.create_run("acme", 5)
    here.execute(acme, run, "acme", 5)
    gathers.flush()
    said = stored(here, run)
    assert (said[0], said[-1]) == (START, SUCCESS)
    assert said.count(DagsterEventType.STEP_SUCCESS) == said.count(DagsterEventType.ASSET_MATERIALIZATION) == 5
    records = here.workspace.get_records_for_run(run.run_id).records
    moments = [record.timestamp for record in sorted(records, key=lambda record: record.storage_id)]
    assert moments == sorted(moments)
    assert calls[STORE_EVENTS] + calls[TELL_AND_ASK] < len(said) / 2
    assert calls["store_event"] == 0


def test_a_run_of_three_steps_makes_seven_calls(here: World, acme: DagsterInstance, held: Gathering, calls: Counter[str]) -> None:
    here.workspace.add_dynamic_partitions(entities_set("acme"), ["spv"])
    job = _partitioned("acme", 3)
    for _ in range(2):  # with and without anything that the inputs were made of
        tags = {CODE_LOCATION_TAG: "acme", PARTITION_TAG: "spv|2026-10"}
        made = here.workspace.create_run_for_job(job, run_id=str(uuid4()), tags=tags, status=DagsterRunStatus.STARTING)
        here.workspace.report_engine_event("", made)
        held.__init__()  # type: ignore[misc] # a process for each run
        client.known_partitions.clear()
        calls.clear()
        run = acme.get_run_by_id(made.run_id)
        assert run
        say(acme, run)
        run = acme.get_run_by_id(made.run_id)
        assert run
        list(execute_run_iterator(InMemoryJob(job), run, acme))
        say(acme, run)
        held.flush()
        assert calls == {TELL_AND_ASK: 2 + 3, STORE_EVENTS: 2}, "two looks at the run, one at what each step is made of, two ends"
        assert stored(here, run)[-2:] == [SUCCESS, ENGINE]


def _partitioned(tenant: str, steps: int) -> JobDefinition:
    months = MultiPartitionsDefinition(
        {
            "entity": DynamicPartitionsDefinition(name=entities_set(tenant)),
            "period": StaticPartitionsDefinition(["2026-10"]),
        }
    )

    def step(number: int) -> AssetsDefinition:
        this, before = (AssetKey([tenant, "ledgers", f"things_{each}"]) for each in (number, number - 1))

        @asset(key=this, deps=[before], partitions_def=months)
        def things() -> MaterializeResult[None]:
            return MaterializeResult(data_version=DataVersion(str(number)))

        return things

    assets = [step(number) for number in range(1, steps + 1)]
    made = define_asset_job("month_end", assets, partitions_def=months)
    return Definitions(assets=assets, jobs=[made], executor=in_process_executor).resolve_job_def("month_end")


def test_what_is_said_is_stored_soon_whatever_follows(here: World, acme: DagsterInstance, gathers: Gathering) -> None:
    run = here.create_run("acme")
    say(acme, run)
    deadline = time.monotonic() + DEADLINE_S
    while stored(here, run) != [ENGINE]:
        assert time.monotonic() < deadline


def test_a_full_batch_goes_at_once_and_so_does_an_end(here: World, acme: DagsterInstance, held: Gathering) -> None:
    run = here.create_run("acme")
    for _ in range(MOST_EVENTS - 1):
        say(acme, run)
    assert stored(here, run) == []
    say(acme, run)
    assert stored(here, run) == [ENGINE] * MOST_EVENTS
    say(acme, run)
    say(acme, run, SUCCESS)
    assert stored(here, run)[MOST_EVENTS:] == [ENGINE, SUCCESS]


def test_the_end_of_a_process_sends_what_is_left(here: World, acme: DagsterInstance, held: Gathering) -> None:
    run = here.create_run("acme")
    say(acme, run)
    gathering.end()
    assert stored(here, run) == [ENGINE]


@pytest.mark.parametrize(("arrived", "asking"), [(True, True), (True, False), (False, True), (False, False)])
def test_a_call_that_was_cut_short_is_completed_and_stored_once(  # noqa: PLR0917 - pytest's
    here: World, acme: DagsterInstance, held: Gathering, monkeypatch: pytest.MonkeyPatch, arrived: bool, asking: bool
) -> None:
    run, attempt = here.create_run("acme"), connection._try

    def cut_short(*given: Any) -> bytes:
        if arrived:
            attempt(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(connection, "_try", cut_short)
        say(acme, run)
        say(acme, run, START)
        with pytest.raises(KeyboardInterrupt):
            acme.fetch_materializations(THING, limit=1) if asking else held.flush()
    say(acme, run)
    say(acme, run, SUCCESS)
    assert stored(here, run) == [ENGINE, START, ENGINE, SUCCESS]


@pytest.mark.parametrize("asking", [True, False])
def test_what_is_refused_takes_nothing_else_along(here: World, acme: DagsterInstance, held: Gathering, asking: bool) -> None:
    """Neither what was said with it, nor a question that has nothing to do with it."""
    run = here.create_run("acme")
    say(acme, run)
    say(acme, run, job="pay_smith")
    say(acme, run, START)
    if asking:
        assert acme.get_run_by_id(run.run_id)
        assert stored(here, run) == [ENGINE, START]
    with pytest.raises(RelayRefusedError):
        say(acme, run, SUCCESS)
    assert stored(here, run) == [ENGINE, START, SUCCESS]


def test_what_was_refused_with_others_is_sent_to_its_end_whatever_comes_between(
    here: World, acme: DagsterInstance, held: Gathering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted before each call once: each event is stored once, but for the one that is refused."""
    attempt = connection._try
    for interrupted_at in range(5):
        run, calls_left = here.create_run("acme"), interrupted_at

        def cut_short(*given: Any) -> Any:
            nonlocal calls_left
            calls_left -= 1
            if calls_left == -1:
                raise KeyboardInterrupt
            return attempt(*given)

        with monkeypatch.context() as interrupting:
            interrupting.setattr(connection, "_try", cut_short)
            say(acme, run, job="pay_smith")
            say(acme, run)
            say(acme, run, START)
            with pytest.raises((KeyboardInterrupt, RelayRefusedError)):
                held.flush()
        with suppress(RelayRefusedError):
            gathering.end()
        assert stored(here, run) == [ENGINE, START]


def test_who_ends_sends_everything_before_it_tells_what_was_refused(
    here: World, acme: DagsterInstance, held: Gathering, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = here.create_run("acme")
    say(acme, run)
    held._failed = RelayRefusedError(call="x", reason="NOT_YOURS")
    with pytest.raises(RelayRefusedError):
        gathering.end()
    assert stored(here, run) == [ENGINE]


def test_a_large_question_comes_after_what_was_said_as_any_other(here: World, acme: DagsterInstance, held: Gathering) -> None:
    run = here.create_run("acme")
    made = StepMaterializationData(AssetMaterialization(THING))
    event = DagsterEvent(DagsterEventType.ASSET_MATERIALIZATION.value, run.job_name, event_specific_data=made)
    acme.report_dagster_event(event, run.run_id)
    many = [THING, *(AssetKey(["acme", "ledgers", f"of_a_name_that_is_rather_long_{number}"]) for number in range(900))]
    (record,) = acme.get_asset_records(many)
    assert record.asset_entry.last_run_id == run.run_id


def test_a_question_that_is_refused_leaves_what_was_said_before_it(
    here: World, acme: DagsterInstance, held: Gathering, calls: Counter[str]
) -> None:
    run = here.create_run("acme")
    say(acme, run)
    with pytest.raises(RelayRefusedError) as refused:
        acme.fetch_materializations(AssetKey(["beta", "ledgers", "things_1"]), limit=1)
    assert refused.value.values == {"call": "fetch_materializations", "reason": "NOT_YOURS"}
    held.flush()
    assert stored(here, run) == [ENGINE]
    assert calls == {TELL_AND_ASK: 1}


def test_a_run_hears_that_it_is_being_cancelled_however_often_it_looks(
    here: World, acme: DagsterInstance, held: Gathering
) -> None:
    made = here.create_run("acme")
    for _ in range(2):
        run = acme.get_run_by_id(made.run_id)
        assert run and run.status is DagsterRunStatus.STARTING
    here.workspace.report_run_canceling(made)
    run = acme.get_run_by_id(made.run_id)
    assert run and run.status is DagsterRunStatus.CANCELING


def test_the_run_hears_of_what_was_refused_behind_its_back(here: World, acme: DagsterInstance, gathers: Gathering) -> None:
    run = here.create_run("acme")
    say(acme, run, job="pay_smith")
    deadline = time.monotonic() + DEADLINE_S
    while gathers._failed is None:
        assert time.monotonic() < deadline
    with pytest.raises(RelayRefusedError):
        say(acme, run)
    say(acme, run, SUCCESS)
    assert stored(here, run) == [ENGINE, SUCCESS]


def test_a_question_is_asked_once_until_the_run_has_said_something_of_an_asset(
    here: World, acme: DagsterInstance, held: Gathering, calls: Counter[str]
) -> None:
    def latest() -> str | None:
        found = acme.fetch_materializations(THING, limit=1).records
        return found[0].run_id if found else None

    before = latest()
    assert latest() == before
    assert calls[TELL_AND_ASK] == 1
    run = here.create_run("acme")
    here.execute(acme, run, "acme")
    calls.clear()
    assert latest() == run.run_id
    assert latest() == run.run_id
    assert calls[TELL_AND_ASK] <= 1


def test_an_answer_does_not_get_old(
    acme: DagsterInstance, held: Gathering, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    acme.fetch_materializations(THING, limit=1)
    monkeypatch.setattr(gathering, "FRESH_S", 0.0)
    acme.fetch_materializations(THING, limit=1)
    assert calls[TELL_AND_ASK] == 2


def test_an_entity_is_asked_for_until_it_is_there(here: World, acme: DagsterInstance, calls: Counter[str]) -> None:
    assert not acme.has_dynamic_partition("acme__entities", "spv-new")
    here.workspace.add_dynamic_partitions("acme__entities", ["spv-new"])
    assert acme.has_dynamic_partition("acme__entities", "spv-new")
    assert acme.has_dynamic_partition("acme__entities", "spv-new")
    assert calls["has_dynamic_partition"] == 2
