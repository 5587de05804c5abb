"""What a code server tells of its definitions is what Dagster's own would tell, made once; and without Dagster's commands."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from logging import getLogger
from pathlib import Path
from threading import Event
from types import ModuleType
from typing import Any

import pytest
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.utils import FuturesAwareThreadPoolExecutor
from dagster._grpc.__generated__.dagster_api_pb2 import ExternalRepositoryRequest
from dagster._grpc.server import DagsterApiServer
from dagster._serdes import serialize_value

from ntro_dagster.tenant import fork_server, made_once
from ntro_dagster.tenant.api_server import TenantApiServer
from ntro_dagster.tenant.made_once import told_of

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
    first = server._get_serialized_external_repository_data(asked(deferred=True))
    monkeypatch.setattr(made_once, "RepositorySnap", None)  # with which another would be made
    assert server._get_serialized_external_repository_data(asked(deferred=True)) is first


def test_what_was_made_before_the_fork_is_what_the_server_tells(server: Any) -> None:
    before = told_of(sys.modules["code_at_work"].defs.get_repository_def())
    assert server._get_serialized_external_repository_data(asked(deferred=True)) is before


def test_it_is_made_before_the_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setitem(sys.modules, "ntro_dagster.tenant.warm", ModuleType("warm"))  # which would need a tenant
    monkeypatch.setattr(made_once, "told_of", lambda _: made.append("told"))
    monkeypatch.setattr(fork_server, "_fork", lambda _: made.append("forked"))
    monkeypatch.setattr(fork_server.threading, "active_count", lambda: 1)
    assert fork_server.start_fork_server("code_at_work", not_its=[]) is None
    assert made == ["told", "forked"]


def test_of_what_is_not_there_dagster_tells(server: Any) -> None:
    told = server._get_serialized_external_repository_data(asked(deferred=True, repository="nobody"))
    assert "ExternalRepositoryErrorData" in told


@pytest.mark.parametrize("module", [None, "code_with_commands"])
def test_a_server_takes_no_commands_along_but_its_code_may(module: str | None) -> None:
    script = f"""
import logging, sys, threading
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.utils import FuturesAwareThreadPoolExecutor
from ntro_dagster.tenant.api_server import TenantApiServer
stop = threading.Event()
TenantApiServer(
    server_termination_event=stop, logger=logging.getLogger(), server_threadpool_executor=FuturesAwareThreadPoolExecutor(),
    loadable_target_origin={module!r} and LoadableTargetOrigin(
        module_name={module!r}, attribute="defs", working_directory={str(HERE)!r}
    ),
    location_name="acme", definitions="nothing", anew=threading.Event(),
)
print("dagster._cli.utils" in sys.modules)
stop.set()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60, cwd=HERE)
    assert done.stdout == f"{module is not None}\n"
