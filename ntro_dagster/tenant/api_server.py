"""What a tenant's code server answers with: Dagster's, but for new code, for runs that have ended, and for its own end."""

from __future__ import annotations

import threading
from typing import Any

from dagster import DagsterInstance, RunsFilter
from dagster._grpc.__generated__.dagster_api_pb2 import ReloadCodeReply, ReloadCodeRequest
from dagster._grpc.server import DagsterApiServer

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
