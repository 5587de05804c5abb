"""The statement shapes over subledger tables, in PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb

from ntro_dagster.platforms.ledger_store import Merge, Where
from ntro_dagster.platforms.postgres.database import TenantDatabase, conditions, identifiers
from ntro_dagster.platforms.tables import LogicalType, Table

SCHEMA = "ledgers"


def ledger(table: Table) -> sql.Identifier:
    return sql.Identifier(SCHEMA, table.name)


def digest_function(table: Table) -> sql.Identifier:
    """The SQL function that `system.attach_subledger` made: digest of a row's content."""
    return sql.Identifier(SCHEMA, f"{table.name}_digest")


def stage_of(table: Table) -> sql.Identifier:
    return sql.Identifier("pg_temp", f"stage_{table.name}")


class PostgresLedgerStore:
    """Over the connection of one `TenantDatabase`."""

    def __init__(self, database: TenantDatabase) -> None:
        self._database = database
        self._analysed = False

    async def create_stage(self, table: Table, columns: Sequence[str]) -> None:
        # NO DATA from a query: the columns' types without their constraints
        await self._database.execute(
            sql.SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
                sql.Identifier(f"stage_{table.name}"), identifiers(columns), ledger(table)
            )
        )

    async def load_stage(self, table: Table, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        self._analysed = False
        structures = table.of_type(LogicalType.JSON)
        json = [at for at, name in enumerate(columns) if name in structures]
        await self._database.copy_in(stage_of(table), columns, _with_json(rows, json) if json else rows)

    async def insert_missing(self, table: Table, columns: Sequence[str], constants: Mapping[str, Any] | None = None) -> int:
        constants = constants or {}
        return await self._database.execute(
            sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} ON CONFLICT (id) DO NOTHING").format(
                ledger(table),
                identifiers([*columns, *constants]),
                sql.SQL(", ").join([*map(sql.Identifier, columns), *map(sql.Placeholder, constants)]),
                stage_of(table),
            ),
            dict(constants),
        )

    async def merge(self, table: Table, where: Where, how: Merge, *, task_id: UUID) -> int:
        await self._analyse(table)
        guard, parameters = conditions(where.equal(), prefix="t")
        guards: list[sql.Composable] = [guard, sql.SQL("t.id = s.id AND t.made_by IS NULL")]
        if how.staged_status is None:
            guards.append(sql.SQL("s.status = t.status"))
        else:
            guards.append(sql.SQL("s.status = {}").format(how.staged_status))
        if how.if_different:
            guards.append(_different(how.if_different))
        assign = sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Identifier("s", name)) for name in how.assign
        )
        return await self._database.execute(
            sql.SQL("UPDATE {} t SET {}, task_id = %s, updated_at = now() FROM {} s WHERE {}").format(
                ledger(table), assign, stage_of(table), sql.SQL(" AND ").join(guards)
            ),
            [task_id, *parameters],
        )

    async def repeated(self, table: Table, where: Where, *, task_id: UUID) -> str | None:
        await self._analyse(table)
        guard, parameters = conditions(where.equal(), prefix="t")
        found = await self._database.fetch_one(
            sql.SQL(
                """SELECT min(s.source_ref) AS source_ref FROM {stage} s
                    GROUP BY s.id HAVING count(DISTINCT ROW(s.status, {content}, s.raw_payload)::TEXT) > 1
                    UNION ALL
                   SELECT s.source_ref FROM {stage} s JOIN {table} t ON t.id = s.id
                    WHERE {guard} AND t.task_id = %s AND t.updated_at = now()
                      AND (t.status <> s.status OR {different}
                           OR t.raw_payload IS DISTINCT FROM s.raw_payload AND t.created_at = now())
                    LIMIT 1"""
            ).format(
                stage=stage_of(table),
                table=ledger(table),
                content=identifiers(table.content, prefix="s"),
                different=_different(table.content),
                guard=guard,
            ),
            [*parameters, task_id],
        )
        return found["source_ref"] if found else None

    async def _analyse(self, table: Table) -> None:
        """A temporary table has no statistics, and plans made without them read whole ledgers."""
        if not self._analysed:
            await self._database.execute(sql.SQL("ANALYZE {}").format(stage_of(table)))
            self._analysed = True

    async def clear_stage(self, table: Table, *, drop: bool = False) -> None:
        await self._database.execute(sql.SQL("DROP TABLE {}" if drop else "TRUNCATE {}").format(stage_of(table)))

    async def set_status(self, table: Table, where: Where, status: str, *, task_id: UUID, approved_by: str | None = None) -> int:
        values = {"status": status} | ({"approved_by": approved_by} if approved_by else {})
        stamp = sql.SQL(", approved_at = now()" if approved_by else "")
        return await self._update(table, where, values, task_id, stamp)

    async def set_values(self, table: Table, where: Where, values: Mapping[str, Any], *, task_id: UUID) -> int:
        return await self._update(table, where, values, task_id, sql.SQL(""))

    async def _update(self, table: Table, where: Where, values: Mapping[str, Any], task_id: UUID, stamp: sql.Composable) -> int:
        guard, parameters = conditions(where.equal())
        assign = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in values)
        structures = table.of_type(LogicalType.JSON)
        adapted = [Jsonb(value) if name in structures else value for name, value in values.items()]
        return await self._database.execute(
            sql.SQL("UPDATE {} SET {}{}, task_id = %s, updated_at = now() WHERE {}").format(ledger(table), assign, stamp, guard),
            [*adapted, task_id, *parameters],
        )

    async def select(self, table: Table, where: Where) -> AsyncIterator[list[dict[str, Any]]]:
        guard, parameters = conditions(where.equal())
        query = sql.SQL("SELECT * FROM {} WHERE {} ORDER BY created_at, source_ref, id").format(ledger(table), guard)
        async for batch in self._database.stream(query, parameters):
            yield batch

    async def count_by(self, table: Table, where: Where, by: Sequence[str]) -> list[dict[str, Any]]:
        guard, parameters = conditions(where.equal())
        return await self._database.fetch(
            sql.SQL("SELECT {by}, count(*) AS rows FROM {} WHERE {} GROUP BY {by} ORDER BY {by}").format(
                ledger(table), guard, by=identifiers(by)
            ),
            parameters,
        )

    async def digest(self, table: Table, where: Where, *, salt: bytes) -> bytes:
        guard, parameters = conditions(where.equal())
        rows = await self._database.fetch(
            sql.SQL(
                "SELECT sha256(%s::bytea || coalesce(string_agg("
                "uuid_send(id) || convert_to(status, 'UTF8') || {}(t), NULL ORDER BY id), '')) AS digest FROM {} t WHERE {}"
            ).format(digest_function(table), ledger(table), guard),
            [salt, *parameters],
        )
        return bytes(rows[0]["digest"])


def _different(columns: Sequence[str]) -> sql.Composed:
    """Whether a row of `t` and its staged row `s` differ in any of the columns."""
    return sql.SQL("({}) IS DISTINCT FROM ({})").format(identifiers(columns, prefix="t"), identifiers(columns, prefix="s"))


def _with_json(rows: Iterable[Sequence[Any]], json: Sequence[int]) -> Iterator[Sequence[Any]]:
    structures = itemgetter(*json, json[0])  # with one more, so that it always returns a tuple
    nothing = (None,) * (len(json) + 1)
    for row in rows:
        if structures(row) == nothing:  # nearly every row
            yield row
            continue
        adapted = list(row)
        for at in json:
            if adapted[at] is not None:
                adapted[at] = Jsonb(adapted[at])
        yield adapted
