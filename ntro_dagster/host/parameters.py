"""Parameters of workflows: what an operator wrote, held against the version's own list, kept in the tenant's database.

A new workflow has its values before the registry has the workflow: one that a killed command left behind never runs without
them. What was recorded for a workflow that never came to be is nobody's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from ntro_dagster.bundles import Bundle, frontmatter
from ntro_dagster.bundles.parameter_values import Stored, read
from ntro_dagster.bundles.runbook_md import FILE
from ntro_dagster.errors import UsageError
from ntro_dagster.host.deployments import NotDeployedError, Runbooks
from ntro_dagster.host.home import Role
from ntro_dagster.host.installation import Installation, credential
from ntro_dagster.tenant.parameters import Given, set_values, values_of
from ntro_dagster.workspace.deployments import Deployments
from ntro_dagster.workspace.workflows import Binding, Workflow, WorkflowNotFoundError, Workflows

Settings = Mapping[str, str]
"""As written. An empty value: the runbook's default again."""


class ParametersDifferError(UsageError):
    """Values: `workflow`, `names`."""

    code = "PARAMETERS_DIFFER"
    summary = "the runbook is bound to the entity already, with other parameters"
    detail = "workflow {workflow} is there already, with another {names}"
    mend = "`ntro workflow set {workflow} NAME=VALUE` changes a parameter"


def check_settings(installation: Installation, tenant: str, slug: str, version: str, settings: Settings) -> None:
    """Whether a version that may not be deployed yet has these parameters. Raises: `ParameterInvalidError`."""
    _read(_schema(installation, tenant, slug, version), settings)


def prepare(installation: Installation, workflows: Workflows, binding: Binding, settings: Settings, *, by: str) -> UUID:
    """The id for a binding, its values recorded under it; where there is a workflow already, whether it has these values.

    Raises: `ParameterInvalidError`, `ParametersDifferError`, `ActiveVersionMovedError`.
    """
    version = _version(Deployments(workflows.registry), binding)
    schema = _schema(installation, binding.tenant, binding.runbook, version)
    given = _read(schema, settings)
    found = workflows.open(tenant=binding.tenant, runbook=binding.runbook, entity=binding.entity)
    if found:
        _agree(installation, found[0], version, given)
        return found[0].id
    new = uuid4()
    _set(installation, binding, new, given, version=version, schema=schema, only=False, by=by)
    return new


def _agree(installation: Installation, workflow: Workflow, version: str, given: Given) -> None:
    """Raises: `ParametersDifferError`."""
    owner = credential(installation.home, workflow.binding.tenant, Role.OWNER)
    now = values_of(owner, {workflow.id: version})[workflow.id]
    differ = [name for name, value in given.items() if now.get(name) != value]
    if differ:
        raise ParametersDifferError(workflow=workflow.id, names=", ".join(differ))


def set_parameters(
    installation: Installation, workflow: UUID, settings: Settings, *, by: str, wanted: str | None = None
) -> tuple[Workflow, dict[str, Stored]]:
    """Change what is set for a workflow, from its next run on; returns what is set then.

    Args: `wanted`: the version that the values are checked against, and meant for alone; None: the one that the workflow runs,
        and every later one.

    Raises: `WorkflowNotFoundError`, `VersionNotFoundError`, `ParameterInvalidError`, `ActiveVersionMovedError`.
    """
    registry = installation.registry()
    try:
        found = Workflows(registry).open(ids=[workflow])
        if not found:
            raise WorkflowNotFoundError(workflow=workflow)
        binding, known = found[0].binding, Deployments(registry)
        version = known.version(binding.runbook, wanted).version if wanted else _version(known, binding)
    finally:
        registry.dispose()
    schema = _schema(installation, binding.tenant, binding.runbook, version)
    given = _read(schema, settings)
    return found[0], _set(installation, binding, workflow, given, version=version, schema=schema, only=wanted is not None, by=by)


def what_is_set(installation: Installation, workflows: Sequence[Workflow]) -> dict[UUID, dict[str, Stored]]:
    """For each workflow what its version finds set; read in the tenants' databases, for the operator's eyes."""
    registry = installation.registry()
    try:
        known = Deployments(registry)
        tenants = sorted({each.binding.tenant for each in workflows})
        active = {tenant: known.active(tenant) for tenant in tenants}
    finally:
        registry.dispose()
    values: dict[UUID, dict[str, Stored]] = {}
    for tenant in tenants:
        versions = {
            each.id: each.binding.pinned or active[tenant].get(each.binding.runbook, "")
            for each in workflows
            if each.binding.tenant == tenant
        }
        values |= values_of(credential(installation.home, tenant, Role.OWNER), versions)
    return values


def _version(known: Deployments, binding: Binding) -> str:
    """Whose parameters a binding has. Raises: `NotDeployedError`."""
    version = binding.pinned or known.active(binding.tenant).get(binding.runbook)
    if version is None:
        raise NotDeployedError(slug=binding.runbook, tenant=binding.tenant)
    return version


def _schema(installation: Installation, tenant: str, slug: str, version: str) -> Mapping[str, Any]:
    """What a version's head says of parameters; from where the tenant has it unpacked, else from what was pushed."""
    root = installation.home.tenant(tenant).bundles / slug / version
    if (root / FILE).is_file():
        return frontmatter(Bundle(slug, root)).parameters
    with Runbooks(installation).content(slug, version) as unpacked:
        return frontmatter(Bundle(slug, unpacked)).parameters


def _read(schema: Mapping[str, Any], settings: Settings) -> Given:
    """Raises: `ParameterInvalidError`."""
    # An empty value asks for nothing of the schema: what a version has no more can still be taken back.
    return {name: read(schema, name, text) if text else None for name, text in settings.items()}


def _set(
    installation: Installation,
    binding: Binding,
    workflow: UUID,
    given: Given,
    *,
    version: str,
    schema: Mapping[str, Any],
    only: bool,
    by: str,
) -> dict[str, Stored]:
    return set_values(
        credential(installation.home, binding.tenant, Role.OWNER),
        workflow,
        given,
        runbook=binding.runbook,
        version=version,
        schema=schema,
        only=only,
        by=by,
        active=not only and binding.pinned is None,
    )
