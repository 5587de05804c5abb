"""The parameters with which a run is carried out: those with which it began, whatever is set meanwhile."""

from __future__ import annotations

from uuid import UUID

from ntro_dagster.bundles import Bundle, frontmatter
from ntro_dagster.bundles.parameter_values import ParameterInvalidError, Stored, Value, effective, typed
from ntro_dagster.errors import NtroError
from ntro_dagster.platforms.postgres.database import TenantDatabase


class ParametersUnfitError(NtroError):
    """Values: `runbook`, `name`, `why`."""

    code = "PARAMETERS_UNFIT"
    summary = "what is set of the runbook's parameters is nothing that this version can run with"
    detail = "parameter {name} of {runbook} {why}"
    mend = "`ntro workflow bind` or `ntro workflow set` sets it for this entity; `ntro workflow bindings` shows what is set"


async def parameters_of(database: TenantDatabase, bundle: Bundle, *, run_id: UUID, entity_id: UUID) -> dict[str, Stored]:
    """What a step of the run goes by, as stored, defaults among it. Raises: `ParametersUnfitError`."""
    row = await database.fetch_one(_SET, {"run": run_id, "runbook": bundle.slug, "entity": entity_id, "version": bundle.version})
    began, now = (row["began"], row["now"]) if row else (None, None)
    if began is not None:
        return dict(began)
    try:
        return effective(frontmatter(bundle).parameters, now or {})
    except ParameterInvalidError as error:
        raise ParametersUnfitError(runbook=bundle.slug, name=error.values["name"], why=error.values["why"]) from None


def as_typed(bundle: Bundle, values: dict[str, Stored]) -> dict[str, Value]:
    """For the author's code. Raises: `ParametersUnfitError`."""
    try:
        return typed(frontmatter(bundle).parameters, values)
    except ParameterInvalidError as error:
        raise ParametersUnfitError(runbook=bundle.slug, name=error.values["name"], why=error.values["why"]) from None


_SET = """
    SELECT (SELECT r.parameters FROM system.runs r WHERE r.run_id = %(run)s) AS began,
           (SELECT system.parameters_of(w.id, %(version)s) FROM system.workflows w
             WHERE w.runbook = %(runbook)s AND w.entity_id = %(entity)s AND w.closed_at IS NULL) AS now"""
