"""Counts under statuses of a type's own cross where the tenant's survey has them, and as nothing but counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dagster import AssetKey, AssetMaterialization, AssetObservation
from dagster._core.events import AssetObservationData, DagsterEventType

from ntro_dagster.boundary import wall
from ntro_dagster.boundary.answers.survey import DefinitionNotDeployedError, Survey, known_statuses, survey_file, survey_of
from ntro_dagster.boundary.names import SURVEYS


def surveyed(directory: Path, tenant: str, *statuses: str) -> None:
    made = Survey(tenant, "", "", "", "", {}, {}, frozenset(), frozenset(statuses))
    survey_file(directory, tenant).write_text(made.to_json())


@pytest.fixture(autouse=True)
def surveys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(SURVEYS, str(tmp_path))
    surveyed(tmp_path, "acme", "AWAITING_BANK", "PAID")
    surveyed(tmp_path, "borough")
    return tmp_path


def kept(tenant: str, **metadata: Any) -> dict[str, Any]:
    told = AssetMaterialization(AssetKey([tenant, "ledgers", "calls"]), metadata=metadata)
    return {name: value.value for name, value in (wall._of_asset(told) or {})["metadata"].items()}


def test_a_status_of_the_tenants_own_may_be_counted() -> None:
    assert kept("acme", AWAITING_BANK=3, PAID=0, PENDING=1) == {"AWAITING_BANK": 3, "PAID": 0, "PENDING": 1}


def test_one_that_was_not_deployed_may_not() -> None:
    assert kept("acme", DEFAULTED=3, MR_SMITH=1, PENDING=1) == {"PENDING": 1}
    assert kept("borough", AWAITING_BANK=3) == {}
    assert kept("nobody", AWAITING_BANK=3) == {}


def test_a_status_counts_and_says_nothing_else() -> None:
    assert kept("acme", AWAITING_BANK="Mr Smith", PAID=1.5) == {}
    assert kept("acme", AWAITING_BANK=-1, PAID=True) == {}
    assert kept("acme", PAID=2**53) == {}


def test_an_observation_is_held_up_the_same_way() -> None:
    told = AssetObservation(AssetKey(["acme", "ledgers", "calls"]), metadata={"PAID": 2, "LOST": 1})
    build = wall._EVENTS[DagsterEventType.ASSET_OBSERVATION]
    known = build(AssetObservationData(told))
    assert {name: value.value for name, value in known.asset_observation.metadata.items()} == {"PAID": 2}


def test_a_deployment_takes_effect_at_once_and_a_lost_survey_closes_the_wall(surveys: Path) -> None:
    assert kept("borough", SETTLED=1) == {}
    surveyed(surveys, "borough", "SETTLED", "SETTLED_TOO")
    assert kept("borough", SETTLED=1) == {"SETTLED": 1}
    survey_file(surveys, "borough").unlink()
    assert kept("borough", SETTLED=1) == {}
    assert known_statuses("borough") == frozenset()
    with pytest.raises(DefinitionNotDeployedError):
        survey_of("borough")


@pytest.mark.parametrize("status", ["Mr Smith", "smith", "S" * 41, "SMITH\n", "", "1ST", None, 12])
def test_a_survey_keeps_only_what_has_the_form_of_a_status(surveys: Path, status: Any) -> None:
    said: dict[str, Any] = {"types": [{"lifecycle": {"edges": [{"from": "PENDING", "to": status}]}}]}
    from ntro_dagster.boundary import vocabulary as words  # noqa: PLC0415
    from ntro_dagster.boundary.answers.survey import _statuses  # noqa: PLC0415

    assert {words.status(each) for each in _statuses(said)} == {"PENDING", None}
    surveyed(surveys, "acme", str(status))
    assert kept("acme", **{str(status): 1}) == {}
