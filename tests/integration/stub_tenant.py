"""Definitions of a tenant for the tests of the processes: one asset that is quick, two that wait to be killed, one that talks."""

import asyncio
import logging
import os
import sys
import threading
from pathlib import Path

from dagster import AssetExecutionContext, AssetKey, Definitions, asset, define_asset_job, in_process_executor
from dagster_shared.record import JitCheckedNew

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


@asset(key=AssetKey([os.environ["NTRO_TENANT"], "eats"]))
def eats(context: AssetExecutionContext) -> None:
    """Wants more memory than it may have."""
    with at_the_wall(Place(context.run.run_id, "acme__eats")):
        bytearray(8 * 2**30)


@asset(key=AssetKey([os.environ["NTRO_TENANT"], "spins"]))
def spins(context: AssetExecutionContext) -> None:
    """Computes for ever."""
    with at_the_wall(Place(context.run.run_id, "acme__spins")):
        while True:
            pass


_known: set[str] = set()
_compiled: list[str] = []
os.register_at_fork(after_in_child=lambda: (_known.update(sys.modules), _compiled.clear()))
_build = JitCheckedNew._build_checked_new_str


def _noted(self: JitCheckedNew) -> str:
    _compiled.append(f"the checks of a record of {', '.join(self._field_set)}")
    return _build(self)


JitCheckedNew._build_checked_new_str = _noted  # type: ignore[method-assign]


@asset(key=AssetKey([os.environ["NTRO_TENANT"], "imports"]))
def imports(context: AssetExecutionContext) -> None:
    """Says which modules its process had to import since it was forked, and which records' checks Dagster compiled in it."""
    (Path(os.environ["STUB_DIRECTORY"]) / context.run_id).write_text(
        "\n".join([*sorted(sys.modules.keys() - _known), *_compiled])
    )


ASSETS = [quick, slow, walled, talks, eats, spins, imports]

defs = Definitions(
    assets=ASSETS,
    jobs=[define_asset_job(f"{each.key.path[-1]}_job", [each]) for each in ASSETS],
    executor=in_process_executor,
)
