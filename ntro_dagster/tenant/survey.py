"""What this tenant's code defines: `python -m ntro_dagster.tenant.survey`, for the host, which gives it no data to define it by.

Prints one JSON object on standard output; whatever the code itself prints goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from contextlib import redirect_stdout
from typing import Any

from ntro_dagster.tenant.code_server import DEFINITIONS_MODULE, definitions_module

ATTRIBUTE = "defs"


def survey(module: str) -> dict[str, Any]:
    """Dagster's own description of everything in `module`, as its code server would give it."""
    from dagster._core.remote_representation.external_data import JobDataSnap, RepositorySnap  # noqa: PLC0415
    from dagster._serdes import serialize_value  # noqa: PLC0415

    repository = getattr(importlib.import_module(module), ATTRIBUTE).get_repository_def()
    repository.load_all_definitions()
    return {
        "module": module,
        "attribute": ATTRIBUTE,
        "executable": sys.executable,
        "repository": json.loads(serialize_value(RepositorySnap.from_def(repository, defer_snapshots=True))),
        "jobs": {
            job.name: json.loads(serialize_value(JobDataSnap.from_job_def(job, include_parent_snapshot=True)))
            for job in repository.get_all_jobs()
        },
    }


def main() -> None:
    said, sys.stdout = sys.stdout, sys.stderr
    with redirect_stdout(sys.stderr):
        found = survey(definitions_module(os.environ.get(DEFINITIONS_MODULE)))
    said.write(json.dumps(found))


if __name__ == "__main__":
    main()
