"""A deployed tenant's journal, and the environment of one of its processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kept_tenant import Kept

from ntro_dagster.platforms.environment import journal_from_environment
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials


@pytest.fixture
def kept(deployed: DatabaseCredentials, postgres_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    monkeypatch.setenv("NTRO_TENANT", "acme")
    monkeypatch.setenv("NTRO_PLATFORM_URL", deployed.app)
    monkeypatch.setenv("NTRO_LOGS", str(tmp_path))
    journal = journal_from_environment()
    yield Kept(deployed, journal, tmp_path, postgres_server.admin_dsn())
    journal.close()
