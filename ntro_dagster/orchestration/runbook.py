"""A runbook as Dagster sees it: an asset for each subledger it fills, one partitioned job, sensors, a schedule."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from dagster import (
    AssetKey,
    AssetsDefinition,
    AssetSelection,
    AssetSpec,
    ConfigurableResource,
    Definitions,
    GraphDefinition,
    JobDefinition,
    OpDefinition,
    PartitionsDefinition,
    ResourceDefinition,
    ScheduleDefinition,
    SensorDefinition,
    SourceAsset,
    define_asset_job,
    in_process_executor,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from ntro_dagster.boundary.names import TENANT_TAG, VERSION_TAG
from ntro_dagster.boundary.schedules import Schedule
from ntro_dagster.bundles import Bundle, Derived, Frontmatter, RunbookInvalidError, derivation_name, frontmatter
from ntro_dagster.ingest.sources import Source
from ntro_dagster.orchestration import assets
from ntro_dagster.orchestration.derived import Derivation, derived_asset
from ntro_dagster.orchestration.due import DueRule, rules_of
from ntro_dagster.orchestration.request_sensor import requests_sensor
from ntro_dagster.orchestration.schedules import runbook_schedules
from ntro_dagster.orchestration.sensors import proposals_sensor, sensor
from ntro_dagster.orchestration.subledger_asset import SubledgerAsset, ledgers_of
from ntro_dagster.orchestration.work import Work
from ntro_dagster.platforms.environment import bound_tenant

_DAGSTERS_OWN = (
    AssetsDefinition,
    AssetSpec,
    SourceAsset,
    AssetKey,
    PartitionsDefinition,
    JobDefinition,
    UnresolvedAssetJobDefinition,
    GraphDefinition,
    OpDefinition,
    SensorDefinition,
    ScheduleDefinition,
    ResourceDefinition,
    ConfigurableResource,
    Definitions,
)
RESERVED = frozenset({"month-end"})
"""Slugs of jobs that the platform makes itself."""


@dataclass(frozen=True, slots=True)
class Runbook:
    """A bundle, read."""

    head: Frontmatter
    ledgers: Sequence[SubledgerAsset]
    version: str | None = None
    rules: Sequence[DueRule] = ()
    derivations: Sequence[Derivation] = ()


def read_runbook(bundle: Bundle) -> Runbook:
    """Raises `RunbookInvalidError`, `SourceInvalidError`."""
    head = frontmatter(bundle)
    module = bundle.load("assets")
    authored = ledgers_of(module) if module else []
    ledgers = [each for each in authored if not each.rows]
    made_of = {each.name: Derived(each.rows, each.earlier) for each in authored if each.rows}
    names = {ledger.name for ledger in ledgers}
    foreign = _not_ours(bundle, module) if module else ""
    complaints = {
        foreign: bool(foreign),
        "assets.py has no @subledger_asset": not authored,
        f"its slug is one of the platform's own: {', '.join(sorted(RESERVED))}": head.slug in RESERVED,
        f"runbook.md says what is read for {', '.join(sorted(head.reads.keys() - names))}, "
        "but assets.py fills no such subledger": not head.reads.keys() <= names,
        "what runbook.md says under `derives` and what assets.py says in `rows` and `earlier` differ": head.derives != made_of,
    }
    for why, holds in complaints.items():
        if holds:
            raise RunbookInvalidError(slug=bundle.slug, why=why)
    for source, declared in head.sources.items():
        Source.of(source, declared)
    derivations = [Derivation(each, derivation_name(head.slug, each.name)) for each in authored if each.rows]
    return Runbook(head, ledgers, bundle.version, rules_of(module, bundle) if module else (), derivations)


def _not_ours(bundle: Bundle, module: ModuleType) -> str:
    """What of Dagster's own an assets module has defined: it would be left out without a word."""
    for name, value in vars(module).items():
        if isinstance(value, _DAGSTERS_OWN):
            found = ast.walk(ast.parse((bundle.root / "assets.py").read_text()))
            lines = [node.lineno for node in found if _binds(node, name) and isinstance(node, ast.stmt)]
            return f"assets.py, line {min(lines, default=1)}: {name} is {type(value).__name__} of Dagster; " + (
                "a runbook defines nothing but @subledger_asset, whose key lies in its tenant"
            )
    return ""


def _binds(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return node.name == name
    targets = [*node.targets] if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


def runbook_definitions(runbook: Runbook, times: Sequence[Schedule] = ()) -> Definitions:
    """What the tenant this process is bound to needs of one runbook, beside `month_end_definitions`.

    Args: `times`: at which it is bound to entities.
    """
    head, ledgers = runbook.head, runbook.ledgers
    names = [ledger.table for ledger in ledgers]
    staging = [assets.records_key(), *(ledger.key for ledger in ledgers)]
    review = [assets.decisions_key(name) for name in names]
    derived = [derivation.key for derivation in runbook.derivations]
    proposed = {derivation.ledger.table for derivation in runbook.derivations} - set(names)
    review += [assets.decisions_key(table) for table in sorted(proposed)]
    job = define_asset_job(
        head.slug.replace("-", "_"),
        selection=AssetSelection.assets(*staging, *review, *derived, assets.journals_key(), assets.trial_balance_key()),
        executor_def=in_process_executor,
        tags={TENANT_TAG: bound_tenant()} | ({VERSION_TAG: runbook.version} if runbook.version else {}),
        description=head.name,
    )
    return Definitions(
        assets=[
            *(assets.staging_asset(ledger) for ledger in ledgers),
            *(derived_asset(derivation) for derivation in runbook.derivations),
        ],
        jobs=[job],
        sensors=[
            *([sensor(job, Work.INTAKE, [ledger.kind for ledger in ledgers])] if ledgers else []),
            *([proposals_sensor(job, runbook.derivations)] if runbook.derivations else []),
            requests_sensor(job, runbook=head.slug, selection=staging),
        ],
        schedules=runbook_schedules(job, runbook=head.slug, times=times, selection=staging),
        executor=in_process_executor,
    )
