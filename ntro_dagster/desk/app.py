"""The desk's web application: pages, JSON API, static files."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from ntro_dagster.desk import (
    api,
    assigning,
    export,
    intake,
    looking,
    month_pages,
    pages,
    period_pages,
    periods,
    reimport,
    reports,
    review_api,
    task_actions,
    task_requests,
    tasks,
)
from ntro_dagster.desk.desk import Desk
from ntro_dagster.desk.documents import ContentLostError
from ntro_dagster.desk.doors import FormNotOursError, LoginNeededError, NotLoggedInError, RoleMayNotError
from ntro_dagster.desk.settings import Settings
from ntro_dagster.desk.shield import refused, shield
from ntro_dagster.desk.sittings import LoginRefusedError, LoginsExhaustedError
from ntro_dagster.desk.task_actions import NotAtADeskError, TaskHasNoRowsError
from ntro_dagster.desk.task_requests import AlreadyRequestedError, ParameterSetOtherwiseError, RunbookNotActiveError
from ntro_dagster.errors import NotFoundError, NtroError, TransientError, UsageError
from ntro_dagster.gl.periods import CloseNeedsReasonError, PeriodNotReadyError, ReopeningNotAskedError
from ntro_dagster.ingest.store import StoreFullError
from ntro_dagster.ingest.submission import DocumentFiledElsewhereError, EntityClosedError
from ntro_dagster.platforms.postgres.database import RefusedByDatabaseError
from ntro_dagster.subledger.filing import ContentMovedError, Summary

STATIC = Path(__file__).parent / "static"
STATUSES: dict[type[NtroError], int] = {
    NotLoggedInError: 401,
    LoginRefusedError: 401,
    RoleMayNotError: 403,
    FormNotOursError: 403,
    LoginsExhaustedError: 429,
    NotFoundError: 404,
    TransientError: 503,
    RefusedByDatabaseError: 409,
    ContentMovedError: 409,
    ContentLostError: 409,
    NotAtADeskError: 501,
    TaskHasNoRowsError: 409,
    AlreadyRequestedError: 409,
    RunbookNotActiveError: 409,
    ParameterSetOtherwiseError: 409,
    EntityClosedError: 409,
    DocumentFiledElsewhereError: 409,
    StoreFullError: 503,
    PeriodNotReadyError: 409,
    CloseNeedsReasonError: 409,
    ReopeningNotAskedError: 409,
    UsageError: 422,
}
FORBIDDEN = frozenset({"NOT_A_MEMBER", "NOT_YOUR_DECISION", "ROLE_MAY_NOT"})
logger = logging.getLogger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """The application of one tenant's desk."""
    desk = Desk(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await desk.open()
        yield
        await desk.close()

    app = FastAPI(
        title="ntro desk",
        version="1",
        description="Rows of one tenant, and what its members decide about them.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
    )
    app.state.desk = desk
    app.include_router(api.router)
    app.include_router(review_api.router)
    app.include_router(assigning.router)
    app.include_router(export.router)
    app.include_router(reimport.router)
    app.include_router(tasks.router)
    app.include_router(task_actions.router)
    app.include_router(periods.router)
    app.include_router(period_pages.router)
    app.include_router(task_requests.router)
    app.include_router(intake.router)
    app.include_router(looking.router)
    app.include_router(month_pages.router)
    app.include_router(pages.router)
    app.include_router(reports.router)
    app.add_api_route("/static/vendor/htmx.min.js", _htmx, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_middleware(GZipMiddleware, minimum_size=1_000, compresslevel=1)
    app.add_middleware(BaseHTTPMiddleware, dispatch=shield(settings.hosts, settings.port))
    app.add_exception_handler(NtroError, _explained)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(HTTPException, _no_such)
    app.add_exception_handler(Exception, _failed)
    return app


async def _htmx() -> Response:
    """From the wheel that carries it; the package itself is for another framework, and is not imported."""
    spec = importlib.util.find_spec("django_htmx")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("django_htmx")
    found = Path(spec.submodule_search_locations[0]) / "static" / "django_htmx" / "htmx-2.min.js"
    return FileResponse(found, media_type="text/javascript", headers={"Cache-Control": "max-age=86400"})


def status_of(error: NtroError) -> int:
    if error.code in FORBIDDEN:
        return 403
    return next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), 500)


async def _explained(request: Request, error: Any) -> Response:
    if isinstance(error, LoginNeededError):
        if "hx-request" in request.headers:  # a part of a page: the page itself is to go
            return Response(status_code=401, headers={"HX-Redirect": "/login"})
        return RedirectResponse(f"/login?next={error.values['target']}", 303)
    status = _as_spec(request, status_of(error))
    rows = error.values.get("rows")
    fields = error.values.get("fields")
    content: dict[str, Any] = {"statusCode": status, "message": error.explain(), "error": error.code}
    if advice := error.advice():
        content["advice"] = advice
    if isinstance(now := error.values.get("now"), Summary):
        content["now"] = review_api.summed_up(now)
    if isinstance(rows, list):
        content["rows"] = [{"id": str(row.id), "code": row.code, "by": row.by} for row in rows]
    if isinstance(fields, dict):
        content["fields"] = fields
    if "currentStatus" in error.values:
        content["currentStatus"] = error.values["currentStatus"]
    if pages.wants_page(request):
        return pages.failure(request, content)
    return JSONResponse(content, status)


def _as_spec(request: Request, status: int) -> int:
    """Routes that the spec describes answer 400 where the others answer 422."""
    return 400 if status == STATUSES[UsageError] and tasks.SPEC in getattr(request.scope.get("route"), "tags", ()) else status


async def _not_understood(request: Request, error: Any) -> Response:
    """Without the input, which the sender knows."""
    found = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    return refused(_as_spec(request, 422), "BODY_INVALID", "; ".join(found)[:2_000])


async def _no_such(request: Request, error: Any) -> Response:
    code = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}.get(error.status_code, "BODY_INVALID")
    content = {"statusCode": error.status_code, "message": str(error.detail), "error": code}
    if pages.wants_page(request):
        return pages.failure(request, content)
    return JSONResponse(content, error.status_code, headers=getattr(error, "headers", None))


async def _failed(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return refused(500, "DESK_FAILED", "the desk failed; its output tells where")
