"""Answers that are built once: for the same survey, question and offer, and for no other."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from dagster._grpc.__generated__ import dagster_api_pb2 as api

from ntro_dagster.boundary.answers.remembered import MOST, Remembered
from ntro_dagster.boundary.answers.survey import Survey, survey_file
from ntro_dagster.boundary.names import SURVEYS

Ask = Callable[[str, str, str], Any]


@pytest.fixture
def deploy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.setenv(SURVEYS, str(tmp_path))

    def write(tenant: str, *names: str, at: int) -> None:
        survey = Survey(tenant, "the same", "m", "defs", "python", {}, {}, frozenset(names))
        survey_file(tmp_path, tenant).write_text(survey.to_json())
        os.utime(survey_file(tmp_path, tenant), (at, at))

    return write


@pytest.fixture
def built() -> list[str]:
    return []


@pytest.fixture
def ask(built: list[str]) -> Ask:
    def answer(_: Any, tenant: str, request: Any, replies: Sequence[Any]) -> Any:
        built.append(tenant)
        said = [request.serialized_execution_plan_snapshot_args, *(each.serialized_execution_plan_snapshot for each in replies)]
        return api.ExecutionPlanSnapshotReply(serialized_execution_plan_snapshot=json.dumps([tenant, *said]))

    remembered = Remembered(answer)

    def asked(tenant: str, question: str, offer: str) -> Any:
        request = api.ExecutionPlanSnapshotRequest(serialized_execution_plan_snapshot_args=question)
        reply = api.ExecutionPlanSnapshotReply(serialized_execution_plan_snapshot=offer)
        return json.loads(remembered(None, tenant, request, [reply]).serialized_execution_plan_snapshot)

    return asked


def test_the_same_is_built_once_and_anything_else_anew(ask: Ask, built: list[str], deploy: Callable[..., None]) -> None:
    deploy("acme", at=1)
    deploy("beta", at=1)
    for _ in range(2):
        assert ask("acme", "q", "a") == ["acme", "q", "a"]
        assert ask("beta", "q", "a") == ["beta", "q", "a"]
        assert ask("acme", "other", "a") == ["acme", "other", "a"]
        assert ask("acme", "q", "other") == ["acme", "q", "other"]
        assert ask("acme", "qa", "") == ["acme", "qa", ""]
    assert len(built) == 5


def test_a_new_deployment_is_judged_anew(ask: Ask, built: list[str], deploy: Callable[..., None]) -> None:
    deploy("acme", "old", at=1)
    ask("acme", "q", "a")
    deploy("acme", "new", at=2)
    ask("acme", "q", "a")
    assert len(built) == 2


def test_without_a_survey_nothing_is_remembered(ask: Ask, built: list[str], deploy: Callable[..., None]) -> None:
    ask("acme", "q", "a")
    ask("acme", "q", "a")
    assert len(built) == 2


def test_one_tenants_answers_do_not_make_way_for_anothers(ask: Ask, built: list[str], deploy: Callable[..., None]) -> None:
    deploy("acme", at=1)
    deploy("beta", at=1)
    ask("beta", "q", "a")
    for number in range(2 * MOST):
        ask("acme", "q", str(number))
    ask("beta", "q", "a")
    assert built.count("beta") == 1
    ask("acme", "q", "0")
    assert built.count("acme") == 2 * MOST + 1, "the oldest make way for the tenant's own"
