"""A tenant's worker: executes the runs whose ids it reads, says which is done, and keeps what it sent.

`python stream.py DAGSTER_HOME SLUG STEPS JOURNAL`
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path

from dagster import DagsterInstance
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run_iterator
from world import definitions

from ntro_dagster.boundary.relay import connection, gathering
from ntro_dagster.boundary.relay.calls import STORE_EVENTS, TELL_AND_ASK
from ntro_dagster.boundary.relay.connection import Sent


def main() -> None:
    directory, slug, steps, journal = sys.argv[1:]
    connection.patience_s = 120.0
    job = InMemoryJob(definitions(slug, int(steps)).resolve_job_def("month_end"))
    with Path(journal).open("a", buffering=1) as kept, DagsterInstance.from_config(directory) as instance:

        def keep(sent: Sent) -> None:
            events = (
                sent.body.partition(b"\n")[2] if sent.call == TELL_AND_ASK else sent.body if sent.call == STORE_EVENTS else b""
            )
            if events:
                kept.write(f"{sent.run_id} {base64.b64encode(events).decode()}\n")

        connection.keep = keep
        gathering.begin()
        for line in sys.stdin:
            run = instance.get_run_by_id(line.strip())
            assert run
            list(execute_run_iterator(job, run, instance))
            gathering.end()
            print(run.run_id, flush=True)


if __name__ == "__main__":
    main()
