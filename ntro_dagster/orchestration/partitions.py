"""Entity x period: one partition, one run, one unit of audit."""

from __future__ import annotations

from dagster import DynamicPartitionsDefinition, MonthlyPartitionsDefinition, MultiPartitionKey, MultiPartitionsDefinition

from ntro_dagster.boundary.names import entities_set
from ntro_dagster.boundary.periods import FIRST_PERIOD


def partitions_of(tenant: str) -> MultiPartitionsDefinition:
    return MultiPartitionsDefinition(
        {
            "entity": DynamicPartitionsDefinition(name=entities_set(tenant)),
            # The running month counts as a partition: its documents may come in before it ends.
            "period": MonthlyPartitionsDefinition(start_date=FIRST_PERIOD, fmt="%Y-%m", end_offset=1),
        }
    )


def partition_key(entity: str, period: str) -> MultiPartitionKey:
    return MultiPartitionKey({"entity": entity, "period": period})
