"""One tenant's journal, and a look into it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from ntro_dagster.platforms.postgres.journal import Journal
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


@dataclass
class Kept:
    credentials: DatabaseCredentials
    journal: Journal
    logs: Path
    admin_dsn: str

    def fetch(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.credentials.auditor) as connection:
            return connection.execute(query.encode(), values).fetchall()

    def end_sessions(self) -> int:
        """As a restart of PostgreSQL does."""
        with psycopg.connect(self.admin_dsn, autocommit=True) as admin:
            ended = admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND application_name = 'ntro journal'",
                [self.credentials.database],
            ).fetchall()
        return len(ended)

    def set_aside(self) -> list[Path]:
        return sorted((self.logs / "aside").glob("*.json"))
