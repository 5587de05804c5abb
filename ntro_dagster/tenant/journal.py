"""The transcript: every byte that this tenant's processes send to the workspace, kept before it is sent."""

from __future__ import annotations

from datetime import UTC, datetime

from ntro_dagster.boundary import vocabulary as words
from ntro_dagster.boundary.relay import connection
from ntro_dagster.boundary.relay.connection import Sent
from ntro_dagster.platforms.environment import journal_from_environment
from ntro_dagster.platforms.postgres.journal import storable

PATIENCE_S = 10.0
"""A restart of PostgreSQL takes less, and a request's thread in the code server may wait so long (gRPC gives it 60 s)."""


def keep(sent: Sent) -> None:
    """Keep a request; returns once it is kept, so that nothing leaves which is not.

    It waits for the database `PATIENCE_S`, then makes a file of it. It raises only where the disk refuses too, because
    a run that fails with a reason is better than a copy that is silently not complete.

    Raises:
        JournalUnavailableError: neither database nor disk takes it.
        TenantNotBoundError: this is no tenant's process.
    """
    journal_from_environment().keep(
        "transcript",
        {
            "at": datetime.now(UTC).isoformat(),
            "run_id": words.uuid(sent.run_id),
            "call": storable(sent.call),
            "key": str(sent.key),
            "sent": sent.body,
            "told": None if sent.told is None else storable(sent.told),
        },
        patience=PATIENCE_S,
    )


def keep_transcript() -> None:
    """From now on this process keeps what it sends."""
    connection.keep = keep
