"""What a tenant's code said of itself when it was deployed, in a process without data.

A name can be built from anything a process can read, and a secret may have the shape of an identifier. So the host lets the
code speak once where there is nothing to read (`ntro_dagster.tenant.survey`), and from then on the workspace knows of a
tenant's definitions what was said there. One file per tenant, on the workspace's side.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ntro_dagster.boundary import vocabulary as words
from ntro_dagster.boundary.names import SURVEYS
from ntro_dagster.errors import NtroError

FORMAT = 4


class DefinitionNotDeployedError(NtroError):
    code = "DEFINITION_NOT_DEPLOYED"
    summary = "the code that is running is not the code that was deployed"
    mend = "`ntro down`, then `ntro up`: deploys what is there and starts it"


@dataclass(frozen=True, slots=True)
class Survey:
    """One tenant's definitions, without text.

    Attributes:
        source: digest of the code that was asked, so that the same code is asked once.
        module, attribute: where the definitions are; `executable`: the Python that imports them.
        repository, jobs: Dagster's snapshots, in the form in which they travel.
        names: every name of code in them; `former`: those that earlier definitions had, which runs at work may bear still.
        statuses: every status that a row type of the tenant's has.
    """

    tenant: str
    source: str
    module: str
    attribute: str
    executable: str
    repository: dict[str, Any]
    jobs: dict[str, dict[str, Any]]
    names: frozenset[str]
    statuses: frozenset[str] = frozenset()
    former: frozenset[str] = frozenset()

    @classmethod
    def of(cls, tenant: str, source: str, said: dict[str, Any], *, module: str, executable: str) -> Survey:
        """From what `ntro_dagster.tenant.survey` printed. Raises `DefinitionRefusedError`."""
        from ntro_dagster.boundary.answers.definitions import rebuild  # noqa: PLC0415 - Dagster takes a second to import

        repository = rebuild("ExternalRepositoryData", said["repository"], tenant=tenant)
        rebuilt = [rebuild("ExternalPipelineData", job, tenant=tenant) for job in said["jobs"].values()]
        jobs = {job.content["name"]: job for job in rebuilt}
        made = cls(
            tenant,
            source,
            module,
            "defs",
            executable,
            repository.content,
            {name: job.content for name, job in jobs.items()},
            repository.names.union(*(job.names for job in jobs.values())),
            frozenset(filter(None, map(words.status, _statuses(said)))),
        )
        return replace(made, repository=made.identified(repository.content))

    def identified(self, repository: dict[str, Any]) -> dict[str, Any]:
        """`repository` with the digests of the jobs as they are shown, which are not those of the jobs as they are."""
        from dagster._core.snap import JobSnap  # noqa: PLC0415
        from dagster._serdes import deserialize_value  # noqa: PLC0415

        def identity(job: str) -> str:
            known = self.jobs.get(job)
            return deserialize_value(json.dumps(known["pipeline_snapshot"]), JobSnap).snapshot_id if known else ""

        refs = [{**ref, "snapshot_id": identity(ref["name"])} for ref in repository["external_job_refs"] or []]
        return {**repository, "external_job_refs": refs}

    def to_json(self) -> str:
        return json.dumps(
            {
                "format": FORMAT,
                "tenant": self.tenant,
                "source": self.source,
                "module": self.module,
                "attribute": self.attribute,
                "executable": self.executable,
                "repository": self.repository,
                "jobs": self.jobs,
                "names": sorted(self.names),
                "statuses": sorted(self.statuses),
                "former": sorted(self.former),
            },
            sort_keys=True,
        )

    @classmethod
    def from_json(cls, text: str) -> Survey:
        """Raises `DefinitionNotDeployedError` where an other release wrote it."""
        known = json.loads(text)
        if known.pop("format", None) != FORMAT:
            raise DefinitionNotDeployedError
        sets = {name: frozenset(known[name]) for name in ("names", "statuses", "former")}
        return cls(**{**known, **sets})

    def after(self, earlier: Survey) -> Survey:
        """This one, for a tenant in which runs may be at work on the code of `earlier`."""
        return replace(self, former=(earlier.names | earlier.former) - self.names)


def _statuses(said: dict[str, Any]) -> Iterator[Any]:
    """Of every row type that was described, as each edge of its lifecycle names them."""
    for kind in said.get("types", ()):
        for edge in kind["lifecycle"]["edges"]:
            yield edge["from"]
            yield edge["to"]


def survey_file(directory: Path, tenant: str) -> Path:
    return directory / f"{tenant}.json"


def survey_of(tenant: str, directory: Path | None = None) -> Survey:
    """The tenant's survey, read again where the file has changed.

    Args: `directory`: that of NTRO_SURVEYS where it is not given.

    Raises: `DefinitionNotDeployedError` where there is none.
    """
    path = survey_file(directory or Path(os.environ.get(SURVEYS, "/nonexistent")), tenant)
    try:
        return _read(path, path.stat().st_mtime_ns)
    except (OSError, ValueError, TypeError, KeyError):
        raise DefinitionNotDeployedError from None


@lru_cache(maxsize=512)
def _read(path: Path, _: int) -> Survey:
    return Survey.from_json(path.read_text())


def known_names(tenant: str, directory: Path | None = None) -> frozenset[str]:
    """The names of code (assets, ops, steps, outputs, checks, jobs, sensors, groups, resources) that may cross for this tenant.

    Raises: `DefinitionNotDeployedError`.
    """
    survey = survey_of(tenant, directory)
    return survey.names | survey.former


def known_statuses(tenant: str) -> frozenset[str]:
    """The statuses that may be counted for this tenant beside the platform's own; none where there is no survey."""
    try:
        return survey_of(tenant).statuses
    except DefinitionNotDeployedError:
        return frozenset()
