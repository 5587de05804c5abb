"""Definitions of a tenant for the tests of the processes: one asset that is quick, two that wait to be killed, one that talks."""

import asyncio
import logging
import os
import threading
from pathlib import Path

from dagster import AssetExecutionContext, AssetKey, Definitions, asset, define_asset_job, in_process_executor

from ntro_dagster.orchestration.failures import Place, at_the_wall


@asset(key=AssetKey([os.environ["NTRO_TENANT"], "quick"]))
def quick() -> None:
    """Done at once."""


@asset(key=AssetKey([os.environ["NTRO_TENANT"], "slow"]))
def slow(context: AssetExecutionContext) -> None:
    """Says who it is, then waits for ever."""
    (Path(os.environ["STUB_DIRECTORY"]) / context.run_id).write_text(str(os.getpid()))
    threading.Event().wait()


@asset(key=AssetKey([os.environ["NTRO_TENANT"], "walled"]))
def walled(context: AssetExecutionContext) -> None:
    """As `slow`, the way our own steps wait."""
    (Path(os.environ["STUB_DIRECTORY"]) / context.run_id).write_text(str(os.getpid()))
    with at_the_wall(Place(context.run_id, "acme__walled")):
        asyncio.run(asyncio.sleep(3600))


@asset(key=AssetKey([os.environ["NTRO_TENANT"], "talks"]))
def talks(context: AssetExecutionContext) -> None:
    """Says something in every way, then ends the process, as far as it can."""
    print("said by print")
    context.log.info("said to the log of the step")
    logging.getLogger("a.library").info("said to a logger")
    with at_the_wall(Place(context.run_id, "acme__talks")):
        raise SystemExit("said on the way out")


defs = Definitions(
    assets=[quick, slow, walled, talks],
    jobs=[define_asset_job(f"{each.key.path[-1]}_job", [each]) for each in (quick, slow, walled, talks)],
    executor=in_process_executor,
)
