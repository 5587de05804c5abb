"""A runbook as Dagster sees it: its assets, one partitioned job over them, four sensors, a monthly schedule."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import yaml
from dagster import AssetSelection, Definitions, define_asset_job, in_process_executor

from ntro_dagster.boundary.names import TENANT_TAG
from ntro_dagster.bundles import Bundle
from ntro_dagster.errors import UsageError
from ntro_dagster.orchestration import assets
from ntro_dagster.orchestration.schedules import monthly_schedule
from ntro_dagster.orchestration.sensors import sensor
from ntro_dagster.orchestration.work import Work
from ntro_dagster.platforms.environment import bound_tenant


class RunbookInvalidError(UsageError):
    code = "RUNBOOK_INVALID"
    summary = "the runbook cannot be read"
    detail = "runbook {slug}: {why}"
    mend = "docs/runbooks.md shows what a runbook must hold"


@dataclass(frozen=True, slots=True)
class Frontmatter:
    """The head of `runbook.md`."""

    slug: str
    name: str
    version: str
    schedule: str
    timezone: str


def frontmatter(bundle: Bundle) -> Frontmatter:
    """Raises `RunbookInvalidError`."""
    text = (bundle.root / "runbook.md").read_text()
    try:
        _, head, _ = text.split("---\n", 2)
        known: dict[str, Any] = yaml.safe_load(head)
        return Frontmatter(**{name: str(known[name]) for name in Frontmatter.__dataclass_fields__})
    except (ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise RunbookInvalidError(slug=bundle.slug, why=f"runbook.md has no proper frontmatter ({error})") from None


def ledgers_of(module: ModuleType) -> list[assets.SubledgerAsset]:
    """The `@subledger_asset`s of an assets module, in the order they stand there."""
    return [value for value in vars(module).values() if isinstance(value, assets.SubledgerAsset)]


def runbook_definitions(bundle: Bundle) -> Definitions:
    """Everything of one runbook for the tenant this process is bound to."""
    head = frontmatter(bundle)
    module = bundle.load("assets")
    ledgers = ledgers_of(module) if module else []
    if not ledgers:
        raise RunbookInvalidError(slug=bundle.slug, why="assets.py has no @subledger_asset")
    names = [ledger.name for ledger in ledgers]
    staging = [assets.records_key(), *(ledger.key for ledger in ledgers)]
    posting = [assets.ledger_key("journals"), assets.ledger_key("trial_balance")]
    job = define_asset_job(
        head.slug.replace("-", "_"),
        selection=AssetSelection.assets(*staging, *(assets.decisions_key(name) for name in names), *posting),
        executor_def=in_process_executor,
        tags={TENANT_TAG: bound_tenant()},
        description=head.name,
    )
    return Definitions(
        assets=[
            assets.documents_spec(),
            assets.records_asset(),
            *(assets.staging_asset(ledger) for ledger in ledgers),
            *(assets.decisions_asset(ledger) for ledger in ledgers),
            assets.journals_asset(ledgers),
            assets.trial_balance_asset(),
        ],
        jobs=[job],
        sensors=[
            sensor(job, Work.INTAKE, staging, names),
            sensor(job, Work.REVIEW, [assets.decisions_key(name) for name in names], names),
            sensor(job, Work.POSTING, posting[:1], names),
            sensor(job, Work.CLOSE, posting[1:], names),
        ],
        schedules=[monthly_schedule(job, cron=head.schedule, timezone=head.timezone, selection=staging)],
        executor=in_process_executor,
    )
