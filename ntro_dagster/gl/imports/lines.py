"""Lines of a document, journal by journal, in a temporary table of the connection at hand: a file has them in any order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

from psycopg import sql

from ntro_dagster.errors import UsageError
from ntro_dagster.gl.imports.cells import UnreadableError, read_month
from ntro_dagster.gl.imports.journals import Line
from ntro_dagster.gl.imports.mapping import Mapping
from ntro_dagster.ingest.submission import PeriodMissingError
from ntro_dagster.platforms.postgres.database import TenantDatabase


class ImportOverlapsError(UsageError):
    """Values: `name`, `rows`."""

    code = "IMPORT_OVERLAPS"
    summary = "lines of the file are in other journals already"
    detail = "{rows} row(s) that were imported of {name} hold lines that the mapping now puts into other journals"
    mend = "import with the `journal` columns as they were, or reject those rows first; nothing was imported"


def source_of(document: UUID) -> str:
    """What the `source_ref` of every row of the document begins with."""
    return f"doc:{document}#L"


async def lay_out(database: TenantDatabase, document: UUID, mapping: Mapping, *, name: str, fallback: str | None) -> int:
    """Each line with the first of its journal and the journal's month. Returns how many lines there are.

    Args: `fallback`: the month of journals that name none; None: the first of the file.

    Raises: `PeriodMissingError`.
    """
    await _read_months(database, document, mapping)
    keys: list[sql.Composable] = [sql.SQL("raw ->> {}").format(sql.Literal(column)) for column in mapping.journal]
    keys = keys or [sql.SQL("TRUE")]
    found = await database.fetch_single(
        "SELECT count(*) AS lines, (SELECT min(month) FROM pg_temp.import_months) AS month "
        "FROM ingest.submitted_records WHERE document_id = %s",
        [document],
    )
    month = fallback or found["month"]
    if found["lines"] and month is None:
        raise PeriodMissingError(name=name)
    await database.execute("DROP TABLE IF EXISTS pg_temp.import_lines")
    await database.execute(
        sql.SQL(
            """CREATE TEMPORARY TABLE import_lines AS
               SELECT line, raw, min(line) OVER journal AS first, coalesce(min(month) OVER journal, {month}) AS period
                 FROM ingest.submitted_records r
                 LEFT JOIN pg_temp.import_months m ON m.cell = coalesce(r.raw ->> {column}, '')
                WHERE document_id = {document}
               WINDOW journal AS (PARTITION BY {keys})"""
        ).format(
            month=sql.Literal(month),
            column=sql.Literal(_column_of_month(mapping)),
            document=sql.Literal(str(document)),
            keys=sql.SQL(", ").join(keys),
        )
    )
    await database.execute("CREATE INDEX ON pg_temp.import_lines (period, first, line)")
    await database.execute("ANALYZE pg_temp.import_lines")
    return int(found["lines"])


def _column_of_month(mapping: Mapping) -> str:
    """Empty where it is one day for all."""
    return mapping.period.column if mapping.period else mapping.date.column or ""


async def _read_months(database: TenantDatabase, document: UUID, mapping: Mapping) -> None:
    """By what stands in the column, read once: a mended mapping may read it otherwise than the first one did."""
    column = _column_of_month(mapping)
    cells = await database.fetch(
        "SELECT DISTINCT coalesce(raw ->> %s, '') AS cell FROM ingest.submitted_records WHERE document_id = %s",
        [column, document],
    )
    months = []
    for row in cells:
        try:
            months.append((row["cell"], read_month(mapping.period, mapping.date, {column: row["cell"]})))
        except UnreadableError:
            continue
    await database.execute("DROP TABLE IF EXISTS pg_temp.import_months")
    await database.execute("CREATE TEMPORARY TABLE import_months (cell TEXT PRIMARY KEY, month TEXT NOT NULL)")
    await database.copy_in(sql.Identifier("pg_temp", "import_months"), ("cell", "month"), months)


async def leave_what_stands(database: TenantDatabase, document: UUID, *, entity_id: UUID, name: str) -> int:
    """No line of the file comes to be in two journals, also where the mapping is another than it was: rows that were turned down
    are nothing any more, all others stand. Returns how many journals stand in another month than they are laid out in.

    Raises: `ImportOverlapsError`.
    """
    source = sql.Literal(source_of(document))
    standing = sql.SQL(
        """FROM ledgers.journal_proposals p CROSS JOIN jsonb_array_elements(p.raw_payload -> 'lines') r
           JOIN pg_temp.import_lines l ON l.line = (r ->> 'line')::bigint
          WHERE p.entity_id = {entity} AND starts_with(p.source_ref, {source}) AND p.status NOT IN ('REJECTED', 'EXCLUDED')"""
    ).format(entity=sql.Literal(str(entity_id)), source=source)
    overlapping = await database.fetch_single(
        sql.SQL("SELECT count(DISTINCT p.id) AS rows {} AND p.source_ref <> {} || l.first").format(standing, source)
    )
    if overlapping["rows"]:
        raise ImportOverlapsError(name=name, rows=overlapping["rows"])
    removed = await database.fetch_single(
        sql.SQL(
            "WITH gone AS (DELETE FROM pg_temp.import_lines WHERE first IN (SELECT l.first {} AND p.period <> l.period) "
            "RETURNING first) SELECT count(DISTINCT first) AS journals FROM gone"
        ).format(standing)
    )
    return int(removed["journals"])


async def periods_of(database: TenantDatabase) -> list[str]:
    """The months that are laid out, in order."""
    return [row["period"] for row in await database.fetch("SELECT DISTINCT period FROM pg_temp.import_lines ORDER BY 1")]


async def journals_of(database: TenantDatabase, period: str) -> AsyncIterator[list[Line]]:
    """The lines of one journal after the other; only one is held at a time."""
    first: int | None = None
    lines: list[Line] = []
    async for batch in database.stream(
        "SELECT first, line, raw FROM pg_temp.import_lines WHERE period = %s ORDER BY first, line", [period]
    ):
        for row in batch:
            if row["first"] != first and lines:
                yield lines
                lines = []
            first = row["first"]
            lines.append(Line(row["line"], row["raw"]))
    if lines:
        yield lines
