"""What the spec's endpoints make of runs and runbooks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from ntro_dagster.bundles.active import ActiveSet, ActiveSetError
from ntro_dagster.bundles.bundle import Bundle
from ntro_dagster.desk import tasks

BEGAN = datetime(2026, 1, 5, tzinfo=UTC)


def after(minutes: int) -> datetime:
    return BEGAN + timedelta(minutes=minutes)


@pytest.mark.parametrize("failures", [0, 1, tasks.MOST_EVENTS])
def test_how_a_run_of_many_steps_failed_is_told(failures: int) -> None:
    task = {"began_at": BEGAN, "runbook": "fees", "version": "v_1"}
    steps = [{"at": after(1 + number), "action": "EDIT", "rows": number} for number in range(tasks.MOST_EVENTS + 5)]
    error = {"step": None, "code": "X", "story": "It broke.", "advice": None}
    errors = [error | {"id": uuid4(), "at": after(9_000 + number)} for number in range(failures)]
    told: list[dict[str, Any]] = tasks.events_of(task, {"steps": steps, "errors": errors})
    kinds = [event["type"] for event in told]
    assert (kinds[0], kinds.count("failed")) == ("started", failures)
    assert kinds.count("rows_changed") == max(0, tasks.MOST_EVENTS - 1 - failures)
    changed = [event["data"]["rows"] for event in told if event["type"] == "rows_changed"]
    assert changed == list(range(tasks.MOST_EVENTS + 5))[len(steps) - len(changed) :]


def test_a_parameter_is_required_where_the_schema_says_so() -> None:
    schema = {
        "type": "object",
        "properties": {
            "rate": {"type": "number"},
            "basis": {"type": "string", "default": "a"},
            "note": {"type": "string"},
            "kind": {"type": "string", "default": "b"},
        },
        "required": ["rate", "basis"],
    }
    required = {param.key: param.required for param in tasks.params_of(schema)}
    assert required == {"period": True, "rate": True, "basis": False, "note": False, "kind": False}
    assert [param.key for param in tasks.params_of({})] == ["period"]


def test_only_what_cannot_be_read_has_no_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "active_set", lambda: ActiveSet((Bundle("fees", tmp_path, "v_1"),)))
    assert tasks.start_params("fees") is None  # there is no page
    assert tasks.start_params("gone") is None

    def unreadable() -> ActiveSet:
        raise ActiveSetError(path=tmp_path)

    def defect(_: Path) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(tasks, "read_page", defect)
    with pytest.raises(ZeroDivisionError):
        tasks.start_params("fees")
    monkeypatch.setattr(tasks, "active_set", unreadable)
    assert tasks.start_params("fees") is None
