"""The desk's pages: log-in, inbox, grid, board, a month's books, runs, history."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path as File
from typing import Annotated, Any
from urllib.parse import unquote, urlencode
from uuid import UUID

from fastapi import APIRouter, Form, Path, Query, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.templating import Jinja2Templates

from ntro_dagster.boundary.periods import PATTERN as PERIOD_PATTERN
from ntro_dagster.boundary.periods import shifted
from ntro_dagster.desk import activity, month
from ntro_dagster.desk.api import LARGEST_NUMBER, NO_NUL, LedgerName, described
from ntro_dagster.desk.counter import COMES_ROUND_S, LoginsBusyError
from ntro_dagster.desk.desk import Desk
from ntro_dagster.desk.doors import COOKIE, Database, Visitor, desk_of, known
from ntro_dagster.desk.groups import count_groups
from ntro_dagster.desk.month_work import month_work
from ntro_dagster.desk.rows import money
from ntro_dagster.desk.sittings import LASTS, LoginRefusedError, LoginsExhaustedError, Sitting, log_in, log_out
from ntro_dagster.desk.tie_out import tie_out
from ntro_dagster.errors import NtroError
from ntro_dagster.gl.periods import period_state
from ntro_dagster.gl.reports import TITLES
from ntro_dagster.subledger.selection import Filter

TEMPLATES = Jinja2Templates(directory=File(__file__).parent / "templates")
router = APIRouter(include_in_schema=False)

EntitySlug = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]
Month = Annotated[str, Path(pattern=PERIOD_PATTERN)]


def amount(value: Decimal | None) -> str:
    """With separators of thousands, a real minus sign, and every digit that was stored."""
    if value is None:
        return ""
    whole, _, rest = money(abs(value)).partition(".")
    return f"{'−' if value < 0 else ''}{int(whole):,}.{rest}"


def instant(value: datetime | None) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if value else ""


def age(value: str | None) -> str:
    """How long ago, in the largest unit that fits."""
    if not value:
        return ""
    waited = max(datetime.now(UTC) - datetime.fromisoformat(value), timedelta())
    if waited < timedelta(hours=1):
        return f"{waited // timedelta(minutes=1)} min"
    return f"{waited // timedelta(hours=1)} h" if waited < timedelta(days=2) else f"{waited.days} days"


def words(code: str | None) -> str:
    return (code or "").replace("_", " ").lower()


TEMPLATES.env.filters |= {"amount": amount, "instant": instant, "age": age, "words": words}


def wants_page(request: Request) -> bool:
    return not request.url.path.startswith(("/v1/", "/static/")) and "text/html" in request.headers.get("accept", "")


def page(
    request: Request, name: str, member: Sitting | None, nav: str, context: Mapping[str, Any], *, status: int = 200
) -> Response:
    desk: Desk = desk_of(request)
    shared = {"tenant": desk.settings.tenant, "member": member, "csrf": member.csrf if member else "", "nav": nav}
    return TEMPLATES.TemplateResponse(request, name, {**shared, **context}, status)


def failure(request: Request, content: Mapping[str, Any]) -> Response:
    """An error as a page."""
    return page(request, "failure.html", None, "", {"failure": content}, status=content["statusCode"])


# -- coming and going


@router.get("/login", response_class=HTMLResponse)
async def login_page(request: Request, target: Annotated[str, Query(alias="next", max_length=2_000)] = "/") -> Response:
    return page(request, "login.html", None, "", {"next": _within(target), "refused": None})


@router.post("/login")
async def login(
    request: Request,
    name: Annotated[str, Form(max_length=80, pattern=NO_NUL)],
    password: Annotated[str, Form(max_length=1_000)],
    target: Annotated[str, Form(alias="next", max_length=2_000)] = "/",
) -> Response:
    """A new session; one that the browser brought ends, so that nobody can plant theirs."""
    desk = desk_of(request)
    try:
        async with desk.counter.turn(), desk.database() as database:
            token = await log_in(database, name, password)
            if before := request.cookies.get(COOKIE):
                await log_out(database, before)
    except (LoginRefusedError, LoginsExhaustedError, LoginsBusyError) as error:
        refused = page(request, "login.html", None, "", {"next": _within(target), "refused": error}, status=_REFUSED[type(error)])
        if isinstance(error, LoginsBusyError):
            refused.headers["Retry-After"] = str(COMES_ROUND_S)
        return refused
    answer = RedirectResponse(_within(target), 303)
    answer.set_cookie(COOKIE, token, max_age=int(LASTS.total_seconds()), httponly=True, samesite="strict", path="/")
    return answer


_REFUSED: dict[type[NtroError], int] = {LoginRefusedError: 401, LoginsExhaustedError: 429, LoginsBusyError: 503}


def _within(target: str) -> str:
    """A page of this desk, or the first: nobody's link leads out of a log-in."""
    path = unquote(target)
    ours = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return target if ours and target.startswith("/") and target.isprintable() else "/"


@router.post("/logout")
async def logout(request: Request, database: Database) -> Response:
    found = await known(request, database)
    if found and found.kind == "session":
        await log_out(database, found.token)
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, path="/")
    return answer


@router.get("/health")
async def health() -> dict[str, str]:
    """That it answers (spec, 7.1)."""
    return {"status": "ok"}


# -- looking


@router.get("/", response_class=HTMLResponse)
async def inbox(request: Request, database: Database, member: Visitor) -> Response:
    ledgers = await desk_of(request).ledgers(database)
    heaps = [
        {
            "ledger": kind.table,
            "title": kind.name.replace("_", " "),
            "groups": await count_groups(database, kind, Filter(), member),
        }
        for kind in ledgers.values()
    ]
    context = {"heaps": heaps, "decisions": await activity.decisions(database, member.login)}
    return page(request, "inbox.html", member, "inbox", context)


@router.get("/subledgers/{ledger}", response_class=HTMLResponse)
async def grid(ledger: LedgerName, request: Request, database: Database, member: Visitor) -> Response:
    kind = await desk_of(request).ledger(database, ledger)
    context = {
        "ledger": described(kind, member),
        "entities": await database.fetch("SELECT slug, name FROM system.entities WHERE status = 'ACTIVE' ORDER BY slug"),
        "periods": await month.months_with_work(database, subledger=kind.table, limit=36),
    }
    return page(request, "grid.html", member, "subledgers", context)


@router.get("/board", response_class=HTMLResponse)
async def board(
    request: Request,
    database: Database,
    member: Visitor,
    *,
    until: Annotated[str | None, Query(pattern=PERIOD_PATTERN)] = None,
    find: Annotated[str, Query(max_length=100, pattern=NO_NUL)] = "",
    unfinished: bool = False,
    number: Annotated[int, Query(alias="page", ge=1, le=10_000)] = 1,
) -> Response:
    ledgers = await desk_of(request).ledgers(database)
    sought = find.strip()
    shown = await month.board(database, ledgers, until, find=sought, unfinished=unfinished, page=number)
    asked = {"find": sought, "unfinished": "true" if unfinished else ""}
    steps = {"Previous": number > 1 and number - 1, "Next": shown["more"] and number + 1}
    context = {
        "board": shown,
        "asked": asked | {"until": until},
        "pages": {name: _asked(until=until, page=to, **asked) for name, to in steps.items() if to},
        "earlier": _asked(until=shown["periods"][0] if shown["periods"] else None, **asked),
    }
    return page(request, "board.html", member, "board", context)


def _asked(**named: object) -> str:
    """As a URL's query, without what says nothing."""
    return urlencode({name: value for name, value in named.items() if value})


@router.get("/entities/{slug}/periods/{period}", response_class=HTMLResponse)
@router.get("/entities/{slug}/periods/{period}/trial-balance", response_class=HTMLResponse)
async def entity_month(slug: EntitySlug, period: Month, request: Request, database: Database, member: Visitor) -> Response:
    context = await _month(request, database, slug, period)
    context |= await month_work(database, member, context["entity"], period)
    return page(request, "month.html", member, "board", context)


@router.get("/entities/{slug}/periods/{period}/sign-off", response_class=HTMLResponse)
async def sign_off(slug: EntitySlug, period: Month, request: Request, database: Database, member: Visitor) -> Response:
    context = await _month(request, database, slug, period)
    state = await period_state(database, entity_id=context["entity"]["id"], period=period)
    return page(request, "sign_off.html", member, "board", {**context, "state": state, "printed_at": datetime.now(UTC)})


async def _month(request: Request, database: Database, slug: str, period: str) -> dict[str, Any]:
    entity = await month.entity(database, slug)
    ledgers = await desk_of(request).ledgers(database)
    return {
        "entity": entity,
        "period": period,
        "reports": TITLES,
        "earlier": shifted(period, -1),
        "standing": await month.standing(database, ledgers, entity["id"], period),
        "books": await month.books(database, entity["id"], period, shifted(period, -1)),
        "closes": await month.closes(database, entity["id"], period),
    }


@router.get("/entities/{slug}/periods/{period}/tie-out", response_class=HTMLResponse)
async def books_if_approved(slug: EntitySlug, period: Month, request: Request, database: Database, member: Visitor) -> Response:
    """A part of the page of a month, which comes without it first."""
    desk = desk_of(request)
    entity = await month.entity(database, slug)
    tie = await tie_out(desk, database, await desk.ledgers(database), entity, period)
    return page(request, "tie_out.html", member, "board", {"tie": tie})


@router.get("/entities/{slug}/periods/{period}/accounts/{account}", response_class=HTMLResponse)
async def account(
    slug: EntitySlug,
    period: Month,
    account: Annotated[str, Path(max_length=64, pattern=NO_NUL)],
    request: Request,
    *,
    database: Database,
    member: Visitor,
) -> Response:
    entity = await month.entity(database, slug)
    named = await database.fetch_one("SELECT code, name, type FROM ledgers.accounts WHERE code = %s", [account])
    lines = await month.account_lines(database, entity["id"], period, account)
    context: dict[str, Any] = {"entity": entity, "period": period, "account": named or {"code": account, "name": "", "type": ""}}
    context |= {"lines": lines[: month.MOST_LINES], "more": len(lines) > month.MOST_LINES}
    return page(request, "account.html", member, "board", context)


@router.get("/runs", response_class=HTMLResponse)
async def runs(request: Request, database: Database, member: Visitor) -> Response:
    return page(request, "runs.html", member, "runs", {"runs": await activity.runs(database)})


@router.get("/runs/{run_id}", response_class=HTMLResponse)
async def run(run_id: UUID, request: Request, database: Database, member: Visitor) -> Response:
    logs = desk_of(request).settings.logs
    return page(request, "run.html", member, "runs", {"run": await activity.run(database, run_id, logs)})


@router.get("/history", response_class=HTMLResponse)
async def history(
    request: Request, database: Database, member: Visitor, before: Annotated[int | None, Query(ge=0, le=LARGEST_NUMBER)] = None
) -> Response:
    return page(request, "history.html", member, "history", {"changes": await activity.history(database, before)})
