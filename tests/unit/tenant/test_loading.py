"""What a code server says of definitions that do not load, and where their story is."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from ntro_dagster.boundary.load_failure import note, read_note, write_note
from ntro_dagster.errors import UsageError
from ntro_dagster.tenant.loading import loaded

SECRET = "Maple Holdings 4711.25"
ORIGIN = LoadableTargetOrigin(module_name="any")


class KnownError(UsageError):
    code = "RUNBOOK_INVALID"
    summary = "a runbook's description is not valid"


def serve(error: BaseException, *, logs: Path | None, patch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    patch.setenv("NTRO_TENANT", "acme")
    patch.setenv("NTRO_PLATFORM_URL", f"postgresql://nobody@127.0.0.1:1/{'none' if logs else 'nowhere'}")
    patch.setattr("ntro_dagster.orchestration.failures.TICK_PATIENCE_S", 0.0)
    if logs:
        patch.setenv("NTRO_LOGS", str(logs))
    else:
        patch.delenv("NTRO_LOGS", raising=False)

    def make(origin: LoadableTargetOrigin | None) -> Any:
        def fail() -> NoReturn:
            raise error

        return SimpleNamespace(origin=origin) if origin is None else fail()

    return loaded(make, ORIGIN)


def test_a_story_that_waits_in_a_file_is_found_by_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, failed = serve(SystemExit(SECRET), logs=tmp_path, patch=monkeypatch)
    assert failed.code == "DEFINITIONS_NOT_LOADED"
    said = server._serializable_load_error
    assert said.message == f"DEFINITIONS_NOT_LOADED (error {failed.error_id})"
    assert SECRET not in str(said)
    (path,) = (tmp_path / "aside").glob("*.json")
    assert path.stem == str(failed.error_id)
    assert SECRET in json.loads(path.read_text())["row"]["story"]


def test_a_story_in_the_output_alone_has_a_code_that_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, failed = serve(ValueError(SECRET), logs=None, patch=monkeypatch)
    assert failed.code == "DEFINITIONS_NOT_KEPT"
    assert SECRET in capsys.readouterr().err


def test_an_error_of_ours_keeps_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, failed = serve(KnownError(), logs=tmp_path, patch=monkeypatch)
    assert failed.code == "RUNBOOK_INVALID"


def test_being_stopped_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        serve(KeyboardInterrupt(), logs=tmp_path, patch=monkeypatch)


@pytest.mark.parametrize("said", ["", "[]", "{}", '{"code": "x", "error_id": "y"}', '{"code": 1, "error_id": null}', "\xff"])
def test_the_note_is_rebuilt(tmp_path: Path, said: str) -> None:
    socket = tmp_path / "code.sock"
    assert read_note(socket) is None
    note(socket).write_text(said)
    assert read_note(socket) is None
    write_note(socket, "A figure: 12", "8ddb28b2-0000-4000-8000-000000000000")
    assert read_note(socket) == ("UNEXPECTED_ERROR", "8ddb28b2-0000-4000-8000-000000000000")
    (tmp_path / "secret").write_text('{"code": "NTRO_ERROR", "error_id": "8ddb28b2-0000-4000-8000-000000000000"}')
    note(socket).unlink()
    note(socket).symlink_to(tmp_path / "secret")
    assert read_note(socket) is None
