"""When the daemon looks at its locations again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import pytest
from dagster._daemon.controller import DagsterDaemonController

from ntro_dagster.workspace.daemon import follow

JUST_NOW = 1_000_000.0


def test_a_write_to_the_workspace_makes_the_last_look_long_ago_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DagsterDaemonController, "check_workspace_freshness", lambda _, last_look: last_look)
    workspace = tmp_path / "workspace.yaml"
    workspace.touch()
    follow(workspace)

    def looked() -> float:
        return DagsterDaemonController.check_workspace_freshness(cast("DagsterDaemonController", None), JUST_NOW)

    assert looked() == JUST_NOW
    os.utime(workspace, ns=(0, workspace.stat().st_mtime_ns + 1))
    assert looked() == 0.0
    assert looked() == JUST_NOW
