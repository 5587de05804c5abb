"""The part of a job that runs are over is built once, and is the part that Dagster builds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dagster import AssetKey, Definitions, JobDefinition, asset, define_asset_job
from dagster._serdes import ConfigurableClassData, config_class

from ntro_dagster.boundary import instance_texts
from ntro_dagster.tenant import made_once

FIRST, SECOND = AssetKey("first"), AssetKey("second")


@pytest.fixture(autouse=True)
def _here_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In this process others are tested."""
    with monkeypatch.context() as here:
        here.setattr(JobDefinition, "_get_job_def_for_asset_selection", made_once._build)
        here.setattr(config_class, "load_run_config_yaml", instance_texts.load_run_config_yaml)
        made_once.make_each_once()
        yield


@pytest.fixture
def job() -> JobDefinition:
    @asset
    def first() -> None: ...

    @asset(deps=[first])
    def second() -> None: ...

    return Definitions(assets=[first, second], jobs=[define_asset_job("all", [first, second])]).resolve_job_def("all")


def test_a_part_is_built_once(job: JobDefinition) -> None:
    part = job.get_subset(asset_selection={FIRST}, asset_check_selection=frozenset())
    assert job.get_subset(asset_selection=frozenset({FIRST}), asset_check_selection=set()) is part
    assert part.asset_layer.executable_asset_keys == {FIRST}


def test_other_parts_are_others(job: JobDefinition) -> None:
    parts = [
        job.get_subset(asset_selection={FIRST}),
        job.get_subset(asset_selection={FIRST}, asset_check_selection=set()),
        job.get_subset(asset_selection={SECOND}),
        job.get_subset(asset_selection={FIRST, SECOND}),
    ]
    assert len({id(part) for part in parts}) == len(parts)
    assert [part.asset_layer.executable_asset_keys for part in parts] == [{FIRST}, {FIRST}, {SECOND}, {FIRST, SECOND}]
    assert not parts[1].asset_layer.asset_graph.asset_check_keys


def test_not_all_that_anybody_asks_for_is_kept(job: JobDefinition, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made_once, "MOST", 1)
    first, second = (job.get_subset(asset_selection={key}) for key in (FIRST, SECOND))
    assert job.get_subset(asset_selection={SECOND}) is second
    assert job.get_subset(asset_selection={FIRST}) is not first


def test_who_changes_a_configuration_changes_nobody_elses() -> None:
    known = ConfigurableClassData("a", "B", "base_dir: /x\nmore: [1]\n")
    read = dict(known.config_dict)
    assert read == {"base_dir": "/x", "more": [1]}
    read["more"].append(2)
    assert known.config_dict == {"base_dir": "/x", "more": [1]}
