"""The unit of work as DAGs of one task and of two."""

from typing import Any

from airflow.sdk import dag, get_current_context, task

from benchmarks.peers.without_dagster import unit

AT_ONCE = 10_000
"""Runs and tasks of a DAG: no limit but the executor's."""


def _entity() -> str:
    context: dict[str, Any] = get_current_context()
    return str(context["dag_run"].conf["entity"])


@dag(schedule=None, max_active_runs=AT_ONCE, max_active_tasks=AT_ONCE)
def one_step() -> None:
    @task
    def whole() -> None:
        unit.whole(_entity())

    whole()


@dag(schedule=None, max_active_runs=AT_ONCE, max_active_tasks=AT_ONCE)
def two_steps() -> None:
    @task
    def take_in() -> None:
        unit.take_in(_entity())

    @task
    def close() -> None:
        unit.close(_entity())

    take_in() >> close()


one_step()
two_steps()
