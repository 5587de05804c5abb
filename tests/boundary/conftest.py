"""One workspace per module that asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from answering import Place, opened

from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.platforms.postgres.server import PostgresServer


@pytest.fixture(scope="module")
def place(
    postgres_server: PostgresServer, deployed: DatabaseCredentials, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """Code servers, a webserver and a daemon, running."""
    with opened(postgres_server, tmp_path_factory.mktemp("answers"), deployed) as running:
        yield running
