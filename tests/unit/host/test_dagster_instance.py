"""dagster.yaml and workspace.yaml, as the installed Dagster reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from dagster import DagsterInstance
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster._core.workspace.load import location_origins_from_yaml_paths
from sqlalchemy.pool import QueuePool

from ntro_dagster.boundary.artifacts import ArtifactsMissingError
from ntro_dagster.boundary.compute_logs import TenantComputeLogs
from ntro_dagster.boundary.names import UNIT_TAG
from ntro_dagster.host.dagster_instance import ReloadError, reload_workspace, write_instance, write_workspace
from ntro_dagster.host.home import Home
from ntro_dagster.orchestration.launcher import NtroRunLauncher


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.create()
    return home


def test_dagster_takes_every_setting(home: Home, as_workspace: Callable[[str], None]) -> None:
    as_workspace("postgresql://u:p@127.0.0.1:1/d")  # nobody there: nothing may connect
    write_instance(home, max_concurrent_runs=7, runs_per_tenant=3)
    with DagsterInstance.from_config(str(home.dagster)) as instance:
        for storage in (instance.run_storage, instance.event_log_storage, instance.schedule_storage):
            assert isinstance(storage._engine.pool, QueuePool)  # type: ignore[attr-defined, union-attr]
        assert isinstance(instance.run_launcher, NtroRunLauncher)
        assert isinstance(instance.compute_log_manager, TenantComputeLogs)
        coordinator = instance.run_coordinator
        assert isinstance(coordinator, QueuedRunCoordinator)
        queue = instance.get_concurrency_config().run_queue_config
        assert queue
        assert queue.max_concurrent_runs == 7
        assert queue.max_user_code_failure_retries == 3
        limits = {limit["key"]: limit["limit"] for limit in queue.tag_concurrency_limits}
        assert limits == {"dagster/code_location": 3, UNIT_TAG: 1}
        assert coordinator.dequeue_interval_seconds == 1
        assert coordinator.dequeue_use_threads
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_poll_interval_seconds == 5
        assert instance.run_monitoring_max_resume_run_attempts == 0
        assert not instance.run_retries_enabled
        assert not instance.telemetry_enabled


def test_instance_reference_carries_no_secret(home: Home, as_workspace: Callable[[str], None]) -> None:
    as_workspace("postgresql://u:planted@127.0.0.1:1/d")
    write_instance(home)
    with DagsterInstance.from_config(str(home.dagster)) as instance:
        assert "planted" not in repr(instance.get_ref().to_dict())
        again = DagsterInstance.from_ref(instance.get_ref())
        assert again.run_storage._engine is instance.run_storage._engine  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"NTRO_INSTANCE_URL": "postgresql://u:planted@127.0.0.1:1/d"},
        {"NTRO_PLANE": "workspace"},
        {"NTRO_PLANE": "tenant", "NTRO_INSTANCE_URL": "postgresql://u:planted@127.0.0.1:1/d"},
        {"NTRO_PLANE": "workspace", "NTRO_INSTANCE_URL": ""},
    ],
)
def test_whoever_is_not_the_workspace_gets_the_relay(
    home: Home, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NTRO_PLANE", "NTRO_INSTANCE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NTRO_ARTIFACTS", "/the/tenants/own")
    write_instance(home)
    with DagsterInstance.from_config(str(home.dagster)) as instance:
        assert type(instance.run_storage).__name__ == "RelayRunStorage"
        assert type(instance.event_log_storage).__name__ == "RelayEventLogStorage"
        assert type(instance.schedule_storage).__name__ == "RelayScheduleStorage"
        assert "planted" not in repr(instance.get_ref().to_dict())
        if environment.get("NTRO_PLANE") != "workspace":
            assert instance.storage_directory() == "/the/tenants/own/storage"


def test_a_process_of_nobody_gets_no_directory(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NTRO_PLANE", "NTRO_ARTIFACTS"):
        monkeypatch.delenv(name, raising=False)
    write_instance(home)
    with pytest.raises(ArtifactsMissingError):
        DagsterInstance.from_config(str(home.dagster))


def test_workspace_has_one_server_per_tenant(home: Home) -> None:
    write_workspace(home, ["beta", "acme"])
    origins = location_origins_from_yaml_paths([str(home.workspace_file)])
    assert {origin.location_name: origin.socket for origin in origins} == {  # type: ignore[attr-defined]
        slug: str(home.tenant(slug).socket) for slug in ("acme", "beta")
    }
    write_workspace(home, [])
    assert location_origins_from_yaml_paths([str(home.workspace_file)]) == []


def test_reload_without_webserver_says_so() -> None:
    with pytest.raises(ReloadError) as error:
        reload_workspace("http://127.0.0.1:1")
    assert "URLError" in error.value.explain()
