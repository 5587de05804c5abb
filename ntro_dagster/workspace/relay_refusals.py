"""What the relay has counted (`relay_counts`), read without anything of the relay's: `ntro status` waits for no import of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import psycopg

NOBODY = ""
"""In the place of a tenant: somebody without a key that is good."""
CONNECT_S = 5


@dataclass
class TenantRefusals:
    """By call, and by kind of field."""

    tenant: str
    refused: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass
class Refusals:
    """Attributes:
    since: when the relay started; None where none has counted yet.
    without_key: how often somebody asked over TCP whose key is not good.
    tenants: those of whom something was refused or left out.
    """

    since: datetime | None
    without_key: int
    tenants: list[TenantRefusals]


def read_refusals(url: str) -> Refusals:
    """As the relay last wrote them. Raises: psycopg.Error."""
    with psycopg.connect(url, connect_timeout=CONNECT_S) as connection:
        since = connection.execute("SELECT started_at FROM relay.life").fetchone()
        rows = connection.execute("SELECT tenant, kind, what, number FROM relay.counts ORDER BY tenant, kind, what").fetchall()
    told = Refusals(since[0] if since else None, 0, [])
    for tenant, kind, what, number in rows:
        if tenant == NOBODY:
            told.without_key += number
            continue
        if not told.tenants or told.tenants[-1].tenant != tenant:
            told.tenants.append(TenantRefusals(tenant))
        (told.tenants[-1].refused if kind == "refused" else told.tenants[-1].dropped)[what] = number
    return told
