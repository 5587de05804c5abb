"""Which storages a Dagster process opens: `storage: custom:` of dagster.yaml, without any configuration.

Only a process that says it is the workspace's, and holds the address of its database, gets the database. Every other one gets
the relay, whatever it is and whoever started it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from dagster._config.config_schema import UserConfigSchema
from dagster._core.storage.base_storage import DagsterStorage
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from ntro_dagster.boundary.names import INSTANCE_URL, PLANE, WORKSPACE


class InstanceStorage(DagsterStorage, ConfigurableClass):
    """Never made itself: `from_config_value` returns one of the two."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> DagsterStorage:  # type: ignore[override]
        url = os.environ.get(INSTANCE_URL)
        if os.environ.get(PLANE) == WORKSPACE and url:
            from ntro_dagster.boundary.storage import PooledPostgresStorage  # noqa: PLC0415 - not for tenants' processes

            return PooledPostgresStorage(url, inst_data=inst_data)
        from ntro_dagster.boundary.relay.client import RelayStorage  # noqa: PLC0415 - not for the workspace's

        return RelayStorage(inst_data=inst_data)
