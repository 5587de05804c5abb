"""A row type with statuses of its own, in a deployed database: its table, its enum, and nothing in the registry."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

from ledger_tenant import PERIOD, Connection, Tenant
from pydantic import create_model

from ntro_dagster.boundary.periods import last_day
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger import JournalEntryLineItem, JournalProposal, Money, Row, StatusEnum, SubledgerHandle
from ntro_dagster.subledger.deployment import attach
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.lifecycle import Lifecycle
from ntro_dagster.subledger.registry import SubledgerType


class _Probe(Row):
    required = ("label",)

    label: str | None = None
    amount: Money | None = None

    @classmethod
    def propose_for_gl(cls, row: Any) -> JournalProposal:
        return JournalProposal(
            external_id=f"probe:{row.id}",
            row_id=row.id,
            posting_date=last_day(row.period),
            description=row.label,
            currency="GBP",
            lines=(
                JournalEntryLineItem(account_code="1000", debit=Decimal(7)),
                JournalEntryLineItem(account_code="2000", credit=Decimal(7)),
            ),
        )


def type_with(name: str, made: Lifecycle) -> SubledgerType:
    """A type `name` whose rows live by `made`."""
    enum: Any = StatusEnum(f"{name}_status", {status: status for status in made.statuses})  # type: ignore[call-overload]
    enum.lifecycle = made
    model = create_model(f"{name}_row", __base__=_Probe, status=(enum, enum(made.clean)))
    return SubledgerType(name, model, None)


def deployed_type(tenant: Tenant, name: str, made: Lifecycle) -> SubledgerType:
    """The same with its table, attached as a deployment does."""
    kind = type_with(name, made)
    with tenant.as_owner() as owner:
        owner.execute(
            f"CREATE TABLE ledgers.{name} (id UUID PRIMARY KEY, entity_id UUID NOT NULL, period TEXT NOT NULL, "
            "task_id UUID NOT NULL, status TEXT NOT NULL, source_ref TEXT, validation_errors JSONB, raw_payload JSONB, "
            "created_at TIMESTAMPTZ NOT NULL DEFAULT now(), updated_at TIMESTAMPTZ NOT NULL DEFAULT now(), made_by TEXT, "
            "approved_by TEXT, approved_at TIMESTAMPTZ, posted_to_gl BOOLEAN NOT NULL DEFAULT FALSE, "
            "posted_journal_ref TEXT, label TEXT, amount NUMERIC(38, 9))"
        )
        attach(owner, [TypeDescription.of(kind)])
    return kind


def handle_on(kind: SubledgerType, entity: UUID, database: TenantDatabase, run: UUID) -> SubledgerHandle:
    return SubledgerHandle(kind, entity_id=entity, task_id=run, database=database)


def sign(connection: Connection, kind: SubledgerType, signal: UUID, decision: str, rows: list[UUID], *, by: str) -> None:
    """A signal, as the desk's role files it, over the content that the rows have now."""
    (entity,) = connection.execute(f"SELECT entity_id FROM ledgers.{kind.table} WHERE id = %s", [rows[0]]).fetchone() or (None,)
    connection.execute(
        "INSERT INTO system.signals (id, subledger, entity_id, period, kind, reason, filed_by) "
        "VALUES (%s, %s, %s, %s, %s, 'because', %s)",
        [signal, kind.table, entity, PERIOD, decision, by],
    )
    connection.execute(
        f"INSERT INTO system.signal_rows (signal_id, row_id, content_digest) SELECT %s, t.id, ledgers.{kind.table}_digest(t) "
        f"FROM ledgers.{kind.table} t WHERE t.id = ANY(%s)",
        [signal, rows],
    )
