"""Answers that come with launching a run: part of a job, the plan of its steps, whether it was started or stopped."""

from __future__ import annotations

import json
from typing import Any

from dagster._core.snap import JobSnap
from dagster._core.snap.execution_plan_snapshot import ExecutionPlanSnapshot
from dagster._grpc.types import ExecutionPlanSnapshotArgs, JobSubsetSnapshotArgs
from dagster._serdes import deserialize_value, serialize_value

from ntro_dagster.boundary import vocabulary as words
from ntro_dagster.boundary.answers.definitions import rebuild
from ntro_dagster.boundary.answers.failures import failed
from ntro_dagster.boundary.answers.rules import DefinitionRefusedError
from ntro_dagster.boundary.answers.survey import DefinitionNotDeployedError, Survey


def subset(survey: Survey, asked: str, answered: Any) -> dict[str, Any]:
    """Part of a job: the surveyed one without the steps that the answer leaves out. Nothing else is taken from the answer.

    Raises: `DefinitionNotDeployedError` where the answer names a step that the survey does not.
    """
    question = deserialize_value(asked, JobSubsetSnapshotArgs)
    if answered["__class__"] != "ExternalPipelineSubsetResult" or not answered["success"]:
        return {
            "__class__": "ExternalPipelineSubsetResult",
            "success": False,
            "error": failed(answered.get("error")),
            "external_pipeline_data": None,
            "repository_python_origin": None,
        }
    whole = survey.jobs.get(question.job_origin.job_name)
    if whole is None:
        raise DefinitionNotDeployedError
    kept = {
        str(step["solid_name"])
        for step in answered["external_pipeline_data"]["pipeline_snapshot"]["dep_structure_snapshot"]["solid_invocation_snaps"]
    }
    job = whole["pipeline_snapshot"]
    steps = {step["solid_name"]: step for step in job["dep_structure_snapshot"]["solid_invocation_snaps"]}
    if not kept <= steps.keys():
        raise DefinitionNotDeployedError
    lineage = {
        "__class__": "PipelineSnapshotLineage",
        "parent_snapshot_id": deserialize_value(json.dumps(job), JobSnap).snapshot_id,
        "solid_selection": question.op_selection,
        "solids_to_execute": {"__frozenset__": sorted(kept)} if question.op_selection else None,
        "asset_selection": _as_sent(question.asset_selection),
        "asset_check_selection": _as_sent(question.asset_check_selection),
    }
    definitions = {steps[name]["solid_def_name"] for name in kept}
    part = {
        **job,
        "lineage_snapshot": lineage,
        "dep_structure_snapshot": {
            **job["dep_structure_snapshot"],
            "solid_invocation_snaps": [_without(steps[name], steps.keys() - kept) for name in steps if name in kept],
        },
        "solid_definitions_snapshot": {
            **job["solid_definitions_snapshot"],
            "solid_def_snaps": [
                each for each in job["solid_definitions_snapshot"]["solid_def_snaps"] if each["name"] in definitions
            ],
        },
    }
    return {
        "__class__": "ExternalPipelineSubsetResult",
        "success": True,
        "error": None,
        "external_pipeline_data": {**whole, "pipeline_snapshot": part},
        "repository_python_origin": None,
    }


def _as_sent(selection: Any) -> Any:
    return None if selection is None else json.loads(serialize_value(selection))


def _without(step: dict[str, Any], others: set[str]) -> dict[str, Any]:
    """The step; what it takes from `others` comes from outside."""
    inputs = [
        {**each, "upstream_output_snaps": [up for up in each["upstream_output_snaps"] if up["solid_name"] not in others]}
        for each in step["input_dep_snaps"]
    ]
    return {**step, "input_dep_snaps": inputs}


def plan(survey: Survey, asked: str, answered: Any) -> dict[str, Any]:
    """The steps of a run, in surveyed names; which job they belong to and what was done before is taken from the question."""
    question = deserialize_value(asked, ExecutionPlanSnapshotArgs)
    if answered["__class__"] != "ExecutionPlanSnapshot":
        return {"__class__": "ExecutionPlanSnapshotErrorData", "error": failed(answered.get("error"))}
    built = rebuild("ExecutionPlanSnapshot", answered, tenant=survey.tenant, known=survey.names).content
    built["pipeline_snapshot_id"] = question.job_snapshot_id
    built["initial_known_state"] = json.loads(serialize_value(question.known_state)) if question.known_state else None
    try:
        deserialize_value(json.dumps(built), ExecutionPlanSnapshot)
    except Exception:  # whatever Dagster finds wrong with it, it would say it in the answer's words
        raise DefinitionRefusedError(kind="ExecutionPlanSnapshot", field="") from None
    return built


def started(answered: Any) -> dict[str, Any]:
    return {"__class__": "StartRunResult", **_outcome(answered)}


def cancelled(answered: Any) -> dict[str, Any]:
    return {"__class__": "CancelExecutionResult", **_outcome(answered)}


def _outcome(answered: Any) -> dict[str, Any]:
    success = answered["success"] is True
    error = failed(answered.get("serializable_error_info"))
    said = None if success else (error["message"] if error else words.UNEXPECTED)
    return {"success": success, "message": said, "serializable_error_info": error}


def cancellable(answered: Any) -> dict[str, Any]:
    return {"__class__": "CanCancelExecutionResult", "can_cancel": answered["can_cancel"] is True}


def at_work(answered: Any) -> dict[str, Any]:
    """The runs that the server is executing."""
    runs = [run for run in answered["current_runs"] if words.uuid(run)]
    return {
        "__class__": "GetCurrentRunsResult",
        "current_runs": runs,
        "serializable_error_info": failed(answered.get("serializable_error_info")),
    }


def stopped(answered: Any) -> dict[str, Any]:
    return {
        "__class__": "ShutdownServerResult",
        "success": answered["success"] is True,
        "serializable_error_info": failed(answered.get("serializable_error_info")),
    }
