"""Imported before runs are forked (`tenant.fork_server`): whatever is ready here, no run pays for.

No thread may be started and no connection opened by this, as a fork takes neither along.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import ntro_dagster.boundary.compute_logs
import ntro_dagster.boundary.relay.client
import ntro_dagster.orchestration.launcher
import ntro_dagster.tenant.journal
import ntro_dagster.tenant.run_worker  # noqa: F401 - knows the fork server by having been imported here
from ntro_dagster.ingest.returns.vocabulary import vocabulary
from ntro_dagster.tenant.code_server import DEFINITIONS_MODULE, definitions_module
from ntro_dagster.tenant.first_run import run_for_nobody

WITHIN_FUNCTIONS = (
    "dagster._core.execution.plan.active",
    "dagster._core.executor.in_process",
    "dagster._core.instance.factory",
    "dagster._core.secrets.env_file",
    "dagster._core.storage.root",
    "dagster._core.storage.sqlite_storage",
    "dagster._core.system_config.composite_descent",
    "dagster._core.utility_ops",
    "dagster._utils.test.definitions",
    "multiprocessing.popen_forkserver",
    "multiprocessing.queues",
    "multiprocessing.synchronize",
    "ntro_dagster.boundary.artifacts",
    "ntro_dagster.boundary.instance_storage",
    "upath.core",
    "upath.implementations.local",
    "upath.types._abc",
)
"""What every run would import on its way (a test lists it): a quarter of what one that does nothing costs."""


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Dagster takes a signal that ends us for one that ends its run, which goes on, or fails. It is heard afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def warm() -> None:
    """Import the definitions and build what is built lazily."""
    for name in WITHIN_FUNCTIONS:
        importlib.import_module(name)
    module = importlib.import_module(definitions_module(os.environ.get(DEFINITIONS_MODULE)))
    module.defs.get_repository_def().load_all_definitions()
    with _undisturbed():
        run_for_nobody()
    vocabulary()  # the YAML takes as long to read as a small return
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page it visits


warm()
