"""Reports of an entity's month: a page each, to look at and to print, with its rows as CSV and XLSX."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from io import TextIOWrapper
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

from ntro_dagster.desk import month
from ntro_dagster.desk.api import NO_NUL
from ntro_dagster.desk.doors import Database, Visitor, desk_of
from ntro_dagster.desk.export import XLSX, sent, turn
from ntro_dagster.desk.pages import EntitySlug, Month, page
from ntro_dagster.desk.report_files import shown, write_csv, write_xlsx
from ntro_dagster.gl.reports import TITLES, Basis, Compared, ReportName, report
from ntro_dagster.gl.reports.report import About, Row, one_instant
from ntro_dagster.platforms.postgres.database import TenantDatabase

MOST_ROWS = 5_000
LONGEST_SOURCE = 24

router = APIRouter(include_in_schema=False)

Name = Annotated[ReportName, Path()]
AccountCode = Annotated[str | None, Query(alias="account", max_length=200, pattern=NO_NUL)]

CHOICES: dict[ReportName, list[tuple[str, dict[str, str]]]] = {
    ReportName.TRIAL_BALANCE: [
        ("Since the beginning", {}),
        ("This year", {"basis": "year"}),
        ("Beside last month", {"compare": "month"}),
        ("Beside last year", {"compare": "year"}),
    ]
}


@router.get("/entities/{slug}/periods/{period}/reports/{name}", response_class=HTMLResponse)
async def report_page(
    slug: EntitySlug,
    period: Month,
    name: Name,
    request: Request,
    *,
    database: Database,
    member: Visitor,
    basis: Basis = Basis.CUMULATIVE,
    compare: Compared | None = None,
    account: AccountCode = None,
) -> Response:
    about = await about_month(database, slug, period)
    rows: list[Row] = []
    async with one_instant(database):
        made = await report(name, database, about, basis=basis, compare=compare, account=account)
        async for row in made.rows:
            rows.append(row)
            if len(rows) > MOST_ROWS:
                break
        ledgers = await _ledgers(database, [row.source for row in rows if row.source])
    context = {
        "report": made,
        "entity": {"slug": slug},
        "period": period,
        "names": list(ReportName),
        "titles": TITLES,
        "rows": shown(made, rows[:MOST_ROWS]),
        "totals": shown(made, made.totals),
        "more": len(rows) > MOST_ROWS,
        "link": _link(slug, period, ledgers),
        "made": datetime.now(UTC),
        "choices": [(label, _query(chosen)) for label, chosen in CHOICES.get(name, [])],
        "chosen": _query(_asked(basis, compare, account)),
    }
    return page(request, "report.html", member, "board", context)


@router.get("/entities/{slug}/periods/{period}/reports/{name}/{form}", response_class=Response)
async def report_file(
    slug: EntitySlug,
    period: Month,
    name: Name,
    form: Literal["csv", "xlsx"],
    request: Request,
    *,
    database: Database,
    member: Visitor,
    basis: Basis = Basis.CUMULATIVE,
    compare: Compared | None = None,
    account: AccountCode = None,
) -> Response:
    """Made whole before the first byte is sent, as every export."""
    desk = desk_of(request)
    about = await about_month(database, slug, period)
    async with turn(desk), one_instant(database):
        made = await report(name, database, about, basis=basis, compare=compare, account=account)
        file = tempfile.TemporaryFile()  # noqa: SIM115 (the answer closes it)
        try:
            if form == "csv":
                text = TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
                await write_csv(made, text)
                text.detach()
            else:
                await write_xlsx(made, file, tenant=desk.settings.tenant)
        except BaseException:
            file.close()
            raise
    return sent(file, "text/csv; charset=utf-8" if form == "csv" else XLSX, f"{slug}-{period}-{name}.{form}")


async def about_month(database: TenantDatabase, slug: str, period: str) -> About:
    """Raises: `EntityMonthUnknownError`."""
    entity = await month.entity(database, slug)
    return About(entity["id"], slug, entity["name"], entity["currency"], period, entity["first_month"])


async def _ledgers(database: TenantDatabase, rows: list[UUID]) -> dict[UUID, str]:
    """The subledger that each row is in: its history says."""
    found = await database.fetch(
        "SELECT DISTINCT ON (h.row_id) h.row_id, c.subledger FROM system.history h JOIN system.changes c ON c.id = h.change_id "
        "WHERE h.row_id = ANY(%s) ORDER BY h.row_id",
        [list(set(rows))],
    )
    return {row["row_id"]: row["subledger"] for row in found}


def _link(slug: str, period: str, ledgers: dict[UUID, str]) -> Any:
    """To the row that something came from, and from an account to its lines."""

    def link(column: str, text: str, row: dict[str, Any]) -> Any:
        if column == "source":
            if row["source"] not in ledgers:
                return text if len(text) <= LONGEST_SOURCE else f"{text[:LONGEST_SOURCE]}…"
            query = urlencode({"entity": slug, "period": period, "row": row["source"]})
            address = f"/subledgers/{quote(ledgers[row['source']], safe='')}?{query}"
            return Markup('<a href="{}">{}</a>').format(address, str(row["source"])[:8])
        if column == "account" and row["account"]:
            query = urlencode({"account": row["account"]})
            address = f"/entities/{slug}/periods/{period}/reports/{ReportName.LEDGER}?{query}"
            return Markup('<a href="{}">{}</a>').format(address, text)
        return text

    return link


def _asked(basis: Basis, compare: Compared | None, account: str | None) -> dict[str, str]:
    said = {"basis": None if basis is Basis.CUMULATIVE else basis.value, "compare": compare and compare.value, "account": account}
    return {name: value for name, value in said.items() if value}


def _query(values: dict[str, str]) -> str:
    return f"?{urlencode(values)}" if values else ""
