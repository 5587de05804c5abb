"""What this tenant's code defines: `python -m ntro_dagster.tenant.survey`, for the host, which gives it no data to define it by.

Neither does the machine, where its kernel can see to that (`tenant.seclusion`).

Prints one JSON object on standard output; whatever the code itself prints goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import ntro_dagster
from ntro_dagster.bundles import platform_bundle, runbook_bundles
from ntro_dagster.subledger.registry import subledger_types
from ntro_dagster.tenant.code_server import DEFINITIONS_MODULE, definitions_module
from ntro_dagster.tenant.seclusion import seclude


def survey(module: str) -> dict[str, Any]:
    """Dagster's own description of everything in `module`, as its code server would give it."""
    from dagster._core.remote_representation.external_data import JobDataSnap, RepositorySnap  # noqa: PLC0415
    from dagster._serdes import serialize_value  # noqa: PLC0415

    repository = importlib.import_module(module).defs.get_repository_def()
    repository.load_all_definitions()
    return {
        "statuses": sorted({status for kind in subledger_types() for status in kind.model.lifecycle.statuses}),
        "repository": json.loads(serialize_value(RepositorySnap.from_def(repository, defer_snapshots=True))),
        "jobs": {
            job.name: json.loads(serialize_value(JobDataSnap.from_job_def(job, include_parent_snapshot=True)))
            for job in repository.get_all_jobs()
        },
    }


def main() -> None:
    said, sys.stdout = sys.stdout, sys.stderr
    chosen = [Path(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    package, platform = Path(ntro_dagster.__file__).parent, platform_bundle().root
    shipped = [package, platform / "subledgers", platform / "migrations", *(bundle.root for bundle in runbook_bundles())]
    seclude([*shipped, *chosen], listed=[platform / "runbooks"])
    with redirect_stdout(sys.stderr):
        found = survey(definitions_module(os.environ.get(DEFINITIONS_MODULE)))
    said.write(json.dumps(found))


if __name__ == "__main__":
    main()
