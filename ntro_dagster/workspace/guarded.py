"""What the webserver and the daemon have in common: the second guard stands before either hears of a tenant."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ntro_dagster.boundary.names import INSTANCE_URL, entities_set
from ntro_dagster.startup import import_plain

WORKSPACE_OPTION = "-w"


def install_guard(arguments: list[str]) -> None:
    """Args: `arguments`: those of Dagster's own program, with `-w FILE` for the workspace."""
    import_plain("ntro_dagster.boundary.storage")
    from ntro_dagster.boundary.answers.guard import Guard, install  # noqa: PLC0415 - Dagster takes a second to import
    from ntro_dagster.boundary.instance_texts import read_each_once  # noqa: PLC0415
    from ntro_dagster.workspace.kept_channels import keep_channels  # noqa: PLC0415

    read_each_once()
    keep_channels()
    install(Guard(location_at=locations(workspace_file(arguments)), entities=_entities))
    ask_again()


def ask_again() -> None:
    """From now on a code server that answered with an error is asked again every ten seconds, as Dagster asks one that did not
    answer: of an answer behind the guard nobody here can tell whether it will last.
    """
    from dagster._core.errors import DagsterUserCodeUnreachableError  # noqa: PLC0415
    from dagster._grpc import server_watcher  # noqa: PLC0415
    from dagster_shared.record import replace  # noqa: PLC0415

    stock = server_watcher.create_grpc_watch_thread

    def watching(*given: Any, get_location_entry: Callable[[str], Any], **more: Any) -> Any:
        def entry(location: str) -> Any:
            found = get_location_entry(location)
            if found is None or found.load_error is None:
                return found
            return replace(found, load_error=replace(found.load_error, cls_name=DagsterUserCodeUnreachableError.__name__))

        return stock(*given, get_location_entry=entry, **more)

    server_watcher.create_grpc_watch_thread = watching


def workspace_file(arguments: list[str]) -> Path:
    return Path(arguments[arguments.index(WORKSPACE_OPTION) + 1])


def locations(workspace: Path) -> Callable[[str], str | None]:
    """Whose code server listens at an address, after workspace.yaml, which is read again when it changes."""
    known: dict[str, str] = {}
    read_at: int | None = None

    def location_at(address: str) -> str | None:
        nonlocal known, read_at
        written = workspace.stat().st_mtime_ns
        if written != read_at:
            servers = [entry["grpc_server"] for entry in yaml.safe_load(workspace.read_text())["load_from"]]
            known = {_address(server): server["location_name"] for server in servers}
            read_at = written
        return known.get(address)

    return location_at


def _address(server: dict[str, str]) -> str:
    return server.get("socket") or f"{server.get('host', 'localhost')}:{server['port']}"


def _entities(tenant: str) -> frozenset[str]:
    return frozenset(_storage().event_log_storage.get_dynamic_partitions(entities_set(tenant)))


@cache
def _storage():  # type: ignore[no-untyped-def] # its type takes a second to import
    from ntro_dagster.boundary.storage import PooledPostgresStorage  # noqa: PLC0415

    return PooledPostgresStorage(os.environ[INSTANCE_URL])
