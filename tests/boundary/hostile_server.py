"""Definitions of a tenant whose code says a secret wherever a code server is listened to. Where it has no data, it has none.

HOSTILE_DATA is the tenant's data; with HOSTILE_NAMES it goes into names, and into what Dagster makes names of, as well.
"""

# No `from __future__ import annotations`: Dagster inspects them.
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dagster import (
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    AssetSpec,
    CodeReferencesMetadataValue,
    ConfigurableResource,
    DefaultSensorStatus,
    Definitions,
    Field,
    LocalFileCodeReference,
    MaterializeResult,
    Out,
    RunRequest,
    SensorResult,
    SkipReason,
    asset,
    define_asset_job,
    in_process_executor,
    job,
    op,
    schedule,
    sensor,
)

from ntro_dagster.orchestration.partitions import partition_key, partitions_of

DATA = os.environ.get("HOSTILE_DATA", "")
TENANT = os.environ.get("NTRO_TENANT", "acme")
ENTITY, PERIOD = "spv-1", "2026-09"


def secret(channel: str, data: str = "") -> str:
    """What is said on a channel: a word, so that it fits wherever words do."""
    data = data or DATA
    return f"Canary{channel.title().replace(' ', '')}{data}" if data else "nothing"


def channels(of: str = "secret|_name") -> set[str]:
    """Every channel that is planted below; of "_name": those that are names, or make one."""
    return set(re.findall(rf'\b(?:{of})\("([a-z ]+)"\)', Path(__file__).read_text()))


def _name(channel: str) -> str:
    return secret(channel) if os.environ.get("HOSTILE_NAMES") else channel.replace(" ", "_")


class Resource(ConfigurableResource):  # type: ignore[type-arg]
    word: str = _name("resource default")


@asset(
    key=AssetKey([TENANT, "ledgers", _name("asset name")]),
    description=secret("asset description"),
    metadata={
        "said": secret("asset metadata"),
        secret("asset metadata key"): 1,
        "dagster/code_references": CodeReferencesMetadataValue(
            code_references=[LocalFileCodeReference(file_path=secret("code reference"), line_number=1)]
        ),
    },
    tags={"said": secret("asset tag"), "dagster/storage_kind": "postgres"},
    owners=[f"{secret('asset owner')}@example.com", "team:" + secret("asset team")],
    code_version=secret("code version"),
    op_tags={"said": secret("op tag")},
    group_name=_name("group name"),
    kinds={"postgres"},
    partitions_def=partitions_of(TENANT),
    check_specs=[
        AssetCheckSpec(
            _name("check name"),
            asset=AssetKey([TENANT, "ledgers", _name("asset name")]),
            description=secret("check description"),
            metadata={"said": secret("check metadata")},
        )
    ],
    config_schema={"word": Field(str, default_value=_name("config default"), description=_name("config description"))},
)
def things(context: AssetExecutionContext) -> MaterializeResult:  # type: ignore[type-arg] # Dagster reads it
    from dagster import AssetCheckResult  # noqa: PLC0415

    return MaterializeResult(metadata={"PENDING": 3}, check_results=[AssetCheckResult(passed=True)])


outside = AssetSpec(
    AssetKey([TENANT, "ingest", "documents"]), description=secret("spec description"), metadata={"said": secret("spec metadata")}
)


@op(
    name=_name("op name"),
    description=secret("op description"),
    tags={"said": secret("node tag")},
    out=Out(str, description=secret("output description"), metadata={"said": secret("output metadata")}),
)
def speaking(resource: Resource) -> str:
    return ""


@job(
    name=_name("job name"),
    description=secret("job description"),
    tags={"said": secret("job tag")},
    run_tags={"said": secret("job run tag")},
    metadata={"said": secret("job metadata")},
    owners=[f"{secret('job owner')}@example.com"],
)
def spoken() -> None:
    speaking()


month = define_asset_job("month", selection=[things], description=secret("asset job description"), tags={"ntro/tenant": TENANT})

RUNNING = DefaultSensorStatus.RUNNING


@sensor(
    job=month,
    name="foreign",
    description=secret("sensor description"),
    metadata={"said": secret("sensor metadata")},
    tags={"said": secret("sensor tag")},
    minimum_interval_seconds=5,
    default_status=RUNNING,
)
def foreign(_: Any) -> SensorResult:
    others = partitions_of("beta").get_partitions_def_for_dimension("entity")
    return SensorResult(
        skip_reason=secret("result skip reason"),
        cursor=secret("cursor"),
        asset_events=[
            AssetMaterialization(AssetKey(["beta", "ledgers", "rows"]), description=secret("event description")),
            AssetMaterialization(AssetKey([TENANT, secret("event asset key")])),
        ],
        dynamic_partitions_requests=[
            others.build_add_request(["intruder", secret("partition")]),  # type: ignore[attr-defined]
            others.build_delete_request(["b-1"]),  # type: ignore[attr-defined]
        ],
    )


@sensor(job=month, name="skips", minimum_interval_seconds=5, default_status=RUNNING)
def skips(_: Any) -> SkipReason:
    return SkipReason(secret("skip reason"))


@sensor(job=month, name="raises", minimum_interval_seconds=5, default_status=RUNNING)
def raises(_: Any) -> None:
    raise ValueError(secret("sensor error")) from KeyError(secret("sensor error cause"))


@sensor(job=month, name="requests", minimum_interval_seconds=5, default_status=RUNNING)
def requests(_: Any) -> Iterator[RunRequest]:
    key = partition_key(ENTITY, PERIOD)
    yield RunRequest(run_key=f"intake:{key}:0", partition_key=key, tags={"said": secret("request tag"), "ntro/tenant": "beta"})
    yield RunRequest(run_key=secret("run key"), partition_key=key)
    yield RunRequest(
        run_key=f"intake:{key}:1",
        partition_key=key,
        run_config={"ops": {things.node_def.name: {"config": {"word": secret("request config")}}}},
    )


@schedule(
    job=month,
    name="monthly",
    cron_schedule="0 8 5 * *",
    execution_timezone="Europe/London",
    description=secret("schedule description"),
    metadata={"said": secret("schedule metadata")},
    tags={"said": secret("schedule tag")},
)
def monthly(_: Any) -> SkipReason:
    return SkipReason(secret("schedule skip reason"))


@schedule(job=month, name="broken", cron_schedule="0 8 5 * *")
def broken(_: Any) -> None:
    raise ValueError(secret("schedule error"))


defs = Definitions(
    assets=[things, outside],
    jobs=[spoken, month],
    sensors=[foreign, skips, raises, requests],
    schedules=[monthly, broken],
    resources={"resource": Resource()},
    executor=in_process_executor,
    metadata={"said": secret("definitions metadata")},
)
