"""What may stand in a description of a tenant's code: Dagster's snapshots, class by class, field by field.

The snapshots are taken in the form in which they travel (`serialize_value`: JSON with `__class__`), because there every field
has a name that can be looked up. A field that is not in `CLASSES` is left out; a class that is not there is refused, as is an
asset or a partition set of another tenant: half a description would be a wrong one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dagster._core.snap.execution_plan_snapshot import CURRENT_SNAPSHOT_VERSION

from ntro_dagster.boundary.answers import rules

_CONFIG: dict[str, dict[str, rules.Rule]] = {
    "ConfigSchemaSnapshot": {"all_config_snaps_by_key": rules.nested},
    "ConfigTypeSnap": {
        "kind": rules.nested,
        "key": rules.name,
        "given_name": rules.name,
        "description": rules.gone,
        "type_param_keys": rules.names,
        "enum_values": rules.nested,
        "fields": rules.nested,
        "scalar_kind": rules.nested,
    },
    "ConfigEnumValueSnap": {"value": rules.name, "description": rules.gone},
    "ConfigFieldSnap": {
        "name": rules.name,
        "type_key": rules.name,
        "is_required": rules.flag,
        # a default is a value; said to be none, so that nobody looks for it
        "default_provided": rules.always(False),
        "default_value_as_json_str": rules.gone,
        "description": rules.gone,
    },
}

_ASSETS: dict[str, dict[str, rules.Rule]] = {
    "AssetKey": {"path": rules.path},
    "AssetCheckKey": {"asset_key": rules.nested, "name": rules.name},
    "ExternalAssetNode": {
        "asset_key": rules.nested,
        "dependencies": rules.nested,
        "depended_by": rules.no_items,
        "execution_type": rules.nested,
        "compute_kind": rules.gone,
        "op_name": rules.name,
        "op_names": rules.names,
        "code_version": rules.gone,
        "node_definition_name": rules.name,
        "graph_name": rules.gone,
        "op_description": rules.gone,
        "job_names": rules.names,
        "partitions_def_data": rules.nested,
        "output_name": rules.name,
        "metadata_entries": rules.no_items,
        "tags": rules.kinds,
        "group_name": rules.name,
        "is_source": rules.flag,
        "is_observable": rules.flag,
        "is_virtual": rules.flag,
        "atomic_execution_unit_id": rules.form(rules.UNIT_ID, "digest"),
        "required_top_level_resources": rules.names,
        "backfill_policy": rules.nested,
        "owners": rules.no_items,
        "pools": rules.always({"__set__": []}),
    },
    "ExternalAssetDependency": {
        "upstream_asset_key": rules.nested,
        "input_name": rules.name,
        "output_name": rules.name,
        "partition_mapping": rules.nested,
    },
    "ExternalAssetCheck": {
        "name": rules.name,
        "asset_key": rules.nested,
        "additional_asset_keys": rules.nested,
        "description": rules.gone,
        "atomic_execution_unit_id": rules.form(rules.UNIT_ID, "digest"),
        "job_names": rules.names,
        "blocking": rules.flag,
        "partitions_def_snapshot": rules.nested,
    },
    "BackfillPolicy": {"max_partitions_per_run": rules.number},
    "ExternalMultiPartitionsDefinitionData": {"external_partition_dimension_definitions": rules.nested},
    "ExternalPartitionDimensionDefinition": {"name": rules.name, "external_partitions_def_data": rules.nested},
    "ExternalDynamicPartitionsDefinitionData": {"name": rules.entities},
    "ExternalTimeWindowPartitionsDefinitionData": {
        "schedule_type": rules.nested,
        "start": rules.number,
        "timezone": rules.form(rules.ZONE, "time zone"),
        "fmt": rules.one_of(*rules.MONTHS),
        "end_offset": rules.number,
        "end": rules.number,
        "cron_schedule": rules.form(rules.CRON, "schedule"),
        "minute_offset": rules.number,
        "hour_offset": rules.number,
        "day_offset": rules.number,
        "exclusions": rules.gone,
    },
}

_REPOSITORY: dict[str, dict[str, rules.Rule]] = {
    "ExternalRepositoryData": {
        "name": rules.name,
        "external_schedule_datas": rules.nested,
        "external_partition_set_datas": rules.nested,
        "external_sensor_datas": rules.nested,
        "external_asset_graph_data": rules.nested,
        "external_pipeline_datas": rules.gone,
        "external_job_refs": rules.nested,
        "external_resource_data": rules.nested,
        "external_asset_checks": rules.nested,
        "metadata": rules.no_entries,
        "utilized_env_vars": rules.no_entries,
    },
    "ExternalJobRef": {
        "name": rules.name,
        "snapshot_id": rules.always(""),  # a digest of all that is left out here; the survey gives it that of the rest
        "active_presets": rules.no_items,
        "parent_snapshot_id": rules.gone,
        "preview_tags": rules.no_entries,
        "is_legacy_pipeline": rules.flag,
        "owners": rules.gone,
    },
    "ExternalPartitionSetData": {
        "name": rules.name,
        "pipeline_name": rules.name,
        "solid_selection": rules.names,
        "mode": rules.name,
        "external_partitions_data": rules.nested,
        "backfill_policy": rules.nested,
    },
    "ExternalScheduleData": {
        "name": rules.name,
        "cron_schedule": rules.form(rules.CRON, "schedule"),
        "pipeline_name": rules.name,
        "solid_selection": rules.names,
        "mode": rules.name,
        "environment_vars": rules.no_entries,
        "partition_set_name": rules.name,
        "execution_timezone": rules.form(rules.ZONE, "time zone"),
        "description": rules.gone,
        "default_status": rules.nested,
        "asset_selection": rules.gone,
        "tags": rules.no_entries,
        "metadata": rules.no_entries,
        "owners": rules.gone,
    },
    "ExternalSensorData": {
        "name": rules.name,
        "pipeline_name": rules.name,
        "solid_selection": rules.names,
        "mode": rules.name,
        "min_interval": rules.number,
        "description": rules.gone,
        "target_dict": rules.nested,
        "metadata": rules.nested,
        "default_status": rules.nested,
        "sensor_type": rules.nested,
        "asset_selection": rules.gone,
        "tags": rules.no_entries,
        "run_tags": rules.no_entries,
        "owners": rules.no_items,
    },
    "ExternalSensorMetadata": {"asset_keys": rules.nested, "standard_metadata": rules.no_entries},
    "ExternalTargetData": {"pipeline_name": rules.name, "mode": rules.name, "solid_selection": rules.names},
    "ExternalResourceData": {
        "name": rules.name,
        "resource_snapshot": rules.nested,
        "configured_values": rules.no_entries,
        "config_field_snaps": rules.no_items,
        "config_schema_snap": rules.nested,
        "nested_resources": rules.no_entries,
        "parent_resources": rules.no_entries,
        "resource_type": rules.always("resource"),
        "is_top_level": rules.flag,
        "asset_keys_using": rules.nested,
        "job_ops_using": rules.nested,
        "dagster_maintained": rules.flag,
        "schedules_using": rules.names,
        "sensors_using": rules.names,
    },
    "ResourceJobUsageEntry": {"job_name": rules.name, "node_handles": rules.nested},
}

_JOBS: dict[str, dict[str, rules.Rule]] = {
    "ExternalPipelineData": {
        "name": rules.name,
        "pipeline_snapshot": rules.nested,
        "active_presets": rules.no_items,
        "parent_pipeline_snapshot": rules.gone,
        "is_job": rules.flag,
    },
    "PipelineSnapshot": {
        "name": rules.name,
        "description": rules.gone,
        "tags": rules.run_tags,
        "run_tags": rules.run_tags,
        "config_schema_snapshot": rules.nested,
        "dagster_type_namespace_snapshot": rules.nested,
        "solid_definitions_snapshot": rules.nested,
        "dep_structure_snapshot": rules.nested,
        "mode_def_snaps": rules.nested,
        "lineage_snapshot": rules.gone,
        "graph_def_name": rules.name,
    },
    "DagsterTypeNamespaceSnapshot": {"all_dagster_type_snaps_by_key": rules.nested},
    "DagsterTypeSnap": {
        "kind": rules.nested,
        "key": rules.name,
        "name": rules.name,
        "description": rules.gone,
        "display_name": rules.name,
        "is_builtin": rules.flag,
        "type_param_keys": rules.names,
        "loader_schema_key": rules.name,
        "materializer_schema_key": rules.name,
    },
    "SolidDefinitionsSnapshot": {"solid_def_snaps": rules.nested, "composite_solid_def_snaps": rules.nested},
    "SolidDefSnap": {
        "name": rules.name,
        "input_def_snaps": rules.nested,
        "output_def_snaps": rules.nested,
        "description": rules.gone,
        "tags": rules.no_entries,
        "required_resource_keys": rules.names,
        "config_field_snap": rules.nested,
    },
    "InputDefSnap": {"name": rules.name, "dagster_type_key": rules.name, "description": rules.gone},
    "OutputDefSnap": {
        "name": rules.name,
        "dagster_type_key": rules.name,
        "description": rules.gone,
        "is_required": rules.flag,
        "is_dynamic": rules.flag,
    },
    "DependencyStructureSnapshot": {"solid_invocation_snaps": rules.nested},
    "SolidInvocationSnap": {
        "solid_name": rules.name,
        "solid_def_name": rules.name,
        "tags": rules.no_entries,
        "input_dep_snaps": rules.nested,
        "is_dynamic_mapped": rules.flag,
    },
    "InputDependencySnap": {"input_name": rules.name, "upstream_output_snaps": rules.nested, "is_dynamic_collect": rules.flag},
    "OutputHandleSnap": {"solid_name": rules.name, "output_name": rules.name},
    "ModeDefSnap": {
        "name": rules.name,
        "description": rules.gone,
        "resource_def_snaps": rules.nested,
        "logger_def_snaps": rules.nested,
        "root_config_key": rules.name,
    },
    "ResourceDefSnap": {"name": rules.name, "description": rules.gone, "config_field_snap": rules.nested},
    "LoggerDefSnap": {"name": rules.name, "description": rules.gone, "config_field_snap": rules.nested},
    "SolidHandle": {"name": rules.blank_or_name, "parent": rules.nested},
}

_PLANS: dict[str, dict[str, rules.Rule]] = {
    "ExecutionPlanSnapshot": {
        "steps": rules.nested,
        "artifacts_persisted": rules.flag,
        "pipeline_snapshot_id": rules.always(""),  # `runs.plan` knows which it asked for
        "step_keys_to_execute": rules.names,
        "initial_known_state": rules.gone,
        "snapshot_version": rules.always(CURRENT_SNAPSHOT_VERSION),
        "executor_name": rules.one_of("in_process", "multiprocess", "multi_or_in_process_executor"),
    },
    "ExecutionStepSnap": {
        "key": rules.name,
        "inputs": rules.nested,
        "outputs": rules.nested,
        "solid_handle_id": rules.name,
        "kind": rules.nested,
        "metadata_items": rules.no_items,
        "tags": rules.no_entries,
        "step_handle": rules.nested,
    },
    "ExecutionStepInputSnap": {
        "name": rules.name,
        "dagster_type_key": rules.name,
        "upstream_output_handles": rules.nested,
        "source": rules.nested,
    },
    "ExecutionStepOutputSnap": {
        "name": rules.name,
        "dagster_type_key": rules.name,
        "solid_handle": rules.nested,
        "properties": rules.nested,
    },
    "StepOutputProperties": {
        "is_required": rules.flag,
        "is_dynamic": rules.flag,
        "is_asset": rules.flag,
        "should_materialize": rules.flag,
        "asset_key": rules.nested,
        "is_asset_partitioned": rules.flag,
        "asset_check_key": rules.nested,
        "asset_execution_type": rules.nested,
    },
    "StepHandle": {"solid_handle": rules.nested, "key": rules.name},
    "StepOutputHandle": {"step_key": rules.name, "output_name": rules.name, "mapping_key": rules.gone},
    "FromStepOutput": {
        "step_output_handle": rules.nested,
        "fan_in": rules.flag,
        "solid_handle": rules.nested,
        "input_name": rules.blank_or_name,
    },
    "FromSourceAsset": {"solid_handle": rules.nested, "input_name": rules.blank_or_name, "ordering_step_keys": rules.names},
    "FromConfig": {"solid_handle": rules.nested, "input_name": rules.blank_or_name},
    "FromDefaultValue": {"solid_handle": rules.nested, "input_name": rules.blank_or_name},
    "FromMultipleSources": {"sources": rules.nested, "solid_handle": rules.nested, "input_name": rules.blank_or_name},
}

CLASSES: dict[str, dict[str, rules.Rule]] = {**_CONFIG, **_ASSETS, **_REPOSITORY, **_JOBS, **_PLANS}
"""Dagster's class, as it calls itself on the wire -> its field -> what may stand there."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A description without text, and the names in it."""

    content: dict[str, Any]
    names: frozenset[str]


def rebuild(kind: str, offered: Any, *, tenant: str, known: frozenset[str] | None = None) -> Rebuilt:
    """A snapshot of class `kind` (as the wire calls it), as a tenant's process offers it.

    Args: `offered`: JSON, parsed; `known`: the names that may stand in it, all that look like one where it is None.

    Raises: `DefinitionRefusedError`.
    """
    if not isinstance(offered, dict) or offered.get("__class__") != kind:
        raise rules.DefinitionRefusedError(kind=kind, field="")
    walk = rules.Walk(tenant, CLASSES, known)
    try:
        content = walk.build(offered)
    except (TypeError, ValueError, AttributeError, RecursionError):
        raise rules.DefinitionRefusedError(kind=kind, field="") from None
    return Rebuilt(content, frozenset(walk.names))


def same(one: Sequence[Any] | Mapping[str, Any], other: Sequence[Any] | Mapping[str, Any]) -> bool:
    return rules.canonical(one) == rules.canonical(other)
