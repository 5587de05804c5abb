"""What a tenant's code server answers with: Dagster's, but for new code, for runs that have ended, and for its own end."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

from dagster import DagsterInstance, RunsFilter
from dagster._core.remote_origin import RemoteRepositoryOrigin
from dagster._grpc.__generated__.dagster_api_pb2 import ExternalRepositoryRequest, ReloadCodeReply, ReloadCodeRequest
from dagster._grpc.server import DagsterApiServer
from dagster._serdes import deserialize_value

from ntro_dagster.tenant.made_once import told_of
from ntro_dagster.tenant.reloading import reload

DRAIN_SECONDS = 10.0  # how long runs may go on after SIGTERM before they are interrupted; supervisor kills at 20


class TenantApiServer(DagsterApiServer):
    """Ends within `DRAIN_SECONDS`: runs that are not done by then are interrupted, and say so in their events.

    Attributes:
        code: names what is loaded (`ActiveSet.definitions`).
    """

    code: str

    def __init__(self, *, definitions: str, anew: threading.Event, **more: Any) -> None:
        """Args: `definitions`: the module's name; `anew`: set where the server has to begin anew."""
        self._definitions, self._anew = definitions, anew
        with _without_commands():
            super().__init__(**more)

    def ReloadCode(self, _request: ReloadCodeRequest, _context: object) -> ReloadCodeReply:  # noqa: N802 - Dagster's
        """The active versions, as their list says now; a server that never loaded any begins anew.

        Raises: `DagsterUserCodeLoadError`.
        """
        if self._serializable_load_error:
            self._anew.set()
            self._server_termination_event.set()
        else:
            reload(self, self._definitions)
        return ReloadCodeReply()

    def _get_serialized_external_repository_data(self, request: ExternalRepositoryRequest) -> str:
        if request.defer_snapshots:
            with suppress(Exception):  # of which Dagster tells in its own way
                origin = deserialize_value(request.serialized_repository_python_origin, RemoteRepositoryOrigin)
                return told_of(self._get_repo_for_origin(origin))
        return super()._get_serialized_external_repository_data(request)

    def _check_for_orphaned_runs(self) -> None:
        """Those that ended as they should, by one question for all; what is left, one by one, as Dagster has it."""
        with self._execution_lock:
            over = {run_id: instance for run_id, (process, instance) in self._executions.items() if not process.is_alive()}
            if len(over) > 1:
                with DagsterInstance.from_ref(next(iter(over.values()))) as instance:
                    for run in instance.get_runs(RunsFilter(run_ids=list(over))):
                        if run.is_finished:
                            self._clear_run(run.run_id)
        super()._check_for_orphaned_runs()

    def cleanup(self) -> None:
        timer = threading.Timer(DRAIN_SECONDS, self._interrupt_runs)
        timer.daemon = True
        timer.start()
        super().cleanup()  # returns when no run is left
        timer.cancel()

    def _interrupt_runs(self) -> None:
        with self._execution_lock:
            for event in self._termination_events.values():
                event.set()


@contextmanager
def _without_commands() -> Iterator[None]:
    """Dagster's server takes one function from the package of Dagster's commands, which is 13 MB of modules.

    Until it is called, and not longer: next come the definitions, which may import what they like.
    """
    stand_in = ModuleType("dagster._cli.utils")

    def get_instance_for_cli(instance_ref: None) -> DagsterInstance:
        leave()
        return DagsterInstance.get()

    def leave() -> None:
        if sys.modules.get(stand_in.__name__) is stand_in:
            del sys.modules[stand_in.__name__]

    vars(stand_in)[get_instance_for_cli.__name__] = get_instance_for_cli
    sys.modules.setdefault(stand_in.__name__, stand_in)
    try:
        yield
    finally:
        leave()
