"""A failure becomes a line, a mend and an exit code, in one place."""

from __future__ import annotations

import errno
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ntro_dagster.cli import failures, main
from ntro_dagster.cli.invocation import invocation
from ntro_dagster.errors import NtroError, TransientError, UsageError


class LostError(NtroError):
    code = "LOST"
    summary = "lost"
    detail = "{what} is lost:\n  for good"
    mend = "look for {what}"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("NTRO_HOME", str(tmp_path / "home"))
    invocation.home_option, invocation.json = None, False
    yield
    invocation.home_option, invocation.json = None, False


def test_one_line_and_the_mend(capsys: pytest.CaptureFixture[str]) -> None:
    assert failures.report(LostError(what="a\x1b[2Jkey")) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error LOST: a\\x1b[2Jkey is lost:; for good\n→ look for a\\x1b[2Jkey\n"


def test_json_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    invocation.json = True
    failures.report(LostError(what="key"))
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err) == {"code": "LOST", "message": "key is lost:; for good", "mend": "look for key"}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NtroError(), 1),
        (UsageError(), 2),
        (TransientError(), 75),
        (KeyboardInterrupt(), 130),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 1),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 1),
    ],
)
def test_exit_codes_of_what_is_known(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert failures.report(error) == code
    assert "INTERNAL_ERROR" not in capsys.readouterr().err


def test_what_is_not_known_leaves_a_private_traceback_in_the_homes_logs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = tmp_path / "home" / "logs"
    logs.mkdir(parents=True)
    try:
        raise ZeroDivisionError("a client's figure: 4711")
    except ZeroDivisionError as error:
        assert failures.report(error) == 70
    err = capsys.readouterr().err
    assert "4711" not in err
    assert err.startswith("error INTERNAL_ERROR: ")
    (story,) = logs.iterdir()
    assert str(story) in err
    assert "4711" in story.read_text()
    assert stat.S_IMODE(story.stat().st_mode) == 0o600


def test_without_a_home_the_traceback_goes_to_a_private_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert failures.report(ZeroDivisionError("x")) == 70
    (story,) = tmp_path.glob("cli-*.log")
    assert str(story) in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["rows", "expenses"],
        ["ingest"],
        ["up", "--port", "0"],
        ["up", "--nonsense"],
        ["review", "edit", "--tenant", "t"],
    ],
)
def test_a_command_line_that_is_off_is_exit_code_2_and_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first.startswith("error USAGE: ")
    assert second.startswith("→ see `ntro")


def test_a_command_line_that_is_off_is_told_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["rows", "expenses", "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["code"] == "USAGE"


@pytest.mark.parametrize("before", [True, False])
def test_home_and_json_may_stand_before_or_behind_the_command(
    before: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--home", str(tmp_path / "elsewhere"), "--json"]
    assert main.run([*options, "status"] if before else ["status", *options]) == 3
    told = json.loads(capsys.readouterr().err)
    assert told["code"] == "HOME_MISSING"
    assert str(tmp_path / "elsewhere") in told["message"]
    assert not (tmp_path / "elsewhere").exists()
