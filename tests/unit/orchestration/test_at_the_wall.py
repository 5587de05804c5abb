"""What leaves a failing step, sensor or schedule, and what is kept of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from dagster import DagsterExecutionInterruptedError, DagsterInstance, build_sensor_context
from dagster_shared.error import SerializableErrorInfo

from ntro_dagster.boundary import wall
from ntro_dagster.errors import NtroError
from ntro_dagster.orchestration import failures, sensors
from ntro_dagster.orchestration.failures import Place, StepFailedError, at_the_wall, complete_traceback, story

SECRET = "Blue Heron Ltd"
RUN = str(uuid4())
LEAVES = re.compile(r"[A-Za-z_]+ \(error [0-9a-f-]{36}\)")


class AccountUnknownError(NtroError):
    code = "ACCOUNT_UNKNOWN"
    detail = "no account for {vendor}: {amount}"
    mend = "add one for {vendor}"


class OddError(Exception):
    """Cannot even say what it is."""

    def __str__(self) -> str:
        raise ValueError(SECRET)


def group() -> None:
    raise ExceptionGroup(SECRET, [ValueError(SECRET), ExceptionGroup("inner", [KeyError("member deep down")])])


def chain() -> None:
    try:
        try:
            raise KeyError("the first")
        except KeyError:
            raise ValueError("the second") from None
    except ValueError as error:
        error.add_note("a note")
        raise RuntimeError("the third") from OSError("the cause")


def raising(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


@pytest.fixture(autouse=True)
def unbound(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tenant, so the story goes to standard error."""
    monkeypatch.delenv("NTRO_TENANT", raising=False)


FAILURES = [
    (raising(AccountUnknownError(vendor=SECRET, amount=Decimal("1.50"))), "ACCOUNT_UNKNOWN"),
    (raising(ValueError(SECRET)), "ValueError"),
    (raising(SystemExit(SECRET)), "SystemExit"),
    (raising(BaseException(SECRET)), "BaseException"),
    (raising(type(SECRET.replace(" ", ""), (Exception,), {})()), "UNEXPECTED_ERROR"),
    (raising(StepFailedError(SECRET, uuid4())), "UNEXPECTED_ERROR"),
    (raising(OddError()), "UNEXPECTED_ERROR"),
    (group, "ExceptionGroup"),
]


@pytest.mark.parametrize(("fail", "code"), FAILURES)
def test_what_leaves_is_a_code_and_an_id(fail: Callable[[], None], code: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StepFailedError) as caught, at_the_wall(Place(RUN, "step")):
        fail()
    text = str(caught.value)
    assert LEAVES.fullmatch(text)
    assert text.startswith(f"{code} (error ")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__  # so Dagster stores no chain
    told_of = wall.error(SerializableErrorInfo(f"StepFailedError: {text}\n", [], "StepFailedError"))
    assert told_of
    assert told_of.message.partition("\n")[0] == text
    told = capsys.readouterr().err
    assert str(caught.value.error_id) in told
    assert "Traceback" in told


def test_an_interruption_stays_one_and_loses_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in (KeyboardInterrupt, DagsterExecutionInterruptedError):
        with pytest.raises(kind) as caught, at_the_wall(Place(RUN, "step")):
            raise kind(SECRET)
        assert type(caught.value) is kind
        assert SECRET not in str(caught.value)
        assert SECRET in capsys.readouterr().err
        with pytest.raises(kind) as caught, at_the_wall(Place(RUN, "step")):
            raise kind
        assert caught.value.args == ()
        assert capsys.readouterr().err == ""  # a cancelled run is no failure


def test_a_generator_may_be_closed() -> None:
    with pytest.raises(GeneratorExit), at_the_wall(Place()):
        raise GeneratorExit


def caught(fail: Callable[[], None]) -> BaseException:
    try:
        fail()
    except BaseException as error:
        return error
    raise AssertionError


def test_a_traceback_holds_causes_contexts_notes_and_members() -> None:
    text = complete_traceback(caught(chain))
    for part in ("the first", "the second", "a note", "the third", "the cause", "Traceback (most recent call last)"):
        assert part in text, part
    assert "member deep down" in complete_traceback(caught(group))
    wide = ExceptionGroup("wide", [ValueError(f"member {number};") for number in range(100)])
    assert "member 99;" in complete_traceback(wide)


def test_a_loop_in_the_chain_ends() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__context__, second.__context__ = second, first
    assert "first" in complete_traceback(first)


def test_a_story_has_everything_that_a_table_can_hold() -> None:
    loop: list[Any] = []
    loop.append(loop)
    error = AccountUnknownError(
        vendor="NUL \x00, half a pair \ud800",
        amount=Decimal("1234.50"),
        rows=[{"id": UUID(int=1), "ok": True}],
        odd=OddError(),
        loop=loop,
        ratio=float("nan"),
    )
    kept = story(error, Place(RUN, "acme__ledgers__journals", "spv-1|2026-10"), UUID(int=2))
    assert kept["story"] == "no account for NUL \\x00, half a pair \\ud800: 1234.50"
    assert kept["advice"] == "add one for NUL \\x00, half a pair \\ud800"
    assert (kept["run_id"], kept["step"], kept["partition"]) == (RUN, "acme__ledgers__journals", "spv-1|2026-10")
    values = json.loads(str(kept["values"]))
    assert values["amount"] == "1234.50"
    assert values["rows"] == [{"id": str(UUID(int=1)), "ok": True}]
    assert values["odd"] == "<OddError>"
    assert "\\u0000" not in str(kept["values"])
    assert "\\ud800" not in str(kept["values"]).replace("\\\\", "")


def test_an_error_that_cannot_explain_itself_is_kept_all_the_same() -> None:
    assert story(AccountUnknownError(), Place(), uuid4())["story"] == "AccountUnknownError cannot say what it is: KeyError"
    assert story(OddError(), Place(), uuid4())["story"] == "OddError cannot say what it is: ValueError"


def test_a_sensor_says_a_code_and_an_id(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async def fails(*_: object) -> None:
        raise SystemExit(SECRET)

    monkeypatch.setenv("NTRO_TENANT", "acme")
    monkeypatch.delenv("NTRO_PLATFORM_URL", raising=False)
    monkeypatch.setattr(sensors, "_ask", fails)

    class Job:
        name = "month_end"

    with pytest.MonkeyPatch.context() as patch:
        made: dict[str, Any] = {}
        patch.setattr(sensors, "SensorDefinition", lambda **given: made.update(given))
        sensors.sensor(Job(), sensors.Work.CLOSE, [])  # type: ignore[arg-type]
    with DagsterInstance.ephemeral() as instance, pytest.raises(StepFailedError) as error:
        list(made["evaluation_fn"](build_sensor_context(instance)))
    assert str(error.value).startswith("SystemExit (error ")
    assert SECRET in capsys.readouterr().err
    assert failures.TICK_PATIENCE_S < failures.RUN_PATIENCE_S
