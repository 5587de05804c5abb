"""How many rows PostgreSQL reads, by its own count."""

from __future__ import annotations

from collections import Counter

from ntro_dagster.platforms.postgres.database import TenantDatabase

_READ = """
    SELECT schemaname || '.' || relname AS name, seq_tup_read + coalesce(idx_tup_fetch, 0) AS rows FROM pg_stat_user_tables
     UNION ALL SELECT schemaname || '.' || indexrelname, idx_tup_read FROM pg_stat_user_indexes"""


async def rows_read(*databases: TenantDatabase) -> Counter[str]:
    """By table, and by index: a dead entry is one that was read too. Since the database was made, by these sessions and all that
    have told of theirs.
    """
    for database in databases:
        await database.fetch("SELECT pg_stat_force_next_flush()")
    return Counter({each["name"]: each["rows"] for each in await databases[0].fetch(_READ)})
