"""Brings a tenant's database up to what bundles declare: migrations, then lifecycle and history for every type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import LiteralString

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from ntro_dagster.bundles import Bundle
from ntro_dagster.errors import UsageError
from ntro_dagster.platforms.migrations import migrate
from ntro_dagster.platforms.postgres.catalogue import columns_of, optional_columns
from ntro_dagster.platforms.postgres.ledger_store import SCHEMA
from ntro_dagster.platforms.tables import LogicalType
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.lifecycle import check
from ntro_dagster.subledger.registry import load_types, subledger_types


class TableDriftError(UsageError):
    code = "TABLE_DRIFT"
    summary = "a row type and its table do not have the same columns, or not of the same types"
    detail = "subledger {name}: only in the type: {only_type}; only in the table: {only_table}"
    mend = "add a migration that brings the table in line with the type, or correct the type"


class StatusInUseError(UsageError):
    code = "STATUS_IN_USE"
    summary = "rows are in a status that the type no longer has"
    detail = "subledger {name}: rows are {statuses}, which its status enum no longer has"
    mend = "keep the status, with an edge that leads on from it"


class ProposalMissingError(UsageError):
    code = "PROPOSAL_MISSING"
    summary = "a row type whose rows are posted does not say how"
    detail = "subledger {name}: its lifecycle leads to {posted}, but it has no propose_for_gl"
    mend = "give the type a classmethod `propose_for_gl(row)` that returns a BillProposal or a JournalProposal"


def deploy(owner_dsn: str, *bundles: Bundle) -> list[str]:
    """Migrate, import and attach, as the database's owner: for code of our own. Returns the migrations applied. Running it again
    changes nothing.

    Raises: `TableDriftError`, `ProposalMissingError`, `StatusInUseError`, `LifecycleInvalidError`, and what `migrate` raises.
    """
    applied = [name for bundle in bundles for name in migrate(owner_dsn, bundle)]
    load_types(*bundles)
    with psycopg.connect(owner_dsn) as connection:
        attach(connection, [TypeDescription.of(kind) for kind in subledger_types(*bundles)])
    return applied


def attach(
    connection: psycopg.Connection, kinds: Sequence[TypeDescription], *, surplus: bool = False, unchanged: bool = False
) -> None:
    """Compare each type with its table, and give the table its lifecycle and history.

    Args: `surplus`: whether a table may have columns, filled by nobody, that the type does not know: an earlier version of a
        runbook goes back to a table that a later one has widened. `unchanged`: whether the tables are as they were; one whose
        type is so too is then left alone, because runs at work may hold it.

    Raises: `TableDriftError`, `ProposalMissingError`, `StatusInUseError`, `LifecycleInvalidError`.
    """
    compare(connection, kinds, surplus=surplus)
    for kind in kinds:
        check(kind.table, kind.lifecycle, kind.lifecycle.statuses)
        if kind.lifecycle.posted and not kind.proposes:
            raise ProposalMissingError(name=kind.table, posted=kind.lifecycle.posted)
        if unchanged and _attached(connection, kind):
            continue
        _check_statuses(connection, kind)
        _give_rules(connection, kind)
        connection.execute(
            f"""INSERT INTO system.subledger_types (name, owner_runbook, table_name, description, attached_after)
                VALUES (%s, %s, %s, %s, {_PLATFORM})
                ON CONFLICT (table_name) DO UPDATE
                   SET description = EXCLUDED.description, active = TRUE, attached_after = EXCLUDED.attached_after""",
            [kind.name, kind.owner_runbook, kind.table, Jsonb(kind.as_json())],
        )


def _give_rules(connection: psycopg.Connection, kind: TypeDescription) -> None:
    edges = Jsonb(kind.lifecycle.as_json())
    connection.execute("SELECT system.attach_subledger(%s, %s, %s)", [kind.table, list(kind.content), edges])
    connection.execute("SELECT system.declare_amount(%s, %s, %s)", [kind.table, kind.amount, kind.currency])
    connection.execute("SELECT system.attach_approvals(%s, %s)", [kind.table, edges])
    connection.execute("SELECT system.attach_deliveries(%s, %s)", [kind.table, edges])
    connection.execute(
        "SELECT system.attach_reinstating(%s, %s, %s)", [kind.table, list(kind.lifecycle.set_aside), kind.lifecycle.in_doubt]
    )
    connection.execute("SELECT system.attach_likeness(%s, %s)", [kind.table, _looked_up(kind)])


def _looked_up(kind: TypeDescription) -> list[str]:
    """What of likeness an index holds: not the text, which may be longer than an entry can be."""
    return [name for name in kind.alike_by or () if kind.columns[name] != LogicalType.TEXT]


def attach_again(connection: psycopg.Connection) -> list[str]:
    """Give tables that an earlier release attached this one's lifecycle and history; returns them.

    From what is kept of each type, whoever owns it and whether it is active: its code is not asked. What a killed process left
    is found again.
    """
    rows = connection.execute(
        f"SELECT table_name, description FROM system.subledger_types WHERE attached_after IS DISTINCT FROM {_PLATFORM} ORDER BY 1"
    ).fetchall()
    for table, description in rows:
        _give_rules(connection, TypeDescription.from_json(description))
        connection.execute(f"UPDATE system.subledger_types SET attached_after = {_PLATFORM} WHERE table_name = %s", [table])
    return [table for table, _ in rows]


_PLATFORM: LiteralString = "(SELECT max(name) FROM system.schema_migrations WHERE bundle = 'platform')"


def compare(connection: psycopg.Connection, kinds: Sequence[TypeDescription], *, surplus: bool) -> None:
    """Each type with its table. Args: as `attach`. Raises: `TableDriftError`."""
    for kind in kinds:
        found = columns_of(connection, SCHEMA, kind.table)
        if surplus:
            optional = optional_columns(connection, SCHEMA, kind.table)
            found = {name: logical for name, logical in found.items() if name in kind.columns or name not in optional}
        if kind.columns != found:
            raise TableDriftError(
                name=kind.table, only_type=_written(kind.columns, found), only_table=_written(found, kind.columns)
            )


def _check_statuses(connection: psycopg.Connection, kind: TypeDescription) -> None:
    found = connection.execute(
        sql.SQL("SELECT DISTINCT status FROM {} WHERE status <> ALL(%s) ORDER BY 1").format(sql.Identifier(SCHEMA, kind.table)),
        [list(kind.lifecycle.statuses)],
    ).fetchall()
    if found:
        raise StatusInUseError(name=kind.table, statuses=", ".join(status for (status,) in found))


def _attached(connection: psycopg.Connection, kind: TypeDescription) -> bool:
    """Whether the table has this very lifecycle and history."""
    query = "SELECT 1 FROM system.subledger_types WHERE table_name = %s AND active AND description = %s"
    return connection.execute(query, [kind.table, Jsonb(kind.as_json())]).fetchone() is not None


def _written(columns: Mapping[str, str], other: Mapping[str, str]) -> str:
    """The columns that the other side has not, or has as something else."""
    return ", ".join(f"{name} {kind}" for name, kind in sorted(columns.items() - other.items())) or "nothing"
