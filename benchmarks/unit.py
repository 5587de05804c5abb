"""One entity's month, from its submitted document to the trial balance: the unit of work that orchestrators are compared by.

What runs of ours do to the tenant's database, in the same order. Two parts, for a run of two steps; both together, for one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import uuid4

from benchmarks.subject import APPROVER, PERIOD, RUNBOOK, SLUG
from ntro_dagster.bundles import platform_bundle, runbook_bundle
from ntro_dagster.gl.periods import find, seal_closing
from ntro_dagster.gl.post import post
from ntro_dagster.gl.trial_balance import draw_up
from ntro_dagster.ingest.records import record_counts
from ntro_dagster.orchestration.assets import SubledgerAsset, counts_of, stage
from ntro_dagster.orchestration.context import EntityRef, RunbookContext
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.registry import load_types, subledger_type
from ntro_dagster.subledger.review import apply_signals, file_signal

DESK_URL = "NTRO_BENCH_DESK_URL"
"""Environment: the desk's credential, with which the unit plays the person who approves. No process of a real tenant has it."""


@dataclass(frozen=True, slots=True)
class Month:
    """`app`, `reader`, `desk`: a connection each, `reader` for reading while `app` writes."""

    entity: EntityRef
    app: TenantDatabase
    reader: TenantDatabase
    desk: TenantDatabase

    def run(self) -> RunbookContext:
        return RunbookContext(SLUG, self.entity, PERIOD, uuid4(), self.app, self.reader)

    @property
    def partition(self) -> dict[str, Any]:
        return {"entity_id": self.entity.id, "period": PERIOD}

    async def take_in(self) -> None:
        """Records counted, validated, staged."""
        await record_counts(self.app, **self.partition)
        await stage(self.run(), authored())

    async def close(self) -> None:
        """Approved by a person's decision, which is applied; posted, drawn up, looked over, sealed."""
        kind = subledger_type("expenses")
        await file_signal(self.desk, kind, "approve", filed_by=APPROVER, status="PENDING", **self.partition)
        review = self.run()
        handle = review.handle(kind)
        await apply_signals(handle, period=PERIOD)
        await counts_of(handle, PERIOD)
        await handle.digest(period=PERIOD, salt=review.salt)
        handle = self.run().handle(kind)
        await post(handle, period=PERIOD, currency=self.entity.currency)
        await counts_of(handle, PERIOD)
        close = self.run()
        await draw_up(self.app, **self.partition, run_id=close.run_id, salt=close.salt)
        await find(self.app, **self.partition)
        await seal_closing(self.app, **self.partition, run_id=close.run_id)


@cache
def authored() -> SubledgerAsset:
    """The runbook's own function, and the types it fills."""
    load_types(platform_bundle())
    found = vars(runbook_bundle(RUNBOOK).load("assets")).values()
    return next(each for each in found if isinstance(each, SubledgerAsset))


def take_in(entity: str) -> None:
    """The first step of two. `entity`: slug. Opens the connections it needs, as a run that shares nothing with another must."""
    asyncio.run(_alone(entity, "take_in"))


def close(entity: str) -> None:
    """The second of two."""
    asyncio.run(_alone(entity, "close"))


def whole(entity: str) -> None:
    """Both in one step."""
    asyncio.run(_alone(entity, "take_in", "close"))


async def _alone(entity: str, *parts: str) -> None:
    authored()
    async with month_of(entity) as month:
        for part in parts:
            await getattr(month, part)()


@asynccontextmanager
async def month_of(entity: str) -> AsyncIterator[Month]:
    """Each connection is opened when it is first used."""
    app = os.environ["NTRO_PLATFORM_URL"]
    databases = TenantDatabase(app), TenantDatabase(app), TenantDatabase(os.environ[DESK_URL])
    async with AsyncExitStack() as opened:
        for database in databases:
            opened.push_async_callback(database.close)
        found = await databases[0].fetch_single("SELECT id, slug, currency FROM system.entities WHERE slug = %s", [entity])
        yield Month(EntityRef(**found), *databases)
