"""Runs that have ended: those that said so are forgotten by one question, those that did not are told of."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from ntro_dagster.tenant.api_server import TenantApiServer

ENDED, CUT_SHORT, AT_WORK = (f"00000000-0000-4000-8000-00000000000{number}" for number in range(3))


class Instance:
    """What is asked of the workspace."""

    def __init__(self) -> None:
        self.asked: list[Sequence[str]] = []
        self.failed: list[str] = []
        self.runs = {
            ENDED: DagsterRun("month_end", run_id=ENDED, status=DagsterRunStatus.SUCCESS),
            CUT_SHORT: DagsterRun("month_end", run_id=CUT_SHORT, status=DagsterRunStatus.STARTED),
        }

    def __enter__(self) -> Instance:
        return self

    def __exit__(self, *_: object) -> None: ...

    def get_runs(self, filters: RunsFilter) -> list[DagsterRun]:
        self.asked.append(filters.run_ids or ())
        return [self.runs[each] for each in filters.run_ids or ()]

    def get_run_by_id(self, run_id: str) -> DagsterRun:
        self.asked.append([run_id])
        return self.runs[run_id]

    def report_engine_event(self, *_: object, **__: object) -> None: ...

    def report_run_failed(self, run: DagsterRun) -> None:
        self.failed.append(run.run_id)


@pytest.fixture
def workspace(monkeypatch: pytest.MonkeyPatch) -> Instance:
    made = Instance()
    monkeypatch.setattr(DagsterInstance, "from_ref", staticmethod(lambda _: made))
    return made


def server(*over: str) -> Any:
    made: Any = object.__new__(TenantApiServer)
    processes = {run_id: SimpleNamespace(is_alive=lambda: False, exitcode=-9) for run_id in over}
    processes[AT_WORK] = SimpleNamespace(is_alive=lambda: True, exitcode=None)
    made._execution_lock = threading.Lock()
    made._executions = {run_id: (process, None) for run_id, process in processes.items()}
    made._termination_events = dict.fromkeys(processes)
    made._termination_times = {}
    made._shutdown_once_executions_finish_event = threading.Event()
    return made


def test_of_several_that_have_ended_those_that_did_not_say_so_are_told_of(workspace: Instance) -> None:
    there = server(ENDED, CUT_SHORT)
    there._check_for_orphaned_runs()
    assert workspace.asked == [[ENDED, CUT_SHORT], [CUT_SHORT]]
    assert workspace.failed == [CUT_SHORT]
    assert there._executions.keys() == there._termination_events.keys() == {AT_WORK}


def test_nobody_is_asked_while_none_has_ended(workspace: Instance) -> None:
    there = server()
    there._check_for_orphaned_runs()
    assert workspace.asked == []
    assert there._executions.keys() == {AT_WORK}
