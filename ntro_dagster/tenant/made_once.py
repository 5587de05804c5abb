"""What Dagster makes anew each time, made once: the instance's configuration, the part of a job that a run is over, and what the
workspace is told of the definitions.

It builds that part in each run, and in the code server for both questions about a run that is to be. Definitions never change, so
a part is the same for as long as its job is there; new code comes with new jobs.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from dagster import JobDefinition, RepositoryDefinition
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._core.selector.subset_selector import AssetSelectionData
from dagster._serdes import serialize_value

from ntro_dagster.boundary.instance_texts import read_each_once

MOST = 128
"""Parts of one job that are kept: a sensor asks for a few, people for whatever they like."""

_KEPT, _TOLD = "_ntro_parts", "_ntro_told"

_build = JobDefinition._get_job_def_for_asset_selection


def _built_once(self: JobDefinition, selection: AssetSelectionData) -> JobDefinition:
    checks = selection.asset_check_selection
    asked = frozenset(selection.asset_selection), None if checks is None else frozenset(checks)
    kept: OrderedDict[Any, JobDefinition] = vars(self).setdefault(_KEPT, OrderedDict())
    part = kept.get(asked)
    if part is None:
        part = kept[asked] = _build(self, selection)
        if len(kept) > MOST:
            kept.popitem(last=False)
    return part


def told_of(repository: RepositoryDefinition) -> str:
    """What the workspace asks first of definitions, as it is sent; what it asks of each job is ready too.

    Made before the fork, it is read afterwards without a word written to the pages that are shared. Dagster makes it anew for
    each who asks, the first time on several threads at once, and perhaps while the code is being exchanged.
    """
    text: str | None = vars(repository).get(_TOLD)
    if text is None:
        RepositorySnap.from_def(repository)  # makes the jobs, and keeps them
        text = vars(repository)[_TOLD] = serialize_value(RepositorySnap.from_def(repository, defer_snapshots=True))
    return text


def make_each_once() -> None:
    """In this process, and in those that are forked from it, from now on."""
    read_each_once()
    JobDefinition._get_job_def_for_asset_selection = _built_once  # type: ignore[method-assign,assignment]
