"""A runbook as Dagster sees it: an asset for each subledger it fills, one partitioned job, an intake sensor, a schedule."""

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
from ntro_dagster.bundles import Bundle, Frontmatter, RunbookInvalidError, frontmatter
from ntro_dagster.orchestration import assets
from ntro_dagster.orchestration.schedules import monthly_schedule
from ntro_dagster.orchestration.sensors import sensor
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
    ledgers: Sequence[assets.SubledgerAsset]
    version: str | None = None


def read_runbook(bundle: Bundle) -> Runbook:
    """Raises `RunbookInvalidError`."""
    head = frontmatter(bundle)
    module = bundle.load("assets")
    ledgers = ledgers_of(module) if module else []
    names = {ledger.name for ledger in ledgers}
    foreign = _not_ours(bundle, module) if module else ""
    complaints = {
        foreign: bool(foreign),
        "assets.py has no @subledger_asset": not ledgers,
        f"its slug is one of the platform's own: {', '.join(sorted(RESERVED))}": head.slug in RESERVED,
        f"runbook.md says what is read for {', '.join(sorted(head.reads.keys() - names))}, "
        "but assets.py fills no such subledger": not head.reads.keys() <= names,
    }
    for why, holds in complaints.items():
        if holds:
            raise RunbookInvalidError(slug=bundle.slug, why=why)
    return Runbook(head, ledgers, bundle.version)


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


def ledgers_of(module: ModuleType) -> list[assets.SubledgerAsset]:
    """The `@subledger_asset`s of an assets module, in the order they stand there."""
    return [value for value in vars(module).values() if isinstance(value, assets.SubledgerAsset)]


def runbook_definitions(runbook: Runbook) -> Definitions:
    """What the tenant this process is bound to needs of one runbook, beside `month_end_definitions`."""
    head, ledgers = runbook.head, runbook.ledgers
    names = [ledger.table for ledger in ledgers]
    staging = [assets.records_key(), *(ledger.key for ledger in ledgers)]
    review = [assets.decisions_key(name) for name in names]
    job = define_asset_job(
        head.slug.replace("-", "_"),
        selection=AssetSelection.assets(*staging, *review, assets.journals_key(), assets.trial_balance_key()),
        executor_def=in_process_executor,
        tags={TENANT_TAG: bound_tenant()} | ({VERSION_TAG: runbook.version} if runbook.version else {}),
        description=head.name,
    )
    return Definitions(
        assets=[assets.staging_asset(ledger) for ledger in ledgers],
        jobs=[job],
        sensors=[sensor(job, Work.INTAKE, names)],
        schedules=[monthly_schedule(job, cron=head.schedule, timezone=head.timezone, selection=staging)],
        executor=in_process_executor,
    )
