"""Dagster's webserver behind the second guard: `python -m ntro_dagster.workspace.webserver -w WORKSPACE.yaml -h HOST -p PORT`.

Without the pages by which anybody could write events of assets (`/report_asset_…`), and without those that would show
what stays with a tenant (notebooks, output of runs).

Environment: DAGSTER_HOME, NTRO_INSTANCE_URL, NTRO_SURVEYS.
"""

from __future__ import annotations

import sys
from typing import Any

from ntro_dagster.startup import pause_collector, resume_collector
from ntro_dagster.workspace.guarded import install_guard

SHUT = ("/report_asset_materialization", "/report_asset_check", "/report_asset_observation", "/notebook", "/logs")
"""Pages of Dagster's that are not there. GraphQL tells all that the workspace may know."""


class ShutPages:
    """ASGI: 404 for `SHUT`, before Dagster looks at the request."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and any(scope["path"] == page or scope["path"].startswith(f"{page}/") for page in SHUT):
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"not here\n"})
            return
        await self._app(scope, receive, send)


def main(arguments: list[str]) -> None:
    pause_collector()
    install_guard(arguments)
    from dagster_webserver import webserver  # noqa: PLC0415 - after the guard
    from dagster_webserver.cli import cli  # noqa: PLC0415
    from starlette.middleware import Middleware  # noqa: PLC0415

    stock = webserver.DagsterWebserver.build_middleware

    def build_middleware(self: Any) -> list[Middleware]:
        resume_collector()  # the last before it serves
        return [Middleware(ShutPages), *stock(self)]

    webserver.DagsterWebserver.build_middleware = build_middleware  # type: ignore[method-assign]
    cli(arguments, prog_name="dagster-webserver")


if __name__ == "__main__":
    main(sys.argv[1:])
