"""A run that does nothing and that nobody keeps, so that none after it is the first: Dagster compiles the checks of each kind of
record when one is made, which took a twentieth of every short run.
"""

# No `from __future__ import annotations`: Dagster inspects the annotation of `context`.
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from dagster import (
    AssetExecutionContext,
    AssetObservation,
    AssetSpec,
    DagsterInstance,
    DagsterRun,
    DataVersion,
    Definitions,
    DynamicPartitionsDefinition,
    MaterializeResult,
    MultiPartitionKey,
    MultiPartitionsDefinition,
    StaticPartitionsDefinition,
    define_asset_job,
    in_process_executor,
    multi_asset,
)
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.dagster_run import RunRecord
from dagster._grpc.types import ExecuteExternalJobArgs, ExecuteRunArgs
from dagster._serdes import deserialize_value, serialize_value
from dagster._time import get_current_datetime

from ntro_dagster.boundary.relay import encoding

NAME = "nobodys"
PARTITIONS = MultiPartitionsDefinition(
    {"entity": DynamicPartitionsDefinition(name=NAME), "period": StaticPartitionsDefinition(["2000-01"])}
)


@multi_asset(specs=[AssetSpec(NAME, partitions_def=PARTITIONS)], can_subset=True)
def nothing(context: AssetExecutionContext) -> Iterator[MaterializeResult[None]]:
    context.log_event(AssetObservation(NAME, partition=context.partition_key, metadata={"rows": 1}))
    yield MaterializeResult(NAME, metadata={"rows": 1}, data_version=DataVersion("1"))


def run_for_nobody() -> None:
    """Leaves no thread, no connection and no file."""
    job = define_asset_job(NAME, [nothing], partitions_def=PARTITIONS, executor_def=in_process_executor)
    resolved = Definitions(assets=[nothing], jobs=[job]).resolve_job_def(NAME)
    with _silence(), DagsterInstance.ephemeral() as nowhere:
        nowhere.add_dynamic_partitions(NAME, [NAME])
        resolved.execute_in_process(partition_key=MultiPartitionKey({"entity": NAME, "period": "2000-01"}), instance=nowhere)
    code = RepositoryPythonOrigin("", ModuleCodePointer(NAME, NAME))
    deserialize_value(serialize_value(ExecuteRunArgs(JobPythonOrigin(NAME, code), NAME, None)), ExecuteRunArgs)
    server = GrpcServerCodeLocationOrigin(host="localhost", port=1, location_name=NAME)
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(server, NAME), NAME)
    run = DagsterRun(NAME, remote_job_origin=origin)
    ExecuteExternalJobArgs(job_origin=origin, run_id=NAME, instance_ref=None)
    now = get_current_datetime()
    encoding.loads(encoding.dumps(RunRecord(0, run, now, now)))


@contextmanager
def _silence() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)
