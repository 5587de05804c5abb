"""The lower limit of a month-end: the functions that runs call, one entity after the other in one process, without Dagster's.

Each is what its run does to the tenant's database, in the same order, over one connection for each role instead of new ones for
each step. What only a run needs (its own record, events, transcript) is not done.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from benchmarks.processor_time import between, used
from benchmarks.subject import SLUG
from benchmarks.unit import DESK_URL, authored, month_of
from ntro_dagster.host.home import Role
from ntro_dagster.host.installation import Installation, credential
from ntro_dagster.host.launch import read_environment
from ntro_dagster.orchestration.context import EntityRef
from ntro_dagster.tenant.entities import entity_by_slug


async def month_end(installation: Installation, entities: Sequence[str]) -> tuple[float, dict[str, float]]:
    """Documents must have been submitted. Returns: seconds; CPU seconds of this process, and of PostgreSQL."""
    authored()
    with bound(environment(installation)):
        async with month_of(entities[0]) as month:
            known = [await entity_by_slug(month.app, slug, tenant=SLUG) for slug in entities]
            await month.reader.connection(), await month.desk.connection()
            before, own, begun = used(installation), time.process_time(), time.monotonic()
            for entity in known:
                each = replace(month, entity=EntityRef(entity.id, entity.slug, entity.currency))
                await each.take_in()
                await each.close()
            seconds, mine, after = time.monotonic() - begun, time.process_time() - own, used(installation)
    return seconds, {"script": mine, "postgres": between(before, after)["postgres"]}


def environment(installation: Installation) -> dict[str, str]:
    """What a process needs to carry out the unit of work: the tenant's, and the desk's credential."""
    known = read_environment(installation.home.tenant(SLUG).process_env)
    ours = {name: known[name] for name in ("NTRO_TENANT", "NTRO_PLATFORM_URL", "NTRO_SALT")}
    return ours | {DESK_URL: credential(installation.home, SLUG, Role.DESK)}


@contextmanager
def bound(variables: Mapping[str, str]) -> Iterator[None]:
    """This process is the tenant's, and nobody's afterwards."""
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
