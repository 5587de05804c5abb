"""The unit of work as a flow."""

from prefect import flow

from benchmarks.peers.without_dagster import unit


@flow
def month(entity: str) -> None:
    unit.whole(entity)
