"""What this tenant's code defines, and which row types it has: `python -m ntro_dagster.tenant.survey`, for the host, which gives
it no data to define it by.

Neither does the machine, where its kernel can see to that (`tenant.seclusion`).

Prints one JSON object on standard output: the answer, or under `refused` why there is none and in which line of which bundle.
Whatever the code itself prints goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from ntro_dagster.startup import import_plain, pause_collector

    pause_collector()
    import_plain("dagster._core.storage.base_storage")

import ntro_dagster
from ntro_dagster.boundary.names import ACTIVE
from ntro_dagster.bundles import Bundle, platform_bundle
from ntro_dagster.bundles.active import ActiveSet, active_set
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.registry import subledger_types
from ntro_dagster.tenant.code_server import DEFINITIONS_MODULE, definitions_module
from ntro_dagster.tenant.declarations import Declarations
from ntro_dagster.tenant.load_failures import bundles_apart, load_failure
from ntro_dagster.tenant.seclusion import seclude


def survey(module: str, active: ActiveSet) -> dict[str, Any]:
    """Dagster's own description of everything in `module`, as its code server would give it; and what a deployment needs to know
    of the runbooks' row types and of the documents they read.
    """
    from dagster._core.remote_representation.external_data import JobDataSnap, RepositorySnap  # noqa: PLC0415
    from dagster._serdes import serialize_value  # noqa: PLC0415

    repository = importlib.import_module(module).defs.get_repository_def()
    repository.load_all_definitions()
    return {
        "repository": json.loads(serialize_value(RepositorySnap.from_def(repository, defer_snapshots=True))),
        "jobs": {
            job.name: json.loads(serialize_value(JobDataSnap.from_job_def(job, include_parent_snapshot=True)))
            for job in repository.get_all_jobs()
        },
        "types": _types(active.bundles),
        "pinned": _types(active.pinned),
        "reads": {str(bundle.slug): _reads(bundle) for bundle in active.bundles},
        "declared": {str(bundle.slug): _declared(bundle).as_json() for bundle in active.bundles},
    }


def _types(bundles: Sequence[Bundle]) -> list[dict[str, Any]]:
    return [TypeDescription.of(kind).as_json() for kind in subledger_types(*bundles)] if bundles else []


def _reads(bundle: Bundle) -> dict[str, list[str]]:
    """By table: the sources of the documents that it is filled from."""
    from ntro_dagster.orchestration.runbook import read_runbook  # noqa: PLC0415

    runbook = read_runbook(bundle)
    return {ledger.table: list(runbook.head.reads.get(ledger.name, ())) for ledger in runbook.ledgers}


def _declared(bundle: Bundle) -> Declarations:
    from ntro_dagster.orchestration.runbook import read_runbook  # noqa: PLC0415

    runbook = read_runbook(bundle)
    derivations = {each.name: ([kind.table for kind in each.inputs], each.ledger.earlier) for each in runbook.derivations}
    return Declarations(runbook.head.sources, derivations)


def main() -> None:
    said, sys.stdout = sys.stdout, sys.stderr
    chosen = [Path(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    package, platform = Path(ntro_dagster.__file__).parent, platform_bundle().root
    active = active_set()
    its_own = [Path(os.environ[ACTIVE]).parent] if ACTIVE in os.environ else []
    bundles = (*active.bundles, *active.pinned)
    seclude(
        [package, platform / "subledgers", platform / "migrations", *(b.root for b in bundles), *its_own, *chosen],
        listed=[] if its_own else [platform / "runbooks"],
    )
    with redirect_stdout(sys.stderr):
        try:
            with bundles_apart():
                found = survey(definitions_module(os.environ.get(DEFINITIONS_MODULE)), active)
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            found = {"refused": load_failure(error, active.bundles)}
    said.write(json.dumps(found))
    said.flush()


if __name__ == "__main__":
    main()
