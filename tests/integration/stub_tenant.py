"""Definitions of a tenant for the tests of the processes: one asset that is quick, one that waits to be killed."""

import os
import threading
from pathlib import Path

from dagster import AssetExecutionContext, AssetKey, Definitions, asset, define_asset_job, in_process_executor


@asset(key=AssetKey(["acme", "quick"]))
def quick() -> None:
    """Done at once."""


@asset(key=AssetKey(["acme", "slow"]))
def slow(context: AssetExecutionContext) -> None:
    """Says who it is, then waits for ever."""
    (Path(os.environ["STUB_DIRECTORY"]) / context.run_id).write_text(str(os.getpid()))
    threading.Event().wait()


defs = Definitions(
    assets=[quick, slow],
    jobs=[define_asset_job("quick_job", [quick]), define_asset_job("slow_job", [slow])],
    executor=in_process_executor,
)
