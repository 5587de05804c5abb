"""A deployed tenant, and the two ways tests work on it: the platform's own code, and raw SQL as a role."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.subledger import SubledgerHandle
from ntro_dagster.subledger import open as open_subledger

PERIOD = "2025-01"

Connection = psycopg.Connection[tuple[Any, ...]]

STAMPS: dict[str, str] = {
    "approve": ", approved_by = %(by)s, approved_at = now()",
    "undo": ", approved_by = NULL, approved_at = NULL",
    "accept": ", made_by = %(by)s, validation_errors = NULL",
    "post": ", posted_to_gl = TRUE, posted_journal_ref = %(journal)s",
}
"""What goes with a status on its edge, by the kind of signal the edge asks for ("post" = none)."""


@dataclass
class Tenant:
    """A deployed database, its roles, and rows made by raw SQL."""

    credentials: DatabaseCredentials
    open_connections: list[Connection] = field(default_factory=list)

    def connect(self, role: str) -> Connection:
        """A connection with an open transaction; it is closed, and what it did not commit undone, after the test."""
        connection = psycopg.connect(getattr(self.credentials, role))
        self.open_connections.append(connection)
        return connection

    def database(self, role: str = "app") -> TenantDatabase:
        return TenantDatabase(getattr(self.credentials, role))

    def handle(
        self, entity: UUID, *, name: str = "expenses", run: UUID | None = None, database: TenantDatabase | None = None
    ) -> SubledgerHandle:
        return open_subledger(
            name=name, entity_id=entity, task_id=run or uuid4(), tenant_slug="acme", database=database or self.database()
        )

    @contextmanager
    def as_owner(self) -> Iterator[Connection]:
        with psycopg.connect(self.credentials.owner) as connection:
            yield connection

    def fetch(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.credentials.auditor) as connection:
            return connection.execute(query, parameters).fetchall()

    def waits(self) -> bool:
        """Whether somebody comes to wait for a lock within 8 s."""
        patience = Event()
        return any(self.fetch("SELECT FROM pg_locks WHERE NOT granted") or patience.wait(0.02) for _ in range(400))

    def new_entity(self) -> UUID:
        entity = uuid4()
        with self.as_owner() as owner:
            owner.execute(
                "INSERT INTO system.entities (id, slug, name, currency, schema_name) VALUES (%s, %s, 'Fund', 'GBP', %s)",
                [entity, f"e{entity.hex[:12]}", f"s{entity.hex[:12]}"],
            )
        return entity

    def add_members(self, roles: Mapping[str, str]) -> None:
        """Members by login, as the operator adds them; who is one already stays as they are."""
        with self.as_owner() as owner:
            owner.cursor().executemany(
                "INSERT INTO system.members (login, name, role, created_by) VALUES (%s, %s, %s, 'test') ON CONFLICT DO NOTHING",
                [(login, login, role) for login, role in roles.items()],
            )

    def new_row(self, entity: UUID, *, connection: Connection | None = None, **columns: Any) -> UUID:
        """An expense as the app role inserts it; commits, unless it is given a connection."""
        values = {
            "id": uuid4(), "entity_id": entity, "period": PERIOD, "task_id": uuid4(), "status": "PENDING", "vendor": "Smith",
            "amount_gross": 120, "vat_amount": 20, "currency": "GBP", "source_ref": "doc:1#L1",
        } | columns  # fmt: skip
        statement = f"INSERT INTO ledgers.expenses ({', '.join(values)}) VALUES ({', '.join(['%s'] * len(values))})"
        if connection is not None:
            connection.execute(statement, list(values.values()))
        else:
            with psycopg.connect(self.credentials.app) as app:
                app.execute(statement, list(values.values()))
        return values["id"]  # type: ignore[return-value]

    def file(
        self, kind: str, rows: Sequence[UUID], *, by: str = "user:bob", payload: Mapping[str, Any] | None = None,
        subledger: str = "expenses", entity: UUID | None = None, period: str = PERIOD,
    ) -> UUID:  # fmt: skip
        """A signal as the desk's role files it, over the content that the rows have now."""
        signal = uuid4()
        with psycopg.connect(self.credentials.desk) as desk:
            if entity is None:
                found = desk.execute("SELECT entity_id FROM ledgers.expenses WHERE id = ANY(%s)", [list(rows)]).fetchone()
                entity = found[0] if found else None
            desk.execute(
                "INSERT INTO system.signals (id, subledger, entity_id, period, kind, payload, reason, filed_by) "
                "VALUES (%s, %s, %s, %s, %s, %s, 'because', %s)",
                [signal, subledger, entity, period, kind, Jsonb(dict(payload or {})), by],
            )
            desk.execute(
                "INSERT INTO system.signal_rows (signal_id, row_id, content_digest) "
                "SELECT %s, t.id, ledgers.expenses_digest(t) FROM ledgers.expenses t WHERE t.id = ANY(%s)",
                [signal, list(rows)],
            )
        return signal

    def decide(self, kind: str, row: UUID, *, by: str = "user:bob", to: str | None = None) -> UUID:
        """File and carry out one decision over one row, in raw SQL."""
        target = (
            to
            or {"approve": "APPROVED", "reject": "REJECTED", "exclude": "EXCLUDED", "accept": "PENDING", "undo": "PENDING"}[kind]
        )
        signal = self.file(kind, [row], by=by)
        with psycopg.connect(self.credentials.app) as app:
            use_signal(app, signal)
            move(app, row, target, kind, by=by)
            app.execute("UPDATE system.signal_rows SET outcome = 'APPLIED' WHERE signal_id = %s", [signal])
            app.execute("UPDATE system.signals SET applied_at = now() WHERE id = %s", [signal])
        return signal

    def journal(
        self, entity: UUID, row: UUID | None, *, period: str = PERIOD, connection: Connection | None = None, amount: Any = 120
    ) -> str:
        """A balanced journal that carries `row`, as the app role writes it; returns its external id."""
        if connection is None:
            with psycopg.connect(self.credentials.app) as app:
                return self.journal(entity, row, period=period, connection=app, amount=amount)
        journal = uuid4()
        connection.execute(
            "INSERT INTO ledgers.journals "
            "(id, entity_id, period, external_id, posting_date, description, currency, run_id, row_id) "
            "VALUES (%s, %s, %s, %s, %s, 'x', 'GBP', %s, %s)",
            [journal, entity, period, f"test:{journal}", f"{period}-15", uuid4(), row],
        )
        connection.execute(
            "INSERT INTO ledgers.journal_lines (journal_id, line_no, account_code, debit, credit, row_id) "
            "VALUES (%s, 1, '5999', %s, 0, %s), (%s, 2, '2000', 0, %s, %s)",
            [journal, amount, row, journal, amount, row],
        )
        return f"test:{journal}"

    def post(self, entity: UUID, row: UUID) -> str:
        with psycopg.connect(self.credentials.app) as app:
            reference = self.journal(entity, row, connection=app)
            move(app, row, "POSTED", "post", journal=reference)
        return reference

    def row_in(self, status: str, entity: UUID) -> UUID:
        """A row that came to `status` the legal way."""
        if status == "NEEDS_ATTENTION":
            return self.new_row(entity, status="NEEDS_ATTENTION")
        row = self.new_row(entity)
        if status in {"APPROVED", "POSTED"}:
            self.decide("approve", row)
        if status == "POSTED":
            self.post(entity, row)
        if status in {"REJECTED", "EXCLUDED"}:
            self.decide({"REJECTED": "reject", "EXCLUDED": "exclude"}[status], row)
        return row


def approved(tenant: Tenant, entity: UUID, count: int = 1, **columns: Any) -> list[UUID]:
    """Expenses that somebody has approved."""
    with psycopg.connect(tenant.credentials.app) as app:
        rows = [tenant.new_row(entity, connection=app, **columns) for _ in range(count)]
    signal = tenant.file("approve", rows, entity=entity)
    with psycopg.connect(tenant.credentials.app) as app:
        use_signal(app, signal)
        app.execute(
            "UPDATE ledgers.expenses SET status = 'APPROVED', approved_by = 'user:bob', approved_at = now() WHERE id = ANY(%s)",
            [rows],
        )
        app.execute("UPDATE system.signal_rows SET outcome = 'APPLIED' WHERE signal_id = %s", [signal])
        app.execute("UPDATE system.signals SET applied_at = now() WHERE id = %s", [signal])
    return rows


def use_signal(connection: Connection, signal: UUID | str) -> None:
    connection.execute("SELECT set_config('ntro.signal_id', %s, TRUE)", [str(signal)])


def move(connection: Connection, row: UUID, target: str, kind: str, *, by: str = "user:bob", journal: str | None = None) -> int:
    """The guarded update of the platform, by hand."""
    return connection.execute(
        f"UPDATE ledgers.expenses SET status = %(to)s{STAMPS.get(kind, '')} WHERE id = %(row)s",
        {"to": target, "row": row, "by": by, "journal": journal},
    ).rowcount


def refusal(connection: Connection, statement: str, parameters: Any = None) -> str:
    """The code with which the database refuses a statement: a rule's own, else the SQLSTATE's name. Fails if it is let through.

    The transaction goes on as before the statement.
    """
    try:
        with connection.transaction():
            connection.execute(statement, parameters)
            connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except psycopg.Error as error:
        return code_of(error)
    pytest.fail(f"let through: {statement}")


def code_of(error: psycopg.Error) -> str:
    if error.sqlstate == "NT001":
        return str(error.diag.message_primary)
    return type(error).__name__
