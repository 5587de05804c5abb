"""Definitions of a tenant whose jobs are the unit of work, in one step and in two.

The desk's credential is in the environment of this tenant's processes for the benchmark alone: no process of a real tenant may
decide in a person's place.
"""

import os

from dagster import (
    AssetExecutionContext,
    AssetKey,
    Definitions,
    MultiPartitionKey,
    asset,
    define_asset_job,
    in_process_executor,
)

from benchmarks import unit
from ntro_dagster.orchestration.partitions import partitions_of

TENANT = os.environ["NTRO_TENANT"]
PARTITIONS = partitions_of(TENANT)

unit.authored()  # before the fork, as a runbook's own assets are


def entity_of(context: AssetExecutionContext) -> str:
    key = context.partition_key
    assert isinstance(key, MultiPartitionKey)
    return key.keys_by_dimension["entity"]


@asset(key=AssetKey([TENANT, "whole"]), partitions_def=PARTITIONS)
def whole(context: AssetExecutionContext) -> None:
    unit.whole(entity_of(context))


@asset(key=AssetKey([TENANT, "taken_in"]), partitions_def=PARTITIONS)
def taken_in(context: AssetExecutionContext) -> None:
    unit.take_in(entity_of(context))


@asset(key=AssetKey([TENANT, "closed"]), partitions_def=PARTITIONS, deps=[taken_in])
def closed(context: AssetExecutionContext) -> None:
    unit.close(entity_of(context))


defs = Definitions(
    assets=[whole, taken_in, closed],
    jobs=[
        define_asset_job("one_step", [whole], partitions_def=PARTITIONS),
        define_asset_job("two_steps", [taken_in, closed], partitions_def=PARTITIONS),
    ],
    executor=in_process_executor,
)
