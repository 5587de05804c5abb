"""Imported before runs are forked (`tenant.fork_server`): whatever is ready here, no run pays for.

No thread may be started and no connection opened by this, as a fork takes neither along.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
from collections.abc import Iterator, Set
from contextlib import contextmanager
from functools import partial
from typing import Any

from ntro_dagster.startup import pause_collector, resume_collector

AT_THE_TOP = (
    "ntro_dagster.boundary.compute_logs",
    "ntro_dagster.boundary.relay.client",
    "ntro_dagster.orchestration.launcher",
    "ntro_dagster.tenant.journal",
    "ntro_dagster.tenant.run_worker",  # knows the fork server by having been imported here
    # what the code server itself goes on with: in memory that it shares
    "ntro_dagster.boundary.load_failure",
    "ntro_dagster.tenant.answers",
    "ntro_dagster.tenant.api_server",
    "ntro_dagster.tenant.loading",
    "ntro_dagster.tenant.outgoing",
    "ntro_dagster.tenant.waking",
)

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
    pause_collector()
    try:
        _get_warm()
        gc.collect()
    finally:
        resume_collector()  # a collection of what there is now would copy every page it visits into the child that runs it


def _get_warm() -> None:
    for name in (*AT_THE_TOP, *WITHIN_FUNCTIONS):
        importlib.import_module(name)
    from dagster._core.definitions.assets.job.asset_job import IMPLICIT_ASSET_JOB_NAME  # noqa: PLC0415

    from ntro_dagster.ingest.returns.vocabulary import vocabulary  # noqa: PLC0415
    from ntro_dagster.orchestration.sensors import likely_parts  # noqa: PLC0415
    from ntro_dagster.tenant.code_server import DEFINITIONS_MODULE, definitions_module  # noqa: PLC0415
    from ntro_dagster.tenant.first_run import run_for_nobody  # noqa: PLC0415
    from ntro_dagster.tenant.made_once import make_each_once  # noqa: PLC0415
    from ntro_dagster.tenant.pipes import without_tracker  # noqa: PLC0415

    make_each_once()
    without_tracker()  # where this is a fresh interpreter
    module = importlib.import_module(definitions_module(os.environ.get(DEFINITIONS_MODULE)))
    repository = module.defs.get_repository_def()
    repository.load_all_definitions()
    for job in repository.get_all_jobs():
        if job.name != IMPLICIT_ASSET_JOB_NAME:
            for part in (job, *map(partial(_part, job), likely_parts(job.asset_layer.executable_asset_keys))):
                part.run_config_schema  # noqa: B018 - made when it is first asked for
    with _undisturbed():
        run_for_nobody()
    vocabulary()  # the YAML takes as long to read as a small return


def _part(job: Any, keys: Set[Any]) -> Any:
    """As a sensor's run has it."""
    return job.get_subset(asset_selection=frozenset(keys), asset_check_selection=frozenset())


warm()
