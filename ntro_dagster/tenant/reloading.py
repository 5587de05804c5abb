"""New definitions in a running code server: runs at work stay on the code they began with, new ones begin on the new code.

The server's own copy is exchanged as a whole. Runs are made by a fork server that has imported the code; it is retired, ends with
the last run it made, and a new one takes its place.
"""

from __future__ import annotations

import uuid
from typing import Any

from ntro_dagster.bundles.active import active_set
from ntro_dagster.tenant.fork_server import replace_fork_server
from ntro_dagster.tenant.fresh_code import forget_made, fresh_code
from ntro_dagster.tenant.loading import resolve


def reload(server: Any, definitions: str) -> None:
    """Exchange what `server`, Dagster's own API server, has loaded. Where it does not load, everything stays as it was.

    Raises: `DagsterUserCodeLoadError`, `ActiveSetError`.
    """
    from dagster._grpc.server import LoadedRepositories  # noqa: PLC0415

    with server._reload_lock:
        code = active_set().definitions
        if getattr(server, "code", None) == code:
            return
        with fresh_code(definitions):
            loaded = LoadedRepositories(
                server._loadable_target_origin,
                container_image=None,
                entry_point=server._entry_point,
                container_context=None,
            )
            resolve(loaded)
        forget_made()
        server._loaded_repositories = loaded
        server._serializable_load_error = None
        server._server_id = str(uuid.uuid4())  # by which the workspace sees that it must ask again
        with server._execution_lock:  # under which runs are made
            replace_fork_server(definitions)
        server.code = code
