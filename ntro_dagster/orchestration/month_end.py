"""What every month-end has, whichever runbooks fill its subledgers: documents, records, decisions, journals, trial balance."""

from __future__ import annotations

from collections.abc import Sequence

from dagster import AssetSelection, Definitions, define_asset_job, in_process_executor

from ntro_dagster.boundary.names import TENANT_TAG
from ntro_dagster.bundles import Bundle, RunbookInvalidError
from ntro_dagster.orchestration import assets
from ntro_dagster.orchestration.due import DueRule
from ntro_dagster.orchestration.runbook import Runbook, read_runbook, runbook_definitions
from ntro_dagster.orchestration.sensors import sensor
from ntro_dagster.orchestration.values import RefusesValues
from ntro_dagster.orchestration.work import Work
from ntro_dagster.platforms.environment import bound_tenant
from ntro_dagster.subledger.registry import subledger_types

JOB = "month_end"


def tenant_definitions(*bundles: Bundle) -> Definitions:
    """Everything that the tenant this process is bound to can run. Row types must be loaded already.

    Raises: `RunbookInvalidError`.
    """
    runbooks = [read_runbook(bundle) for bundle in bundles]
    _check_each_has_one_author(runbooks)
    filled = {ledger.name for runbook in runbooks for ledger in runbook.ledgers}
    rules = [rule for runbook in runbooks for rule in runbook.rules]
    return Definitions.merge(month_end_definitions(filled, rules), *(runbook_definitions(runbook) for runbook in runbooks))


def _check_each_has_one_author(runbooks: Sequence[Runbook]) -> None:
    author: dict[str, str] = {}
    for runbook in runbooks:
        for ledger in runbook.ledgers:
            if ledger.name in author:
                why = f"subledger {ledger.name} is filled by {author[ledger.name]} already"
                raise RunbookInvalidError(slug=runbook.head.slug, why=why)
            author[ledger.name] = runbook.head.slug


def month_end_definitions(filled: set[str], rules: Sequence[DueRule] = ()) -> Definitions:
    """Args: `filled`: subledgers whose asset a runbook brings; `rules`: steps that time takes, of all runbooks."""
    names = [kind.name for kind in subledger_types()]
    job = define_asset_job(
        JOB,
        selection=AssetSelection.assets(
            *(assets.decisions_key(name) for name in names), assets.journals_key(), assets.trial_balance_key()
        ),
        executor_def=in_process_executor,
        tags={TENANT_TAG: bound_tenant()},
        description="Review, posting and close, over all subledgers",
    )
    return Definitions(
        assets=[
            assets.documents_spec(),
            assets.records_asset(),
            *(assets.ledger_spec(name) for name in names if name not in filled),
            *(assets.decisions_asset(kind, rules) for kind in subledger_types()),
            assets.journals_asset(subledger_types()),
            assets.trial_balance_asset(),
        ],
        jobs=[job],
        sensors=[
            sensor(job, work, names, rules if work is Work.REVIEW else ()) for work in (Work.REVIEW, Work.POSTING, Work.CLOSE)
        ],
        resources={"io_manager": RefusesValues()},
        executor=in_process_executor,
    )
