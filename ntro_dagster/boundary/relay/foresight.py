"""What Dagster, having been told this, asks for next: so that it need not come again.

Everything goes through the tenant's own view. What is foreseen wrongly costs a query; what is not foreseen is asked for later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from dagster import AssetKey
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.events import DagsterEventType
from dagster._core.storage.dagster_run import DagsterRunStatus, RunRecord
from dagster._core.storage.event_log.base import AssetRecord

from ntro_dagster.boundary.names import PARTITION_TAG, entities_set
from ntro_dagster.boundary.relay.calls import QUESTIONS
from ntro_dagster.boundary.relay.question import Question
from ntro_dagster.boundary.relay.view import NotYoursError

MOST_AHEAD = 32
"""Questions that are answered before they are asked: a step has a few inputs, and a hostile one may say that it has thousands."""

Ask = Callable[[str, Mapping[str, Any]], Any]


def answers(ask: Ask, asked: Question, tenant: str) -> Iterator[tuple[str, Mapping[str, Any], Any]]:
    """What is asked and its answer, and where it is to be `ahead` what it is going to be followed by.

    Args: `ask`: the tenant's own view.

    Raises: `NotYoursError`, and what `ask` does.
    """
    if asked.call not in QUESTIONS:
        raise NotYoursError
    answer = ask(asked.call, asked.given)
    yield asked.call, asked.given, answer
    for each in islice(_following(asked, answer, tenant), MOST_AHEAD) if asked.ahead else ():
        try:
            foreseen = ask(each.call, each.given)
        except Exception:  # whoever asks for it will hear why it cannot be answered
            return
        yield each.call, each.given, foreseen


def _following(asked: Question, answer: Any, tenant: str) -> Iterator[Question]:
    if asked.call == "get_run_records":
        yield from _of_a_start(answer, tenant)
    elif asked.call == "get_asset_records" and asked.partition is not None:
        yield from _of_inputs(asked.given["asset_keys"], answer, asked.partition)


def _of_a_start(records: list[RunRecord], tenant: str) -> Iterator[Question]:
    if len(records) != 1 or records[0].dagster_run.status is not DagsterRunStatus.STARTING:
        return
    run = records[0].dagster_run
    if run.execution_plan_snapshot_id:
        yield Question("get_execution_plan_snapshot", {"execution_plan_snapshot_id": run.execution_plan_snapshot_id})
    yield Question("get_pool_config", {})
    partition = run.tags.get(PARTITION_TAG)
    if partition:
        entity = partition.split("|")[0]
        yield Question("has_dynamic_partition", {"partitions_def_name": entities_set(tenant), "partition_key": entity})


def _of_inputs(keys: list[AssetKey], records: list[AssetRecord], partition: str) -> Iterator[Question]:
    """Of which versions are the inputs of a step? Dagster asks one by one, in the order of the keys."""
    if len(keys) > MOST_AHEAD:
        return
    made: Mapping[AssetKey, AssetRecord] = {each.asset_entry.asset_key: each for each in records}
    for key in dict.fromkeys(keys):
        latest = made[key].asset_entry.last_materialization_record if key in made else None
        if latest is None:
            yield Question("fetch_observations", {"records_filter": key, "limit": 1, "cursor": None, "ascending": False})
        elif latest.partition_key is not None:
            yield Question(
                "get_latest_tags_by_partition",
                {
                    "asset_key": key,
                    "event_type": DagsterEventType.ASSET_MATERIALIZATION,
                    "tag_keys": [DATA_VERSION_TAG],
                    "asset_partitions": [partition],
                },
            )
