"""What a tenant's processes may ask of the workspace: every other method of Dagster's storages is refused on both sides.

The list was found by tracing (docs/decisions/010-relay.md): no process of a tenant creates runs, ticks or definitions, or
deletes anything.
"""

from __future__ import annotations

from typing import Final

from dagster._core.events import DagsterEventType

RUN_CALLS: Final = frozenset({"get_run_records", "get_runs", "get_runs_count", "get_execution_plan_snapshot"})

EVENT_CALLS: Final = frozenset(
    {
        "store_event",
        *("has_dynamic_partition", "get_dynamic_partitions"),
        *("fetch_materializations", "fetch_observations", "get_latest_materialization_events"),
        *("get_asset_records", "get_latest_tags_by_partition"),
        *("get_pool_config", "get_pool_limits"),
        *("claim_concurrency_slot", "check_concurrency_claim"),
        *("free_concurrency_slot_for_step", "free_concurrency_slots_for_run"),
    }
)

STORE_EVENTS: Final = "store_events"
"""Not of Dagster's: several events of a run, in their order, as one call."""

PARTITIONS_AT_WORK: Final = "partitions_at_work"
"""Not of Dagster's either: keys of partitions with a run that has not ended. A backlog of runs is large, their keys are not."""

TELL_AND_ASK: Final = "tell_and_ask"
"""Nor is this: several events of a run, or none, and then a question; the answer brings what Dagster will ask for next."""

WRITES: Final = frozenset(
    {
        *("store_event", STORE_EVENTS, TELL_AND_ASK),
        *("claim_concurrency_slot", "free_concurrency_slot_for_step", "free_concurrency_slots_for_run"),
    }
)
"""Calls that change something: each carries a key, under which it is done once."""

CALLS: Final = RUN_CALLS | EVENT_CALLS | {STORE_EVENTS, TELL_AND_ASK, PARTITIONS_AT_WORK}

QUESTIONS: Final = (RUN_CALLS | EVENT_CALLS) - WRITES

WAKE: Final = "wake"
"""Not of Dagster's: there may be work for the sensors of whoever asks. It has no content, and changes nothing."""

ENDS: Final = frozenset({DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED})
"""The kinds of events with which a run is over."""

EVENTS: Final = frozenset(
    {
        *(DagsterEventType.RUN_START, *ENDS),
        *(DagsterEventType.STEP_START, DagsterEventType.STEP_RESTARTED, DagsterEventType.STEP_SUCCESS),
        *(DagsterEventType.STEP_FAILURE, DagsterEventType.STEP_UP_FOR_RETRY, DagsterEventType.STEP_SKIPPED),
        *(DagsterEventType.STEP_WORKER_STARTING, DagsterEventType.STEP_WORKER_STARTED, DagsterEventType.STEP_OUTPUT),
        *(DagsterEventType.RESOURCE_INIT_STARTED, DagsterEventType.RESOURCE_INIT_SUCCESS, DagsterEventType.RESOURCE_INIT_FAILURE),
        *(DagsterEventType.ASSET_MATERIALIZATION, DagsterEventType.ASSET_OBSERVATION, DagsterEventType.ASSET_CHECK_EVALUATION),
        *(DagsterEventType.ENGINE_EVENT, DagsterEventType.HOOK_ERRORED, DagsterEventType.LOGS_CAPTURED),
    }
)
"""The kinds of events that a run may store. Plans, launches and cancellations are the workspace's to write."""

FLAGS: Final = {
    "is_persistent": True,
    "supports_global_concurrency_limits": True,
    "supports_asset_checks": True,
    "has_bounded_dynamic_partition_membership_query": True,
    "supports_run_status_change_job_name_filter": False,
    "asset_records_have_last_observation": False,
    "asset_records_have_last_planned_and_failed_materializations": False,
    "can_store_asset_failure_events": False,
    "supports_partition_subset_in_asset_materialization_planned_events": False,
    "is_run_sharded": False,
    "handles_run_events_in_store_event": True,
    # different from the database's, on purpose: the workspace's half does it
    "can_read_asset_status_cache": False,
    "can_write_asset_status_cache": False,
}
"""What the event storage says of itself: as the workspace's does (a test compares them), but for the last two."""
DIFFERENT_FLAGS: Final = frozenset({"can_read_asset_status_cache", "can_write_asset_status_cache"})
