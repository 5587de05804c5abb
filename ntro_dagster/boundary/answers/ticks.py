"""What a sensor or a schedule asks for, and the tags of a partition.

The daemon acts on it in the workspace's name, and whose sensor it was is known only here: so a run is started where its job,
partition, assets and tags are the tenant's own, and everything else that Dagster lets a sensor do is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from dagster._grpc.types import PartitionArgs, PartitionSetExecutionParamArgs
from dagster._serdes import deserialize_value

from ntro_dagster.boundary import vocabulary as words
from ntro_dagster.boundary import wall
from ntro_dagster.boundary.answers.failures import failed
from ntro_dagster.boundary.answers.survey import Survey
from ntro_dagster.boundary.names import (
    CODE_LOCATION_TAG,
    PARTITION_TAG,
    TENANT_TAG,
    UNIT_TAG,
    VERSION_TAG,
    WORK_TAG,
    request_of,
    unit,
)

Entities = Callable[[str], frozenset[str]]
"""Slugs of a tenant's entities."""

IDLE = "Nothing to do."

_OWN_TAGS = (TENANT_TAG, CODE_LOCATION_TAG, WORK_TAG, VERSION_TAG, UNIT_TAG)
_FREE_TAGS = (WORK_TAG, VERSION_TAG)
"""Words that the tenant chooses; the others are told of it."""

_LEFT_OUT = (
    "cursor",
    "asset_events",
    "dynamic_partitions_requests",
    "pipeline_run_reactions",
    "automation_condition_evaluations",
)


def sensor(survey: Survey, entities: Entities, answered: Any) -> dict[str, Any]:
    """A sensor's answer: runs of its own tenant, nothing else. What is left out is counted in `wall.dropped`."""
    if answered["__class__"] != "SensorExecutionData":
        return {"__class__": "ExternalSensorExecutionErrorData", "error": failed(answered.get("error") or {})}
    wall.dropped.update(Counter({f"sensor {part}": 1 for part in _LEFT_OUT if answered.get(part)}))
    runs = _runs(survey, entities, answered)
    return {
        "__class__": "SensorExecutionData",
        "run_requests": runs,
        "skip_message": None if runs else IDLE,
        "cursor": None,
        "pipeline_run_reactions": None,
        "captured_log_key": None,
        "dynamic_partitions_requests": [],
        "asset_events": [],
        "automation_condition_evaluations": [],
    }


def schedule(survey: Survey, entities: Entities, answered: Any) -> dict[str, Any]:
    """A schedule's answer: runs of its own tenant."""
    if answered["__class__"] != "ScheduleExecutionData":
        return {"__class__": "ExternalScheduleExecutionErrorData", "error": failed(answered.get("error") or {})}
    runs = _runs(survey, entities, answered)
    return {
        "__class__": "ScheduleExecutionData",
        "run_requests": runs,
        "skip_message": None if runs else IDLE,
        "captured_log_key": None,
    }


def _runs(survey: Survey, entities: Entities, answered: Any) -> list[Any]:
    offered = answered.get("run_requests") or []
    slugs = entities(survey.tenant) if offered else frozenset()
    kept = [run for each in offered if (run := _run(survey, slugs, each))]
    if len(kept) < len(offered):
        wall.dropped["run request"] += len(offered) - len(kept)
    return kept


def _run(survey: Survey, slugs: frozenset[str], offered: Any) -> dict[str, Any] | None:
    """None: it asks for something that is not the tenant's."""
    asked, job = offered.get("partition_key"), offered.get("job_name")
    partition, keys = words.partition(asked), _keys(survey, offered.get("asset_selection"))
    run_key = _run_key(offered.get("run_key"), partition)
    foreign = (
        (job is not None and job not in survey.jobs)
        or (asked is not None and (partition is None or partition.split("|")[0] not in slugs))
        or (offered.get("run_key") is not None and run_key is None)
        or keys is None
    )
    if foreign or offered.get("run_config") or offered.get("asset_check_keys") or offered.get("asset_graph_subset"):
        return None
    return {
        "__class__": "RunRequest",
        "run_key": run_key,
        "run_config": {},
        "tags": _tags(survey.tenant, partition, offered.get("tags") or {}),
        "job_name": job,
        "asset_selection": keys or None,
        "stale_assets_only": False,
        "partition_key": partition,
        "asset_check_keys": [] if offered.get("asset_check_keys") == [] else None,
        "asset_graph_subset": None,
    }


def _run_key(offered: Any, partition: str | None) -> str | None:
    """For the partition that is asked for: the key is no place for the name of another. That of a request names none."""
    key = words.run_key(offered)
    return key if key and (request_of(key) or key.split(":")[1] == partition) else None


def _keys(survey: Survey, assets: Any) -> list[dict[str, Any]] | None:
    """None: one of them is not the tenant's."""
    known = {tuple(node["asset_key"]["path"]) for node in survey.repository["external_asset_graph_data"]}
    paths = [tuple(each["path"]) for each in assets or []]
    return [{"__class__": "AssetKey", "path": list(path)} for path in paths] if known.issuperset(paths) else None


def _tags(tenant: str, partition: str | None, offered: dict[str, str]) -> dict[str, str]:
    kept = {called: value for called, value in wall.run_tags(offered).items() if called in _OWN_TAGS}
    right = {TENANT_TAG: tenant, CODE_LOCATION_TAG: tenant, **(unit(tenant, partition) if partition else {})}
    own = {called: value for called, value in kept.items() if called in _FREE_TAGS or right.get(called) == value}
    return own | (_partition_tags(partition) if partition else {})


def _dimensions(partition: str) -> dict[str, str]:
    entity, period = partition.split("|")
    return {"entity": entity, "period": period}


# -- partitions: the workspace knows them itself, so only whether the tenant's code agrees is taken from the answer


def partition_tags(asked: str, answered: Any) -> dict[str, Any]:
    name = deserialize_value(asked, PartitionArgs).partition_name
    return _unless_failed(answered, {"__class__": "ExternalPartitionTagsData", "name": name, "tags": _partition_tags(name)})


def partition_config(asked: str, answered: Any) -> dict[str, Any]:
    name = deserialize_value(asked, PartitionArgs).partition_name
    return _unless_failed(answered, {"__class__": "ExternalPartitionConfigData", "name": name, "run_config": {}})


def partition_params(asked: str, answered: Any) -> dict[str, Any]:
    names = deserialize_value(asked, PartitionSetExecutionParamArgs).partition_names
    parts = [
        {"__class__": "ExternalPartitionExecutionParamData", "name": name, "tags": _partition_tags(name), "run_config": {}}
        for name in names
    ]
    return _unless_failed(answered, {"__class__": "ExternalPartitionSetExecutionParamData", "partition_data": parts})


def _unless_failed(answered: Any, built: dict[str, Any]) -> dict[str, Any]:
    if answered["__class__"] == built["__class__"]:
        return built
    return {"__class__": "ExternalPartitionExecutionErrorData", "error": failed(answered.get("error") or {})}


def _partition_tags(name: str) -> dict[str, str]:
    if words.partition(name) is None:
        return {PARTITION_TAG: name}
    return {PARTITION_TAG: name, **{f"{PARTITION_TAG}/{part}": value for part, value in _dimensions(name).items()}}
