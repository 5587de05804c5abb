"""A tenant with one entity that lets one flat, per test."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from let_flat import LetFlat

from ntro_dagster.platforms.postgres.roles import DatabaseCredentials


@pytest.fixture
def flat(make_database: Callable[[], DatabaseCredentials], monkeypatch: pytest.MonkeyPatch) -> LetFlat:
    monkeypatch.setenv("NTRO_SALT", "5a17")
    return LetFlat(make_database())
