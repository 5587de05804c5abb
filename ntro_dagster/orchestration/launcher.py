"""Launch runs on their tenant's code server, and find out when one has died."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable

from dagster import DagsterRun
from dagster._core.errors import DagsterCodeLocationNotFoundError, DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, LaunchRunContext, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import GetCurrentRunsResult
from dagster._serdes import ConfigurableClassData, deserialize_value

UNREACHABLE_SECONDS = 60.0  # a server that is there but says nothing
ANSWER_SECONDS = 5


class NtroRunLauncher(DefaultRunLauncher):
    """Dagster's launcher with health checks, so that run monitoring ends runs whose worker is gone.

    A run worker is a child of its tenant's code server and dies with it (`tenant.run_worker`). Hence:

    - the server answers: it knows whether the run is still at work;
    - the socket refuses: no server is behind it, so neither is the run;
    - there is no socket, or no answer: busy, restarting or being cleaned away, so for `UNREACHABLE_SECONDS` the run is
      taken to be alive, and to be lost after that. (Dagster fails a run at once for anything but RUNNING.)
    """

    def __init__(self, inst_data: ConfigurableClassData | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(inst_data)
        self._clock = clock
        self._unreachable_since: dict[str, float] = {}

    def launch_run(self, context: LaunchRunContext) -> None:
        """Raises: `DagsterUserCodeUnreachableError`, after which the queue keeps the run and tries again."""
        try:
            super().launch_run(context)
        except DagsterCodeLocationNotFoundError:  # a tenant so new that the daemon has not read of it
            raise DagsterUserCodeUnreachableError("its tenant is not in the daemon's workspace yet") from None

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        address = json.loads(run.tags.get(GRPC_INFO_TAG, "{}")).get("socket")
        if address is None:  # not started by a launcher: a script runs the job in its own process
            return CheckRunHealthResult(WorkerStatus.RUNNING, "not launched on a code server")
        try:
            known = self._current_runs(address)
        except ConnectionRefusedError:
            self._unreachable_since.pop(address, None)
            return CheckRunHealthResult(WorkerStatus.FAILED, "its code server is gone")
        except (OSError, DagsterUserCodeUnreachableError):
            return self._judge_silence(address)
        self._unreachable_since.pop(address, None)
        if run.run_id in known:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, "its code server does not know the run")

    def _judge_silence(self, address: str) -> CheckRunHealthResult:
        silent_for = self._clock() - self._unreachable_since.setdefault(address, self._clock())
        if silent_for < UNREACHABLE_SECONDS:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "its code server does not answer", transient=True)
        return CheckRunHealthResult(WorkerStatus.FAILED, "its code server has not answered for too long")

    def _current_runs(self, address: str) -> set[str]:
        """Ask the server.

        Raises:
            ConnectionRefusedError: no process listens on the socket.
            OSError, DagsterUserCodeUnreachableError: no answer.
        """
        with socket.socket(socket.AF_UNIX) as probe:  # gRPC does not tell a refusal from silence
            probe.settimeout(ANSWER_SECONDS)
            probe.connect(address)
        client = DagsterGrpcClient(socket=address)
        client.get_server_id(timeout=ANSWER_SECONDS)  # the next call takes no timeout, and waits 60 s
        answer = deserialize_value(client.get_current_runs(), GetCurrentRunsResult)
        return set(answer.current_runs)
