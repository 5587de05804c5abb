"""New definitions in a running code server: runs at work stay on the code they began with, new ones begin on the new code.

The server's own copy is exchanged as a whole. Runs are made by a fork server that has imported the code; it is retired, ends with
the last run it made, and a new one takes its place.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, util
from types import ModuleType
from typing import Any

from ntro_dagster.bundles.active import active_set
from ntro_dagster.tenant.loading import resolve

BUNDLES = "ntro_bundle_"


@contextmanager
def fresh_code(definitions: str) -> Iterator[None]:
    """In here bundles and definitions are read again; where that fails, they are again what they were.

    What was made of them before goes on living where it is in use.
    """
    from ntro_dagster.subledger.registry import fresh_types  # noqa: PLC0415

    def forget() -> dict[str, ModuleType]:
        names = [name for name in sys.modules if name.startswith(BUNDLES) or name == definitions]
        return {name: sys.modules.pop(name) for name in names}

    before = forget()
    importlib.invalidate_caches()
    try:
        with fresh_types():
            yield
    except BaseException:
        forget()
        sys.modules.update(before)
        raise


def reload(server: Any, definitions: str) -> None:
    """Exchange what `server`, Dagster's own API server, has loaded. Where it does not load, everything stays as it was.

    Raises: `DagsterUserCodeLoadError`, `ActiveSetError`.
    """
    from dagster._core.definitions.reconstruct import ReconstructableJob  # noqa: PLC0415
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
        ReconstructableJob.get_definition.cache_clear()
        ReconstructableJob.get_repository_definition.cache_clear()
        server._loaded_repositories = loaded
        server._serializable_load_error = None
        server._server_id = str(uuid.uuid4())  # by which the workspace sees that it must ask again
        server.code = code
        with server._execution_lock:  # under which runs are made
            retire_fork_server()


def retire_fork_server() -> None:
    """From now on runs come from a new one."""
    known: Any = forkserver._forkserver
    with known._lock:
        process, alive, address = known._forkserver_pid, known._forkserver_alive_fd, known._forkserver_address
        known._forkserver_pid = known._forkserver_alive_fd = known._forkserver_address = None
    if process is None:
        return
    os.close(alive)  # each of its runs holds this pipe too: it ends when the last of them has
    if not util.is_abstract_socket_namespace(address):
        os.unlink(address)  # noqa: PTH108
    threading.Thread(target=os.waitpid, args=(process, 0), name="ntro-retired-fork-server", daemon=True).start()
    known.ensure_running()
