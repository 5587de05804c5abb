"""`ntro rows`: a tenant-side look at rows, as the auditor, who can change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from ntro_dagster.cli.connections import as_role, entity_of, tenant_home
from ntro_dagster.cli.invocation import command
from ntro_dagster.cli.output import Column, figure, line, note, result, table
from ntro_dagster.cli.selection import (
    EntityFilter,
    PeriodFilter,
    StatusFilter,
    TenantOption,
    checked_status,
    known_subledger,
    written_period,
)

if TYPE_CHECKING:
    from ntro_dagster.platforms.postgres.database import TenantDatabase
    from ntro_dagster.subledger.description import TypeDescription

SHORT_ID = 8
SubledgerArgument = Annotated[str, typer.Argument(help="expenses, journal_proposals, or a runbook's own.")]


class RowsGroup(TyperGroup):
    """`ntro rows expenses` is `ntro rows list expenses`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in {"--help"}:
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=RowsGroup, no_args_is_help=True, help="Rows of a subledger: `ntro rows [summary] SUBLEDGER`.")


@command(app, "list")
def list_(
    subledger: SubledgerArgument,
    *,
    tenant: TenantOption,
    entity: EntityFilter = None,
    period: PeriodFilter = None,
    status: StatusFilter = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 50,
) -> None:
    """Rows, oldest month first (`list` may be left out)."""
    from psycopg import sql  # noqa: PLC0415

    kind = known_subledger(subledger, tenant)
    chosen = _Choice(kind, tenant, entity, written_period(period), checked_status(kind, status))

    async def look(database: TenantDatabase) -> tuple[list[dict[str, Any]], int]:
        where, values = await chosen.where(database)
        source = sql.SQL("FROM {} t JOIN system.entities e ON e.id = t.entity_id WHERE {}").format(chosen.table, where)
        rows = await database.fetch(
            sql.SQL(
                "SELECT e.slug AS entity, t.* {} ORDER BY t.period, e.slug, t.created_at, t.source_ref, t.id LIMIT %s"
            ).format(source),
            [*values, limit],
        )
        counted = await database.fetch_one(sql.SQL("SELECT count(*) AS rows {}").format(source), values)
        return rows, counted["rows"] if counted else 0

    found, total = as_role(tenant, _auditor(), look)
    value = {"subledger": kind.table, "total": total, "rows": found}

    def human() -> None:
        if not found:
            line("no rows")
            return
        columns = [Column("Row"), Column("Entity", flexible=True), Column("Period", spare=True), Column("Status")]
        columns.append(Column(_what(kind).capitalize(), flexible=True))
        if _amount(kind):
            columns.append(Column("Amount", right=True))
        columns += [Column("Date", spare=True), Column("Findings", flexible=True)]
        table(columns, [_cells(kind, row) for row in found])
        if total > len(found):
            note(f"{total - len(found):,} more rows: --limit {total} shows all {total:,}")

    result(value, human)


@command(app, "summary")
def summary(
    subledger: SubledgerArgument,
    *,
    tenant: TenantOption,
    entity: EntityFilter = None,
    period: PeriodFilter = None,
    status: StatusFilter = None,
) -> None:
    """Counts and totals by entity, period, status and currency."""
    from psycopg import sql  # noqa: PLC0415

    kind = known_subledger(subledger, tenant)
    chosen = _Choice(kind, tenant, entity, written_period(period), checked_status(kind, status))
    amount = _amount(kind)
    total = sql.SQL("sum(t.{})").format(sql.Identifier(amount)) if amount else sql.SQL("NULL::numeric")

    async def look(database: TenantDatabase) -> list[dict[str, Any]]:
        where, values = await chosen.where(database)
        return await database.fetch(
            sql.SQL(
                "SELECT e.slug AS entity, t.period, t.status, t.currency, count(*) AS rows, {} AS total "
                "FROM {} t JOIN system.entities e ON e.id = t.entity_id WHERE {} GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
            ).format(total, chosen.table, where),
            values,
        )

    found = as_role(tenant, _auditor(), look)

    def human() -> None:
        if not found:
            line("no rows")
            return
        columns = [Column("Entity"), Column("Period"), Column("Status"), Column("Rows", right=True)]
        if amount:
            columns += [Column("Total", right=True), Column("Cur")]
        table(
            columns,
            [
                [
                    r["entity"],
                    r["period"],
                    r["status"],
                    f"{r['rows']:,}",
                    *([figure(r["total"]), r["currency"]] if amount else []),
                ]
                for r in found
            ],
        )

    result({"subledger": kind.table, "groups": found}, human)


class _Choice:
    """Which rows are looked at."""

    def __init__(self, kind: TypeDescription, tenant: str, entity: str | None, period: str | None, status: str | None) -> None:
        from psycopg import sql  # noqa: PLC0415

        tenant_home(tenant)
        self._tenant, self._entity = tenant, entity
        self._equal = {"period": period, "status": status}
        self.table = sql.Identifier("ledgers", kind.table)

    async def where(self, database: TenantDatabase) -> tuple[Any, list[Any]]:
        """Condition on `t` and its values. Raises `EntityUnknownError`."""
        from psycopg import sql  # noqa: PLC0415

        equal: dict[str, Any] = dict(self._equal)
        if self._entity is not None:
            equal["entity_id"] = (await entity_of(database, self._entity, tenant=self._tenant)).id
        chosen = {name: value for name, value in equal.items() if value is not None}
        parts: list[sql.Composable] = [sql.SQL("{} = %s").format(sql.Identifier("t", name)) for name in chosen]
        return sql.SQL(" AND ").join([sql.SQL("TRUE"), *parts]), list(chosen.values())


def finding_codes(row: dict[str, Any]) -> list[str]:
    """The codes of a row's findings, each once, in the order they stand there."""
    return list(dict.fromkeys(str(found.get("code")) for found in row.get("validation_errors") or []))


def _auditor() -> Any:
    from ntro_dagster.host.home import Role  # noqa: PLC0415

    return Role.AUDITOR


def _amount(kind: TypeDescription) -> str | None:
    """The field that tells how much: the type's first amount."""
    return next((name for name in kind.content if kind.columns[name] == "money"), None)


def _what(kind: TypeDescription) -> str:
    """The field that tells a person which row it is."""
    return next((name for name in kind.content if kind.columns[name] == "text"), "source_ref")


def _cells(kind: TypeDescription, row: dict[str, Any]) -> Sequence[str | None]:
    amount, day = _amount(kind), row.get("expense_date") or row.get("posting_date")
    return [
        str(row["id"])[:SHORT_ID],
        row["entity"],
        row["period"],
        row["status"],
        row.get(_what(kind)),
        *([_with_currency(row[amount], row.get("currency"))] if amount else []),
        day.isoformat() if day else None,
        ", ".join(finding_codes(row)),
    ]


def _with_currency(amount: Decimal | None, currency: str | None) -> str | None:
    """The code is padded, so that figures stand below each other where it is missing."""
    return None if amount is None else f"{figure(amount)} {currency or '':<3}"
