"""Imported by the fork server of run workers, and by nobody else: whatever is ready here, no run pays for.

No thread may be started and no connection opened by this, as a fork takes neither along.
"""

from __future__ import annotations

import gc
import importlib
import os

import dagster._grpc.impl  # noqa: F401 - what a worker runs

import ntro_dagster.boundary.compute_logs
import ntro_dagster.boundary.relay.client
import ntro_dagster.orchestration.launcher
import ntro_dagster.tenant.journal
import ntro_dagster.tenant.run_worker  # noqa: F401 - knows the fork server by having been imported here
from ntro_dagster.tenant.code_server import DEFINITIONS_MODULE, definitions_module


def warm() -> None:
    """Import the definitions and build what is built lazily."""
    module = importlib.import_module(definitions_module(os.environ.get(DEFINITIONS_MODULE)))
    module.defs.get_repository_def().load_all_definitions()
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page it visits


warm()
