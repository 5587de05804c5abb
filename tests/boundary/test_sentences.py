"""What is said in the place of an author's words is chosen by kind, and is the same whatever the author wrote."""

from __future__ import annotations

import pytest
from dagster._core.events import DagsterEventType

from ntro_dagster.boundary import sentences, wall

ID = "8ddb28b2-1111-4222-8333-444455556666"
OURS = {*sentences._ENGINE.values(), sentences.OF_ITS_OWN}


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("Executing steps in process (pid: 4711)", "The steps begin."),
        ("Process for run exited (pid: 4711): Anvil & Co", "The run's process has ended."),
        ("Anvil & Co owe 1,250.00", sentences.OF_ITS_OWN),
        ("Anvil & Co: Executing steps in process", sentences.OF_ITS_OWN),
        (None, sentences.OF_ITS_OWN),
    ],
)
def test_dagsters_own_notes_are_told_apart_by_how_they_begin(message: str | None, told: str) -> None:
    assert sentences.event(DagsterEventType.ENGINE_EVENT, message) == told


@pytest.mark.parametrize("told", sorted(OURS))
def test_a_sentence_that_passes_the_wall_twice_stays(told: str) -> None:
    assert sentences.event(DagsterEventType.ENGINE_EVENT, told) == told


def test_every_event_that_crosses_and_shows_its_message_has_a_sentence() -> None:
    silent = {
        DagsterEventType.ENGINE_EVENT,  # has several
        # the page says it in words of its own, or does not show them
        DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
        DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
        DagsterEventType.STEP_WORKER_STARTING,  # of an executor that no tenant's job has
        DagsterEventType.STEP_WORKER_STARTED,
    }
    assert wall._EVENTS.keys() - sentences.EVENTS.keys() == silent


def test_a_failure_says_where_its_story_is() -> None:
    told = f"ACCOUNT_UNKNOWN (error {ID})"
    assert sentences.where_to_look(told) == f"{told}\nThe whole story: ntro errors show {ID} --tenant TENANT"
    assert sentences.where_to_look("UNEXPECTED_ERROR") == "UNEXPECTED_ERROR"


@pytest.mark.parametrize(
    ("kind", "built", "begins"),
    [
        ("ExternalAssetNode", {"asset_key": {"path": ["acme", "ledgers", "trial_balance"]}}, "The trial balance"),
        ("ExternalAssetNode", {"asset_key": {"path": ["acme", "ledgers", "anvil"]}}, "Typed rows"),
        ("ExternalAssetNode", {"asset_key": {"path": ["acme", "anvil"]}}, None),
        ("ExternalAssetCheck", {"name": "anvil"}, None),
        ("ExternalSensorData", {"name": "anvil_posting"}, "Approved rows"),
        ("ExternalScheduleData", {"name": "anvil_at_0123456789"}, "A run for each entity"),
        ("ExternalScheduleData", {"name": "anvil_monthly"}, None),
        ("PipelineSnapshot", {"name": "anvil"}, None),
    ],
)
def test_a_definition_is_described_by_its_kind(kind: str, built: dict[str, object], begins: str | None) -> None:
    (told,) = sentences.description(kind, built).values()
    assert told is None if begins is None else str(told).startswith(begins)
    assert "anvil" not in str(told)
