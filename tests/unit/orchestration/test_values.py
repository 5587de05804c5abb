"""Assets return counts; their values never lie beside the workspace."""

from pathlib import Path

import pytest
from dagster import DagsterInstance, MaterializeResult, asset, materialize

from ntro_dagster.orchestration.failures import StepFailedError
from ntro_dagster.orchestration.values import RefusesValues


@asset
def quiet() -> MaterializeResult[None]:
    return MaterializeResult(metadata={"PENDING": 1})


@asset
def talkative() -> int:
    return 1250


@asset
def curious(quiet: int) -> None: ...


def made(instance: DagsterInstance, *assets: object) -> bool:
    return materialize([*assets], instance=instance, resources={"io_manager": RefusesValues()}).success  # type: ignore[list-item]


def test_counts_are_fine(tmp_path: Path) -> None:
    with DagsterInstance.local_temp(str(tmp_path)) as instance:
        assert made(instance, quiet)


def test_a_value_is_refused_and_written_nowhere(tmp_path: Path) -> None:
    with DagsterInstance.local_temp(str(tmp_path)) as instance, pytest.raises(StepFailedError, match="VALUE_RETURNED"):
        made(instance, talkative)
    assert not [path for path in tmp_path.rglob("talkative*") if path.is_file()]


def test_the_value_of_another_asset_cannot_be_asked_for(tmp_path: Path) -> None:
    with DagsterInstance.local_temp(str(tmp_path)) as instance, pytest.raises(StepFailedError, match="VALUE_ASKED_FOR"):
        made(instance, quiet, curious)
