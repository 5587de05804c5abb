"""Values stay in the tenant's database: an asset that returns one fails, instead of writing it beside the workspace."""

from __future__ import annotations

from typing import Any

from dagster import InputContext, IOManager, OutputContext

from ntro_dagster.errors import UsageError
from ntro_dagster.orchestration.failures import Place, at_the_wall


class ValueReturnedError(UsageError):
    code = "VALUE_RETURNED"
    summary = "an asset returned a value"
    detail = "asset {asset} returned a value; nothing was stored"
    mend = "put rows into a subledger, and return a MaterializeResult with counts, or nothing"


class ValueAskedForError(UsageError):
    code = "VALUE_ASKED_FOR"
    summary = "an asset asks for the value of another one"
    detail = "an asset takes {asset} as an argument"
    mend = "name it with `deps=` and read its rows through `run.open(…)`"


class RefusesValues(IOManager):
    """The `io_manager` of every tenant."""

    def handle_output(self, context: OutputContext, obj: Any) -> None:
        if obj is not None:
            partition = context.partition_key if context.has_partition_key else None
            with at_the_wall(Place(context.run_id, context.step_key, partition)):
                raise ValueReturnedError(asset=context.step_key)

    def load_input(self, context: InputContext) -> None:
        with at_the_wall(Place(context.step_context.run_id, context.step_context.step.key)):
            raise ValueAskedForError(asset=context.name)
