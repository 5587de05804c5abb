"""What a code server tells of its definitions is what Dagster's own would tell, made once; and without Dagster's commands."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from logging import getLogger
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.utils import FuturesAwareThreadPoolExecutor
from dagster._grpc.__generated__.dagster_api_pb2 import ExternalRepositoryRequest
from dagster._grpc.server import DagsterApiServer
from dagster._serdes import serialize_value

from ntro_dagster.tenant import made_once
from ntro_dagster.tenant.api_server import TenantApiServer

HERE = Path(__file__).parent


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(HERE))
    stop = Event()
    made: Any = TenantApiServer(
        server_termination_event=stop,
        logger=getLogger(__name__),
        server_threadpool_executor=FuturesAwareThreadPoolExecutor(max_workers=1),
        loadable_target_origin=LoadableTargetOrigin(
            executable_path=sys.executable, module_name="code_at_work", attribute="defs", working_directory=str(HERE)
        ),
        location_name="acme",
        definitions="code_at_work",
        anew=Event(),
    )
    yield made
    stop.set()
    made.cleanup()


def asked(*, deferred: bool, repository: str = "__repository__") -> ExternalRepositoryRequest:
    origin = RemoteRepositoryOrigin(
        GrpcServerCodeLocationOrigin(host="localhost", socket="/none", location_name="acme"), repository
    )
    return ExternalRepositoryRequest(serialized_repository_python_origin=serialize_value(origin), defer_snapshots=deferred)


@pytest.mark.parametrize("deferred", [True, False])
def test_the_same_as_dagsters_own(server: Any, deferred: bool) -> None:
    request = asked(deferred=deferred)
    ours = server._get_serialized_external_repository_data(request)
    assert "month_end" in ours
    assert ours == DagsterApiServer._get_serialized_external_repository_data(server, request)


def test_made_once(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    once = RepositorySnap.from_def
    monkeypatch.setattr(
        made_once, "RepositorySnap", type("", (), {"from_def": lambda *given, **more: made.append(given) or once(*given, **more)})
    )
    first = server._get_serialized_external_repository_data(asked(deferred=True))
    number = len(made)
    assert server._get_serialized_external_repository_data(asked(deferred=True)) is first
    assert len(made) == number


def test_of_what_is_not_there_dagster_tells(server: Any) -> None:
    told = server._get_serialized_external_repository_data(asked(deferred=True, repository="nobody"))
    assert "ExternalRepositoryErrorData" in told


def test_a_server_takes_no_commands_along() -> None:
    script = """
import logging, sys, threading
from dagster._core.utils import FuturesAwareThreadPoolExecutor
from ntro_dagster.tenant.api_server import TenantApiServer
stop = threading.Event()
TenantApiServer(
    server_termination_event=stop, logger=logging.getLogger(), server_threadpool_executor=FuturesAwareThreadPoolExecutor(),
    loadable_target_origin=None, location_name="acme", definitions="nothing", anew=threading.Event(),
)
print(sorted(name for name in sys.modules if name.startswith("dagster._cli")))
stop.set()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
