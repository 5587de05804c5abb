"""The sentences that Dagster's pages show: all of them are here, and none of them is an author's.

They are chosen by kind: of an event, of an asset, of a sensor. What a tenant's process says can at most choose among them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dagster._core.events import DagsterEventType

EVENTS: dict[DagsterEventType, str] = {
    DagsterEventType.RUN_ENQUEUED: "The run waits for its turn.",
    DagsterEventType.RUN_STARTING: "The run is being handed to its tenant.",
    DagsterEventType.RUN_START: "The run began.",
    DagsterEventType.RUN_SUCCESS: "The run ended well.",
    DagsterEventType.RUN_FAILURE: "The run failed.",
    DagsterEventType.RUN_CANCELING: "The run is being cancelled.",
    DagsterEventType.RUN_CANCELED: "The run was cancelled.",
    DagsterEventType.STEP_START: "The step began.",
    DagsterEventType.STEP_SUCCESS: "The step ended well.",
    DagsterEventType.STEP_FAILURE: "The step failed.",
    DagsterEventType.STEP_UP_FOR_RETRY: "The step failed and will be tried again.",
    DagsterEventType.STEP_RESTARTED: "The step began again.",
    DagsterEventType.STEP_SKIPPED: "The step was skipped.",
    DagsterEventType.STEP_OUTPUT: "The step gave its output.",
    DagsterEventType.ASSET_MATERIALIZATION: "The asset was made.",
    DagsterEventType.ASSET_OBSERVATION: "The asset was looked at.",
    DagsterEventType.ASSET_CHECK_EVALUATION: "The check was made.",
    DagsterEventType.RESOURCE_INIT_STARTED: "The step's resources are being made ready.",
    DagsterEventType.RESOURCE_INIT_SUCCESS: "The step's resources are ready.",
    DagsterEventType.RESOURCE_INIT_FAILURE: "The step's resources could not be made ready.",
    DagsterEventType.LOGS_CAPTURED: "What the run prints stays with its tenant: ntro run logs RUN --tenant TENANT",
    DagsterEventType.HOOK_ERRORED: "What should follow the step failed.",
}
"""What is said of an event: the same sentence whatever its author wrote."""

OF_ITS_OWN = "Dagster did something of its own."

_ENGINE = {
    "Started process for run": "The run has a process of its own.",
    "Executing steps in process": "The steps begin.",
    "Finished steps in process": "The steps have ended.",
    "Process for run exited": "The run's process has ended.",
    "Run execution terminated by interrupt": "The run's process was stopped.",
    "Execution was interrupted unexpectedly": "The run's process was stopped without anybody asking for it.",
    "Not starting execution since the run was canceled": "The run was cancelled before it began.",
}
"""How a message of Dagster's own begins -> what is said instead."""


def event(kind: DagsterEventType, message: Any) -> str:
    """The sentence for an event. Args: `message`: Dagster's, by which its own notes are told apart; never shown."""
    if kind is not DagsterEventType.ENGINE_EVENT:
        return EVENTS.get(kind, "")
    said = message if isinstance(message, str) else ""
    return next((told for begins, told in _ENGINE.items() if said.startswith(begins) or said == told), OF_ITS_OWN)


_ID = re.compile(r"\(error ([0-9a-f-]{36})\)")


def where_to_look(failure: str) -> str:
    """A failure (code and error id, as `vocabulary.failure` gives it), and below it the command that tells its story."""
    found = _ID.search(failure)
    return f"{failure}\nThe whole story: ntro errors show {found[1]} --tenant TENANT" if found else failure


_ASSETS = {
    ("ingest", "submitted_documents"): "Documents as they came in, by content. Filed with `ntro ingest`.",
    ("ingest", "submitted_records"): "One raw record per data row of the partition's documents.",
    ("ledgers", "journals"): "Approved rows, posted to the general ledger exactly once.",
    ("ledgers", "trial_balance"): "The trial balance of the entity at the end of the period.",
}
_GROUPS = {
    "ledgers": "Typed rows of the partition, waiting for review where they need attention. "
    "How they stand now: Partitions, entity and month.",
    "review": "People's decisions, applied in the order they were filed; then the steps that are due.",
    "proposals": "Rows made of reviewed rows of the partition; they wait for review in turn.",
}
_CHECKS = {
    "balances": "Debits equal credits, per currency.",
    "nothing_open": "Every row of the period is decided and posted.",
    "control_accounts_agree": "Subledgers agree with their control accounts.",
    "translated": "Journals in other currencies have their rate.",
}
_SENSORS = {
    "intake": "New documents: reads their records into the subledger.",
    "review": "Filed decisions, and steps that are due: applies them to the rows.",
    "proposals": "Reviewed rows: makes others of them, for review in turn.",
    "posting": "Approved rows: posts them to the general ledger.",
    "close": "Months in which nothing is open: draws up the trial balance.",
}
_SCHEDULE = "A run for each entity that is bound to this runbook at this time."
_JOBS = {"month_end": "Review, posting and close, over all subledgers."}


def _asset(path: Sequence[str]) -> str | None:
    _, *rest = path
    return _ASSETS.get((rest[0], rest[-1])) or _GROUPS.get(rest[0])


def _last_word(name: str) -> str:
    return name.rpartition("_")[2]


def description(kind: str, built: Mapping[str, Any]) -> dict[str, str | None]:
    """What is said of a definition in the place of its author's words, by the name of the field.

    Args: `kind`: the class of Dagster's snapshot, as the wire calls it; `built`: its fields, rebuilt.
    """
    match kind:
        case "ExternalAssetNode":
            return {"op_description": _asset(built["asset_key"]["path"])}
        case "ExternalAssetCheck":
            return {"description": _CHECKS.get(built["name"])}
        case "ExternalSensorData":
            return {"description": _SENSORS.get(_last_word(built["name"]))}
        case "ExternalScheduleData":
            return {"description": _SCHEDULE if "_at_" in built["name"] else None}
        case "PipelineSnapshot":
            return {"description": _JOBS.get(built["name"])}
        case _:
            return {}
