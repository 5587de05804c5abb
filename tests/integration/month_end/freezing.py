"""Stop a run inside its transaction at a chosen statement: a trigger there waits for a lock that the test holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg
from installed import Client, eventually

from ntro_dagster.host.home import Role
from ntro_dagster.host.installation import credential

KEY = 4711  # advisory lock, per database

PLACES = {
    "expenses INSERT": "ledgers",
    "expenses UPDATE": "ledgers",
    "intake UPDATE": "ingest",
    "signal_rows UPDATE": "system",
    "signals UPDATE": "system",
    "journals INSERT": "ledgers",
    "journal_lines INSERT": "ledgers",
    "closes INSERT": "ledgers",
    "deliveries INSERT": "ledgers",
    "deliveries UPDATE": "ledgers",
    "delivery_attempts INSERT": "ledgers",
}
"""Statements at which a run can be stopped, and the schema of their table."""

_SET_UP = """
CREATE SCHEMA halt;
CREATE TABLE halt.point (place TEXT PRIMARY KEY, statement BIGINT NOT NULL);
CREATE SEQUENCE halt.statements;
CREATE FUNCTION halt.here() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    wanted BIGINT;
BEGIN
    SELECT statement INTO wanted FROM halt.point WHERE place = TG_TABLE_NAME || ' ' || TG_OP;
    IF wanted IS NOT NULL AND nextval('halt.statements') = wanted THEN
        PERFORM pg_advisory_xact_lock_shared(4711);
    END IF;
    RETURN NULL;
END $$;
"""


def prepare_freezing(client: Client) -> None:
    """Once per tenant, as the owner of its database."""
    with psycopg.connect(credential(client.home, client.slug, Role.OWNER)) as owner:
        owner.execute(_SET_UP)
        for place, schema in PLACES.items():
            table, operation = place.split()
            owner.execute(
                f"CREATE TRIGGER zz_halt AFTER {operation} ON {schema}.{table} FOR EACH STATEMENT "
                "EXECUTE FUNCTION halt.here()".replace("zz_halt", f"zz_halt_{operation.lower()}").encode()
            )


@dataclass
class Frozen:
    """A run that stands still. `backend`: the pid of the database process that works for it."""

    backend: int
    _holder: psycopg.Connection[tuple[object, ...]]

    def release(self) -> None:
        """Let it go on, if it still can. Also what happens when the database dies."""
        with suppress(psycopg.OperationalError):
            self._holder.close()


class Freezer:
    def __init__(self, client: Client, holder: psycopg.Connection[tuple[object, ...]]) -> None:
        self._client = client
        self._holder = holder

    def wait(self) -> Frozen:
        """Once a run stands at the point. The point is taken away, so nothing else stops there."""
        waiting = (
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        found = eventually(lambda: self._holder.execute(waiting.encode(), [KEY]).fetchone(), "a run comes to the point")
        self._holder.execute("DELETE FROM halt.point")
        return Frozen(int(str(found[0])), self._holder)


@contextmanager
def freezing(client: Client, place: str, statement: int = 1) -> Iterator[Freezer]:
    """Within this, the `statement`-th statement of any run at `place` stands still, in its transaction, until released."""
    holder = psycopg.connect(credential(client.home, client.slug, Role.OWNER), autocommit=True)
    try:
        holder.execute("SELECT pg_advisory_lock(%s)", [KEY])
        holder.execute("DELETE FROM halt.point")
        holder.execute("ALTER SEQUENCE halt.statements RESTART")
        holder.execute("INSERT INTO halt.point VALUES (%s, %s)", [place, statement])
        yield Freezer(client, holder)
    finally:
        with suppress(psycopg.OperationalError):
            holder.close()
