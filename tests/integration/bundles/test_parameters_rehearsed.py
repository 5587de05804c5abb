"""A rehearsal takes a runbook's parameters from its scenario, as runs take them from the workflow of an entity."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ntro_dagster.authoring.bundle import new_bundle
from ntro_dagster.bundles.parameter_values import ParameterInvalidError
from ntro_dagster.testing import HAPPY, Scenario, rehearse
from ntro_dagster.testing.scenario import ScenarioInvalidError, read_scenario

HEAD = """parameters:
  type: object
  properties:
    share: {type: string, format: decimal, pattern: '^[0-9](\\.[0-9]{1,2})?$', default: "1"}
    from_day: {type: string, format: date, default: 2020-01-31}
"""
SCENARIO = """
name: half
parameters: {share: "0.5", from_day: 2026-03-31}
decisions:
  - {decide: accept}
  - {decide: approve}
expect:
  trial_balance: {"5999": "828.45", "2000": "-828.45"}
"""


@pytest.fixture(scope="module", autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    directory = tmp_path_factory.mktemp("scratch")
    for each in (directory, *directory.parents[:3]):
        each.chmod(0o755)  # else, as root, the data would go to /var/lib/ntro
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(os.environ, "NTRO_SCRATCH", str(directory / "cluster"))
        yield


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its amounts are the document's, times the parameter `share`."""
    parent = tmp_path_factory.mktemp("bundle")
    new_bundle("shared-costs", parent)
    root = parent / "shared-costs"
    page, assets = root / "runbook.md", root / "assets.py"
    page.write_text(page.read_text().replace("---\n", "---\n" + HEAD, 1))
    amount = '"amount": read["amount_gross"] * run.parameters["share"]'
    assets.write_text(assets.read_text().replace('"amount": read["amount_gross"]', amount))
    return root


def test_the_runbooks_own_where_a_scenario_says_none(bundle: Path) -> None:
    report = rehearse(bundle, HAPPY)
    assert report.passed, report.reasons
    assert str(report.balances["GBP"]["5999"].normalize()) == "1656.9"


def test_those_of_the_scenario(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "half.yaml").write_text(SCENARIO)
    assert read_scenario(tmp_path / "half.yaml").parameters == {"share": "0.5", "from_day": "2026-03-31"}
    report = rehearse(bundle, tmp_path / "half.yaml")
    assert report.passed, report.reasons


def test_what_is_no_value_is_told(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterInvalidError) as refused:
        rehearse(bundle, Scenario("half", automatic="accept", parameters={"share": 0.5}))
    assert refused.value.explain() == "parameter share does not fit its pattern"
    (tmp_path / "none.yaml").write_text("parameters: [share]\n")
    with pytest.raises(ScenarioInvalidError):
        read_scenario(tmp_path / "none.yaml")
