"""A tenant's desk: `python -m ntro_dagster.desk.server`.

Environment: NTRO_TENANT; NTRO_DESK_DATABASE_URL, as the desk's role; NTRO_DOCUMENTS; NTRO_DESK_PORT on 127.0.0.1; NTRO_LOGS,
where runs print; NTRO_ACTIVE, the list of active bundles, for the process that looks over values.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TYPE_CHECKING

from ntro_dagster.desk.settings import Settings
from ntro_dagster.errors import NtroError
from ntro_dagster.startup import import_plain, pause_collector, resume_collector

if TYPE_CHECKING:
    import uvicorn

_PR_SET_DUMPABLE = 4
KEEP_ALIVE_S = 30
MOST_AT_ONCE = 200


def main() -> None:
    """Serve until SIGTERM or SIGINT; exits with the error's status and advice where it cannot."""
    os.umask(0o077)
    _keep_memory_private()
    try:
        settings = Settings.from_environment()
    except NtroError as error:
        sys.stderr.write(f"{error.code}: {error.explain()}\n{error.advice()}\n")
        raise SystemExit(error.exit_code) from None
    pause_collector()
    import_plain("uvicorn")
    import uvicorn  # noqa: PLC0415

    server = uvicorn.Server(server_config(settings))
    resume_collector()
    server.run()


def server_config(settings: Settings) -> uvicorn.Config:
    """How a desk is served."""
    import uvicorn  # noqa: PLC0415

    from ntro_dagster.desk.app import create_app  # noqa: PLC0415
    from ntro_dagster.desk.patience import ImpatientProtocol  # noqa: PLC0415

    return uvicorn.Config(
        create_app(settings),
        host="127.0.0.1",
        port=settings.port,
        http=ImpatientProtocol,
        loop="asyncio",
        ws="none",
        access_log=False,  # addresses of pages name entities
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_AT_ONCE,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=5,
    )


def _keep_memory_private() -> None:
    """From other processes of the same user: a runbook's code runs as the tenant too, and must not find the desk's credential."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


if __name__ == "__main__":
    main()
