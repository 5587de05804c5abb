"""What every month-end has, whichever runbooks fill its subledgers: documents, records, decisions, journals, trial balance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from dagster import AssetKey, AssetSelection, Definitions, define_asset_job, in_process_executor

from ntro_dagster.boundary.names import TENANT_TAG, VERSION_TAG
from ntro_dagster.bundles import RunbookInvalidError, platform_bundle
from ntro_dagster.bundles.active import ActiveSet
from ntro_dagster.orchestration import assets
from ntro_dagster.orchestration.due import DueRule
from ntro_dagster.orchestration.runbook import Runbook, read_runbook, runbook_definitions
from ntro_dagster.orchestration.schedules import times_of
from ntro_dagster.orchestration.sensors import sensor
from ntro_dagster.orchestration.values import RefusesValues
from ntro_dagster.orchestration.work import Work
from ntro_dagster.platforms.environment import bound_tenant
from ntro_dagster.subledger.registry import SubledgerType, subledger_types

JOB = "month_end"


def tenant_definitions(active: ActiveSet) -> Definitions:
    """Everything that the tenant this process is bound to can run. Row types must be loaded already.

    Raises: `RunbookInvalidError`.
    """
    bundles = active.bundles
    runbooks = [read_runbook(bundle) for bundle in bundles]
    _check_each_has_one_author(runbooks)
    filled = {ledger.table for runbook in runbooks for ledger in runbook.ledgers}
    rules = [rule for runbook in runbooks for rule in runbook.rules]
    kinds = subledger_types(platform_bundle(), *bundles)
    proposals: dict[str, list[AssetKey]] = defaultdict(list)
    for derivation in (each for runbook in runbooks for each in runbook.derivations):
        proposals[derivation.ledger.table].append(derivation.key)
    common = month_end_definitions(kinds, filled, active.code, rules, proposals)
    return Definitions.merge(
        common, *(runbook_definitions(runbook, times_of(active.schedules, runbook.head.slug)) for runbook in runbooks)
    )


def _check_each_has_one_author(runbooks: Sequence[Runbook]) -> None:
    author: dict[str, str] = {}
    for runbook in runbooks:
        for ledger in runbook.ledgers:
            if ledger.table in author:
                why = f"subledger {ledger.table} is filled by {author[ledger.table]} already"
                raise RunbookInvalidError(slug=runbook.head.slug, why=why)
            author[ledger.table] = runbook.head.slug


def month_end_definitions(
    kinds: Sequence[SubledgerType],
    filled: set[str],
    code: str,
    rules: Sequence[DueRule] = (),
    proposals: Mapping[str, Sequence[AssetKey]] = MappingProxyType({}),
) -> Definitions:
    """
    Args:
        filled: tables whose asset a runbook brings.
        code: names the set of versions that is active.
        rules: steps that time takes, of all runbooks.
        proposals: for a table, the assets that put rows made of others there.
    """
    names = [kind.table for kind in kinds]
    job = define_asset_job(
        JOB,
        selection=AssetSelection.assets(
            *(assets.decisions_key(name) for name in names), assets.journals_key(), assets.trial_balance_key()
        ),
        executor_def=in_process_executor,
        tags={TENANT_TAG: bound_tenant(), VERSION_TAG: code},
        description="Review, posting and close, over all subledgers",
    )
    return Definitions(
        assets=[
            assets.documents_spec(),
            assets.records_asset(),
            *(assets.ledger_spec(name, proposals.get(name, ())) for name in names if name not in filled),
            *(assets.decisions_asset(kind, rules) for kind in kinds),
            assets.journals_asset(kinds),
            assets.trial_balance_asset(kinds),
        ],
        jobs=[job],
        sensors=[
            sensor(job, work, kinds, rules if work is Work.REVIEW else ()) for work in (Work.REVIEW, Work.POSTING, Work.CLOSE)
        ],
        resources={"io_manager": RefusesValues()},
        executor=in_process_executor,
    )
