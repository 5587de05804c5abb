"""What is set of a workflow's parameters, in the tenant's database and nowhere else. Written as the database's owner."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from ntro_dagster.bundles.check import BundleProblemsError
from ntro_dagster.bundles.parameter_values import Stored, misfits, must_satisfy
from ntro_dagster.bundles.problems import Problem
from ntro_dagster.bundles.runbook_md import FILE, read_page
from ntro_dagster.errors import TransientError
from ntro_dagster.tenant.workflows import hold_workflows

Given = Mapping[str, Stored | None]
"""By name. None: the runbook's default again."""


class ActiveVersionMovedError(TransientError):
    """Values: `slug`."""

    code = "ACTIVE_VERSION_MOVED"
    summary = "another version has become active meanwhile"
    detail = "another version of {slug} has become active meanwhile; nothing was set"
    mend = "try again: the values are then checked against the one that is active now"


class ParametersUnsatisfiedError(BundleProblemsError):
    """Values: `problems`, `first`, `others`, `first_mend`."""

    code = "PARAMETERS_UNSATISFIED"
    summary = "what is set of a binding's parameters does not satisfy the version to be active"
    mend = "nothing was deployed. {first_mend}"


def set_values(
    owner_dsn: str,
    workflow: UUID,
    given: Given,
    *,
    runbook: str,
    version: str,
    schema: Mapping[str, Any],
    only: bool,
    by: str,
    active: bool,
) -> dict[str, Stored]:
    """Record what differs from what is set; returns what `version` finds set afterwards.

    Args:
        version: whose `schema` the values must satisfy, all of them together.
        only: whether they are for this version alone.
        active: whether that version is the one that was found active: refused where it is so no more.

    Raises: `ParameterInvalidError`, `ActiveVersionMovedError`.
    """
    with psycopg.connect(owner_dsn) as connection:
        hold_workflows(connection)
        if active:
            found = connection.execute("SELECT version FROM system.active_runbooks WHERE slug = %s", [runbook]).fetchone()
            if found and found[0] != version:
                raise ActiveVersionMovedError(slug=runbook)
        before = _of(connection, workflow, version)
        changed = {
            name: value for name, value in given.items() if before.get(name) != value or type(before.get(name)) is not type(value)
        }
        after = {name: value for name, value in {**before, **given}.items() if value is not None}
        must_satisfy(schema, after)
        connection.execute(
            """INSERT INTO system.workflow_parameters (workflow_id, name, value, version, set_by)
               SELECT %s, name, value, %s, %s FROM unnest(%s::text[], %s::jsonb[]) AS u (name, value) ORDER BY name""",
            [
                workflow,
                version if only else None,
                by,
                list(changed),
                [None if value is None else Jsonb(value) for value in changed.values()],
            ],
        )
    return after


def values_of(owner_dsn: str, versions: Mapping[UUID, str]) -> dict[UUID, dict[str, Stored]]:
    """What is set for each workflow, as its version finds it."""
    with psycopg.connect(owner_dsn) as connection:
        rows = connection.execute(
            "SELECT w, system.parameters_of(w, v) FROM unnest(%s::uuid[], %s::text[]) AS u (w, v)",
            [list(versions), list(versions.values())],
        ).fetchall()
    return dict(rows)


def _of(connection: psycopg.Connection, workflow: UUID, version: str) -> dict[str, Stored]:
    ((found,),) = connection.execute("SELECT system.parameters_of(%s, %s)", [workflow, version]).fetchall()
    return dict(found)


def refuse_unfit(connection: psycopg.Connection, slug: str, version: str, root: Path) -> None:
    """Nobody sets a parameter of the workflows that follow the active version until the transaction ends; and what is set of
    them satisfies the version in `root`.

    Raises: `ParametersUnsatisfiedError`, of which each problem names file, line, entity and reason.
    """
    hold_workflows(connection)
    rows = connection.execute(
        """SELECT e.slug, w.id, system.parameters_of(w.id, %s)
             FROM system.workflows w JOIN system.entities e ON e.id = w.entity_id
            WHERE w.runbook = %s AND w.pinned IS NULL AND w.closed_at IS NULL AND e.status = 'ACTIVE' ORDER BY e.slug""",
        [version, slug],
    ).fetchall()
    page = read_page(root)
    schema = page.head.parameters if page.head else {}
    problems = [
        Problem(
            FILE,
            page.line("parameters", "properties", wrong.name),
            "PARAMETER_UNSATISFIED",
            f"{wrong.name} {wrong.why}, for entity {entity}",
            f"`ntro workflow set {workflow} {wrong.name}=… --for {version}`, then deploy again; {wrong.mend}",
        )
        for entity, workflow, values in rows
        for wrong in misfits(schema, values)
    ]
    if problems:
        raise ParametersUnsatisfiedError(
            problems=problems,
            first=f"{problems[0].file}:{problems[0].line}: {problems[0].message}",
            others=f", and {len(problems) - 1} more" if len(problems) > 1 else "",
            first_mend=problems[0].mend,
        )
