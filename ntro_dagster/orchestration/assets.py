"""The assets of a month-end: documents -> records -> subledgers -> decisions -> journals -> trial balance.

Authors write those in the middle, with `@subledger_asset`; the others are the same for everyone and made here. Assets return
counts and a salted fingerprint, never a value.
"""

# No `from __future__ import annotations`: Dagster inspects the annotation of `context`.
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dagster import (
    AssetCheckEvaluation,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
    AssetObservation,
    AssetRecordsFilter,
    AssetsDefinition,
    AssetSpec,
    DataVersion,
    MaterializeResult,
    asset,
    multi_asset,
)
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData

from ntro_dagster.boundary.names import WORK_TAG
from ntro_dagster.bundles import Bundle
from ntro_dagster.errors import NtroError
from ntro_dagster.gl.held_back import EverythingElsePostedError
from ntro_dagster.gl.periods import find, seal_closing
from ntro_dagster.gl.post import post as post_rows
from ntro_dagster.gl.trial_balance import draw_up
from ntro_dagster.ingest.records import mark_staged, record_counts, records_without_row
from ntro_dagster.orchestration.context import RunbookContext, in_partition
from ntro_dagster.orchestration.due import DueRule, as_of, take_due_steps
from ntro_dagster.orchestration.failures import Place, keep
from ntro_dagster.orchestration.partitions import partitions_of
from ntro_dagster.orchestration.subledger_asset import SubledgerAsset
from ntro_dagster.orchestration.subledger_asset import subledger_asset as subledger_asset  # noqa: PLC0414 - for authors
from ntro_dagster.orchestration.work import Work, waits
from ntro_dagster.platforms.environment import bound_tenant
from ntro_dagster.platforms.postgres.database import Actor
from ntro_dagster.subledger.handle import SubledgerHandle
from ntro_dagster.subledger.registry import SubledgerType, running
from ntro_dagster.subledger.review import apply_signals


class RecordsLostError(NtroError):
    code = "RECORDS_LOST"
    summary = "records did not become rows"
    detail = "{records} records have no row with their source_ref"
    mend = "the runbook must yield one payload for every record, with `source_ref=record.ref`; nothing was staged"


class AssetMissingError(NtroError):
    """Values: `name`, `version`."""

    code = "ASSET_MISSING"
    summary = "the version that the entity is pinned to has no such asset"
    detail = "version {version} does not fill {name}"
    mend = "unbind the entity, and bind it without --pin"


DECISIONS = "_decisions"
"""What a subledger's name is followed by, where its decisions are meant."""


def ledger_key(name: str) -> AssetKey:
    return AssetKey([bound_tenant(), "ledgers", name])


def documents_key() -> AssetKey:
    return AssetKey([bound_tenant(), "ingest", "submitted_documents"])


def records_key() -> AssetKey:
    return AssetKey([bound_tenant(), "ingest", "submitted_records"])


def decisions_key(subledger: str) -> AssetKey:
    return AssetKey([bound_tenant(), "review", f"{subledger}{DECISIONS}"])


def journals_key() -> AssetKey:
    return ledger_key("journals")


def trial_balance_key() -> AssetKey:
    return ledger_key("trial_balance")


async def counts_of(handle: SubledgerHandle, period: str) -> dict[str, int]:
    """Rows of every status, 0 included: Dagster shows the latest value of each, so one left out would seem to stay."""
    return dict.fromkeys(handle.kind.lifecycle.statuses, 0) | await handle.counts(period=period)


async def show(context: AssetExecutionContext, run: RunbookContext, handle: SubledgerHandle) -> dict[str, int]:
    """Let the subledger's own page tell how its rows stand now, not how they stood when they were staged."""
    counts = await counts_of(handle, run.period)
    context.log_event(AssetObservation(ledger_key(handle.kind.table), partition=context.partition_key, metadata=counts))
    return counts


def documents_spec() -> AssetSpec:
    return AssetSpec(
        documents_key(),
        group_name="ingest",
        description="Documents as they came in, by content. Filed with `ntro ingest`.",
        kinds={"file"},
    )


def records_asset() -> AssetsDefinition:
    @asset(
        key=records_key(),
        deps=[documents_key()],
        partitions_def=partitions_of(bound_tenant()),
        group_name="ingest",
        kinds={"postgres"},
        description="One raw record per data row of the partition's documents.",
    )
    def submitted_records(context: AssetExecutionContext) -> MaterializeResult[None]:
        async def count(run: RunbookContext) -> dict[str, int]:
            return await record_counts(run.database, entity_id=run.entity.id, period=run.period)

        return MaterializeResult(metadata=in_partition(context, count))

    return submitted_records


def ledger_spec(name: str, proposals: Sequence[AssetKey] = ()) -> AssetSpec:
    """A subledger that no runbook at hand fills from documents. `proposals`: what is made of other rows and put there."""
    return AssetSpec(
        ledger_key(name),
        deps=proposals,
        group_name="subledgers",
        kinds={"postgres"},
        partitions_def=partitions_of(bound_tenant()),
        description="Typed rows, put there by whoever proposes them.",
    )


def staging_asset(ledger: SubledgerAsset) -> AssetsDefinition:
    """The subledger's own asset: the author's payloads, staged."""

    @asset(
        key=ledger.key,
        deps=[records_key()],
        partitions_def=partitions_of(bound_tenant()),
        group_name="subledgers",
        kinds={"postgres"},
        description="Typed rows of the partition, waiting for review where they need attention.",
    )
    def rows(context: AssetExecutionContext) -> MaterializeResult[None]:
        return in_partition(context, lambda run: stage(run, ledger))

    return rows


def in_version(ledger: SubledgerAsset, bundle: Bundle | None) -> SubledgerAsset:
    """The same asset in the version that the entity is bound to. Raises `AssetMissingError`."""
    if bundle is None or ledger.bundle == bundle:
        return ledger
    for found in vars(bundle.load("assets")).values():
        if isinstance(found, SubledgerAsset) and found.name == ledger.name:
            return found
    raise AssetMissingError(name=ledger.name, version=bundle.version)


async def stage(run: RunbookContext, ledger: SubledgerAsset) -> MaterializeResult[None]:
    """Stage the partition's records through the author's function, in one transaction with the note that it was done."""
    ledger = in_version(ledger, run.bundle)
    running.set(ledger.bundle)
    run = replace(run, subledger=ledger.table)
    handle = run.handle(ledger.kind)
    documents = await run.read_ahead()
    async with run.database.transaction(Actor.run(run.run_id)):
        staged = await handle.stage(ledger.author(run), period=run.period)
        partition: dict[str, Any] = {"entity_id": run.entity.id, "period": run.period}
        lost = await records_without_row(run.database, ledger.table, documents=documents, **partition)
        if lost:
            raise RecordsLostError(records=lost)
        await mark_staged(run.database, ledger.table, documents=documents, run_id=run.run_id, **partition)
    return MaterializeResult(
        metadata={
            **await counts_of(handle, run.period),
            "inserted": staged.inserted,
            "updated": staged.updated,
            "untouched": staged.untouched,
        },
        data_version=DataVersion(await handle.digest(period=run.period, salt=run.salt)),
    )


def decisions_asset(kind: SubledgerType, rules: Sequence[DueRule] = ()) -> AssetsDefinition:
    @asset(
        key=decisions_key(kind.table),
        deps=[ledger_key(kind.table)],
        partitions_def=partitions_of(bound_tenant()),
        group_name="review",
        kinds={"postgres"},
        description="People's decisions, applied in the order they were filed; then the steps that are due.",
    )
    def decisions(context: AssetExecutionContext) -> MaterializeResult[None]:
        async def drain(run: RunbookContext) -> MaterializeResult[None]:
            handle = run.handle(kind)
            applied = await apply_signals(handle, period=run.period)
            if any(each.kind.table == kind.table for each in rules):
                await take_due_steps(handle, rules, period=run.period, day=as_of(context.instance, context.run.run_id))
            counts = await show(context, run, handle)
            return MaterializeResult(
                metadata={
                    "signals": applied.signals,
                    "applied": applied.applied,
                    "refused": applied.refused,
                    **counts,
                },
                data_version=DataVersion(await handle.digest(period=run.period, salt=run.salt)),
            )

        return in_partition(context, drain)

    return decisions


async def idle(context: AssetExecutionContext, run: RunbookContext, work: Work, kinds: Sequence[SubledgerType]) -> bool:
    """Whether a run that was started for other work left nothing of this to do. What was asked for is always done."""
    if context.run.tags.get(WORK_TAG) in {None, work}:
        return False
    lifecycles = {kind.table: kind.lifecycle for kind in kinds}
    return not await waits(run.database, work, lifecycles, entity_id=run.entity.id, period=run.period)


def journals_asset(kinds: Sequence[SubledgerType]) -> AssetsDefinition:
    @asset(
        key=journals_key(),
        deps=[decisions_key(kind.table) for kind in kinds],
        partitions_def=partitions_of(bound_tenant()),
        group_name="general_ledger",
        kinds={"postgres"},
        description="Approved rows, posted to the general ledger exactly once.",
        output_required=False,
    )
    def journals(context: AssetExecutionContext) -> Iterator[MaterializeResult[None]]:
        async def post(run: RunbookContext) -> list[MaterializeResult[None]]:
            if await idle(context, run, Work.POSTING, kinds):
                return []
            posted = 0
            left: list[EverythingElsePostedError] = []
            for kind in kinds:
                if kind.lifecycle.posted is None:
                    continue
                handle = run.handle(kind)
                try:
                    done = await post_rows(handle, period=run.period, currency=run.entity.currency)
                except EverythingElsePostedError as error:
                    left.append(error)
                    await show(context, run, handle)
                    continue
                for trouble in done.troubles:
                    keep(trouble, Place(context.run.run_id, context.get_step_execution_context().step.key, context.partition_key))
                if done.rows:
                    await show(context, run, handle)
                posted += done.rows
            if left:
                raise left[0]  # of the others the desk tells, as of this one
            found = await run.database.fetch_one(
                "SELECT count(*) AS journals FROM ledgers.journals WHERE entity_id = %s AND period = %s",
                [run.entity.id, run.period],
            )
            return [MaterializeResult(metadata={"posted": posted, **(found or {})})]

        yield from in_partition(context, post)

    return journals


@dataclass(frozen=True, slots=True)
class CloseCheck:
    """One line of the close checklist, as Dagster shows it. `codes`: the findings (ADR 024) that make it fail."""

    name: str
    says: str
    codes: tuple[str, ...]

    @property
    def blocking(self) -> bool:
        return self is BALANCES


BALANCES = CloseCheck("balances", "Debits equal credits, per currency.", ("BOOKS_DO_NOT_BALANCE",))
CLOSE_CHECKS = (
    BALANCES,
    CloseCheck(
        "nothing_open",
        "Every row of the period is decided and posted.",
        ("ROWS_STILL_OPEN", "DECISIONS_NOT_APPLIED", "DOCUMENTS_NOT_STAGED", "PROPOSALS_OUTSTANDING", "DELIVERIES_UNDER_WAY"),
    ),
    CloseCheck("control_accounts_agree", "Subledgers agree with their control accounts.", ("CONTROL_ACCOUNT_DIFFERS",)),
    CloseCheck("translated", "Journals in other currencies have their rate.", ("NOT_TRANSLATED",)),
)
"""Whether the bank agrees and net assets are plausible depends on figures, so it is told at the desk and not here: two tenants
whose months have one shape must look alike (docs/wall.md).
"""


Told = MaterializeResult[None] | AssetCheckEvaluation


def trial_balance_asset(kinds: Sequence[SubledgerType]) -> AssetsDefinition:
    key = trial_balance_key()
    spec = AssetSpec(
        key,
        deps=[journals_key()],
        partitions_def=partitions_of(bound_tenant()),
        group_name="general_ledger",
        kinds={"postgres"},
        description="The trial balance of the entity at the end of the period.",
        skippable=True,
    )
    checks = [AssetCheckSpec(x.name, asset=key, blocking=x.blocking, description=x.says) for x in CLOSE_CHECKS]

    # `can_subset`: else a step that is skipped owes its checks.
    @multi_asset(name=key.to_python_identifier(), specs=[spec], check_specs=checks, can_subset=True)
    def trial_balance(context: AssetExecutionContext) -> Iterator[Told]:
        async def close(run: RunbookContext) -> tuple[MaterializeResult[None], set[str]] | None:
            if await idle(context, run, Work.CLOSE, kinds):
                return None
            partition: dict[str, Any] = {"entity_id": run.entity.id, "period": run.period}
            balance = await draw_up(run.database, **partition, run_id=run.run_id, salt=run.salt)
            found = {finding.code for finding in await find(run.database, **partition)}
            if not balance.balanced:
                found.update(BALANCES.codes)
            await seal_closing(run.database, **partition, run_id=run.run_id)
            # No count of accounts: which accounts have moved is content, and their number tells of it.
            return MaterializeResult(asset_key=key, data_version=DataVersion(balance.digest(run.salt))), found

        if closed := in_partition(context, close):
            drawn_up, found = closed
            if key in context.selected_asset_keys:  # else somebody asks for a check alone
                yield drawn_up
            yield from evaluations(context, found)

    return trial_balance


def evaluations(context: AssetExecutionContext, found: set[str]) -> Iterator[AssetCheckEvaluation]:
    """The close checklist, of what is there now.

    Not as `AssetCheckResult`: Dagster then looks up what was materialized, twice for each check. And whether or not the run was
    to make them: a sensor's run leaves them out, because what a run plans and then has no cause to make shows as failed.
    """
    key = trial_balance_key()
    made = context.instance.fetch_materializations(AssetRecordsFilter(key, asset_partitions=[context.partition_key]), limit=1)
    target = [
        AssetCheckEvaluationTargetMaterializationData(storage_id=x.storage_id, run_id=x.run_id, timestamp=x.timestamp)
        for x in made.records
    ]
    for check in CLOSE_CHECKS:
        yield AssetCheckEvaluation(
            asset_key=key,
            check_name=check.name,
            passed=found.isdisjoint(check.codes),
            metadata={},
            target_materialization_data=target[0] if target else None,
            blocking=check.blocking,
        )
