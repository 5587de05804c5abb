"""Dagster's two configuration files, dagster.yaml and workspace.yaml, and telling the webserver to read the second again.

No value in them is secret: which storages a process opens, its own environment decides (`boundary.instance_storage`).
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import yaml

from ntro_dagster.boundary.names import UNIT_TAG
from ntro_dagster.errors import TransientError
from ntro_dagster.host.home import Home, TenantHome, write_private

HEADER = "# Written by ntro at every start: changes here are lost.\n"
RELOAD = """
mutation { reloadWorkspace { __typename
  ... on Workspace { locationEntries { name locationOrLoadError { __typename } } }
  ... on UnauthorizedError { message }
  ... on PythonError { className } } }
"""
RELOAD_ONE = "mutation ($name: String!) { reloadRepositoryLocation(repositoryLocationName: $name) { __typename } }"


RUNS, RUNS_OF_A_TENANT = 6, 4
"""At once. A run waits for its database half of its time: two of a tenant leave a third of two cores idle."""


class ReloadError(TransientError):
    """The webserver did not take up the new workspace. Values: `url`, `reason`."""

    code = "WORKSPACE_RELOAD_FAILED"
    summary = "the webserver did not reload the workspace"
    detail = "the webserver at {url} did not reload the workspace: {reason}"
    mend = "See `ntro status`; if the webserver runs, reload in its Deployment page, or `ntro up` again."


def instance_config(home: Home, *, max_concurrent_runs: int = RUNS, runs_per_tenant: int = RUNS_OF_A_TENANT) -> dict[str, Any]:
    """The content of dagster.yaml.

    Args:
        home: whose.
        max_concurrent_runs: of the whole workspace.
        runs_per_tenant: so that one client's backfill does not hold up the others.
    """
    per_value = {"applyLimitPerUniqueValue": True}
    threads = {"use_threads": True, "num_workers": 4}
    return {
        "storage": {
            "custom": {
                "module": "ntro_dagster.boundary.instance_storage",
                "class": "InstanceStorage",
                "config": {},
            }
        },
        "local_artifact_storage": {
            "module": "ntro_dagster.boundary.artifacts",
            "class": "Artifacts",
            "config": {"base_dir": str(home.dagster)},
        },
        "run_launcher": {
            "module": "ntro_dagster.orchestration.launcher",
            "class": "NtroRunLauncher",
            "config": {},
        },
        "run_coordinator": {
            "module": "dagster._core.run_coordinator",
            "class": "QueuedRunCoordinator",
            "config": {
                "dequeue_interval_seconds": 1,
                "dequeue_use_threads": True,
                "dequeue_num_workers": max_concurrent_runs,
                # a code server that is restarting: tried again instead of failed
                "max_user_code_failure_retries": 3,
                "user_code_failure_retry_delay": 10,
            },
        },
        "concurrency": {
            "runs": {
                "max_concurrent_runs": max_concurrent_runs,
                "tag_concurrency_limits": [
                    {"key": "dagster/code_location", "value": per_value, "limit": runs_per_tenant},
                    {"key": UNIT_TAG, "value": per_value, "limit": 1},
                ],
            }
        },
        "run_monitoring": {
            "enabled": True,
            "poll_interval_seconds": 5,
            "start_timeout_seconds": 60,
            "cancel_timeout_seconds": 60,
            "max_resume_run_attempts": 0,
        },
        "run_retries": {"enabled": False},  # a sensor of ours starts the next generation, if any
        "sensors": {**threads, "num_submit_workers": 4},
        "schedules": {**threads, "num_submit_workers": 4},
        "backfills": {**threads, "num_submit_workers": 4},
        "compute_logs": {
            "module": "ntro_dagster.boundary.compute_logs",
            "class": "TenantComputeLogs",
            "config": {},
        },
        "python_logs": {"python_log_level": "DEBUG"},  # heard by the tenant; the wall drops log lines
        "telemetry": {"enabled": False},
        "nux": {"enabled": False},
        "retention": {
            "sensor": {"purge_after_days": {"skipped": 2, "success": 30, "failure": 90}},
            "schedule": {"purge_after_days": {"skipped": 30, "success": 365, "failure": 365}},
        },
    }


def workspace_config(tenants: Iterable[TenantHome]) -> dict[str, Any]:
    """The content of workspace.yaml: one gRPC server per tenant, on its socket."""
    servers = [{"grpc_server": {"socket": str(tenant.socket), "location_name": tenant.slug}} for tenant in tenants]
    return {"load_from": sorted(servers, key=lambda entry: entry["grpc_server"]["location_name"])}


def write_instance(home: Home, *, max_concurrent_runs: int = RUNS, runs_per_tenant: int = RUNS_OF_A_TENANT) -> None:
    """Write dagster.yaml; takes effect when webserver, daemon and code servers start."""
    content = instance_config(home, max_concurrent_runs=max_concurrent_runs, runs_per_tenant=runs_per_tenant)
    write_private(home.dagster / "dagster.yaml", HEADER + yaml.safe_dump(content, sort_keys=False), readers=home.workspace_user)


def write_workspace(home: Home, tenants: Iterable[str]) -> None:
    """Write workspace.yaml for these slugs. The daemon sees it within 5 s, the webserver at `reload_workspace()`."""
    content = workspace_config(home.tenant(slug) for slug in tenants)
    write_private(home.workspace_file, HEADER + yaml.safe_dump(content, sort_keys=False), readers=home.workspace_user)


def reload_workspace(webserver_url: str, timeout: float = 60.0) -> dict[str, bool]:
    """Have the webserver read workspace.yaml again.

    Args:
        webserver_url: `http://127.0.0.1:3000`.
        timeout: seconds.

    Returns:
        Whether it loaded, per location.

    Raises:
        ReloadError: no webserver there, or it refuses.
    """
    answer = _asked(webserver_url, {"query": RELOAD}, "reloadWorkspace", timeout)
    if answer["__typename"] != "Workspace":
        raise ReloadError(url=webserver_url, reason=answer["__typename"])
    return {
        entry["name"]: (entry["locationOrLoadError"] or {}).get("__typename") == "RepositoryLocation"
        for entry in answer["locationEntries"]
    }


def reload_location(webserver_url: str, tenant: str, timeout: float = 60.0) -> None:
    """Have a webserver ask one tenant's code server again, if it runs; the others are left alone."""
    with suppress(ReloadError):
        _asked(webserver_url, {"query": RELOAD_ONE, "variables": {"name": tenant}}, "reloadRepositoryLocation", timeout)


def _asked(webserver_url: str, query: dict[str, Any], field: str, timeout: float) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310 - our own webserver
        f"{webserver_url.rstrip('/')}/graphql",
        data=json.dumps(query).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310
            found: dict[str, Any] = json.load(response)["data"][field]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReloadError(url=webserver_url, reason=type(error).__name__) from None
    return found
