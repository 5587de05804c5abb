"""A tenant with members: what they decide, by the platform's code, and what the operator writes down about them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from ledger_tenant import PERIOD, Tenant

from ntro_dagster.gl.posting import post_approved
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.filing import Seen, file_seen, withdraw
from ntro_dagster.subledger.registry import subledger_type
from ntro_dagster.subledger.review import Applied, Filed, apply_signals

T = TypeVar("T")

ROLES = {
    "user:ann": "approver",
    "user:bob": "approver",
    "user:carol": "approver",
    "user:pat": "preparer",
    "user:quinn": "preparer",
    "user:eve": "auditor",
    "user:root": "admin",
    "agent:reader": "agent",
}


@dataclass
class Desk:
    """Expenses of one entity, decided upon by its members."""

    tenant: Tenant
    entity: UUID

    def run(self, role: str, work: Callable[[TenantDatabase], Awaitable[T]]) -> T:
        async def run() -> T:
            async with self.tenant.database(role) as database:
                return await work(database)

        return asyncio.run(run())

    def row(self, **columns: Any) -> UUID:
        return self.tenant.new_row(self.entity, **columns)

    def seen(self, rows: Sequence[UUID]) -> list[Seen]:
        found = self.tenant.fetch("SELECT id, ledgers.expenses_digest(t) FROM ledgers.expenses t WHERE id = ANY(%s)", list(rows))
        return [Seen(*row) for row in found]

    def file(
        self, by: str, signal: str, *rows: UUID, values: Mapping[str, str] | None = None, seen: Sequence[Seen] | None = None
    ) -> UUID:
        """Over what the rows are now, unless they were `seen` before."""
        shown = self.seen(rows) if seen is None else seen
        kind = subledger_type("expenses")

        async def work(desk: TenantDatabase) -> list[Filed]:
            return await file_seen(desk, kind, signal, filed_by=by, reason="because", values=values, rows=shown)

        (filed,) = self.run("desk", work)
        return filed.signal_id

    def withdraw(self, signal: UUID, *, by: str) -> None:
        self.run("desk", lambda desk: withdraw(desk, signal, by=by))

    def apply(self) -> Applied:
        return self.run("app", lambda app: apply_signals(self.tenant.handle(self.entity, database=app), period=PERIOD))

    def decide(self, by: str, signal: str, *rows: UUID, values: Mapping[str, str] | None = None) -> Applied:
        """Filed, and applied at once."""
        self.file(by, signal, *rows, values=values)
        return self.apply()

    def post(self) -> int:
        async def work(app: TenantDatabase) -> int:
            posted = await post_approved(self.tenant.handle(self.entity, database=app), period=PERIOD, currency="GBP")
            return posted.rows

        return self.run("app", work)

    def status(self, row: UUID) -> str:
        return self.tenant.fetch("SELECT status FROM ledgers.expenses WHERE id = %s", row)[0][0]  # type: ignore[no-any-return]

    def outcomes(self, row: UUID) -> list[tuple[str, str | None, str | None]]:
        return self.tenant.fetch(
            "SELECT s.filed_by, r.outcome, r.code FROM system.signal_rows r JOIN system.signals s ON s.id = r.signal_id "
            "WHERE r.row_id = %s ORDER BY s.seq",
            row,
        )

    def last(self, row: UUID) -> tuple[str | None, str | None]:
        """Outcome and code of the newest decision on the row."""
        return self.outcomes(row)[-1][1:]

    def limit(self, currency: str, amount: Any) -> None:
        with self.tenant.as_owner() as owner:
            owner.execute(
                "INSERT INTO system.approval_limit_changes (currency, amount, recorded_by) VALUES (%s, %s, 'op')",
                [currency, amount],
            )

    def delegate(self, giver: str, taker: str, *, begins: str = "-1 hour", ends: str = "1 hour") -> UUID:
        with self.tenant.as_owner() as owner:
            made = owner.execute(
                "INSERT INTO system.delegations (from_login, to_login, begins_at, ends_at, reason, recorded_by) "
                "VALUES (%s, %s, now() + %s::interval, now() + %s::interval, 'holiday', 'op') RETURNING id",
                [giver, taker, begins, ends],
            ).fetchone()
        assert made
        return made[0]  # type: ignore[no-any-return]

    def end_delegations(self) -> None:
        with self.tenant.as_owner() as owner:
            owner.execute(
                "INSERT INTO system.delegation_ends (delegation_id, reason, recorded_by) "
                "SELECT id, 'back', 'op' FROM system.delegations ON CONFLICT DO NOTHING"
            )
