"""Brings a tenant's database up to what bundles declare: migrations, then lifecycle and history for every type."""

from __future__ import annotations

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from ntro_dagster.bundles import Bundle
from ntro_dagster.errors import UsageError
from ntro_dagster.platforms.migrations import migrate
from ntro_dagster.platforms.postgres.catalogue import columns_of
from ntro_dagster.platforms.postgres.ledger_store import SCHEMA
from ntro_dagster.subledger.lifecycle import check
from ntro_dagster.subledger.registry import SubledgerType, load_types, subledger_types
from ntro_dagster.subledger.tables import table_of


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
    """Migrate and attach, as the database's owner. Returns the migrations applied. Running it again changes nothing.

    Raises: `TableDriftError`, `ProposalMissingError`, `StatusInUseError`, `LifecycleInvalidError`, and what `migrate` raises.
    """
    applied = [name for bundle in bundles for name in migrate(owner_dsn, bundle)]
    load_types(*bundles)
    slugs = {bundle.slug for bundle in bundles}
    with psycopg.connect(owner_dsn) as connection:
        for kind in subledger_types():
            if kind.owner_runbook in slugs:
                _attach(connection, kind)
    return applied


def _attach(connection: psycopg.Connection, kind: SubledgerType) -> None:
    lifecycle = kind.model.lifecycle
    check(kind.name, lifecycle, lifecycle.statuses)
    posted = lifecycle.posted
    if posted and not hasattr(kind.model, "propose_for_gl"):
        raise ProposalMissingError(name=kind.name, posted=posted)
    declared = {column.name: column.type.value for column in table_of(kind).columns}
    found = columns_of(connection, SCHEMA, kind.name)
    if declared != found:
        raise TableDriftError(name=kind.name, only_type=_written(declared, found), only_table=_written(found, declared))
    lost = connection.execute(
        sql.SQL("SELECT DISTINCT status FROM {} WHERE status <> ALL(%s) ORDER BY status").format(
            sql.Identifier(SCHEMA, kind.name)
        ),
        [list(lifecycle.statuses)],
    ).fetchall()
    if lost:
        raise StatusInUseError(name=kind.name, statuses=", ".join(status for (status,) in lost))
    connection.execute(
        "SELECT system.attach_subledger(%s, %s, %s)",
        [kind.name, list(kind.model.content_fields()), Jsonb(lifecycle.as_json())],
    )


def _written(columns: dict[str, str], other: dict[str, str]) -> str:
    """The columns that the other side has not, or has as something else."""
    return ", ".join(f"{name} {kind}" for name, kind in sorted(columns.items() - other.items())) or "nothing"
