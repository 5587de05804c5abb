"""What the launcher concludes about a run from how its code server's socket behaves."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import cast

import pytest
from dagster import DagsterRun
from dagster._core.errors import DagsterCodeLocationNotFoundError, DagsterUserCodeUnreachableError
from dagster._core.launcher import DefaultRunLauncher, LaunchRunContext, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

from ntro_dagster.orchestration import launcher as module
from ntro_dagster.orchestration.launcher import UNREACHABLE_SECONDS, NtroRunLauncher

RUN_ID = "0d1f6f9c-6d0f-4c53-9d3e-3a51a1f5d0aa"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def run_on(path: Path) -> DagsterRun:
    return DagsterRun(job_name="j", run_id=RUN_ID, tags={GRPC_INFO_TAG: json.dumps({"host": "h", "socket": str(path)})})


def test_a_run_of_a_tenant_that_the_daemon_does_not_know_yet_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise DagsterCodeLocationNotFoundError

    monkeypatch.setattr(DefaultRunLauncher, "launch_run", unknown)
    with pytest.raises(DagsterUserCodeUnreachableError):  # for which alone Dagster's queue keeps a run
        NtroRunLauncher().launch_run(cast("LaunchRunContext", None))


def test_refused_connection_means_gone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert NtroRunLauncher().check_run_worker_health(run_on(path)).status is WorkerStatus.FAILED


def test_missing_socket_is_given_time(tmp_path: Path) -> None:
    clock = Clock()
    launcher = NtroRunLauncher(clock=clock)
    run = run_on(tmp_path / "s")
    assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
    clock.now += UNREACHABLE_SECONDS - 1
    assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
    clock.now += 2
    assert launcher.check_run_worker_health(run).status is WorkerStatus.FAILED


def test_silent_server_is_given_time_anew_after_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 1)
    clock = Clock()
    launcher = NtroRunLauncher(clock=clock)
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        assert launcher.check_run_worker_health(run_on(path)).status is WorkerStatus.RUNNING
        with monkeypatch.context() as answering:
            answering.setattr(launcher, "_current_runs", lambda _: {RUN_ID})
            assert launcher.check_run_worker_health(run_on(path)).status is WorkerStatus.RUNNING
        clock.now += UNREACHABLE_SECONDS + 1
        assert launcher.check_run_worker_health(run_on(path)).status is WorkerStatus.RUNNING
        clock.now += UNREACHABLE_SECONDS + 1
        assert launcher.check_run_worker_health(run_on(path)).status is WorkerStatus.FAILED


def test_run_the_server_does_not_know_is_lost(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    launcher = NtroRunLauncher()
    monkeypatch.setattr(launcher, "_current_runs", lambda _: {"another"})
    assert launcher.check_run_worker_health(run_on(tmp_path)).status is WorkerStatus.FAILED


def test_run_in_a_process_of_its_own_is_left_alone() -> None:
    run = DagsterRun(job_name="j", run_id=RUN_ID)
    assert NtroRunLauncher().check_run_worker_health(run).status is WorkerStatus.RUNNING
