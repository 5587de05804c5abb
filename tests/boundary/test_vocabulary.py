"""The closed list of words: what is one, what is not."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ntro_dagster
from ntro_dagster.boundary import vocabulary as words
from ntro_dagster.boundary.codes import CODES
from ntro_dagster.errors import NtroError
from ntro_dagster.host.deployments import INTERRUPTED

MIGRATIONS = Path(ntro_dagster.__file__).parents[1] / "migrations"
BOUND = {"ntro_dagster.tenant.definitions", "ntro_dagster.tenant.warm"}
"""Modules that only a tenant's process can import."""


def _kinds(kind: type[NtroError]) -> Iterator[type[NtroError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _kinds(each)


def test_codes_are_those_of_the_sources() -> None:
    for module in pkgutil.walk_packages(ntro_dagster.__path__, "ntro_dagster."):
        if not module.name.endswith("__main__") and module.name not in BOUND:
            importlib.import_module(module.name)
    in_python = {kind.code for kind in _kinds(NtroError) if kind.__module__.startswith("ntro_dagster") and "code" in vars(kind)}
    in_sql = {
        code
        for path in MIGRATIONS.glob("*.sql")
        for code in re.findall(r"(?:refuse|refuse_\w+)\([^;]*?'([A-Z]+(?:_[A-Z]+)+)'", path.read_text())
    }
    assert in_python | in_sql <= CODES, "add them to ntro_dagster/boundary/codes.txt"
    written = "".join(path.read_text() for path in MIGRATIONS.glob("*.sql"))
    assert {code for code in CODES - in_python if code not in written} == {words.UNEXPECTED, words.INTERRUPTED, INTERRUPTED}


@pytest.mark.parametrize(
    ("word", "good", "bad"),
    [
        (words.slug, "spv-1", "Smith & Co"),
        (words.slug, "a" * 63, "a" * 64),
        (words.name, "expenses_decisions", "12.50"),
        (words.name, "NEEDS_ATTENTION", "two words"),
        (words.period, "2026-10", "2026-13"),
        (words.partition, "spv-1|2026-10", "spv-1|2026-10|x"),
        (words.unit, "acme|spv-1|2026-10", "acme|spv-1"),
        (words.uuid, "8ddb28b2-1111-4222-8333-444455556666", "8ddb28b2"),
        (words.digest, "0" * 32, "0" * 33),
        (words.run_key, "posting:spv-1|2026-10:3", "posting:1,250.00"),
        (words.run_key, "monthly:spv-1|2026-10", "weekly:spv-1|2026-10"),
        (words.run_key, "monthly:spv-1|2026-10:v_0123456789ab", "monthly:spv-1|2026-10:v_acme capital"),
        (words.run_key, "request:8ddb28b2-8a7e-4f0e-9d60-7b9a3d2f6c11", "request:acme capital"),
        (words.run_key, "request:8ddb28b2-8a7e-4f0e-9d60-7b9a3d2f6c11", "request:8ddb28b2-8a7e-4f0e-9d60-7b9a3d2f6c11:1250"),
        (words.run_key, "intake:spv-1|2026-10", "intake:spv-1|2026-10:v_0123456789ab"),
        (words.tick, "2026-11-05T08:00:00+00:00", "2026-11-05T08:00:12.5+01:00"),
        (words.work, "intake", "gossip"),
        (words.flag, "true", "True"),
        (words.number, "-12", "12.5"),
    ],
)
def test_words(word: words.Word, good: str, bad: str) -> None:
    assert word(good) == good
    assert word(bad) is None
    assert word(good + "\n") is None
    assert word(None) is None
    assert word(12) is None


@pytest.mark.parametrize(
    ("called", "offered", "kept"),
    [
        ("PENDING", 12, 12),
        ("PENDING", 0, 0),
        ("PENDING", -1, None),
        ("PENDING", True, None),
        ("PENDING", 12.0, None),
        ("PENDING", "12", None),
        ("PENDING", 2**53, None),
        ("total_gross", 12, None),
    ],
)
def test_counts(called: str, offered: Any, kept: int | None) -> None:
    assert words.count(called, offered) == kept


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x: PERIOD_CLOSED (error 8ddb28b2-1111-4222-8333-444455556666)\n", "PERIOD_CLOSED"),
        ("ValueError (error 8ddb28b2-1111-4222-8333-444455556666)", "ValueError"),
        ("ACME_LIMITED (error 8ddb28b2-1111-4222-8333-444455556666)", words.UNEXPECTED),
    ],
)
def test_failures_keep_code_and_error_id(text: str, told: str) -> None:
    assert words.failure(text) == f"{told} (error 8ddb28b2-1111-4222-8333-444455556666)"


@pytest.mark.parametrize("text", ["PERIOD_CLOSED", "PERIOD_CLOSED (error 12)", "nothing of the kind", "", None])
def test_a_failure_without_an_error_id_says_nothing_more(text: str | None) -> None:
    assert words.failure(text) == words.UNEXPECTED
