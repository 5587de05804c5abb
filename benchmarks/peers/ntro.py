"""ntro as `ntro up` starts it: the unit as a job of the tenant's, through queue, launcher, relay and wall."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bare_month import environment
from benchmarks.installed import OURS, Connection, Way, installed, until, watching
from benchmarks.peers.processes import PeerFailedError
from benchmarks.peers.system import READY_PATIENCE_S, Up
from benchmarks.peers.venvs import REPOSITORY
from benchmarks.processor_time import used
from benchmarks.subject import PERIOD, SLUG
from benchmarks.unit import DESK_URL
from ntro_dagster.boundary.names import PARTITION_TAG, unit
from ntro_dagster.cli.webserver import REPOSITORY as IN_REPOSITORY
from ntro_dagster.host.dagster_instance import ReloadError, reload_workspace
from ntro_dagster.host.installation import Installation
from ntro_dagster.host.launch import read_environment, write_environment
from ntro_dagster.tenant.code_server import DEFINITIONS_MODULE

SUBMISSION_PATIENCE_S = 300
_LAUNCH = """
    mutation ($runs: [ExecutionParams!]!) { launchMultipleRuns(executionParamsList: $runs) {
      __typename ... on LaunchMultipleRunsResult { launchMultipleRunsResult { __typename } } } }"""


@dataclass(slots=True)
class Ntro:
    installation: Installation
    workspace: Connection
    job: str

    def submit(self, entities: Sequence[str]) -> None:
        """Raises: `PeerFailedError`."""
        body = {"query": _LAUNCH, "variables": {"runs": [self._run(entity) for entity in entities]}}
        request = urllib.request.Request(  # noqa: S310 - our own webserver
            f"{self.installation.addresses.dagster}/graphql", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=SUBMISSION_PATIENCE_S) as response:  # noqa: S310
            answer = json.load(response)
        launched = ((answer.get("data") or {}).get("launchMultipleRuns") or {}).get("launchMultipleRunsResult", [])
        well = [each["__typename"] for each in launched].count("LaunchRunSuccess")
        if well != len(entities):
            refused = sorted({each["__typename"] for each in launched} - {"LaunchRunSuccess"})
            raise PeerFailedError(f"Dagster took {well} of {len(entities)} runs: {', '.join(refused) or 'no answer'}")

    def unfinished(self) -> int:
        return self._count("status NOT IN ('SUCCESS', 'FAILURE', 'CANCELED')")

    def unsuccessful(self) -> int:
        return self._count("status IN ('FAILURE', 'CANCELED')")

    def used(self) -> dict[str, float]:
        return used(self.installation)

    def _run(self, entity: str) -> dict[str, Any]:
        key = f"{entity}|{PERIOD}"
        tags = {PARTITION_TAG: key, f"{PARTITION_TAG}/entity": entity, f"{PARTITION_TAG}/period": PERIOD, **unit(SLUG, key)}
        return {
            "selector": {"repositoryLocationName": SLUG, "repositoryName": IN_REPOSITORY, "jobName": self.job},
            "runConfigData": {},
            "executionMetadata": {"tags": [{"key": name, "value": value} for name, value in tags.items()]},
        }

    def _count(self, condition: str) -> int:
        row = self.workspace.execute(f"SELECT count(*) FROM runs WHERE {condition}").fetchone()
        assert row
        return int(row[0])


def ntro(steps: int, way: Way = OURS) -> Up:
    """Args: `way`: how its runs are started and stored."""

    @contextmanager
    def up(entities: Sequence[str]) -> Iterator[Ntro]:
        places = os.pathsep.join(map(str, (Path(__file__).parents[1] / "jobs", REPOSITORY)))
        code = {DEFINITIONS_MODULE: "unit", "PYTHONPATH": places}
        with installed(way.running(code), entities=entities, started=False) as installation:
            file = installation.home.tenant(SLUG).process_env
            write_environment(file, read_environment(file) | {DESK_URL: environment(installation)[DESK_URL]})
            installation.start_services()
            with watching(installation) as workspace:
                until(lambda: _loaded(installation), READY_PATIENCE_S)
                yield Ntro(installation, workspace, "one_step" if steps == 1 else "two_steps")

    return up


def _loaded(installation: Installation) -> bool:
    try:
        return reload_workspace(installation.addresses.dagster).get(SLUG, False)
    except ReloadError:
        return False
