"""Tenant acme asks, by every call there is, about beta's runs, assets, partitions and pools: it learns and changes nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from dagster import AssetCheckEvaluation, AssetKey, AssetMaterialization, DagsterEvent, DagsterEventType, DagsterRun
from dagster._core.event_api import AssetRecordsFilter
from dagster._core.events import EngineEventData, JobFailureData, RunEnqueuedData, StepMaterializationData
from dagster._core.events.log import EventLogEntry
from dagster._core.execution.plan.outputs import StepOutputData, StepOutputHandle
from dagster._core.storage.dagster_run import RunsFilter
from test_relay import Wire
from world import World, serving, world

from ntro_dagster.boundary.names import CODE_LOCATION_TAG, entities_set
from ntro_dagster.boundary.relay import encoding
from ntro_dagster.boundary.relay.calls import CALLS, EVENTS, QUESTIONS, TELL_AND_ASK
from ntro_dagster.boundary.relay.question import Question
from ntro_dagster.boundary.relay.view import TenantView
from ntro_dagster.platforms.postgres.server import PostgresServer

THEIR_KEY = AssetKey(["beta", "ledgers", "things_1"])
OUR_KEY = AssetKey(["acme", "ledgers", "things_1"])


@dataclass
class Both:
    """A run of each tenant, finished; and one of beta's that is at work."""

    here: World
    ours: DagsterRun
    theirs: DagsterRun
    at_work: DagsterRun


@pytest.fixture(scope="module")
def both(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with world(postgres_server, tmp_path_factory.mktemp("scope")) as here, serving(here):
        here.workspace.event_log_storage.set_concurrency_slots("acme__b/pool", 1)
        for slug in ("acme", "beta"):
            here.workspace.add_dynamic_partitions(entities_set(slug), [f"{slug}-spv"])
            here.workspace.event_log_storage.set_concurrency_slots(f"{slug}/pool", 1)
        runs = {slug: here.create_run(slug) for slug in ("acme", "beta")}
        for slug, run in runs.items():
            with here.tenant(slug) as opened:
                here.execute(opened, run, slug)
        yield Both(here, runs["acme"], runs["beta"], here.create_run("beta", 3))


def _entry(
    run_id: str, kind: DagsterEventType, data: Any = None, *, job: str = "month_end", step: str | None = None
) -> EventLogEntry:
    event = DagsterEvent(kind.value, job, event_specific_data=data, step_key=step)
    return EventLogEntry(None, 20, "", run_id, 1.0, job_name=job, dagster_event=event)  # type: ignore[no-untyped-call]


def _materialized(run_id: str, key: AssetKey, **more: Any) -> EventLogEntry:
    return _entry(run_id, DagsterEventType.ASSET_MATERIALIZATION, StepMaterializationData(AssetMaterialization(key, **more)))


ATTACKS: dict[str, Callable[[Both], tuple[str, dict[str, Any]]]] = {
    "runs by their owner": lambda both: ("get_runs", {"filters": RunsFilter(tags={CODE_LOCATION_TAG: "beta"})}),
    "records by their owner": lambda both: ("get_run_records", {"filters": RunsFilter(tags={CODE_LOCATION_TAG: ["beta"]})}),
    "count by their owner": lambda both: ("get_runs_count", {"filters": RunsFilter(tags={CODE_LOCATION_TAG: "beta"})}),
    "runs in buckets": lambda both: ("get_runs", {"bucket_by": "job"}),
    "records in a strange order": lambda both: ("get_run_records", {"order_by": "run_body"}),
    "plan of a finished run": lambda both: (
        "get_execution_plan_snapshot",
        {"execution_plan_snapshot_id": both.theirs.execution_plan_snapshot_id},
    ),
    "plan of a run at work": lambda both: (
        "get_execution_plan_snapshot",
        {"execution_plan_snapshot_id": both.at_work.execution_plan_snapshot_id},
    ),
    "materializations": lambda both: ("fetch_materializations", {"records_filter": THEIR_KEY, "limit": 9}),
    "materializations, filtered": lambda both: (
        "fetch_materializations",
        {"records_filter": AssetRecordsFilter(THEIR_KEY), "limit": 9},
    ),
    "observations": lambda both: ("fetch_observations", {"records_filter": THEIR_KEY, "limit": 9}),
    "latest materializations": lambda both: ("get_latest_materialization_events", {"asset_keys": [OUR_KEY, THEIR_KEY]}),
    "assets": lambda both: ("get_asset_records", {"asset_keys": [THEIR_KEY]}),
    "all assets": lambda both: ("get_asset_records", {}),
    "tags of partitions": lambda both: (
        "get_latest_tags_by_partition",
        {"asset_key": THEIR_KEY, "event_type": DagsterEventType.ASSET_MATERIALIZATION, "tag_keys": ["x"]},
    ),
    "partitions": lambda both: ("get_dynamic_partitions", {"partitions_def_name": entities_set("beta")}),
    "a partition": lambda both: (
        "has_dynamic_partition",
        {"partitions_def_name": entities_set("beta"), "partition_key": "beta-spv"},
    ),
    "a slot of their pool": lambda both: (
        "claim_concurrency_slot",
        {"concurrency_key": "beta/pool", "run_id": both.ours.run_id, "step_key": "s"},
    ),
    "a slot of a pool of another tenant whose name begins as ours": lambda both: (
        "claim_concurrency_slot",
        {"concurrency_key": "acme__b/pool", "run_id": both.ours.run_id, "step_key": "acme__ledgers__things_1"},
    ),
    "a slot of a pool that the operator did not make": lambda both: (
        "claim_concurrency_slot",
        {"concurrency_key": "acme/Smith owes 4,000.00", "run_id": both.ours.run_id, "step_key": "acme__ledgers__things_1"},
    ),
    "a slot for a step that was not deployed": lambda both: (
        "claim_concurrency_slot",
        {"concurrency_key": "acme/pool", "run_id": both.ours.run_id, "step_key": "Smith owes 4,000.00"},
    ),
    "a slot for their run": lambda both: (
        "claim_concurrency_slot",
        {"concurrency_key": "acme/pool", "run_id": both.theirs.run_id, "step_key": "s"},
    ),
    "a look at their slot": lambda both: (
        "check_concurrency_claim",
        {"concurrency_key": "beta/pool", "run_id": both.theirs.run_id, "step_key": "s"},
    ),
    "freeing a slot": lambda both: ("free_concurrency_slot_for_step", {"run_id": both.theirs.run_id, "step_key": "s"}),
    "freeing slots": lambda both: ("free_concurrency_slots_for_run", {"run_id": both.theirs.run_id}),
    "an event of their run": lambda both: ("store_event", {"event": _entry(both.at_work.run_id, DagsterEventType.RUN_START)}),
    "the failure of their run": lambda both: (
        "store_event",
        {"event": _entry(both.at_work.run_id, DagsterEventType.RUN_FAILURE, JobFailureData(None))},
    ),
    "an event of no run": lambda both: ("store_event", {"event": _materialized("", OUR_KEY)}),
    "an event of a run that is none": lambda both: (
        "store_event",
        {"event": _materialized("00000000-0000-4000-8000-000000000000", OUR_KEY)},
    ),
    "an event of their run among ours": lambda both: (
        "store_events",
        {
            "events": [
                _materialized(both.ours.run_id, OUR_KEY),
                _entry(both.at_work.run_id, DagsterEventType.RUN_START),
            ]
        },
    ),
    "too many events at once": lambda both: ("store_events", {"events": [_materialized(both.ours.run_id, OUR_KEY)] * 65}),
    "their asset in our run": lambda both: ("store_event", {"event": _materialized(both.ours.run_id, THEIR_KEY)}),
    "their check in our run": lambda both: (
        "store_event",
        {
            "event": _entry(
                both.ours.run_id,
                DagsterEventType.ASSET_CHECK_EVALUATION,
                AssetCheckEvaluation(asset_key=THEIR_KEY, check_name="adds_up", passed=True, metadata={}),
            )
        },
    ),
    "a job that was not deployed": lambda both: (
        "store_event",
        {"event": _entry(both.ours.run_id, DagsterEventType.RUN_START, job="pay_smith")},
    ),
    "a step that was not deployed": lambda both: (
        "store_event",
        {"event": _entry(both.ours.run_id, DagsterEventType.STEP_START, step="pay_smith")},
    ),
    "an entity that is none of ours": lambda both: (
        "store_event",
        {"event": _materialized(both.ours.run_id, OUR_KEY, partition="jane.smith-iban-de89370400440532013000|2026-10")},
    ),
    "an entity that is theirs": lambda both: (
        "store_event",
        {"event": _materialized(both.ours.run_id, OUR_KEY, partition="beta-spv|2026-10")},
    ),
    "an entity in a tag": lambda both: (
        "store_event",
        {"event": _materialized(both.ours.run_id, OUR_KEY, tags={"dagster/partition/entity": "jane.smith"})},
    ),
    "runs after one of theirs": lambda both: ("get_runs", {"cursor": both.theirs.run_id}),
    "records after one of theirs": lambda both: ("get_run_records", {"cursor": both.theirs.run_id}),
    "a question that takes the database long": lambda both: (
        "get_runs",
        {"filters": RunsFilter(tags={f"t{number}": "x" for number in range(400)})},
    ),
    "an asset that was not deployed": lambda both: (
        "store_event",
        {"event": _materialized(both.ours.run_id, AssetKey(["acme", "ledgers", "smith"]))},
    ),
    "a check that was not deployed": lambda both: (
        "store_event",
        {
            "event": _entry(
                both.ours.run_id,
                DagsterEventType.ASSET_CHECK_EVALUATION,
                AssetCheckEvaluation(asset_key=OUR_KEY, check_name="smith_is_paid", passed=True, metadata={}),
            )
        },
    ),
    "an output that was not deployed": lambda both: (
        "store_event",
        {
            "event": _entry(
                both.ours.run_id,
                DagsterEventType.STEP_OUTPUT,
                StepOutputData(StepOutputHandle("acme__ledgers__things_1", "smith")),
                step="acme__ledgers__things_1",
            )
        },
    ),
    "an event that only the workspace writes": lambda both: (
        "store_event",
        {"event": _entry(both.ours.run_id, DagsterEventType.RUN_ENQUEUED, RunEnqueuedData("acme", "r", None))},
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_and_logged_and_changes_nothing(both: Both, attack: str, caplog: pytest.LogCaptureFixture) -> None:
    call, given = ATTACKS[attack](both)
    before = both.here.dump()
    wire = Wire(both.here.socket("acme"))
    with caplog.at_level(logging.WARNING, logger="ntro.relay"):
        status, answer = wire.say(call, encoding.dumps(given), key="5f0a4a4e-0000-4000-8000-000000000000")
    wire.close()
    assert (status, answer) == (403, b'"NOT_YOURS"')
    assert f"refused acme: {call}: NOT_YOURS" in caplog.text
    assert both.here.dump() == before


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_where_it_comes_with_another_call(both: Both, attack: str, caplog: pytest.LogCaptureFixture) -> None:
    call, given = ATTACKS[attack](both)
    before = both.here.dump()
    told = given.get("events") or ([given["event"]] if "event" in given else None)
    asked = _question("get_pool_config", {}) if told else _question(call, given)
    events = encoding.dumps({"events": told}) if told else b""
    wire = Wire(both.here.socket("acme"))
    with caplog.at_level(logging.WARNING, logger="ntro.relay"):
        said = wire.say(TELL_AND_ASK, asked + b"\n" + events, key="5f0a4a4e-0000-4000-8000-000000000001")
    wire.close()
    assert said == ((403, b'"NOT_YOURS"') if events else (200, encoding.dumps({"refused": "NOT_YOURS"})))
    assert f"refused acme: {TELL_AND_ASK if events or call not in QUESTIONS else call}: NOT_YOURS" in caplog.text
    assert both.here.dump() == before


@pytest.mark.parametrize(
    "question", ["store_events", "free_concurrency_slots_for_run", "answers", "asked", "__init__", "_ours", "wake", "?"]
)
def test_what_is_no_question_is_refused(both: Both, question: str) -> None:
    wire = Wire(both.here.socket("acme"))
    assert wire.say(TELL_AND_ASK, _question(question, {}) + b"\n") == (200, encoding.dumps({"refused": "NOT_YOURS"}))
    wire.close()


def test_what_is_foreseen_is_our_own(both: Both) -> None:
    """Of a question about everybody, and of one about an asset of which there is nothing for this partition."""
    wire = Wire(both.here.socket("acme"))
    for question, given in (("get_run_records", {}), ("get_asset_records", {"asset_keys": [OUR_KEY]})):
        status, answer = wire.say(TELL_AND_ASK, _question(question, given, partition="beta-spv|2026-10") + b"\n")
        assert status == 200
        said = answer.decode().replace("beta-spv|2026-10", "")  # that we asked for it ourselves
        for theirs in ("beta", both.theirs.run_id, both.at_work.run_id, both.theirs.execution_plan_snapshot_id or "?"):
            assert theirs not in said
    wire.close()


def test_few_are_foreseen_however_many_are_asked_for(both: Both) -> None:
    wire = Wire(both.here.socket("acme"))

    def foreseen(keys: list[AssetKey]) -> int:
        asked = _question("get_asset_records", {"asset_keys": keys}, partition="acme-spv|2026-10")
        status, answer = wire.say(TELL_AND_ASK, asked + b"\n")
        assert status == 200
        return len(encoding.loads(answer)["told"]) - 1

    assert foreseen([AssetKey(["acme", "none"])] * 30) == 1
    assert foreseen([AssetKey(["acme", str(number)]) for number in range(30)]) == 30
    assert foreseen([AssetKey(["acme", str(number)]) for number in range(500)]) == 0
    wire.close()


def test_what_cannot_be_foreseen_is_left_to_be_asked_for(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError

    monkeypatch.setattr(TenantView, "fetch_observations", broken)
    wire = Wire(both.here.socket("acme"))
    asked = _question("get_asset_records", {"asset_keys": [AssetKey(["acme", "none"])]}, partition="acme-spv|2026-10")
    status, answer = wire.say(TELL_AND_ASK, asked + b"\n")
    wire.close()
    assert (status, len(encoding.loads(answer)["told"])) == (200, 1)


def test_an_answer_that_cannot_be_told_leaves_what_was_told_before_it(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TenantView, "get_pool_limits", lambda _: [object()])
    wire = Wire(both.here.socket("acme"))
    events = encoding.dumps({"events": [_entry(both.ours.run_id, DagsterEventType.STEP_WORKER_STARTED, EngineEventData())]})
    said = wire.say(TELL_AND_ASK, _question("get_pool_limits", {}) + b"\n" + events, key=str(uuid4()))
    wire.close()
    assert said == (200, encoding.dumps({"refused": "RELAY_PROTOCOL"}))
    assert (
        len(both.here.workspace.get_records_for_run(both.ours.run_id, of_type=DagsterEventType.STEP_WORKER_STARTED).records) == 1
    )


def _question(call: str, given: dict[str, Any], partition: str | None = None) -> bytes:
    return Question(call, given, partition, ahead=True).say()


OPEN: dict[str, Callable[[Both], tuple[str, dict[str, Any]]]] = {
    "their run by its id": lambda both: ("get_runs", {"filters": RunsFilter(run_ids=[both.theirs.run_id])}),
    "their record by its id": lambda both: ("get_run_records", {"filters": RunsFilter(run_ids=[both.theirs.run_id])}),
    "everybody's runs": lambda both: ("get_runs", {}),
    "everybody's records": lambda both: ("get_run_records", {}),
    "count of everybody's": lambda both: ("get_runs_count", {}),
    "everybody's partitions at work": lambda both: ("partitions_at_work", {}),
    "pools": lambda both: ("get_pool_limits", {}),
    "the pools' configuration": lambda both: ("get_pool_config", {}),
}


@pytest.mark.parametrize("question", OPEN)
def test_a_question_about_everybody_is_answered_about_us(both: Both, question: str) -> None:
    call, given = OPEN[question](both)
    wire = Wire(both.here.socket("acme"))
    status, answer = wire.say(call, encoding.dumps(given))
    wire.close()
    assert status == 200
    told = answer.decode()
    for theirs in ("beta", both.theirs.run_id, both.at_work.run_id, both.theirs.execution_plan_snapshot_id or "?"):
        assert theirs not in told
    if question in {"everybody's runs", "everybody's records"}:
        assert both.ours.run_id in told
    if question == "count of everybody's":
        assert json.loads(told) == 1


def test_every_call_and_every_kind_of_event_was_tried(both: Both) -> None:
    assert {ATTACKS[name](both)[0] for name in ATTACKS} | {OPEN[name](both)[0] for name in OPEN} == CALLS - {TELL_AND_ASK}
    planned = {kind for kind in DagsterEventType if "PLANNED" in kind.value or "WIPED" in kind.value}
    assert not planned & EVENTS
    assert not {DagsterEventType.RUN_ENQUEUED, DagsterEventType.RUN_STARTING, DagsterEventType.RUN_CANCELING} & EVENTS
