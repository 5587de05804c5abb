"""Where Dagster's own files go: `local_artifact_storage:` of dagster.yaml.

Dagster gives every process the workspace's directory, and a job that brings its own IO manager would write its values there.
Here a tenant's process gets the tenant's own directory.
"""

from __future__ import annotations

import os

from dagster._core.storage.root import LocalArtifactStorage, LocalArtifactStorageConfig
from dagster._serdes import ConfigurableClassData

from ntro_dagster.boundary.names import ARTIFACTS, PLANE, WORKSPACE
from ntro_dagster.errors import UsageError


class ArtifactsMissingError(UsageError):
    """Values: `name`."""

    code = "ARTIFACTS_MISSING"
    summary = "this process has no directory for Dagster's files"
    detail = "{name} is not set"
    mend = "start tenants' processes with `ntro up`, which gives them their environment"


class Artifacts(LocalArtifactStorage):
    """`base_dir` is the workspace's. A process that is neither the workspace's nor a tenant's gets none."""

    @classmethod
    def from_config_value(  # type: ignore[override] # Dagster narrows it too
        cls, inst_data: ConfigurableClassData | None, config_value: LocalArtifactStorageConfig
    ) -> LocalArtifactStorage:
        if os.environ.get(PLANE) == WORKSPACE:
            return LocalArtifactStorage(config_value["base_dir"], inst_data)
        directory = os.environ.get(ARTIFACTS)
        if not directory:
            raise ArtifactsMissingError(name=ARTIFACTS)
        return LocalArtifactStorage(directory, inst_data)
