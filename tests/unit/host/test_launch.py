"""The launcher: environment files, records of processes, and what the child gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ntro_dagster.host.launch import EnvironmentFileError, read_environment, write_environment
from ntro_dagster.host.orphans import ProcessRecord


def launch(directory: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    options = ["--record", str(directory / "x.pid.json"), str(directory / "env.json"), "--"]
    command = [sys.executable, "-m", "ntro_dagster.host.launch", *options, *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("content", ["", "[]", '{"A": 1}', '{"A": null}'])
def test_bad_environment_files_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "env.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(EnvironmentFileError):
        read_environment(path)


def test_environment_file_open_to_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "env.json"
    write_environment(path, {"A": "b"})
    assert read_environment(path)["A"] == "b"
    path.chmod(0o640)
    with pytest.raises(EnvironmentFileError):
        read_environment(path)


def test_child_gets_that_environment_and_default_signals(tmp_path: Path) -> None:
    (tmp_path / "env.json").write_text(json.dumps({"ONLY": "this", "LC_CTYPE": "C.UTF-8"}))
    (tmp_path / "env.json").chmod(0o600)
    script = "import os, signal; print(sorted(os.environ)); print(signal.getsignal(signal.SIGINT).__name__)"
    done = launch(tmp_path, sys.executable, "-c", script)
    assert done.stdout.splitlines() == ["['LC_CTYPE', 'ONLY']", "default_int_handler"]


def test_starts_are_counted(tmp_path: Path) -> None:
    write_environment(tmp_path / "env.json", {})
    for expected in (1, 2, 3):
        assert launch(tmp_path, "true").returncode == 0
        record = ProcessRecord.read(tmp_path / "x.pid.json")
        assert record
        assert record.starts == expected
        assert record.process() is None


def test_missing_program_is_said(tmp_path: Path) -> None:
    write_environment(tmp_path / "env.json", {})
    done = launch(tmp_path, "no-such-program")
    assert (done.returncode, done.stderr) == (os.EX_CONFIG, "cannot run no-such-program: No such file or directory\n")


def test_record_knows_its_process_from_a_recycled_pid() -> None:
    me = psutil.Process()
    assert ProcessRecord(me.pid, me.create_time(), 1, "TERM").process() == me
    assert ProcessRecord(me.pid, me.create_time() - 100, 1, "TERM").process() is None


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"pid": 1}'])
def test_damaged_record_is_no_record(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.pid.json").write_text(content)
    assert ProcessRecord.read(tmp_path / "x.pid.json") is None
