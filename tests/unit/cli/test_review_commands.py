"""Decisions of a type's own are commands of `ntro review` too."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from ntro_dagster.cli import review

RUNNER = CliRunner()


def test_any_word_that_may_be_a_decision_is_a_command() -> None:
    told = RUNNER.invoke(review.app, ["confirm_payment", "--help"])
    assert told.exit_code == 0
    assert "--subledger" in told.output
    assert "--set" not in told.output


@pytest.mark.parametrize("word", ["Confirm", "confirm payment", "x" * 41, "1st"])
def test_anything_else_is_not(word: str) -> None:
    assert RUNNER.invoke(review.app, [word, "--help"]).exit_code == 2


def test_the_platforms_own_stay_what_they_are() -> None:
    listed = RUNNER.invoke(review.app, ["--help"]).output
    assert all(kind in listed for kind in ("approve", "reject", "exclude", "edit", "accept"))
    assert "--set" in RUNNER.invoke(review.app, ["edit", "--help"]).output
