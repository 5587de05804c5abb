"""Assets whose rows are made of other rows of the partition: reviewed rows in, rows to be reviewed out (decision 015)."""

# No `from __future__ import annotations`: Dagster inspects the annotation of `context`.
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dagster import AssetExecutionContext, AssetKey, AssetsDefinition, MaterializeResult, asset
from psycopg import sql

from ntro_dagster.bundles import Bundle
from ntro_dagster.orchestration.assets import counts_of, decisions_key, in_version, ledger_key, show
from ntro_dagster.orchestration.context import RunbookContext, in_partition
from ntro_dagster.orchestration.partitions import partitions_of
from ntro_dagster.orchestration.subledger_asset import SubledgerAsset
from ntro_dagster.orchestration.work import LIMIT, Waiting
from ntro_dagster.platforms.environment import bound_tenant
from ntro_dagster.platforms.postgres.database import Actor, TenantDatabase
from ntro_dagster.subledger.derivations import Partition, mark_derived, stage_derived, still_open, wanted
from ntro_dagster.subledger.registry import SubledgerType, running, subledger_type
from ntro_dagster.subledger.staging import Payload, Staged


def proposals_key(derivation: str) -> AssetKey:
    return AssetKey([bound_tenant(), "proposals", derivation])


@dataclass(frozen=True, slots=True)
class Derivation:
    """One runbook's way to fill a subledger from others.

    Attributes:
        name: `<runbook>__<subledger>`: several runbooks may propose into one subledger of the platform's.
    """

    ledger: SubledgerAsset
    name: str

    @property
    def key(self) -> AssetKey:
        return proposals_key(self.name)

    @property
    def inputs(self) -> tuple[SubledgerType, ...]:
        """Raises `SubledgerNotFoundError`."""
        bundle = self.ledger.bundle
        owner = (bundle.slug, bundle.version) if bundle else (None, None)
        return tuple(subledger_type(name, *owner) for name in self.ledger.rows)

    def in_version(self, bundle: Bundle | None) -> "Derivation":
        """The same as the version that an entity is pinned to has it. Raises `AssetMissingError`."""
        return replace(self, ledger=in_version(self.ledger, bundle))


def derived_asset(derivation: Derivation) -> AssetsDefinition:
    inputs = [kind.table for kind in derivation.inputs]

    @asset(
        key=derivation.key,
        deps=[*map(ledger_key, inputs), *map(decisions_key, inputs)],
        partitions_def=partitions_of(bound_tenant()),
        group_name="proposals",
        kinds={"postgres"},
        description="Rows made of reviewed rows of the partition; they wait for review in turn.",
    )
    def proposals(context: AssetExecutionContext) -> MaterializeResult[None]:
        async def step(run: RunbookContext) -> MaterializeResult[None]:
            staged = await derive(run, derivation) or Staged()
            handle = run.handle(derivation.ledger.kind)
            await show(context, run, handle)
            return MaterializeResult(
                metadata={
                    **await counts_of(handle, run.period),
                    "inserted": staged.inserted,
                    "updated": staged.updated,
                    "untouched": staged.untouched,
                }
            )

        return in_partition(context, step)

    return proposals


async def derive(run: RunbookContext, derivation: Derivation) -> Staged | None:
    """Stage what the author makes of the rows, in one transaction with the note of how far the rows had come.

    None: rows of the inputs still wait for a person or a run, so nothing is made of them, and nothing noted.
    """
    derivation = derivation.in_version(run.bundle)
    ledger, inputs = derivation.ledger, derivation.inputs
    running.set(ledger.bundle)
    run = replace(run, subledger=None, derived_from=inputs, earlier=ledger.earlier)
    partition = Partition(derivation.name, run.entity.id, run.period)
    async with run.database.transaction(Actor.run(run.run_id)):
        # Read first: what changes after this is wanted again.
        reached = await wanted(run.database, partition)
        waiting = still_open(inputs, earlier=ledger.earlier, entity="%(entity)s::uuid", period="%(period)s")
        found = await run.database.fetch_one(
            sql.SQL("SELECT {} AS open").format(waiting), {"entity": run.entity.id, "period": run.period}
        )
        if found and found["open"]:
            return None
        staged = await stage_derived(run.handle(ledger.kind), partition, _author(run, ledger))
        await mark_derived(run.database, partition, reached, run_id=run.run_id)
    return staged


def _author(run: RunbookContext, ledger: SubledgerAsset) -> AsyncIterator[Payload | Mapping[str, Any]]:
    return ledger.author(run)


async def derivations_waiting(database: TenantDatabase, derivations: Sequence[Derivation]) -> list[Waiting]:
    """Partitions whose inputs changed since they were last looked at, and of whose inputs nothing is open, oldest month first.

    Reads the index of what is outstanding, then probes the inputs there.
    """
    ready = sql.SQL(" OR ").join(
        sql.SQL("(d.derivation = {} AND NOT {})").format(
            sql.Literal(each.name), still_open(each.inputs, earlier=each.ledger.earlier, entity="d.entity_id", period="d.period")
        )
        for each in derivations
    )
    rows = await database.fetch(
        sql.SQL(
            "SELECT e.slug, d.period, array_agg(d.derivation ORDER BY d.derivation) AS derivations "
            "FROM system.derivations d JOIN system.entities e ON e.id = d.entity_id "
            "WHERE d.wanted > d.done AND e.status = 'ACTIVE' AND ({}) GROUP BY 1, 2 ORDER BY d.period, e.slug LIMIT {}"
        ).format(ready, sql.Literal(LIMIT))
    )
    return [Waiting(row["slug"], row["period"], tuple(row["derivations"])) for row in rows]
