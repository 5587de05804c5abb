"""What was said to the workspace, without clock and chance: only these are taken out, and everything else stays byte for byte.

Moments and durations become one word each. Random ids and salted digests are numbered in the order in which they first appear,
so that which of them are equal still shows. Numbers that Dagster counts (storage ids, ticks) stay, and so do its snapshots' ids:
they depend on code alone. That a digest is salted cannot be seen here.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any

import psycopg

_CLOCKS = (
    "timestamp|event_timestamp|end_timestamp|duration_ms|start_time|end_time|"
    "last_tick_timestamp|last_tick_start_timestamp|last_sensor_start_timestamp|last_tick_success_timestamp"
)
_CHANCE = re.compile(
    r"(?P<id>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
    r"|(?P<digest>(?<![0-9a-f])(?:[0-9a-f]{64}|[0-9a-f]{32})(?![0-9a-f]))"
    r"|(?P<moment>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:\+\d\d:?\d\d|Z)?)"
    rf'|(?P<clock>(?<=")(?:{_CLOCKS})\\*": )(?P<value>-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)'
)

KEPT = frozenset({"public.alembic_version", "public.secondary_indexes", "public.instance_info"})
"""Tables that belong to the installation, not to what happens in it."""


class WithoutChance:
    """Numbers ids over everything that it is shown, so that the same id has the same number everywhere."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def text(self, said: str) -> str:
        return _CHANCE.sub(self._token, said)

    def _token(self, found: re.Match[str]) -> str:
        if found["clock"]:
            return f"{found['clock']}<clock>"
        if found["moment"]:
            return "<moment>"
        kind = "id" if found["id"] else "digest"
        return self._seen.setdefault(found[0], f"<{kind} {len(self._seen)}>")

    def value(self, column: str, value: Any) -> str:
        """Of a table."""
        if isinstance(value, datetime) or (isinstance(value, float) and re.fullmatch(_CLOCKS, column)):
            return "<clock>"
        if isinstance(value, bytes | memoryview):
            raw = bytes(value)
            with suppress(zlib.error):
                raw = zlib.decompress(raw)
            return self.text(raw.decode())
        return self.text(str(value))


def stored(url: str, without: WithoutChance) -> list[str]:
    """Every row of the workspace's database in the order in which it was stored, but for the relay's own keys."""
    told = []
    with psycopg.connect(url) as connection:
        for table in tables(connection):
            with connection.execute(f"SELECT * FROM {table}".encode()) as cursor:
                columns = [column.name for column in cursor.description or ()]
                rows: Iterable[tuple[Any, ...]] = cursor.fetchall()
            if "id" in columns:
                rows = sorted(rows, key=lambda row: row[columns.index("id")])
            lines = [
                " | ".join(f"{name}={without.value(name, value)}" for name, value in zip(columns, row, strict=True))
                for row in rows
            ]
            told += [f"{table}: {line}" for line in (lines if "id" in columns else sorted(lines))]
    return told


def tables(connection: psycopg.Connection[Any]) -> list[str]:
    """Of Dagster."""
    found = connection.execute(
        "SELECT quote_ident(table_schema) || '.' || quote_ident(table_name) FROM information_schema.tables "
        "WHERE table_schema = 'public' ORDER BY 1"
    ).fetchall()
    return [table for (table,) in found if table not in KEPT]
