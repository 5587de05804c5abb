"""What the relay refused, and what the wall left out there, for each tenant since the relay started: numbers, for the operator.

The relay writes them into the workspace's database where they have changed, so that `ntro status` (`relay_refusals`) needs no way
into the relay.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from sqlalchemy import Engine, text

_START = text("INSERT INTO relay.life (started_at) VALUES (:at) ON CONFLICT (one) DO UPDATE SET started_at = excluded.started_at")
_WRITE = text("""
    INSERT INTO relay.counts (tenant, kind, what, number)
    SELECT * FROM unnest(CAST(:tenants AS text[]), CAST(:kinds AS text[]), CAST(:whats AS text[]), CAST(:numbers AS bigint[]))
    ON CONFLICT (tenant, kind, what) DO UPDATE SET number = excluded.number
""")

Count = Counter[tuple[str, str]]


class RelayCounts:
    """The tables, as one relay writes them: the first time it takes out what its predecessor counted."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._started_at = datetime.now(UTC)
        self._written: dict[tuple[str, str, str], int] | None = None

    def write(self, refused: Count, dropped: Count) -> None:
        """What has changed since the last time, by (tenant, call) and (tenant, kind of field). Raises: SQLAlchemyError."""
        now = {(tenant, "refused", call): number for (tenant, call), number in refused.items()}
        now |= {(tenant, "dropped", kind): number for (tenant, kind), number in dropped.items()}
        changed = {which: number for which, number in now.items() if (self._written or {}).get(which) != number}
        if self._written is not None and not changed:
            return
        with self._engine.connect().execution_options(isolation_level="READ COMMITTED") as connection, connection.begin():
            if self._written is None:
                connection.execute(text("DELETE FROM relay.counts"))
                connection.execute(_START, {"at": self._started_at})
            tenants, kinds, whats = ([which[part] for which in changed] for part in range(3))
            numbers = list(changed.values())
            connection.execute(_WRITE, {"tenants": tenants, "kinds": kinds, "whats": whats, "numbers": numbers})
        self._written = now
